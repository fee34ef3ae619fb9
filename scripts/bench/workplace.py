"""Where a run works: its folder, its amounts, and the logs that several benches share."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ledger import messages
from ledger.commands import Note
from ledger.decider import Create
from ledger.events import Changed, Created, Draft, draft
from ledger.ids import SYSTEM_USER
from ledger.ledger import Ledger
from ledger.session import Session, Work
from scripts.bench.scale import Scale
from server.grants import grant

START_US = 1_767_225_600_000_000
"""2026-01-01, when the generated histories begin."""
APPEND = 8000
"""Generated events in one transaction."""


class Log(msgspec.Struct, frozen=True):
    """A generated ledger: its file, a token that may read all of it, and its ids in the order of creation."""

    path: Path
    token: str
    runs: list[str]
    jobs: list[str]

    @property
    def views(self) -> Path:
        """Where its views are."""
        return self.path.with_name(f"{self.path.stem}.views.db")

    def drop_views(self) -> None:
        """Remove the views, so that the next to open the ledger has all of them to build."""
        for ending in ("", "-wal", "-shm"):
            Path(f"{self.views}{ending}").unlink(missing_ok=True)


class Workplace:
    """The folder and the amounts of one run."""

    def __init__(self, folder: Path, scale: Scale) -> None:
        self.folder = folder
        self.scale = scale
        self._logs: dict[int, Log] = {}
        self._files = 0

    def fresh(self, ending: str = ".db") -> Path:
        """Return the path of a file that does not exist yet."""
        self._files += 1
        return self.folder / f"{self._files}{ending}"

    def remove(self, database: Path) -> None:
        """Remove a database and what belongs to it; a full run would fill the disk otherwise."""
        for path in self.folder.glob(f"{database.stem}.*"):
            path.unlink()

    def talk(self, messages: int) -> Log:
        """Return a ledger of one running run with so many messages of about 700 bytes; its token may write."""
        path = self.fresh()
        return asyncio.run(_talk(path, messages))

    def writable(self) -> Log:
        """Return a new and empty ledger, with a token that may write."""
        return asyncio.run(_empty(self.fresh()))

    def log(self, events: int) -> Log:
        """Return a ledger of about so many events, never fewer, made on first use: nine runs, a job, and so on."""
        if events not in self._logs:
            self._logs[events] = asyncio.run(_generate(self.folder / f"log-{events}.db", events))
        return self._logs[events]


async def _talk(path: Path, count: int) -> Log:
    async with Ledger.open(path, name="bench.example/talk") as ledger:
        run = Create(
            id="run-00000000-0000-4000-8000-000000000001",
            kind="run",
            facts=Created(user_id=SYSTEM_USER, agent_id="agent-00000001"),
            status="running",
        )
        await ledger.execute(run)
        said = {"message_type": "assistant_message", "content": "It is what it is, said the ledger. " * 15}
        notes = [Note(messages.record(said)[0]) for _ in range(count)]
        for start in range(0, count, APPEND):
            await ledger.record(run.id, notes[start : start + APPEND])
        token, _ = await grant(ledger, user_id=SYSTEM_USER, scopes=["read", "write"], actor=SYSTEM_USER)
    return Log(path, token, [run.id], [])


async def _empty(path: Path) -> Log:
    async with Ledger.open(path, name="bench.example/log") as ledger:
        token, _ = await grant(ledger, user_id=SYSTEM_USER, scopes=["read", "write"], actor=SYSTEM_USER)
    return Log(path, token, [], [])


async def _generate(path: Path, events: int) -> Log:
    log = Log(path, "", [], [])
    async with Ledger.open(path, name="bench.example/log") as ledger:
        drafts: list[Draft] = []
        made = 0
        for history in _histories(log):
            drafts += history
            if len(drafts) >= APPEND or made + len(drafts) >= events:
                await ledger.submit(append(drafts))
                made += len(drafts)
                drafts = []
            if made >= events:
                break
        token, _ = await grant(ledger, user_id=SYSTEM_USER, scopes=["read"], actor=SYSTEM_USER)
    return msgspec.structs.replace(log, token=token)


def append(drafts: list[Draft]) -> Work:
    """Return the work that appends generated events as they are."""

    def work(session: Session) -> None:
        session.append(drafts)

    return work


def _histories(log: Log) -> Iterator[list[Draft]]:
    """Yield one life after the other, without end, and note its id in the log."""
    chance = random.Random(20260101)
    number = 0
    while True:
        number += 1
        kind, ids = ("job", log.jobs) if number % 10 == 0 else ("run", log.runs)
        stream = f"{kind}-{uuid.UUID(int=chance.getrandbits(128), version=4)}"
        ids.append(stream)
        yield life(kind, stream, number, START_US + number * 1_000_000)


def life(kind: str, stream: str, number: int, created_us: int, callback_url: str | None = None) -> list[Draft]:
    """Return the events of a job or run from creation to completion."""
    created = Created(
        user_id=SYSTEM_USER,
        agent_id=f"agent-{number % 50:08d}" if kind == "run" else None,
        background=True if kind == "run" else None,
        metadata={"task": "nightly", "number": number, "model": "openai/gpt-4.1-mini", "origin": "bench"},
        callback_url=callback_url,
    )
    steps: list[tuple[str, Created | Changed, int]] = [("created", created, 0)]
    if kind == "job":
        steps.append(("pending", Changed(), 10_000))
    steps.append(("running", Changed(), 250_000))
    steps.append(("completed", Changed(stop_reason="end_turn"), 4_250_000))
    return [
        draft(stream, f"{kind}.{status}", fact, time=created_us + later, actor=SYSTEM_USER)
        for status, fact, later in steps
    ]
