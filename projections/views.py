"""Reads of the views: single rows and keyset pages as stored wire bytes, as of now or of any point in history.

Short reads run at once on the event loop, on a connection that never waits; one that takes longer than a few
milliseconds of work is broken off and done on a thread with a deadline, so that no query can hold up the others.
What was read is kept until the views change.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ledger import engine as sqlite
from ledger.errors import BadRequest, Unavailable
from ledger.state import State
from projections import query as sql
from projections.engine import PROJECTIONS
from projections.file import identity
from projections.history import AsOf
from projections.line import READS_MAX, Line
from projections.past import Past, StreamsOf
from projections.patience import DEADLINE_S, Moment, TooMuch, begin, end, fetched, read_patiently
from projections.query import Cursor, Query
from projections.reader import HERE, Place, Reader
from projections.resources import COLUMNS, Render, ResourceProjection, state_of

STEPS_MAX = 40_000
"""SQLite VM steps that a read may take on the event loop, about 2 ms; longer ones go to a thread."""
STEPS = 2_000
"""Steps between two looks at how long a read has taken; SQLite counts them over all uses of a statement."""
QUICK_SIZE_MAX = 4 * 2**20
"""Bytes that it may find there, about as long."""
CACHE_MIB = 32
"""MiB of page cache of each of the four connections that read; what is not in it the system's own cache has."""
ROWS_MAX = 50_000
"""Single rows kept in memory, about 1 KiB each."""
ROWS_SIZE_MAX = 64 * 1024 * 1024
"""Bytes of what those rows hold for the wire: one with all metadata that fits may be many MiB."""
PAGES_SIZE_MAX = 64 * 1024 * 1024
"""Bytes of list pages kept in memory."""

READ_INTERVAL_S = 0.005
"""How old what is kept may be when another process writes the views; this process's own changes show at once."""


class Row(NamedTuple):
    """One resource as reads need it. ``version`` is the one of its ETag."""

    wire: bytes
    version: int
    user_id: str
    project_id: str | None
    deleted: bool
    kind: str
    erased_position: int | None


class Page(NamedTuple):
    """One page of a list: the wire bytes of its rows, first and last id, and whether there is more behind it."""

    wires: list[bytes]
    first: str | None
    last: str | None
    more: bool


_ID = COLUMNS.index("id")
_ROW = "SELECT wire, etag, user_id, project_id, deleted_us IS NOT NULL, kind, erased_position FROM {} WHERE id = ?"
VISIBLE = "runs.deleted_us IS NULL AND runs.erased_position IS NULL"
"""The condition on runs that what happened within them can be seen."""


class Views:
    """Reads one views file. ``streams_of`` gives events from the log, for history that no row holds."""

    def __init__(self, path: Path, streams_of: StreamsOf, reads_max: int = READS_MAX) -> None:
        self._path = path
        self.line = Line(path.with_name(f"{path.name}-wal"), reads_max)
        self._looks = 0
        self._broken_off = False
        self._connect()
        self._lost: str | None = None
        self.on_damaged: Callable[[BaseException], object] = lambda error: None
        """Called with an error that says that the file is damaged."""
        self._slow: sqlite.Connection | None = None
        self._still: sqlite.Connection | None = None
        self._one_at_a_time = asyncio.Lock()
        self.stamp = 0
        self._rows: dict[str, Row] = {}
        self._rows_size = 0
        self._pages: dict[Any, Any] = {}
        self._pages_size = 0
        self._file_version = -1
        self._looked_at = 0.0
        self.read_interval_s = READ_INTERVAL_S
        self.is_told: Callable[[], bool] = lambda: False
        """Whether ``forget`` will be called for what is being written now, so that a change of the file is no news."""
        self._clock = asyncio.get_running_loop().time
        renders = {
            projection.name: projection.render
            for projection in PROJECTIONS
            if isinstance(projection, ResourceProjection)
        }
        self._past = Past(self.read, streams_of, renders)

    def _connect(self) -> None:
        self._identity = identity(self._path)
        self._single = _open(self._path)
        self._quick = _open(self._path)
        self._quick.set_progress_handler(self._break_off, STEPS)

    async def _open_another(self) -> sqlite.Connection:
        made = await sqlite.open_async(lambda: _open(self._path))
        if identity(self._path) == self._identity:
            return made
        await made.close()
        raise Unavailable(reason="the views file is another since a moment, and will be made anew")

    async def open(self) -> None:
        """Open the connection for long reads."""
        self._slow = await sqlite.open_async(lambda: _open(self._path))

    async def close(self) -> None:
        """Release the file."""
        self._single.close()
        self._quick.close()
        slow, still, self._slow, self._still = self._slow, self._still, None, None
        for connection in (slow, still):
            if connection is not None:
                await connection.close()

    def lose(self, reason: str) -> None:
        """Give up the file: until ``reopen``, who asks is told to come again."""
        self._lost = reason
        self._forget_rows()
        self._forget_pages()

    async def reopen(self) -> None:
        """Read the file that has taken the place of the one that was given up."""
        async with self._one_at_a_time:
            await self.close()
            self._connect()
            await self.open()
        self._file_version, self._lost = -1, None

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Have it told where the file turns out to be damaged, or was given up."""
        if self._lost:
            raise Unavailable(reason=self._lost)
        try:
            yield
        except sqlite.DatabaseError as error:
            if not sqlite.is_damage(error):
                raise
            self.on_damaged(error)
            raise Unavailable(reason=f"the views are damaged and will be made anew ({error})") from error

    def forget(self, changed: dict[str, list[str]], others_wrote: bool = False) -> None:
        """Drop what is kept of rows that this process changed, and all pages; call it after each commit.

        ``others_wrote``: another process wrote the views since the last call, so no row is as it was. What one writes
        in the moment between a commit and this call is told by the next.
        """
        if others_wrote:
            self._forget_rows()
        for ids in changed.values():
            for id in ids:
                self._forget_row(id)
        self._forget_pages()
        self._file_version = self._version()

    def notice(self) -> None:
        """Drop everything kept if another process changed the views since the last look, some milliseconds ago."""
        now = self._clock()
        if now - self._looked_at < self.read_interval_s:
            return
        self._looked_at = now
        version = self._version()
        if version != self._file_version and not self.is_told():
            self._file_version = version
            self._forget_rows()
            self._forget_pages()

    def _version(self) -> int:
        with self._looking():
            return int(self._single.execute("PRAGMA data_version").fetchone()[0])

    def _forget_rows(self) -> None:
        self._rows.clear()
        self._rows_size = 0

    def _forget_row(self, id: str) -> None:
        row = self._rows.pop(id, None)
        if row is not None:
            self._rows_size -= len(row.wire)

    def _keep_row(self, id: str, row: Row) -> None:
        if len(self._rows) >= ROWS_MAX or self._rows_size > ROWS_SIZE_MAX:
            for old in list(islice(self._rows, (len(self._rows) + 1) // 2)):
                self._forget_row(old)
        self._rows[id] = row
        self._rows_size += len(row.wire)

    def _forget_pages(self) -> None:
        self.stamp += 1
        self._pages.clear()
        self._pages_size = 0
        self._past.forget()

    def position(self) -> int:
        """Return how far the views are, from the file."""
        with self._looking():
            return int(self._single.execute("SELECT ifnull(min(position), 0) FROM projections").fetchone()[0])

    def row(self, table: str, id: str) -> Row | None:
        """Return one resource, deleted ones too; None when the views hold none of that id."""
        self.notice()
        row = self._rows.get(id)
        if row is None:
            with self._looking():
                found = self._single.execute(_ROW.format(table), (id,)).fetchone()
            if found is None:
                return None
            row = Row(*found)
            self._keep_row(id, row)
        return row if _TABLES[row.kind] == table else None

    def kept(self, key: Any) -> Any:
        """Return what was kept under a key since the views last changed, or None."""
        self.notice()
        return self._pages.get(key)

    def keep(self, key: Any, value: Any, size: int, stamp: int) -> None:
        """Keep a value of ``size`` bytes until the views change. ``stamp``: this object's before it was read."""
        if stamp != self.stamp or size > PAGES_SIZE_MAX // 2:
            return
        if self._pages_size + size > PAGES_SIZE_MAX:
            self._pages.clear()
            self._pages_size = 0
        self._pages[key] = value
        self._pages_size += size

    async def state(self, table: str, id: str) -> State | None:
        """Return the folded state of one resource from its row."""
        rows = await self.read(f"SELECT {', '.join(COLUMNS)} FROM {table} WHERE id = :id", {"id": id})
        return state_of(rows[0]) if rows else None

    async def read(self, text: str, parameters: dict[str, Any], *, is_long: bool = False) -> list[Any]:
        """Run a query: at once where it is short, else on a thread. Raises as ``read_patiently``.

        ``is_long``: on the thread from the beginning, as full-text search looks at no clock between two finds.
        """
        if is_long:
            return await self._read_slowly(text, parameters)
        self._looks, self._broken_off = 0, False
        try:
            with self._looking(), suppress(TooMuch):  # which the thread may have
                return fetched(self._quick.execute(text, parameters), QUICK_SIZE_MAX)
        except sqlite.OperationalError:
            if not self._broken_off:
                raise
        return await self._read_slowly(text, parameters)

    def places(self, name: str) -> Sequence[Place]:
        """See ``Reader.places``."""
        return HERE

    @asynccontextmanager
    async def moment(self) -> AsyncIterator[Reader]:
        """Read the views as they are at one moment, however many queries that takes; one after the other may do so."""
        with self.line.place():
            async with self._one_at_a_time, self.line.turn():
                with self._looking():
                    if self._still is None:
                        self._still = await self._open_another()
                    connection = self._still
                    try:
                        await connection.run(begin)
                        yield Moment(connection)
                    finally:
                        await connection.run(end)

    async def _read_slowly(self, text: str, parameters: dict[str, Any]) -> list[Any]:
        with self.line.place():
            async with self.line.turn():
                with self._looking():
                    if self._slow is None:
                        raise Unavailable(reason="the views are closed")
                    return await read_patiently(self._slow, text, parameters)

    def _break_off(self) -> int:
        self._looks += 1
        self._broken_off = self._looks > STEPS_MAX // STEPS
        return int(self._broken_off)

    async def page(self, query: Query, render: Render | None = None) -> Page:
        """Return one page of a list. ``render``: another shape than the stored one.

        Raises ``BadRequest`` for a cursor of an unknown id, or of one that the filters' user may not see.
        """
        at = query.as_of
        after, before = [await self._cursor(query, id) for id in (query.after, query.before)]
        if at is not None:
            page = await self._past_in_time(query, at, after, before, render)
        else:
            where = sql.conditions(query)
            if query.filters.duration_percentile is not None:
                await self._add_percentile(query, where)
            sql.bounds(query, where, after, before)
            page = await (self._shaped(query, where, render) if render else self._stored(query, where))
        rows, more = page[: query.limit], len(page) > query.limit
        if query.backwards:
            rows.reverse()
        wires = [wire for _, wire in rows]
        return Page(wires, rows[0][0] if rows else None, rows[-1][0] if rows else None, more)

    async def _past_in_time(
        self, query: Query, at: AsOf, after: Cursor | None, before: Cursor | None, render: Render | None
    ) -> list[tuple[str, bytes]]:
        if query.filters.duration_percentile is not None:
            raise BadRequest(reason="duration_percentile cannot be combined with as_of.")
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await self._past.page(query, at, after, before, render)
        except TimeoutError:
            raise Unavailable(reason=f"the query took longer than {DEADLINE_S:g} s; ask for less") from None

    async def ids(self, query: Query) -> list[str]:
        """Return the ids of a list's rows as of now."""
        where = sql.conditions(query)
        text = f"SELECT id FROM {query.table} WHERE {where} ORDER BY {sql.order(query)} LIMIT :limit"
        return [row[0] for row in await self.read(text, {**where.parameters, "limit": query.limit})]

    async def _stored(self, query: Query, where: sql.Where) -> list[tuple[str, bytes]]:
        text = f"SELECT id, wire FROM {query.table} WHERE {where} ORDER BY {sql.order(query)} LIMIT :limit"
        return await self.read(text, {**where.parameters, "limit": query.limit + 1})

    async def _shaped(self, query: Query, where: sql.Where, render: Render) -> list[tuple[str, bytes]]:
        """Return what ``_stored`` returns, in another shape than the stored one."""
        text = f"SELECT {', '.join(COLUMNS)} FROM {query.table} WHERE {where} ORDER BY {sql.order(query)} LIMIT :limit"
        rows = await self.read(text, {**where.parameters, "limit": query.limit + 1})
        return [(row[_ID], render(state_of(row))) for row in rows]

    async def _cursor(self, query: Query, id: str | None) -> Cursor | None:
        if id is None:
            return None
        text = f"SELECT {query.sort}, user_id, project_id FROM {query.table} WHERE id = :id"
        rows = await self.read(text, {"id": id})
        filters = query.filters
        if not rows or filters.user_id not in (None, rows[0][1]) or filters.project_id not in (None, rows[0][2]):
            raise BadRequest(reason=f"The cursor '{id}' is not an id in this list.")
        return Cursor(rows[0][0], id)

    async def _add_percentile(self, query: Query, where: sql.Where) -> None:
        """Keep rows that took at least as long as the percentile of all rows that match the other filters."""
        count = f"SELECT count(*) FROM {query.table} WHERE {where} AND duration_ns IS NOT NULL"
        total = (await self.read(count, where.parameters))[0][0]
        rank = max(0, -(-total * (query.filters.duration_percentile or 0) // 100) - 1)
        text = (
            f"SELECT duration_ns FROM {query.table} WHERE {where} AND duration_ns IS NOT NULL "
            "ORDER BY duration_ns LIMIT 1 OFFSET :rank"
        )
        rows = await self.read(text, {**where.parameters, "rank": rank})
        where.add("duration_ns >= :percentile", percentile=rows[0][0] if rows else 0)


_TABLES = {"job": "jobs", "run": "runs", "batch": "batches"}


def _open(path: Path) -> Any:
    return sqlite.connect(path, read_only=True, cache_mib=CACHE_MIB)
