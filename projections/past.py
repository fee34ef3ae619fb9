"""Lists as of a point in history: which rows a page has, and what each of them was then.

What a row was then is taken back from its wire where the row tells what came later, else folded from the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import accumulate
from operator import itemgetter
from typing import Any, Protocol

import msgspec

from ledger import state as states
from ledger.events import ERASURES, Recorded
from ledger.state import State
from projections import query as sql
from projections.history import AsOf
from projections.living import counted, window
from projections.query import Cursor, Query
from projections.resources import NEWEST, Render, state_of
from projections.search import CREATED, HOW, ID, LIVING_MAX, WIDTH, WIRE, Search
from projections.takeback import FOLDED, SAME, taken_back

CHUNK_MAX = 2000
"""Rows read in one step."""
NARROWED_MAX = 4
"""How many times as many rows as wanted are read at most in no order; where more began at once, they are sorted."""
SPARE = {"us": 1.6, "position": 2.1}
"""How many times as many rows as wanted are looked at first, as some had ended: by far most pages are then full."""
Read = Callable[[str, dict[str, Any]], Awaitable[list[Any]]]
POINTS_MAX = 1_000
"""Points of which it is kept how many were alive, about 1 KiB each."""
FOLDED_AT_ONCE = 200
"""Histories that are folded at once, about 1 ms; other requests get their turn in between."""
READ_AT_ONCE = 10
"""Histories that are read at once with all that was said in them, which may be megabytes each."""


class StreamsOf(Protocol):
    """Reads histories from the log; ``bare``: without what steps and messages say."""

    def __call__(self, ids: Sequence[str], /, *, bare: bool) -> Awaitable[dict[str, list[Recorded]]]: ...


class Past:
    """Reads lists as of points in history. ``read`` asks the views, ``streams_of`` the log."""

    def __init__(self, read: Read, streams_of: StreamsOf, renders: dict[str, Render]) -> None:
        self._read = read
        self._streams_of = streams_of
        self._renders = renders
        self._counts: dict[tuple[str, AsOf], list[int]] = {}

    def forget(self) -> None:
        """Drop what is kept of points; call it when the views have changed."""
        self._counts.clear()

    async def page(
        self, query: Query, at: AsOf, after: Cursor | None, before: Cursor | None, render: Render | None
    ) -> list[tuple[str, bytes]]:
        """Return ids and wires of a page's rows and one more, from its cursor outwards.

        ``render``: another shape than the stored one.
        """
        search = Search(query, at, after, before)
        if search.is_vain:
            return []
        if search.living:
            await self._look_at_living(search)
        if at.position is not None and not search.sees_only_living:
            newest_us = await self._newest_us(query.table, at.position)
            if newest_us is None:
                return []
            search.begin_at(newest_us)
        found: list[tuple[str, bytes]] = []
        chunk = query.limit + 1
        while len(found) <= query.limit:
            rows = await self._read(*search.text(chunk, NARROWED_MAX * chunk + 1, shaped=render is not None))
            if search.narrowed and not chunk <= len(rows) <= NARROWED_MAX * chunk:
                search.widen()
                continue
            rows.sort(key=itemgetter(CREATED, ID), reverse=search.falls)
            del rows[chunk:]
            found.extend(await self._then(search, rows, render))
            if len(rows) < chunk:
                break
            search.go_on(Cursor(rows[-1][CREATED], rows[-1][ID]))
            chunk = min(chunk * 2, CHUNK_MAX)
        return found[: query.limit + 1]

    async def _newest_us(self, table: str, position: int) -> int | None:
        """Return the latest time of creation of all rows that the ledger knew at a position."""
        text = f"SELECT {NEWEST} FROM {table} WHERE created_position <= :as_of ORDER BY created_position DESC LIMIT 1"
        rows = await self._read(text, {"as_of": position})
        return rows[0][0] if rows else None

    async def _look_at_living(self, search: Search) -> None:
        """Tell the search whether few were alive, and where the newest of them began that fill a page."""
        at, table = search.at, search.query.table
        counts = self._counts.get((table, at))
        if counts is None:  # else it is the next page, or another list, of one point
            text = (await self._read(counted(at, table), search.points))[0][0]
            counts = msgspec.json.decode(text, type=list[int])
            if sum(counts) < LIVING_MAX // 2:  # by far too few to be many before this is forgotten
                self._counts[table, at] = counts
                while len(self._counts) > POINTS_MAX:
                    del self._counts[next(iter(self._counts))]
        search.few_live = sum(counts) < LIVING_MAX
        since = window(at, counts, int(SPARE[at.suffix] * (search.query.limit + 1))) if search.may_narrow else None
        if since is not None:
            search.narrow(since, since if at.position is None else await self._newest_us(table, since))

    async def _then(self, search: Search, rows: list[Any], render: Render | None) -> list[tuple[str, bytes]]:
        then = await self._folded(search, [row[ID] for row in rows if row[HOW] == FOLDED])
        found: list[tuple[str, bytes]] = []
        for row in rows:
            id, how = row[ID], row[HOW]
            if how == FOLDED:
                if (state := then.get(id)) is not None:
                    found.append((id, (render or self._renders[search.query.table])(state)))
                continue
            wire = render(state_of(row[WIDTH:])) if render else row[WIRE]
            found.append((id, wire if how == SAME else taken_back(search.at, wire, *row[HOW:WIDTH])))
        return found

    async def _folded(self, search: Search, ids: Sequence[str]) -> dict[str, State]:
        """Return what the log says that resources were, of those that the filters suit."""
        found: dict[str, State] = {}
        reads_all = search.query.filters.looks_within
        step = READ_AT_ONCE if reads_all else FOLDED_AT_ONCE
        for start in range(0, len(ids), step):
            for id, events in (await self._streams_of(ids[start : start + step], bare=not reads_all)).items():
                if any(event.type in ERASURES for event in events):
                    continue  # since its row was read
                state = fold_as_of(events, search.at)
                if state is not None and self._matches(search, state, events):
                    found[id] = state
            await asyncio.sleep(0)
        return found

    @staticmethod
    def _matches(search: Search, state: State, events: Sequence[Recorded]) -> bool:
        filters = search.query.filters
        if not sql.moving_matches(filters, state):
            return False
        return not filters.looks_within or sql.within_matches(filters, known_at(events, search.at))


def known_at(events: Sequence[Recorded], at: AsOf) -> Iterator[Recorded]:
    """Yield those of a stream's events that the ledger knew at a position, or that had taken effect by a time."""
    effective_us = accumulate((event.time for event in events), max)
    for event, time_us in zip(events, effective_us, strict=True):
        if (event.position if at.time_us is None else time_us) > at.value:
            return
        yield event


def fold_as_of(events: Sequence[Recorded], at: AsOf) -> State | None:
    """Fold a stream to a point in history; None when it did not exist then or was deleted."""
    state = states.as_of(events, position=at.position, time_us=at.time_us)
    return None if state is None or state.deleted_us is not None else state
