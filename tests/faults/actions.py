"""What a process may be doing when a fault hits it: the commands of ours that write, and what each owes afterwards."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ledger import engine
from ledger.database import FORMAT
from tests.cli.commandline import Done
from tests.faults.forkserver import ForkServer
from tests.faults.starts import ERASED, IMPORTED, SECRET

ROUNDS = 2
"""Of appends: each one alone, then some together."""
EVENTS_OF_AN_APPEND = 3

Check = Callable[[Path, Done, ForkServer], str | None]
"""What is still wrong after a recovery, by the ledger's folder and by what the command said; None: nothing."""


@dataclass(frozen=True, kw_only=True)
class Action:
    """A command, what it starts from, and what must be true when it was broken off and then repeated."""

    name: str
    start: str
    """The name of a folder that ``Starts`` makes."""
    arguments: Callable[[Path], tuple[object, ...]]
    """The command, for a ledger file."""
    again: Callable[[Path], tuple[object, ...] | None] | None = None
    """What repeats it, where that is another command; None where nothing is left to do."""
    check: Check


# --- what is checked --------------------------------------------------------------------------------------------------


def answered(done: Done, word: str = "ok") -> list[str]:
    """Return the ids of appends that a process told of so, also of one that was killed."""
    lines = [line.partition(": ")[0].split() for line in done.out.splitlines()]
    return [id for said, id in lines if said == word]


def lives(db: Path) -> dict[str, list[str]]:
    """Return the types of events of each stream, in order."""
    found: dict[str, list[str]] = {}
    with contextlib.closing(engine.connect(db, read_only=True)) as connection:
        for stream, type in connection.execute("SELECT stream, type FROM events ORDER BY position"):
            found.setdefault(stream, []).append(type)
    return found


def _appends_are_there(folder: Path, done: Done, _: ForkServer) -> str | None:
    found = lives(folder / "ledger.db")
    if lost := [id for id in answered(done) if id not in found]:
        return f"{len(lost)} answered and lost"
    surely_not = [line.split()[1][:-1] for line in done.out.splitlines() if "nothing of this request" in line]
    if told_none := [id for id in surely_not if id in found]:
        return f"{len(told_none)} recorded, though the answer said that nothing was"
    mine = [types for id, types in found.items() if id.startswith(("job-0000000a", "job-0000000b"))]
    if torn := [types for types in mine if len(types) != EVENTS_OF_AN_APPEND]:
        return f"{len(torn)} recorded in part or twice"
    return None


def _token_is_there(folder: Path, done: Done, _: ForkServer) -> str | None:
    if not done.out.strip():
        return None
    digest = hashlib.sha256(done.out.strip().encode()).hexdigest()
    with contextlib.closing(engine.connect(folder / "ledger.db", read_only=True)) as connection:
        sql = "SELECT count(*) FROM events WHERE type = 'access.granted' AND instr(data, ?)"
        known = connection.execute(sql, (digest,)).fetchone()[0]
    return None if known == 1 else f"a token that was printed is there {known} times"


def _note_holds(folder: Path, done: Done, forks: ForkServer) -> str | None:
    if not done.out.strip():
        return None
    note = folder.with_name("kept.checkpoint")
    note.write_bytes(done.raw)
    verdict = forks.run("verify", "--db", folder / "ledger.db", "--against", note, "--key", folder / "ledger.pub")
    return None if verdict.code == 0 else f"a note that was printed does not hold: {verdict.out.strip()}"


def _secret_is_gone(folder: Path, _: Done, __: ForkServer) -> str | None:
    left = [path.name for path in folder.iterdir() if SECRET.encode() in path.read_bytes()]
    return f"what was erased is still in {', '.join(left)}" if left else None


def _copy_is_whole(folder: Path, _: Done, forks: ForkServer) -> str | None:
    verdict = forks.run("verify", "--json", "--db", folder / "copy.db")
    if verdict.code:
        return f"the copy is not whole: {verdict.out or verdict.err}"
    ours = forks.run("verify", "--json", "--db", folder / "ledger.db").json
    return None if verdict.json["root"] == ours["root"] else "the copy is of another log"


def _history_is_whole(folder: Path, _: Done, __: ForkServer) -> str | None:
    with contextlib.closing(engine.connect(folder / "ledger.db", read_only=True)) as connection:
        count = connection.execute("SELECT count(DISTINCT stream) FROM events").fetchone()[0]
    return None if count == IMPORTED else f"{count} jobs of {IMPORTED} are there"


def _format_is_new(folder: Path, _: Done, __: ForkServer) -> str | None:
    with contextlib.closing(engine.connect(folder / "ledger.db", read_only=True)) as connection:
        found = connection.execute("PRAGMA user_version").fetchone()[0]
    return None if found == FORMAT else f"the file is of format {found}"


def _secret_is_the_same(folder: Path, done: Done, forks: ForkServer) -> str | None:
    used = forks.run("callbacks", "secret", "--db", folder / "ledger.db").out
    return None if done.out in ("", used) else "receivers were given another secret than the one in use"


def _nothing_more(_: Path, __: Done, ___: ForkServer) -> str | None:
    return None


def _export_is_whole(folder: Path, _: Done, __: ForkServer) -> str | None:
    with contextlib.closing(engine.connect(folder / "ledger.db", read_only=True)) as connection:
        size = connection.execute("SELECT size FROM head").fetchone()[0]
    lines = (folder / "copy.jsonl").read_bytes().splitlines()
    return None if len(lines) == size else f"the export has {len(lines)} of {size} events"


# --- the actions ------------------------------------------------------------------------------------------------------


def _copy_or_verify(db: Path) -> tuple[object, ...] | None:
    return None if (db.parent / "copy.db").exists() else ("backup", "--db", db, db.parent / "copy.db")


ACTIONS = (
    Action(
        name="an append",
        start="used",
        arguments=lambda db: ("tests.faults.appending", db, 0xA, ROUNDS),
        again=lambda db: ("tests.faults.appending", db, 0xB, ROUNDS),
        check=_appends_are_there,
    ),
    Action(
        name="an append after a crash",
        start="crashed",
        arguments=lambda db: ("tests.faults.appending", db, 0xA, ROUNDS),
        again=lambda db: ("tests.faults.appending", db, 0xB, ROUNDS),
        check=_appends_are_there,
    ),
    Action(
        name="making a ledger",
        start="empty",
        arguments=lambda db: ("token", "create", "--db", db),
        check=_token_is_there,
    ),
    Action(
        name="the first checkpoint",
        start="used",
        arguments=lambda db: ("checkpoint", "--db", db),
        check=_note_holds,
    ),
    Action(
        name="a checkpoint with a new key",
        start="signed",
        arguments=lambda db: ("checkpoint", "--new-key", "--db", db),
        check=_note_holds,
    ),
    Action(
        name="an erasure",
        start="viewed",
        arguments=lambda db: ("erase", ERASED, "--reason", "asked", "--yes", "--db", db),
        check=_secret_is_gone,
    ),
    Action(
        name="a rebuild",
        start="viewed",
        arguments=lambda db: ("rebuild", "--db", db),
        check=_nothing_more,
    ),
    Action(
        name="a backup",
        start="crashed",
        arguments=lambda db: ("backup", "--db", db, db.parent / "copy.db"),
        again=_copy_or_verify,
        check=_copy_is_whole,
    ),
    Action(
        name="an import",
        start="empty",
        arguments=lambda db: ("import", "--db", db, "--format", "swf", db.parent / "first.swf"),
        check=_history_is_whole,
    ),
    Action(
        name="bringing an old file up to date",
        start="old",
        arguments=lambda db: ("token", "create", "--db", db),
        check=_format_is_new,
    ),
    Action(
        name="making the secret of callbacks",
        start="used",
        arguments=lambda db: ("tests.faults.secretmaking", db),
        check=_secret_is_the_same,
    ),
    Action(
        name="keeping a verdict",
        start="signed",
        arguments=lambda db: ("verify", "--db", db),
        check=_nothing_more,
    ),
    Action(
        name="an export",
        start="crashed",
        arguments=lambda db: ("export", "--db", db, "--out", db.parent / "copy.jsonl"),
        check=_export_is_whole,
    ),
)
