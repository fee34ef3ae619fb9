"""Which rows a list as of a point has, as SQL: found from the point on, by the index that the filters suit."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from ledger.state import CALLED, JUMPED, LOST, TWICE
from ledger.times import TIME_MAX_US
from ledger.transitions import TERMINAL
from projections import query as sql
from projections.history import AsOf, existed, status_at
from projections.living import EVER, SPANS, alive
from projections.query import Cursor, Filters, Query, Where
from projections.resources import COLUMNS, IS_MOVED
from projections.takeback import FOLDED, LATER, SAME, UNENDED

LIVING_MAX = 20_000
"""Rows alive at a point from which on a list of them is read in the order of creation: there is soon a page of them."""
ARMS_MAX = 8
"""Agents of which each is looked up by itself."""
ID, CREATED, WIRE, HOW, WIDTH = 0, 1, 2, 3, 8
"""Places in what is read of a row: from ``HOW`` to ``WIDTH`` is what ``taken_back`` needs; all columns may follow."""


class Search:
    """What SQL is asked for a page, by the point, the filters and the cursors."""

    def __init__(self, query: Query, at: AsOf, after: Cursor | None, before: Cursor | None) -> None:
        self.query = query
        self.at = at
        statuses = sql.wanted_statuses(query.filters)
        self._statuses = statuses
        self.living = tuple(status for status in statuses or () if status not in TERMINAL)
        """The statuses that are asked for and end no life, which few had at once."""
        self.few_live = False
        """Whether few lives were seen at the point at all."""
        self.points: dict[str, Any] = {
            "as_of": at.value,
            "spans": SPANS[at.suffix],
            "living_max": LIVING_MAX,
            "since": EVER,
        }
        self._floor_us: int | None = None
        self._newest_us = TIME_MAX_US
        before_us = query.filters.created_before_us
        for last_us in (at.time_us, query.filters.end_us, None if before_us is None else before_us - 1):
            if last_us is not None:
                self.begin_at(last_us)
        self._moved_later = f"({IS_MOVED} AND changed_{at.suffix} > :as_of)"
        self._low, self._high = (before, after) if query.descending else (after, before)
        self.falls = query.descending != query.backwards
        """Whether rows are read from the newest on."""

    @property
    def is_vain(self) -> bool:
        """Whether the filters contradict each other, so that no row has what they ask for."""
        return self._statuses == () or self.query.filters.agent_ids == ()

    @property
    def sees_only_living(self) -> bool:
        """Whether all rows are found among the few that were alive."""
        return self.few_live and set(self._statuses or ()) == set(self.living)

    def begin_at(self, newest_us: int) -> None:
        """Find no row that was created later."""
        self._newest_us = min(self._newest_us, newest_us)

    @property
    def may_narrow(self) -> bool:
        """Whether the newest rows before the point that were alive are likely to be a page."""
        only = Filters(user_id=self.query.filters.user_id, active=self.query.filters.active)
        is_plain = msgspec.structs.replace(self.query.filters, statuses=None, start_us=None) == only
        return is_plain and self.sees_only_living and self.falls and self._high is None

    @property
    def narrowed(self) -> bool:
        """Whether only rows are found that began a short time before the point."""
        return self._floor_us is not None

    def narrow(self, since: int, floor_us: int | None) -> None:
        """Find only rows that began after ``since``, and later than all others: after ``floor_us``."""
        if floor_us is not None:
            self.points["since"], self._floor_us = since, floor_us

    def widen(self) -> None:
        """Find all rows again."""
        self.points["since"], self._floor_us = EVER, None

    def go_on(self, last: Cursor) -> None:
        """Look behind a row from now on."""
        self.widen()
        if self.falls:
            self._high = last
        else:
            self._low = last

    def text(self, limit: int, narrowed_max: int, *, shaped: bool) -> tuple[str, dict[str, Any]]:
        """Return the query of the next rows, in no order, and its parameters.

        ``narrowed_max``: how many they are at most where they are narrowed; ``shaped``: with all columns.
        """
        table, order = self.query.table, f"ORDER BY {sql.order(self.query)} LIMIT :limit"
        arms = self._arms()
        parameters = {**self.points, "limit": limit}
        for arm in arms:
            parameters.update(arm.where.parameters)
        names = f"{self._names(shaped)}{''.join(f', {name}' for name in COLUMNS) if shaped else ''}"
        if self.narrowed:  # to about as many as are wanted: sorting them here would cost more than reading all
            parameters["limit"] = narrowed_max
            return f"SELECT {names} FROM {arms[0].source} WHERE {arms[0].where} LIMIT :limit", parameters
        if len(arms) == 1 and arms[0].source == table:
            return f"SELECT {names} FROM {table} WHERE {arms[0].where} {order}", parameters
        keys = "created_us, id, created_position"
        parts = [f"SELECT {keys} FROM {arm.source} WHERE {arm.where} {order}" for arm in arms]
        places = parts[0]
        if len(parts) > 1:
            places = f"SELECT * FROM ({' UNION ALL '.join(f'SELECT * FROM ({part})' for part in parts)}) {order}"
        joined = f"(SELECT created_position AS place FROM ({places})) CROSS JOIN {table} ON created_position = place"
        return f"SELECT {names} FROM {joined}", parameters

    def _names(self, shaped: bool) -> str:
        """Return what is read of a row: ``_ID`` and the like name the places."""
        end, filters = self.at.suffix, self.query.filters
        unclear = [f"marks & {LOST}"]
        if filters.agent_ids is not None or filters.source_id is not None:
            unclear.append(IS_MOVED)
        if filters.stop_reason is not None or filters.duration is not None:
            unclear.append(f"marks & {TWICE}")
        jumped = f"WHEN marks & {JUMPED} THEN {FOLDED} " if filters.looks_within and self.at.position is None else ""
        changed = "NULL"
        if shaped or self.query.table != "runs":  # which do not show it
            steps = ("pending", "running", "ended")
            changed = f"max({', '.join(f'iif({step}_{end} <= :as_of, {step}_us, created_us)' for step in steps)})"
        status = "'running'" if self.sees_only_living and self.living == ("running",) else status_at(self.at)
        return (
            f"id, created_us, wire, CASE {jumped}WHEN changed_{end} <= :as_of THEN {SAME} WHEN {' OR '.join(unclear)} "
            f"THEN {FOLDED} WHEN ended_{end} > :as_of THEN {UNENDED} WHEN marks & {CALLED} THEN {FOLDED} "
            f"ELSE {LATER} END, {status}, undo, ended_position, {changed}"
        )

    def _base(self) -> Where:
        """Return the conditions of every row, cursors and the point included."""
        filters = msgspec.structs.replace(self.query.filters, end_us=None, created_before_us=None)
        where = sql.fixed(filters)
        where.add(f"{existed(self.at)} AND erased_position IS NULL")
        high, low = self._high, self._low
        if high is not None and high.value <= self._newest_us:  # one upper bound: SQLite would begin at either of two
            where.add("(created_us, id) < (:high, :high_id)", high=high.value, high_id=high.id)
        else:
            where.add("created_us <= :newest", newest=self._newest_us)
        if low is not None:
            where.add("(created_us, id) > (:low, :low_id)", low=low.value, low_id=low.id)
        self._settle(where, filters)
        self._look_within(where, filters)
        return where

    def _settle(self, where: Where, filters: Filters) -> None:
        """Add what an end brings, as none had it before; what was told otherwise, too, is left to the fold."""
        end = self.at.suffix
        parts = sql.moving(msgspec.structs.replace(filters, agent_ids=None, source_id=None))
        for condition in parts.conditions:
            column, _, compared = condition.partition(" ")
            then = f"CASE WHEN ended_{end} > :as_of THEN NULL ELSE {column} END {compared}"
            where.add(f"({then} OR (marks & {TWICE} AND changed_{end} > :as_of))")
        where.parameters.update(parts.parameters)

    def _look_within(self, where: Where, filters: Filters) -> None:
        """Add what must have happened within runs by then; where clocks jumped back, times alone do not tell."""
        inner = sql.within(filters, self.at)
        for condition in inner.conditions:
            where.add(f"({condition} OR marks & {JUMPED})" if self.at.position is None else condition)
        where.parameters.update(inner.parameters)

    def _arms(self) -> list[_Arm]:
        """Return the parts that together are all rows, each of which one index yields in order or as few."""
        base = self._base()
        if self._statuses is None:
            return self._by_agent(base)
        if self.living and not self.few_live:
            base.one_of(status_at(self.at), self._statuses, "status")
            return self._by_agent(base)
        arms = [self._few(base)] if self.living else []
        ended = [status for status in self._statuses if status in TERMINAL]
        for number, status in enumerate(ended):
            where = base.also()
            where.add(f"status = :ended{number} AND ended_{self.at.suffix} <= :as_of", **{f"ended{number}": status})
            arms += self._by_agent(where)
        return arms

    def _few(self, base: Where) -> _Arm:
        """Return the part of those that were alive; what had ended is told first, as it is not shown."""
        end, table = self.at.suffix, self.query.table
        where = Where()
        where.add(f"ifnull(ended_{end} > :as_of, 1)")
        if self.living == ("running",):
            where.add(f"running_{end} <= :as_of")
        else:
            where.one_of(status_at(self.at), self.living, "living")
        if self._floor_us is not None:
            where.add("created_us > :floor", floor=self._floor_us)
        told = self._told(base)
        where.conditions += told.conditions
        where.parameters.update(told.parameters)
        return _Arm(f"({alive(self.at, table)}) CROSS JOIN {table} ON created_position = found", where)

    def _told(self, where: Where) -> Where:
        """Return conditions with those on agent and source; what moved later passes, and is checked when folded."""
        where = where.also()
        filters = Filters(agent_ids=self.query.filters.agent_ids, source_id=self.query.filters.source_id)
        parts = sql.moving(filters)
        if parts.conditions:
            where.add(f"({parts} OR {self._moved_later})", **parts.parameters)
        return where

    def _by_agent(self, base: Where) -> list[_Arm]:
        """Return one part for each agent or source, and one of all rows that moved since; else one part.

        The rows that moved are few, and shielded from the index of users, which has many.
        """
        filters, table = self.query.filters, self.query.table
        agents = filters.agent_ids
        if (agents is None and filters.source_id is None) or len(agents or ()) > ARMS_MAX or filters.id is not None:
            return [_Arm(table, self._told(base))]
        arms: list[_Arm] = []
        for number, agent in enumerate(dict.fromkeys(agents or (None,))):
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
