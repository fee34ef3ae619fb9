"""The file under the log: its pages, and indexes that agree with their tables, seen to beside the events themselves."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import msgspec

from ledger import database, engine
from ledger import keys as keys_of
from ledger.checkpoint import VerifierKey
from ledger.errors import Unreadable
from ledger.merkle import EMPTY_ROOT
from ledger.verify import PROBLEMS_MAX, Problem, Progress, Verdict, in_order, verify

T = TypeVar("T")
NOWHERE = 0
"""The position of what is wrong with the file and with no event."""
_OF_EVENTS = re.compile(r"row (\d+) missing from index events_")


async def verify_file(
    path: Path,
    progress: Progress | None = None,
    *,
    keys: Sequence[VerifierKey] = (),
    must_sign: bool = False,
    against: Mapping[str, str] = MappingProxyType({}),
) -> Verdict:
    """Verify the ledger in a file: the log, what was signed last beside it, and, on another thread, what lies under it.

    Nothing is written. ``keys``, ``must_sign`` and ``against`` as in ``verify``, whose errors it raises, and
    ``Unreadable`` for what is no ledger.
    """
    strange = await asyncio.to_thread(_on_own, path, misshapen)
    remembered = None
    try:
        if (note := keys_of.remembered(path)) is not None:
            remembered = (str(keys_of.signed_path(path)), note)
    except Unreadable as error:
        strange.append(Strange(str(error), False))
    if any(what.is_fatal for what in strange):  # what is read from it could be anything, and without end
        return _unread(strange)
    verdict, told = await asyncio.gather(
        asyncio.to_thread(
            _on_own,
            path,
            lambda db: verify(db, progress, keys=keys, must_sign=must_sign, against=against, remembered=remembered),
        ),
        asyncio.to_thread(_on_own, path, faults),
    )
    problems = in_order([*verdict.problems, *told, *(Problem(NOWHERE, what.problem) for what in strange)])
    return msgspec.structs.replace(verdict, ok=not problems, problems=problems)


class Strange(NamedTuple):
    """Something that no ledger has in its files, or that it lacks; ``is_fatal``: in the place of a table of it."""

    problem: str
    is_fatal: bool


def misshapen(connection: Any) -> list[Strange]:
    """Return where the tables, indexes and triggers of a file are not those of its format.

    A trigger that is gone lets events be changed; one that was added may change what is recorded.
    """
    found, wanted = database.shape(connection), database.shape_of_format(database.format_of(connection))
    told = []
    for kind, name in sorted(found.keys() | wanted.keys()):
        is_now, should_be = found.get((kind, name)), wanted.get((kind, name))
        is_table = should_be is not None and kind == "table"
        if is_now is None:
            told.append(Strange(f"the {kind} '{name}' is gone from the file", is_table))
        elif should_be is None:
            told.append(Strange(f"the {kind} '{name}' is in the file, which no ledger has: {is_now[:80]} …", False))
        elif is_now != should_be:
            told.append(Strange(f"the {kind} '{name}' in the file is not what a ledger has: {is_now[:80]} …", is_table))
    return told


def _unread(strange: Sequence[Strange]) -> Verdict:
    return Verdict(
        ok=False,
        name="",
        size=0,
        root=EMPTY_ROOT.hex(),
        erased=0,
        checkpoints=0,
        signatures=0,
        signed=0,
        problems=[Problem(NOWHERE, what.problem) for what in strange][:PROBLEMS_MAX],
    )


def faults(connection: Any) -> list[Problem]:
    """Return what SQLite finds wrong with pages, records and indexes; where no event is named, at position 0.

    Reads by stream and by key go through indexes: an entry that is gone would hide an event that the table still has.
    """
    try:
        found = [str(text) for (text,) in connection.execute(f"PRAGMA integrity_check({PROBLEMS_MAX})")]
    except engine.Error as error:
        found = [str(error)]
    told = [_problem(text) for text in found if text != "ok"]
    return told or _wrong_marks(connection)


def _wrong_marks(connection: Any) -> list[Problem]:
    """Return which of the tables of one row have none, and which imports are not within the log."""
    tables = ["ledger", "head", *(["scrub"] if database.format_of(connection) >= database.FORMAT else [])]
    told = [
        Problem(NOWHERE, f"the table '{name}' has no row, where it needs one")
        for name in tables
        if not connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]  # noqa: S608 - of constants
    ]
    if database.format_of(connection) > 1:
        sql = "SELECT first, last FROM imports WHERE first < 1 OR last > (SELECT max(position) FROM events)"
        told += [
            Problem(NOWHERE, f"an import is noted of positions {first} to {last}, which are not all in the log")
            for first, last in connection.execute(sql)
        ]
    return told


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
    except (engine.Error, UnicodeDecodeError) as error:  # a name in the schema may be no Unicode
        raise Unreadable(path=path, reason=str(error)) from error
