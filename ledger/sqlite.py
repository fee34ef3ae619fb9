"""The log in one SQLite file: WAL, ``synchronous=FULL``, append-only triggers, several writing processes.

One thread owns the write connection and runs one function a transaction; everything that decides is read inside
``BEGIN IMMEDIATE``. Readers have connections of their own, opened ``mode=ro``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from ledger import database, engine, keys, nodes, queries
from ledger.checkpoint import Kept, Signer, VerifierKey, check_name
from ledger.errors import InDoubt, StoreClosed, StoreFailed, Unavailable, Unreadable
from ledger.events import Recorded
from ledger.proofs import Tree
from ledger.session import Head, Session, States, Work
from ledger.store import BATCH_SIZE

T = TypeVar("T")


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
        self._closing = AsyncExitStack()
        self._in_doubt: str | None = None
        self._leases: set[str] = set()

    @classmethod
    async def open(
        cls, path: str | os.PathLike[str], *, read_only: bool = False, name: str | None = None
    ) -> SqliteStore:
        """Open a ledger, made on first use unless ``read_only``. ``name``: of a new ledger; made up when not given.

        Raises ``Unreadable`` when the file is missing (read-only), no ledger, or of a later format, and
        ``InvalidInput`` for a name that no checkpoint could bear.
        """
        where = Path(path)
        database.check_place(where, read_only)
        if name is not None:
            check_name(name, "name")
        async with AsyncExitStack() as stack:
            writer = None
            try:
                if not read_only:
                    place, is_alone = await asyncio.to_thread(database.enter, where)
                    stack.callback(os.close, place)
                    engine.touch(where)
                    writer = await engine.open_async(lambda: database.open_writer(where, name, is_alone=is_alone))
                    stack.push_async_callback(writer.close)
                    database.admit(place)
                    await writer.run(_scrub)  # what a killed process left
                reader = await engine.open_async(lambda: database.open_reader(where))
                stack.push_async_callback(reader.close)
                glance = database.open_reader(where)
                stack.callback(glance.close)
                found = glance.execute("SELECT name FROM ledger").fetchone()[0]
            except (engine.Error, OSError) as error:
                raise Unreadable(path=where, reason=str(error)) from error
            store = cls(where, found, reader, glance)
            store._writer = writer
            store._closing = stack.pop_all()
        return store

    async def transact(self, works: Sequence[Work], now_us: int) -> tuple[list[Any], list[Recorded]]:
        """See ``Store.transact``."""
        if self._writer is None:
            raise StoreClosed
        return await self._writer.run(lambda connection: self._transact(connection, works, now_us))

    def _transact(self, connection: Any, works: Sequence[Work], now_us: int) -> tuple[list[Any], list[Recorded]]:
        if self._in_doubt:
            self._settle(connection)
        try:
            connection.execute("BEGIN IMMEDIATE")
            version = connection.execute("PRAGMA data_version").fetchone()[0]
            if version != self._file_version:
                self._states.clear()
                self._file_version = version
            session = Session(queries.SqlSource(connection), self._states, now_us)
            outcomes = [session.attempt(work, (engine.Error,)) for work in works]
            if session.staged:
                queries.write(connection, session.seal())
        except Exception as error:
            self._abandon(connection)
            raise StoreFailed(reason=str(error)) from error
        self._commit(connection)
        self._states.trim(session.used)
        return outcomes, session.staged

    async def probe(self) -> None:
        """See ``Store.probe``."""
        await self._write(self._settle)

    def _commit(self, connection: Any) -> None:
        try:
            connection.execute("COMMIT")
        except engine.Error as error:
            self._abandon(connection)
            self._in_doubt = str(error)
            self._settle(connection, InDoubt)
            raise StoreFailed(reason=str(error)) from error

    def _settle(self, connection: Any, otherwise: type[Unavailable] = StoreFailed) -> None:
        """Make sure that a commit which failed left nothing; raise ``otherwise`` where the disk does not allow it.

        Its pages may stand in the write-ahead log, whole, and come to life when the file is opened next. After a failed
        fsync the kernel may also call pages clean that it lost, so a second try of the same could succeed and lie.
        So an empty change is committed in their place: it writes there anew, and what is behind it counts no more.
        """
        try:
            connection.execute("BEGIN IMMEDIATE")
            # A row that stays the same is not written; this is. Another process may have raised it since it was opened.
            connection.execute(f"PRAGMA user_version = {database.format_of(connection)}")
            connection.execute("COMMIT")
        except engine.Error as error:
            engine.roll_back(connection)
            raise otherwise(reason=self._in_doubt if otherwise is InDoubt else str(error)) from error
        self._in_doubt = None

    def _abandon(self, connection: Any) -> None:
        self._states.clear()
        engine.roll_back(connection)

    async def head(self) -> Head:
        """See ``Store.head``."""
        return await self._read(queries.read_head)

    async def by_key(self, key: str) -> Recorded | None:
        """See ``Store.by_key``."""
        return await self._read(lambda connection: queries.SqlSource(connection).by_key(key))

    async def stream(
        self, stream: str, after: int = 0, limit: int | None = None, size_max: int | None = None
    ) -> list[Recorded]:
        """See ``Store.stream``."""
        bound = -1 if limit is None else limit
        asked = (stream, after, bound)
        return await self._read(lambda connection: queries.rows_of(connection, queries.STREAM, asked, size_max))

    async def streams(
        self, ids: Collection[str], without: Collection[str] = (), *, bare: bool = False
    ) -> dict[str, list[Recorded]]:
        """See ``Store.streams``."""
        return await self._read(lambda connection: queries.streams_of(connection, list(ids), without, bare=bare))

    async def births(self, ids: Collection[str]) -> dict[str, int]:
        """See ``Store.births``."""
        return await self._read(lambda connection: queries.births_of(connection, list(ids)))

    async def imported(self, positions: Collection[int]) -> set[int]:
        """See ``Store.imported``."""
        return await self._read(lambda connection: queries.imported_of(connection, positions))

    async def scan(
        self, after: int, limit: int, types: Collection[str] | None = None, size_max: int | None = None
    ) -> list[Recorded]:
        """See ``Store.scan``."""
        if types is None:
            sql = queries.SCAN
            return await self._read(lambda connection: queries.rows_of(connection, sql, (after, limit), size_max))
        names = ", ".join(f"'{name}'" for name in sorted(types) if name.replace(".", "").isalpha())
        sql = f"SELECT {queries.COLUMNS} FROM events WHERE position > ? AND type IN ({names}) ORDER BY position LIMIT ?"
        return await self._read(lambda connection: queries.rows_of(connection, sql, (after, limit), size_max))

    async def facts(self, after: int, limit: int, size_max: int | None = None) -> list[Recorded]:
        """See ``Store.facts``."""
        return await self._read(lambda connection: queries.rows_of(connection, queries.FACTS, (after, limit), size_max))

    async def batches(self, after: int = 0, size: int = 10_000) -> AsyncIterator[list[Recorded]]:
        """See ``Store.batches``."""
        while batch := await self.scan(after, size, size_max=BATCH_SIZE):
            yield batch
            after = batch[-1].position

    def grown(self) -> int | None:
        """See ``Store.grown``. One look at a counter in shared memory, about 2 µs."""
        try:
            version = self._glance.execute("PRAGMA data_version").fetchone()[0]
            if version == self._seen_version:
                return None
            size = int(self._glance.execute("SELECT size FROM head").fetchone()[0])
        except engine.Error as error:
            raise StoreFailed(reason=str(error)) from error
        self._seen_version = version
        return size

    async def call(self, work: Callable[[Any], T]) -> T:
        """Run a read of the caller's own on the reading connection."""
        return await self._read(work)

    async def scrub(self) -> bool:
        """See ``Store.scrub``: the write-ahead log holds pages as they were before an erasure."""
        return await self._write(_scrub)

    async def erased(self) -> int:
        """See ``Store.erased``."""
        return (await self._read(queries.erased_last))[0]

    async def prove(self, work: Callable[[Tree], T]) -> T:
        """See ``Store.prove``."""

        def within_a_snapshot(connection: Any) -> T:
            connection.execute("BEGIN")
            try:
                return work(nodes.tree_of(connection))
            finally:
                engine.roll_back(connection)  # nothing was written; what ends it must not fail with the disk

        return await self._read(within_a_snapshot)

    async def last_checkpoint(self) -> Kept | None:
        """See ``Store.last_checkpoint``."""
        return await self._read(nodes.last_checkpoint_of)

    async def last_signed(self) -> str | None:
        """See ``Store.last_signed``."""
        return await asyncio.to_thread(keys.remembered, self.path)

    async def keep_checkpoint(self, kept: Kept, *, anew: bool = False) -> bool:
        """See ``Store.keep_checkpoint``."""
        if self._writer is None:
            raise StoreClosed
        await asyncio.to_thread(keys.remember, self.path, kept.note, anew=anew)
        return await self._write(lambda connection: nodes.keep(connection, kept))

    async def signer(self, *, new: bool = False) -> Signer:
        """See ``Store.signer``."""
        if self._writer is None:
            raise StoreClosed
        return await asyncio.to_thread(keys.renew if new else keys.load, self.path, self.name)

    async def published(self) -> list[VerifierKey]:
        """See ``Store.published``."""
        return await asyncio.to_thread(keys.published, self.path)

    def lease(self, name: str) -> bool:
        """See ``Store.lease``."""
        if self._writer is None:
            return False
        if name not in self._leases:
            try:
                handle = database.lock(self.path, name)
            except OSError as error:
                raise StoreFailed(reason=f"the lease of the {name} cannot be taken: {error}") from error
            if handle is None:
                return False
            self._leases.add(name)
            self._closing.callback(os.close, handle)
        return True

    async def close(self) -> None:
        """See ``Store.close``."""
        self._writer = None
        await self._closing.aclose()

    async def _write(self, work: Callable[[Any], T]) -> T:
        if self._writer is None:
            raise StoreClosed
        try:
            return await self._writer.run(work)
        except engine.Error as error:
            raise StoreFailed(reason=str(error)) from error

    async def _read(self, work: Callable[[Any], T]) -> T:
        try:
            return await self._reader.run(work)
        except engine.Error as error:
            raise StoreFailed(reason=str(error)) from error
        except ValueError as error:
            raise StoreClosed from error


def _scrub(connection: Any) -> bool:
    """Take what was erased out of the write-ahead log; where that cannot be yet, the next call tries again."""
    wanted, done = queries.erased_last(connection)
    if wanted == done:
        return True
    if not engine.empty_wal(connection):
        return False
    connection.execute("UPDATE scrub SET done = ?", (wanted,))
    return True
