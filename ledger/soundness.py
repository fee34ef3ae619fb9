"""The file under the log: its pages, and indexes that agree with their tables, seen to beside the events themselves."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from ledger import database, engine
from ledger.checkpoint import VerifierKey
from ledger.errors import Unreadable
from ledger.verify import PROBLEMS_MAX, Problem, Progress, Verdict, verify

T = TypeVar("T")
NOWHERE = 0
"""The position of what is wrong with the file and with no event."""
_OF_EVENTS = re.compile(r"row (\d+) missing from index events_")


async def verify_file(
    path: Path,
    progress: Progress | None = None,
    *,
    keys: Sequence[VerifierKey] = (),
    against: Mapping[str, str] = MappingProxyType({}),
) -> Verdict:
    """Verify the ledger in a file, the log and, on another thread, what lies under it; nothing is written.

    ``keys`` and ``against`` as in ``verify``, whose errors it raises, and ``Unreadable`` for what is no ledger.
    """
    verdict, told = await asyncio.gather(
        asyncio.to_thread(_on_own, path, lambda db: verify(db, progress, keys=keys, against=against)),
        asyncio.to_thread(_on_own, path, faults),
    )
    if not told:
        return verdict
    problems = sorted([*verdict.problems, *told], key=lambda problem: problem.position)
    return msgspec.structs.replace(verdict, ok=False, problems=problems)


def faults(connection: Any) -> list[Problem]:
    """Return what SQLite finds wrong with pages, records and indexes; where no event is named, at position 0.

    Reads by stream and by key go through indexes: an entry that is gone would hide an event that the table still has.
    """
    try:
        found = [str(text) for (text,) in connection.execute(f"PRAGMA integrity_check({PROBLEMS_MAX})")]
    except engine.Error as error:
        found = [str(error)]
    return [_problem(text) for text in found if text != "ok"]


def _problem(text: str) -> Problem:
    row = _OF_EVENTS.search(text)
    return Problem(int(row[1]) if row else NOWHERE, f"the database is damaged: {' '.join(text.split())}")


def _on_own(path: Path, work: Callable[[Any], T]) -> T:
    """Run a read on a connection of its own."""
    try:
        connection = database.open_reader(path)
        try:
            return work(connection)
        finally:
            connection.close()
    except engine.Error as error:
        raise Unreadable(path=path, reason=str(error)) from error
