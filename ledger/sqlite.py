"""The log in one SQLite file: WAL, ``synchronous=FULL``, append-only triggers, several writing processes.

One thread owns the write connection and runs one function a transaction; everything that decides is read inside
``BEGIN IMMEDIATE``. Readers have connections of their own, opened ``mode=ro``.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from importlib import resources
from itertools import starmap
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import astuple

from ledger import engine
from ledger.errors import StoreClosed, StoreFailed, Unreadable
from ledger.events import Recorded
from ledger.merkle import Frontier
from ledger.session import Head, Sealed, Session, States, Work

APPLICATION_ID = 0x4A4C_4447
"""``JLDG``: what ``file`` and SQLite show as the application of a ledger."""
FORMAT = 1
"""``user_version`` of the files that this program writes."""
WAL_PAGES = 8192
"""Pages of WAL (32 MiB) after which it is written back: streams are spread over the index by chance, so that writing
back seldom writes each page of it once for many transactions."""
IN_MAX = 500
"""Parameters of one IN list; SQLite compiles a list this long in well under a millisecond."""

COLUMNS = "position, stream, version, type, schema, time, recorded, actor, key, correlation, data, salt, digest"
_INSERT = f"INSERT INTO events ({COLUMNS}, leaf) VALUES (?{',?' * 13})"
_HEAD = "SELECT size, recorded, frontier FROM head"
_STREAM = f"SELECT {COLUMNS} FROM events WHERE stream = ? AND version > ? ORDER BY version LIMIT ?"
_AT = f"SELECT {COLUMNS} FROM events WHERE stream = ? AND version = ?"
_BY_KEY = f"SELECT {COLUMNS} FROM events WHERE key = ?"
_SCAN = f"SELECT {COLUMNS} FROM events WHERE position > ? ORDER BY position LIMIT ?"

_FACTS = (
    "SELECT position, stream, version, type, schema, time, 0, actor, NULL, NULL, data, NULL "
    "FROM events WHERE position > ? ORDER BY position LIMIT ?"
)

T = TypeVar("T")


class _Source:
    """The engine's answers inside a transaction."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def head(self) -> Head:
        return read_head(self._connection)

    def stream(self, stream: str) -> list[Recorded]:
        return [Recorded(*row) for row in self._connection.execute(_STREAM, (stream, 0, -1))]

    def at(self, stream: str, version: int) -> Recorded | None:
        row = self._connection.execute(_AT, (stream, version)).fetchone()
        return Recorded(*row) if row else None

    def by_key(self, key: str) -> Recorded | None:
        row = self._connection.execute(_BY_KEY, (key,)).fetchone()
        return Recorded(*row) if row else None

    def known(self, streams: Collection[str], keys: Collection[str]) -> tuple[set[str], set[str]]:
        by_stream = "SELECT stream FROM events WHERE version = 1 AND stream IN"
        return self._which(by_stream, streams), self._which("SELECT key FROM events WHERE key IN", keys)

    def _which(self, question: str, values: Collection[str]) -> set[str]:
        found: set[str] = set()
        wanted = list(values)
        for start in range(0, len(wanted), IN_MAX):
            part = wanted[start : start + IN_MAX]
            rows = self._connection.execute(f"{question} ({','.join('?' * len(part))})", part)
            found.update(row[0] for row in rows.fetchall())
        return found


class SqliteStore:
    """A log engine on one file. Open it with ``SqliteStore.open``; reads never wait for the writer."""

    def __init__(self, path: Path, name: str, reader: engine.Connection, glance: Any) -> None:
        self.path = path
        self.name = name
        self._reader = reader
        self._glance = glance
        self._seen_version = -1
        self._writer: engine.Connection | None = None
        self._states = States()
        self._file_version = -1
        self._lock: int | None = None
        self._broken: str | None = None

    @classmethod
    async def open(
        cls, path: str | os.PathLike[str], *, read_only: bool = False, name: str | None = None
    ) -> SqliteStore:
        """Open a ledger, made on first use unless ``read_only``. ``name``: of a new ledger; made up when not given.

        Raises ``Unreadable`` when the file is missing (read-only), no ledger, or of a later format.
        """
        where = Path(path)
        _check_place(where, read_only)
        lock = None if read_only else _confine(where)
        if not read_only:
            engine.touch(where)
        writer = None
        try:
            if not read_only:
                writer = await engine.open_async(lambda: _prepare(where, name))
            reader = await engine.open_async(lambda: _open_reader(where))
            glance = _open_reader(where)
        except engine.Error as error:
            raise Unreadable(path=where, reason=str(error)) from error
        store = cls(where, str(glance.execute("SELECT name FROM ledger").fetchone()[0]), reader, glance)
        store._writer, store._lock = writer, lock
        return store

    async def transact(self, works: Sequence[Work], now_us: int) -> tuple[list[Any], list[Recorded]]:
        """See ``Store.transact``."""
        if self._writer is None:
            raise StoreClosed
        if self._broken:
            raise StoreFailed(reason=self._broken)
        return await self._writer.run(lambda connection: self._transact(connection, works, now_us))

    def _transact(self, connection: Any, works: Sequence[Work], now_us: int) -> tuple[list[Any], list[Recorded]]:
        try:
            connection.execute("BEGIN IMMEDIATE")
            version = connection.execute("PRAGMA data_version").fetchone()[0]
            if version != self._file_version:
                self._states.clear()
                self._file_version = version
            session = Session(_Source(connection), self._states, now_us)
            outcomes = [session.attempt(work, (engine.Error,)) for work in works]
            if session.staged:
                _write(connection, session.seal())
        except BaseException as error:
            self._abandon(connection)
            if isinstance(error, engine.Error):
                raise StoreFailed(reason=str(error)) from error
            raise
        self._commit(connection)
        self._states.trim()
        return outcomes, session.staged

    def _commit(self, connection: Any) -> None:
        try:
            connection.execute("COMMIT")
        except engine.Error as error:
            # After a failed fsync the kernel may call lost pages clean: a second try could succeed and lie.
            self._broken = f"a commit failed: {error}; restart the process, then run `jobledger verify`"
            self._abandon(connection)
            raise StoreFailed(reason=self._broken) from error

    def _abandon(self, connection: Any) -> None:
        self._states.clear()
        if connection.in_transaction:
            connection.execute("ROLLBACK")

    async def head(self) -> Head:
        """See ``Store.head``."""
        return await self._read(read_head)

    async def by_key(self, key: str) -> Recorded | None:
        """See ``Store.by_key``."""
        return await self._read(lambda connection: _Source(connection).by_key(key))

    async def stream(self, stream: str, after: int = 0, limit: int | None = None) -> list[Recorded]:
        """See ``Store.stream``."""
        bound = -1 if limit is None else limit
        return await self._read(lambda connection: _rows(connection, _STREAM, (stream, after, bound)))

    async def streams(self, ids: Collection[str]) -> dict[str, list[Recorded]]:
        """See ``Store.streams``."""
        return await self._read(lambda connection: streams_of(connection, list(ids)))

    async def births(self, ids: Collection[str]) -> dict[str, int]:
        """See ``Store.births``."""
        return await self._read(lambda connection: _births(connection, list(ids)))

    async def scan(self, after: int, limit: int, types: Collection[str] | None = None) -> list[Recorded]:
        """See ``Store.scan``."""
        if types is None:
            return await self._read(lambda connection: _rows(connection, _SCAN, (after, limit)))
        names = ", ".join(f"'{name}'" for name in sorted(types) if name.replace(".", "").isalpha())
        sql = f"SELECT {COLUMNS} FROM events WHERE position > ? AND type IN ({names}) ORDER BY position LIMIT ?"
        return await self._read(lambda connection: _rows(connection, sql, (after, limit)))

    async def facts(self, after: int, limit: int) -> list[Recorded]:
        """See ``Store.facts``."""
        return await self._read(lambda connection: _rows(connection, _FACTS, (after, limit)))

    async def batches(self, after: int = 0, size: int = 10_000) -> AsyncIterator[list[Recorded]]:
        """See ``Store.batches``."""
        while batch := await self.scan(after, size):
            yield batch
            after = batch[-1].position

    def grown(self) -> int | None:
        """See ``Store.grown``. One look at a counter in shared memory, about 2 µs."""
        version = self._glance.execute("PRAGMA data_version").fetchone()[0]
        if version == self._seen_version:
            return None
        self._seen_version = version
        return int(self._glance.execute("SELECT size FROM head").fetchone()[0])

    async def call(self, work: Callable[[Any], T]) -> T:
        """Run a read of the caller's own on the reading connection."""
        return await self._read(work)

    async def close(self) -> None:
        """See ``Store.close``."""
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.close()
        await self._reader.close()
        self._glance.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _read(self, work: Callable[[Any], T]) -> T:
        try:
            return await self._reader.run(work)
        except engine.Error as error:
            raise StoreFailed(reason=str(error)) from error
        except ValueError as error:
            raise StoreClosed from error


def read_head(connection: Any) -> Head:
    """Return the end of the log as a connection sees it."""
    size, recorded_us, frontier = connection.execute(_HEAD).fetchone()
    return Head(size, recorded_us, Frontier.from_bytes(size, frontier))


def streams_of(connection: Any, ids: list[str]) -> dict[str, list[Recorded]]:
    """Return all events of several streams, in order."""
    found: dict[str, list[Recorded]] = {}
    for start in range(0, len(ids), IN_MAX):
        part = ids[start : start + IN_MAX]
        marks = ",".join("?" * len(part))
        sql = f"SELECT {COLUMNS} FROM events WHERE stream IN ({marks}) ORDER BY stream, version"
        for row in connection.execute(sql, part):
            found.setdefault(row[1], []).append(Recorded(*row))
    return found


def _births(connection: Any, ids: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for start in range(0, len(ids), IN_MAX):
        part = ids[start : start + IN_MAX]
        marks = ",".join("?" * len(part))
        sql = f"SELECT stream, position FROM events WHERE version = 1 AND stream IN ({marks})"
        found.update(connection.execute(sql, part).fetchall())
    return found


def _rows(connection: Any, sql: str, parameters: tuple[Any, ...]) -> list[Recorded]:
    return list(starmap(Recorded, connection.execute(sql, parameters).fetchall()))


def _write(connection: Any, sealed: Sealed) -> None:
    rows = [(*astuple(event), leaf) for event, leaf in zip(sealed.events, sealed.leaves, strict=True)]
    connection.executemany(_INSERT, rows)
    if sealed.nodes:
        connection.executemany("INSERT INTO tree (level, idx, hash) VALUES (?, ?, ?)", sealed.nodes)
    head = sealed.head
    connection.execute(
        "UPDATE head SET size = ?, recorded = ?, frontier = ?", (head.size, head.recorded_us, head.frontier.to_bytes())
    )


def _check_place(path: Path, read_only: bool) -> None:
    if not path.exists():
        if read_only:
            raise Unreadable(path=path, reason="there is no such file")
        if not path.parent.is_dir():
            raise Unreadable(path=path, reason="there is no such folder")


def _open_reader(path: Path) -> Any:
    connection = engine.connect(path, read_only=True)
    try:
        _check_format(connection, path)
    except engine.OperationalError:
        # In a folder that cannot be written, WAL mode needs its shared memory: without a WAL the file is complete.
        wal = path.with_name(f"{path.name}-wal")
        if wal.exists() and wal.stat().st_size:
            raise
        connection = engine.connect(path, read_only=True, immutable=True)
        _check_format(connection, path)
    return connection


def _check_format(connection: Any, path: Path) -> None:
    found = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if found != APPLICATION_ID:
        connection.close()
        raise Unreadable(path=path, reason="it is a database, but not a ledger")
    if version > FORMAT:
        connection.close()
        raise Unreadable(path=path, reason=f"its format {version} is newer than this program's {FORMAT}")


def _prepare(path: Path, name: str | None) -> Any:
    connection = engine.connect(path, read_only=False, cache_mib=64)
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise Unreadable(path=path, reason="its file system does not allow SQLite's WAL mode")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
    connection.execute("BEGIN IMMEDIATE")
    try:
        if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
            _create(connection, name)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        connection.close()
        raise
    _check_format(connection, path)
    return connection


def _create(connection: Any, name: str | None) -> None:
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    script = resources.files("ledger").joinpath("schema.sql").read_text("utf-8")
    for statement in _statements(script):
        connection.execute(statement)
    now_us = time.time_ns() // 1000
    origin = name or f"jobledger.local/{secrets.token_hex(6)}"
    connection.execute("INSERT INTO ledger (one, name, created) VALUES (1, ?, ?)", (origin, now_us))
    connection.execute("INSERT INTO head (one, size, recorded, frontier) VALUES (1, 0, 0, ?)", (b"",))


def _statements(script: str) -> list[str]:
    found, pending = [], ""
    for line in script.splitlines(keepends=True):
        pending += line
        if engine.library.complete_statement(pending):
            found.append(pending)
            pending = ""
    return found


def _confine(path: Path) -> int | None:
    """With a SQLite that has the WAL-reset bug, let one process at a time write: hold a lock beside the file."""
    if not engine.has_wal_reset_bug():
        return None
    handle = os.open(f"{path}.writer", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise Unreadable(
            path=path,
            reason=f"another process writes to it, and SQLite {engine.library.sqlite_version} has the WAL-reset bug, "
            "with which only one may; install pysqlite3 (pip install pysqlite3)",
        ) from error
    return handle
