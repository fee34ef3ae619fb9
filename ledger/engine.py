"""The SQLite library in use: the best one at hand, its known bugs, and connections that are set up alike.

SQLite 3.7.0 to 3.51.2 has the WAL-reset bug: connections that write and checkpoint at the same moment can corrupt
a database in WAL mode. The package ``pysqlite3`` bundles a later one. Where only a library with the bug is at
hand, the ledger lets one process at a time write (an exclusive lock beside the file).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

T = TypeVar("T")

BUSY_TIMEOUT_S = 10.0
"""How long to wait for another process's transaction; the longest is one bulk append of 64 MiB, a few seconds."""
PART_SIZE = 1024 * 1024
"""Bytes that are read and written at once where a whole file is."""
AT_ONCE_MAX = 32
"""Rows of one statement: 32 of as many columns as any table has are within what each SQLite takes, 32,766 values."""
WAL_RESET_FIXED = (3, 51, 3)


def _library() -> Any:
    try:
        bundled = importlib.import_module("pysqlite3.dbapi2")
    except ImportError:
        return sqlite3
    return bundled if bundled.sqlite_version_info > sqlite3.sqlite_version_info else sqlite3


library: Any = _library()
"""The DB-API module: ``pysqlite3.dbapi2`` where it is newer than Python's own ``sqlite3``."""
# Parameters that are None or bytes have no fast path in this module: it looks for an adapter, fails, and goes on, at
# 0.9 µs each. Built-in functions that return what they are given make that 0.1 µs; what is stored is the same.
library.register_adapter(bytes, bytes)
library.register_adapter(type(None), {}.get)
Error: type[Exception] = library.Error
OperationalError: type[Exception] = library.OperationalError
DatabaseError: type[Exception] = library.DatabaseError


def is_damage(error: BaseException) -> bool:
    """Tell whether an error says that a file is damaged or no database; its subclasses say something else."""
    return type(error) is DatabaseError


def has_wal_reset_bug(version: tuple[int, ...] | None = None) -> bool:
    """Tell whether this SQLite library (or ``version``) has the WAL-reset bug."""
    found: tuple[int, ...] = library.sqlite_version_info if version is None else version
    return (3, 7, 0) <= found < WAL_RESET_FIXED


def known_bugs() -> list[str]:
    """Name the known bugs of the library in use that matter here."""
    return ["wal-reset"] if has_wal_reset_bug() else []


def connect(path: Path, *, read_only: bool, immutable: bool = False, cache_mib: int = 16) -> Any:
    """Open a connection in autocommit mode: transactions are begun and ended in plain sight."""
    mode = "ro" if read_only else "rwc"
    uri = f"{path.resolve().as_uri()}?mode={mode}{'&immutable=1' if immutable else ''}"
    connection = library.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S, cached_statements=256)
    try:
        connection.execute(f"PRAGMA cache_size = -{cache_mib * 1024}")
        connection.execute("PRAGMA temp_store = MEMORY")
        # A file may come from somebody else: nothing in its schema gets at more than plain SQL, and its pages are
        # looked at before they are believed.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def touch(path: Path) -> None:
    """Make the file, readable by its owner alone, where there is none yet; SQLite gives its WAL the same mode.

    One that exists is not opened: closing it would drop the locks of this process's other connections to it.
    """
    if not path.exists():
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def write_again(path: Path) -> None:
    """Write what a file holds in its place once more and sync it, so that the disk has what memory shows."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        place = 0
        while part := os.pread(handle, PART_SIZE, place):
            place += os.pwrite(handle, part, place)
        os.fsync(handle)
    finally:
        os.close(handle)


class Connection(aiosqlite.Connection):
    """An aiosqlite connection that also runs a whole function on its thread: one hop for one transaction."""

    async def run(self, work: Callable[[Any], T]) -> T:
        """Call ``work`` with the raw connection on the connection's thread; return its result.

        A caller who is cancelled does not interrupt it: the function always runs to its end.
        """
        return await self._execute(work, self._conn)  # type: ignore[no-untyped-call, no-any-return]


async def open_async(connector: Callable[[], Any]) -> Connection:
    """Open a connection whose calls run on a thread of its own."""
    connection = Connection(connector, iter_chunk_size=1024)
    connection._thread.daemon = True
    try:
        await connection
    except BaseException:  # its thread has been told to end; it must not outlive the loop that it answers to
        await asyncio.to_thread(connection._thread.join)
        raise
    return connection


def insert(connection: Any, into: str, width: int, rows: Sequence[Sequence[Any]], otherwise: str = "") -> None:
    """Insert rows of ``width`` values each, many with one statement. ``into``: a table, with its columns or without.

    ``executemany`` steps through one statement for each row, and lets go of the interpreter's lock for each: grouped
    appends are 8 % faster this way. ``otherwise``: what follows the values, as an ON CONFLICT clause.
    """
    done = 0
    while done < len(rows):
        count = min(AT_ONCE_MAX, 1 << (len(rows) - done).bit_length() - 1)  # few different statements, so all are kept
        values = list(chain.from_iterable(rows[done : done + count]))
        connection.execute(_insertion(into, width, count, otherwise), values)
        done += count


@cache  # of as many as there are tables, times six
def _insertion(into: str, width: int, count: int, otherwise: str) -> str:
    row = f"({','.join('?' * width)})"
    return f"INSERT INTO {into} VALUES {','.join([row] * count)} {otherwise}"  # noqa: S608 - names are ours


def roll_back(connection: Any) -> None:
    """Give up the open transaction; SQLite did so itself after some errors, which the caller is to see, not this."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def empty_wal(connection: Any) -> bool:
    """Write the write-ahead log back and cut it to nothing; False where a reader of an older state is in the way."""
    connection.execute("PRAGMA busy_timeout = 200")  # whoever else writes on this connection waits no longer
    try:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
    return not busy
