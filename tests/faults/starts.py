"""Ledger folders that faults begin with: empty, used, left by a crash, with views, signed, or of an old format."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from ledger import Ledger, engine
from projections.engine import Engine
from projections.file import views_path
from tests.faults.appending import job_of
from tests.ledger.engines import ME, create, scramble
from tests.ledger.oldfile import write_format_1

SECRET = "the word that an erasure takes out"
"""In the data of what is erased, and nowhere else."""
WORD = "searched-for"
"""In a message."""
ERASED = job_of(0xE, 1)
IMPORTED = 4500
"""Jobs in the log to import: more than one transaction takes."""


class Starts:
    """The folders, to be copied; ``prepare`` makes them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.leaves: dict[str, list[bytes]] = {}
        """Of each start, the leaf hashes of its events."""

    async def prepare(self) -> None:
        """Make all of them."""
        (self._root / "empty").mkdir()
        used = self._root / "used"
        used.mkdir()
        async with Ledger.open(used / "ledger.db", name="ledger.example/faults") as ledger:
            await scramble(ledger, seed=7, rounds=4)
            await ledger.execute(create(ERASED, "running", metadata={"secret": SECRET}), ME)
            shutil.copytree(used, self._root / "crashed", ignore=shutil.ignore_patterns("*-shm"))
        await self._tell(self._copied("used", "told"))
        await self._fold(self._copied("used", "viewed"))
        await self._fold(self._root / "told" / "ledger.db")
        async with Ledger.open(self._copied("used", "signed")) as ledger:
            await ledger.checkpoint()
            await ledger.execute(create(job_of(0xE, 2)), ME)
        (self._root / "old").mkdir()
        write_format_1(self._root / "old" / "ledger.db", used / "ledger.db")
        _write_swf(self._root / "empty" / "first.swf")
        for path in list(self._root.iterdir()):
            self.leaves[path.name] = leaves_of(self.copy(path.name, self._root / "looked at"))

    async def _tell(self, db: Path) -> None:
        """Add some of everything that reads show: steps, messages, a failure, a batch, a callback that is owed."""
        async with Ledger.open(db) as ledger:
            async with ledger.run(agent_id="agent-1", callback_url="https://example.com/") as run:
                await run.step(model="model-1", prompt_tokens=12, completion_tokens=3)
                await run.message({"message_type": "assistant_message", "content": WORD})
            with contextlib.suppress(ValueError):
                async with ledger.run(agent_id="agent-2") as failing:
                    await failing.step(status="failed")
                    raise ValueError("a failure of its own")
            batch = job_of(0xBA, 1)
            await ledger.append(batch, "batch.created", {"user_id": "user-1", "runs": [run.id, failing.id]})

    async def _fold(self, db: Path) -> None:
        async with Ledger.open(db) as ledger:
            views = Engine(ledger, views_path(db))
            await views.open()
            await views.close()

    def _copied(self, name: str, other: str) -> Path:
        return self.copy(name, self._root / other)

    def copy(self, name: str, target: Path) -> Path:
        """Put a copy of a start in the place of a folder; return its ledger file, which may not be there yet."""
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self._root / name, target)
        return target / "ledger.db"


def leaves_of(db: Path) -> list[bytes]:
    """Return the leaf hash of each event; none where there is no ledger. Looking leaves an empty WAL behind."""
    if not db.exists() or not db.stat().st_size:
        return []
    with contextlib.closing(engine.connect(db, read_only=True)) as connection:
        return [leaf for (leaf,) in connection.execute("SELECT leaf FROM events ORDER BY position")]


def _write_swf(path: Path) -> None:
    """Write a log in the Standard Workload Format."""
    jobs = [f"{number} {number} 1 1 1 1 -1 -1 1 10 -1 1 1 1 1 1 -1 -1" for number in range(1, IMPORTED + 1)]
    path.write_text("\n".join(["; Version: 2.2", "; UnixStartTime: 800000000", *jobs, ""]))
