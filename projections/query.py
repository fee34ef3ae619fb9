"""List queries over the views: filters, order and cursors as SQL, built from plain columns only."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from ledger import upcast
from ledger.events import Recorded, Step
from ledger.state import State
from ledger.transitions import ACTIVE, TERMINAL, statuses
from projections.history import AsOf
from projections.tools import called_by

IN_MAX: Final = 500
"""Parameters of one IN list; SQLite compiles a list this long in well under a millisecond."""
EQUAL: Final = ("user_id", "project_id", "background", "conversation_id", "base_template_id", "id")
"""Columns that filters name by one value, which never changes in a life."""
OPEN: Final = tuple(status for status in statuses("job") if status not in TERMINAL)
"""The statuses of what has begun and not ended."""
_OPERATORS: Final = {"eq": "=", "gt": ">", "lt": "<", "gte": ">=", "lte": "<="}
_COMPARE: Final = {"eq": operator.eq, "gt": operator.gt, "lt": operator.lt, "gte": operator.ge, "lte": operator.le}


OF_BATCH: Final = (
    "batches.id = runs.batch_id AND runs.user_id = batches.user_id AND runs.project_id IS batches.project_id"
)
"""The condition on runs of batches: a run may name any batch, but only those of its owner count."""


class Cursor(NamedTuple):
    """A place in an order: the sort value of a row and its id."""

    value: int
    id: str


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows a list shows. None: not asked. Times are microseconds; durations nanoseconds.

    ``stuck_for_us``: only what has not ended and has shown no sign of life for so long.
    """

    user_id: str | None = None
    project_id: str | None = None
    source_id: str | None = None
    active: bool | None = None
    statuses: tuple[str, ...] | None = None
    agent_ids: tuple[str, ...] | None = None
    stop_reason: str | None = None
    background: bool | None = None
    conversation_id: str | None = None
    template: str | None = None
    id: str | None = None
    created_after_us: int | None = None
    created_before_us: int | None = None
    start_us: int | None = None
    end_us: int | None = None
    duration: tuple[str, int] | None = None
    duration_percentile: int | None = None
    step_count: tuple[str, int] | None = None
    tools: tuple[str, ...] | None = None
    stuck_for_us: int | None = None

    @property
    def looks_within(self) -> bool:
        """Whether rows are chosen by what happened within runs."""
        return self.step_count is not None or self.tools is not None


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a list. ``after`` and ``before`` are cursors in the asked order; ``limit`` rows at most.

    ``now_us``: what the clock says, for filters that depend on it.
    """

    table: str
    filters: Filters = Filters()
    descending: bool = True
    by_duration: bool = False
    after: str | None = None
    before: str | None = None
    limit: int = 100
    as_of: AsOf | None = None
    now_us: int = 0

    @property
    def sort(self) -> str:
        """The SQL expression that the list is sorted by, before the id."""
        return "ifnull(duration_ns, -1)" if self.by_duration else "created_us"

    @property
    def backwards(self) -> bool:
        """Whether the page is the one nearest before a cursor, to be read against the asked order."""
        return self.before is not None and self.after is None


class Where:
    """Conditions and their parameters, in step."""

    def __init__(self) -> None:
        self.conditions: list[str] = []
        self.parameters: dict[str, Any] = {}

    def add(self, condition: str, **parameters: Any) -> None:
        """Add a condition and what it binds."""
        self.conditions.append(condition)
        self.parameters.update(parameters)

    def one_of(self, column: str, values: tuple[Any, ...], name: str) -> None:
        """Add ``column IN (…)``."""
        names = {f"{name}{number}": value for number, value in enumerate(values)}
        if len(names) == 1:
            self.add(f"{column} = :{name}0", **names)
        else:
            self.add(f"{column} IN ({', '.join(f':{each}' for each in names)})", **names)

    def also(self) -> Where:
        """Return a copy, to which more can be added."""
        other = Where()
        other.conditions, other.parameters = [*self.conditions], {**self.parameters}
        return other

    def __str__(self) -> str:
        return " AND ".join(self.conditions) or "1"


def fixed(filters: Filters) -> Where:
    """Return the conditions on what never changes in a life: owner, creation, and what was chosen then."""
    where = Where()
    background = None if filters.background is None else int(filters.background)
    values = (
        filters.user_id, filters.project_id, background, filters.conversation_id, filters.template, filters.id,
    )  # fmt: skip
    for column, value in zip(EQUAL, values, strict=True):
        if value is not None:
            where.add(f"{column} = :{column}", **{column: value})
    for name, value, compared in (
        ("created_after", filters.created_after_us, ">"),
        ("created_before", filters.created_before_us, "<"),
        ("start", filters.start_us, ">="),
        ("end", filters.end_us, "<="),
    ):
        if value is not None:
            where.add(f"created_us {compared} :{name}", **{name: value})
    return where


def moving(filters: Filters) -> Where:
    """Return the conditions on what a life changes, except its status."""
    where = Where()
    if filters.source_id is not None:
        where.add("source_id = :source_id", source_id=filters.source_id)
    if filters.agent_ids is not None:
        where.one_of("agent_id", filters.agent_ids, "agent")
    if filters.stop_reason is not None:
        where.add("stop_reason = :stop_reason", stop_reason=filters.stop_reason)
    if filters.duration is not None:
        compared, value = filters.duration
        where.add(f"duration_ns {_OPERATORS[compared]} :duration", duration=value)
    return where


def within(filters: Filters, at: AsOf | None = None) -> Where:
    """Return the conditions on what happened within runs: how many steps, which tools.

    As of a point they bind ``:as_of``; a time is compared with the events' own, which a clock that jumped back may have
    told too early (``within_matches``).
    """
    where = Where()
    if filters.step_count is not None:
        compared, value = filters.step_count
        by_then = "" if at is None else f" AND steps.{'position' if at.time_us is None else 'began_us'} <= :as_of"
        counted = f"SELECT count(*) FROM steps WHERE steps.run_id = runs.id{by_then}"
        where.add(f"({counted}) {_OPERATORS[compared]} :step_count", step_count=value)
    if filters.tools is not None:
        named = Where()
        named.one_of("tool", filters.tools, "tool")
        if at is not None:
            named.add(f"{'position' if at.time_us is None else 'time_us'} <= :as_of")
        where.add(f"id IN (SELECT run_id FROM tools WHERE {named})", **named.parameters)
    return where


def within_matches(filters: Filters, events: Iterable[Recorded]) -> bool:
    """Tell in Python what ``within`` tells in SQL, for the events of a run up to some point."""
    steps: set[str] = set()
    tools: set[str] = set()
    for event in events:
        fact = upcast.fact(event) if event.type == "run.step" else None
        if isinstance(fact, Step):
            steps.add(fact.id)
        elif event.type == "run.message":
            tools.update(called_by(event))
    if filters.tools is not None and tools.isdisjoint(filters.tools):
        return False
    return filters.step_count is None or _compare(len(steps), *filters.step_count)


def wanted_statuses(filters: Filters) -> tuple[str, ...] | None:
    """Return the statuses that a list shows, None for all: those named, of them the active or open ones if asked."""
    chosen = filters.statuses
    for is_asked, known in ((filters.active, ACTIVE), (filters.stuck_for_us is not None, OPEN)):
        if is_asked:
            chosen = known if chosen is None else tuple(status for status in chosen if status in known)
    return chosen


def moving_matches(filters: Filters, state: State) -> bool:
    """Tell in Python what ``moving`` tells in SQL, for a state folded as of some point."""
    source = state.metadata.get("source_id") if state.metadata else None
    if filters.source_id is not None and source != filters.source_id:
        return False
    if filters.agent_ids is not None and state.agent_id not in filters.agent_ids:
        return False
    if filters.stop_reason is not None and state.stop_reason != filters.stop_reason:
        return False
    return filters.duration is None or _compare(state.duration_ns, *filters.duration)


def _compare(value: int | None, compared: str, bound: int) -> bool:
    if value is None:
        return False
    return bool(_COMPARE[compared](value, bound))


def conditions(query: Query) -> Where:
    """Return all conditions of a list as of now, cursors apart."""
    where = fixed(query.filters)
    where.add("deleted_us IS NULL AND erased_position IS NULL")
    wanted = wanted_statuses(query.filters)
    if wanted is not None:
        where.one_of("status", wanted, "status")
    for part in (moving(query.filters), within(query.filters), silent(query)):
        where.conditions += part.conditions
        where.parameters.update(part.parameters)
    return where


def silent(query: Query) -> Where:
    """Return the conditions on what has shown no sign of life for as long as is asked.

    Steps and messages are signs of life of their run, and its runs' signs are those of a batch (``last_sign_us``).
    """
    where = Where()
    if query.filters.stuck_for_us is not None:
        since_us = query.now_us - query.filters.stuck_for_us
        where.add("effective_us <= :silent_since", silent_since=since_us)
        if query.table == "batches":  # by itself, the first condition leaves out most
            where.add(f"{last_sign_us(query.table)} <= :silent_since")
    return where


def last_sign_us(table: str) -> str:
    """Return the expression of when a row last showed a sign of life."""
    if table != "batches":
        return "effective_us"
    of_runs = f"SELECT max(runs.effective_us) FROM runs WHERE {OF_BATCH} AND runs.deleted_us IS NULL"
    return f"max(batches.effective_us, ifnull(({of_runs}), batches.effective_us))"


def bounds(query: Query, where: Where, after: Cursor | None, before: Cursor | None) -> None:
    """Add the conditions of the cursors: strictly after the one, strictly before the other, in the asked order."""
    later, earlier = ("<", ">") if query.descending else (">", "<")
    if after is not None:
        where.add(f"({query.sort}, id) {later} (:after, :after_id)", after=after.value, after_id=after.id)
    if before is not None:
        where.add(f"({query.sort}, id) {earlier} (:before, :before_id)", before=before.value, before_id=before.id)


def order(query: Query) -> str:
    """Return the ORDER BY terms that read the page from its cursor outwards."""
    direction = "DESC" if query.descending != query.backwards else "ASC"
    return f"{query.sort} {direction}, id {direction}"
