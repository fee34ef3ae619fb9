"""Lists as of a point in history: which rows a page has, and what each of them was then.

Rows are found from the point on, by the index that the filters suit, and not from now on backwards. What a row was
then is taken back from its wire where only statuses and callbacks came later, else folded from the log.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from ledger import state as states
from ledger.events import Recorded
from ledger.state import CALLED, LOST, State
from ledger.transitions import TERMINAL
from projections import query as sql
from projections.history import SPANS, AsOf, alive, existed, status_at
from projections.query import Cursor, Filters, Query, Where
from projections.resources import COLUMNS, IS_MOVED, NEWEST, Render, state_of
from projections.takeback import FOLDED, LATER, SAME, UNENDED, taken_back

CHUNK_MAX = 2000
"""Rows read in one step."""
LIVING_MAX = 20_000
"""Rows alive at a point from which on a list of them is read in the order of creation: there is soon a page of them."""
ARMS_MAX = 8
"""Agents of which each is looked up by itself."""
Read = Callable[[str, dict[str, Any]], Awaitable[list[Any]]]
StreamsOf = Callable[[Sequence[str]], Awaitable[dict[str, list[Recorded]]]]


class Past:
    """Reads lists as of points in history. ``read`` asks the views, ``streams_of`` the log."""

    def __init__(self, read: Read, streams_of: StreamsOf, renders: dict[str, Render]) -> None:
        self._read = read
        self._streams_of = streams_of
        self._renders = renders

    async def page(
        self, query: Query, at: AsOf, after: Cursor | None, before: Cursor | None, render: Render | None
    ) -> list[tuple[str, bytes]]:
        """Return ids and wires of a page's rows and one more, from its cursor outwards.

        ``render``: another shape than the stored one.
        """
        newest_us = at.time_us if at.position is None else await self._newest_us(query.table, at)
        if newest_us is None:
            return []
        search = _Search(query, at, newest_us, after, before)
        statuses = search.statuses
        if statuses is not None and not TERMINAL.issuperset(statuses):
            search.few_live = await self._few_live(search)
        found: list[tuple[str, bytes]] = []
        chunk = query.limit + 1
        while len(found) <= query.limit:
            text, parameters = search.text(chunk, shaped=render is not None)
            rows = await self._read(text, parameters)
            found.extend(await self._then(search, rows, render))
            if len(rows) < chunk:
                break
            search.go_on(Cursor(rows[-1][_CREATED], rows[-1][_ID]))
            chunk = min(chunk * 2, CHUNK_MAX)
        return found[: query.limit + 1]

    async def _newest_us(self, table: str, at: AsOf) -> int | None:
        """Return the latest time of creation of all rows that the ledger knew at a position."""
        text = f"SELECT {NEWEST} FROM {table} WHERE created_position <= :as_of ORDER BY created_position DESC LIMIT 1"
        rows = await self._read(text, {"as_of": at.value})
        return rows[0][0] if rows else None

    async def _few_live(self, search: _Search) -> bool:
        text = f"SELECT count(*) FROM ({alive(search.at, search.query.table)})"
        return int((await self._read(text, search.living))[0][0]) < LIVING_MAX

    async def _then(self, search: _Search, rows: list[Any], render: Render | None) -> list[tuple[str, bytes]]:
        query = search.query
        folded = [row[_ID] for row in rows if row[_HOW] == FOLDED]
        streams = await self._streams_of(folded) if folded else {}
        found: list[tuple[str, bytes]] = []
        for row in rows:
            id, how = row[_ID], row[_HOW]
            if how == FOLDED:
                state = fold_as_of(streams.get(id, ()), search.at)
                if state is not None and sql.moving_matches(query.filters, state):
                    found.append((id, (render or self._renders[query.table])(state)))
                continue
            wire = render(state_of(row[_WIDTH:])) if render else row[_WIRE]
            found.append((id, wire if how == SAME else taken_back(wire, row[_HOW:_WIDTH], search.at)))
        return found


_ID, _CREATED, _WIRE, _HOW, _WIDTH = 0, 1, 2, 3, 8


class _Search:
    """What SQL is asked for a page, by the point, the filters and the cursors."""

    def __init__(self, query: Query, at: AsOf, newest_us: int, after: Cursor | None, before: Cursor | None) -> None:
        self.query = query
        self.at = at
        self.few_live = False
        self.statuses = sql.wanted_statuses(query.filters)
        self.living = {"as_of": at.value, "spans": SPANS, "living_max": LIVING_MAX}
        filters = query.filters
        ends = [newest_us, filters.end_us, None if filters.created_before_us is None else filters.created_before_us - 1]
        self._newest_us = min(each for each in ends if each is not None)
        self._moved_later = f"({IS_MOVED} AND changed_{at.suffix} > :as_of)"
        self._low, self._high = (before, after) if query.descending else (after, before)
        self._falls = query.descending != query.backwards

    def go_on(self, last: Cursor) -> None:
        """Look behind a row from now on."""
        if self._falls:
            self._high = last
        else:
            self._low = last

    def text(self, limit: int, *, shaped: bool) -> tuple[str, dict[str, Any]]:
        """Return the query of the next rows and its parameters. ``shaped``: with all columns."""
        table, order = self.query.table, sql.order(self.query)
        base = self._base()
        arms = self._arms(base)
        parameters = {**base.parameters, **self.living, "limit": limit}
        for arm in arms:
            parameters.update(arm.where.parameters)
        keys = f"{self.query.sort}, id, created_position"
        parts = [f"SELECT {keys} FROM {arm.source} WHERE {arm.where} ORDER BY {order} LIMIT :limit" for arm in arms]
        names = f"{self._names(shaped)}{''.join(f', {name}' for name in COLUMNS) if shaped else ''}"
        if len(arms) == 1 and arms[0].source == table:
            text = f"SELECT {names} FROM {table} WHERE {arms[0].where} ORDER BY {order} LIMIT :limit"
            return text, parameters
        places = " UNION ALL ".join(f"SELECT * FROM ({part})" for part in parts)
        places = f"SELECT created_position FROM ({places}) ORDER BY {order} LIMIT :limit"
        return f"SELECT {names} FROM {table} WHERE created_position IN ({places}) ORDER BY {order}", parameters

    def _names(self, shaped: bool) -> str:
        """Return what is read of a row: ``_ID`` and the like name the places."""
        end, filters = self.at.suffix, self.query.filters
        unclear = [f"marks & {LOST}"]
        if filters.agent_ids is not None or filters.source_id is not None:
            unclear.append(IS_MOVED)
        if filters.stop_reason is not None or filters.duration is not None:
            unclear.append("undo IS NOT NULL")
        changed = "NULL"
        if shaped or self.query.table != "runs":  # which do not show it
            steps = ("pending", "running", "ended")
            changed = f"max({', '.join(f'iif({step}_{end} <= :as_of, {step}_us, created_us)' for step in steps)})"
        return (
            f"id, created_us, wire, CASE WHEN changed_{end} <= :as_of THEN {SAME} WHEN {' OR '.join(unclear)} "
            f"THEN {FOLDED} WHEN ended_{end} > :as_of THEN {UNENDED} WHEN marks & {CALLED} THEN {FOLDED} "
            f"ELSE {LATER} END, {status_at(self.at)}, undo, ended_position, {changed}"
        )

    def _base(self) -> Where:
        """Return the conditions of every row, cursors and the point included."""
        filters = msgspec.structs.replace(self.query.filters, end_us=None, created_before_us=None)
        where = sql.fixed(filters)
        where.add(f"{existed(self.at)} AND erased_position IS NULL", as_of=self.at.value)
        high, low = self._high, self._low
        if high is not None and high.value <= self._newest_us:  # one upper bound: SQLite would begin at either of two
            where.add("(created_us, id) < (:high, :high_id)", high=high.value, high_id=high.id)
        else:
            where.add("created_us <= :newest", newest=self._newest_us)
        if low is not None:
            where.add("(created_us, id) > (:low, :low_id)", low=low.value, low_id=low.id)
        self._settle(where, filters)
        return where

    def _settle(self, where: Where, filters: Filters) -> None:
        """Add what an end brings: as it was told then, or left to the fold where something was told later."""
        end = self.at.suffix
        ended = f"ifnull(ended_{end} <= :as_of, 0)"
        parts = sql.moving(msgspec.structs.replace(filters, agent_ids=None, source_id=None))
        for condition in parts.conditions:
            plain = condition.replace("duration_ns", f"CASE WHEN ended_{end} > :as_of THEN NULL ELSE duration_ns END")
            if filters.stop_reason is not None and condition.startswith("stop_reason"):
                plain = f"{ended} AND {condition}"
            where.add(f"({plain} OR (changed_{end} > :as_of AND (undo IS NOT NULL OR marks & {LOST})))")
        where.parameters.update(parts.parameters)

    def _arms(self, base: Where) -> list[_Arm]:
        """Return the parts that together are all rows, each of which one index yields in order."""
        statuses = self.statuses
        if statuses is None:
            return self._by_agent(base)
        living = tuple(status for status in statuses if status not in TERMINAL)
        ended = [status for status in statuses if status in TERMINAL]
        if living and not self.few_live:
            where = base.also()
            where.one_of(status_at(self.at), statuses, "status")
            return self._by_agent(where)
        arms: list[_Arm] = []
        if living:
            where = self._told(base)
            where.one_of(status_at(self.at), living, "living")
            source = f"({alive(self.at, self.query.table)}) CROSS JOIN {self.query.table} ON created_position = place"
            arms.append(_Arm(source, where))
        for number, status in enumerate(ended):
            where = base.also()
            where.add(f"status = :ended{number} AND ended_{self.at.suffix} <= :as_of", **{f"ended{number}": status})
            arms += self._by_agent(where)
        return arms

    def _told(self, where: Where) -> Where:
        """Return conditions with those on agent and source; what moved later passes, and is checked when folded."""
        where = where.also()
        filters = Filters(agent_ids=self.query.filters.agent_ids, source_id=self.query.filters.source_id)
        parts = sql.moving(filters)
        if parts.conditions:
            where.add(f"({parts} OR {self._moved_later})", **parts.parameters)
        return where

    def _by_agent(self, base: Where) -> list[_Arm]:
        """Return one part for each agent or source, and one of all rows that moved since, which are
        few: it is shielded from the index of users, which has many. Else one part."""
        filters, table = self.query.filters, self.query.table
        agents = filters.agent_ids
        if (agents is None and filters.source_id is None) or len(agents or ()) > ARMS_MAX or filters.id is not None:
            return [_Arm(table, self._told(base))]
        arms: list[_Arm] = []
        for number, agent in enumerate(agents or (None,)):
            where = base.also()
            where.add(f"NOT {self._moved_later}")
            if agent is not None:
                where.add(f"agent_id = :agent{number}", **{f"agent{number}": agent})
            if filters.source_id is not None:
                where.add("source_id = :source_id", source_id=filters.source_id)
            arms.append(_Arm(table, where))
        moved = base.also()
        moved.conditions = [f"+{each}" if each.startswith(sql.EQUAL) else each for each in moved.conditions]
        moved.add(self._moved_later)
        return [*arms, _Arm(table, moved)]


class _Arm(NamedTuple):
    """Where rows are looked for, and the conditions on them."""

    source: str
    where: Where


def fold_as_of(events: Sequence[Recorded], at: AsOf) -> State | None:
    """Fold a stream to a point in history; None when it did not exist then or was deleted."""
    state = states.as_of(events, position=at.position, time_us=at.time_us)
    return None if state is None or state.deleted_us is not None else state
