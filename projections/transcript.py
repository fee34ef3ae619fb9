"""Reads of what happened within runs: pages of messages and steps, usage and metrics.

Messages stand in the order of arrival. The parts of one message share its id, and a page never splits them: clients
that page by id get each part once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from ledger.errors import BadRequest
from projections import usage
from projections.progress import MEMBERS
from projections.query import Where
from projections.steps import whole
from projections.usage import RunMetrics, UsageStatistics
from projections.views import Page, Views

PARTS_MAX = 10_000
"""Parts of one message that a page holds together; the most in the real data is 3."""
LOOK_MIN = 100
"""Parts that are looked at together for the beginnings of messages: one read, also where messages have many parts."""
IN_MAX = 500
"""Parameters of one IN list."""
_IS_FIRST = (
    "NOT EXISTS (SELECT 1 FROM messages AS earlier "
    "WHERE earlier.id = part.id AND earlier.run_id = part.run_id AND earlier.position < part.position)"
)
_PARTS_OF = (
    "SELECT position, run_id, messages.id, wire FROM json_each(:keys) AS wanted CROSS JOIN messages "
    "ON messages.id = wanted.value ->> 1 AND messages.run_id = wanted.value ->> 0 ORDER BY position"
)


class Part(NamedTuple):
    """One row of the messages view."""

    position: int
    run_id: str
    id: str
    wire: bytes


class Pages(msgspec.Struct, frozen=True, kw_only=True):
    """Which page: ``after`` and ``before`` are ids in the asked order, nearest the cursor; ``limit`` rows."""

    descending: bool
    after: str | None = None
    before: str | None = None
    limit: int = 100

    @property
    def backwards(self) -> bool:
        """Whether the page is read against the asked order, from ``before`` outwards."""
        return self.before is not None and self.after is None

    @property
    def falls(self) -> bool:
        """Whether rows are read from the last to the first."""
        return self.descending != self.backwards


class StepFilters(msgspec.Struct, frozen=True, kw_only=True):
    """Which steps a list shows. None: not asked. Times are microseconds."""

    user_id: str | None = None
    bound_project: str | None = None
    run_id: str | None = None
    agent_id: str | None = None
    project_id: str | None = None
    model: str | None = None
    trace_ids: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    feedback: str | None = None
    has_feedback: bool | None = None
    start_us: int | None = None
    end_us: int | None = None


def of_run(run_id: str) -> Where:
    """Return the condition on the messages of a run."""
    where = Where()
    where.add("run_id = :run_id", run_id=run_id)
    return where


def of_step(run_id: str, step_id: str) -> Where:
    """Return the condition on the messages of a step."""
    where = of_run(run_id)
    where.add("step_id = :step_id", step_id=step_id)
    return where


def of_batch(batch_id: str, agent_id: str | None) -> Where:
    """Return the condition on the messages of a batch's runs, or of those of one agent."""
    where = Where()
    mine = f"SELECT runs.id FROM {MEMBERS} WHERE runs.batch_id = :batch_id AND {_VISIBLE}"
    if agent_id is not None:
        mine += " AND runs.agent_id = :agent_id"
        where.parameters["agent_id"] = agent_id
    where.add(f"run_id IN ({mine})", batch_id=batch_id)
    return where


async def messages(views: Views, scope: Where, pages: Pages) -> tuple[list[Part], bool]:
    """Return one page of messages in the asked order, and whether there is more behind it.

    Raises ``BadRequest`` for a cursor that is no message of the scope.
    """
    where = Where()
    where.conditions, where.parameters = [*scope.conditions], {**scope.parameters}
    for name, id, is_later in (("after", pages.after, True), ("before", pages.before, False)):
        if id is not None:
            first, last = await _span(views, scope, id)
            rises = is_later != pages.descending
            where.add(f"position {'>' if rises else '<'} :{name}", **{name: last if rises else first})
    rows = await _parts(views, where, pages.falls, pages.limit + 1)
    more = len(rows) > pages.limit
    if more:
        rows, more = await _unsplit(views, where, rows[: pages.limit], pages.falls)
    if pages.backwards:
        rows.reverse()
    return rows, more


async def spoken(views: Views, scope: Where, pages: Pages) -> tuple[list[Part], bool]:
    """Return all parts of one page of messages, in the order of arrival, and whether there are more messages behind it.

    A message stands where its first part does, whoever else spoke before its last. Raises ``BadRequest`` for a cursor
    that is no message of the scope.
    """
    where = Where()
    where.conditions, where.parameters = [*scope.conditions], {**scope.parameters}
    for name, id, is_later in (("after", pages.after, True), ("before", pages.before, False)):
        if id is not None:
            first, _ = await _span(views, scope, id)
            where.add(f"position {'>' if is_later != pages.descending else '<'} :{name}", **{name: first})
    found = await _first_parts(views, where, pages.falls, pages.limit + 1)
    keys = json.dumps(found[: pages.limit])
    rows = await views.read(_PARTS_OF, {"keys": keys})
    return [Part(*row) for row in rows], len(found) > pages.limit


async def _first_parts(views: Views, where: Where, falls: bool, limit: int) -> list[tuple[str, str]]:
    """Return run and id of the messages whose first part fulfils the condition, in the order of these."""
    direction = "DESC" if falls else "ASC"
    found: list[tuple[str, str]] = []
    place, size = where, max(limit, LOOK_MIN)
    while True:
        inner = f"SELECT position FROM messages WHERE {place} ORDER BY position {direction} LIMIT :limit"
        text = (
            f"SELECT position, run_id, id, {_IS_FIRST} FROM messages AS part WHERE position IN ({inner}) "
            f"ORDER BY position {direction}"
        )
        rows = await views.read(text, {**place.parameters, "limit": size})
        found += [(run_id, id) for _, run_id, id, is_first in rows if is_first]
        if len(found) >= limit or len(rows) < size:
            return found[:limit]
        place = _beyond(where, rows[-1][0], falls)


async def _unsplit(views: Views, where: Where, rows: list[Part], falls: bool) -> tuple[list[Part], bool]:
    """Go on to the last part of the message that a page ends with; return the rows and whether there is more."""
    last = rows[-1]
    own = of_run(last.run_id)
    ends = await _span(views, own, last.id)
    end = ends[0] if falls else ends[1]
    if end != last.position:
        rest = _beyond(where, last.position, falls)
        rest.add(f"position {'>=' if falls else '<='} :end", end=end)
        rows += await _parts(views, rest, falls, PARTS_MAX)
    return rows, bool(await _parts(views, _beyond(where, rows[-1].position, falls), falls, 1))


def _beyond(where: Where, position: int, falls: bool) -> Where:
    made = Where()
    made.conditions, made.parameters = [*where.conditions], {**where.parameters}
    made.add(f"position {'<' if falls else '>'} :reached", reached=position)
    return made


async def _parts(views: Views, where: Where, falls: bool, limit: int) -> list[Part]:
    """Return rows in order. Of many runs, positions are found in the index first: their messages lie scattered."""
    end = f"ORDER BY position {'DESC' if falls else 'ASC'}"
    text = f"SELECT position, run_id, id, wire FROM messages WHERE {where} {end} LIMIT :limit"
    if "run_id" not in where.parameters:
        inner = f"SELECT position FROM messages WHERE {where} {end} LIMIT :limit"
        text = f"SELECT position, run_id, id, wire FROM messages WHERE position IN ({inner}) {end}"
    return [Part(*row) for row in await views.read(text, {**where.parameters, "limit": limit})]


async def _span(views: Views, scope: Where, id: str) -> tuple[int, int]:
    text = f"SELECT min(position), max(position) FROM messages WHERE id = :id AND {scope}"
    first, last = (await views.read(text, {**scope.parameters, "id": id}))[0]
    if first is None:
        raise BadRequest(reason=f"The cursor '{id}' is not an id in this list.")
    return first, last


STEP = "steps.id, steps.wire, coalesce(steps.agent_id, runs.agent_id), coalesce(steps.project_id, runs.project_id)"
_VISIBLE = "runs.deleted_us IS NULL AND runs.erased_position IS NULL"


def _wanted(filters: StepFilters) -> Where:
    where = Where()
    where.add(_VISIBLE)
    for condition, name, value in (
        ("runs.user_id = :user_id", "user_id", filters.user_id),
        ("runs.project_id = :bound", "bound", filters.bound_project),
        ("steps.run_id = :run_id", "run_id", filters.run_id),
        ("coalesce(steps.agent_id, runs.agent_id) = :agent_id", "agent_id", filters.agent_id),
        ("coalesce(steps.project_id, runs.project_id) = :project_id", "project_id", filters.project_id),
        ("steps.model = :model", "model", filters.model),
        ("steps.feedback = :feedback", "feedback", filters.feedback),
        ("steps.began_us >= :start", "start", filters.start_us),
        ("steps.began_us <= :end", "end", filters.end_us),
    ):
        if value is not None:
            where.add(condition, **{name: value})
    if filters.has_feedback is not None:
        where.add(f"steps.feedback IS {'NOT ' if filters.has_feedback else ''}NULL")
    if filters.trace_ids is not None:
        where.one_of("steps.trace_id", filters.trace_ids, "trace")
    if filters.tags is not None:
        tagged = Where()
        tagged.one_of("value", filters.tags, "tag")
        each = "json_each(CAST(steps.said AS TEXT), '$.tags')"
        where.add(f"EXISTS (SELECT 1 FROM {each} WHERE {tagged})", **tagged.parameters)
    return where


async def steps(views: Views, filters: StepFilters, pages: Pages) -> Page:
    """Return one page of steps, by the time they began. Raises ``BadRequest`` for an unknown cursor."""
    where = _wanted(filters)
    for name, id, is_later in (("after", pages.after, True), ("before", pages.before, False)):
        if id is not None:
            began_us, position = await _began(views, filters, id)
            sign = ">" if is_later != pages.descending else "<"
            where.add(
                f"(steps.began_us, steps.position) {sign} (:{name}, :{name}_at)",
                **{name: began_us, f"{name}_at": position},
            )
    way = "DESC" if pages.falls else "ASC"
    text = (
        f"SELECT {STEP} FROM steps CROSS JOIN runs ON runs.id = steps.run_id WHERE {where} "
        f"ORDER BY steps.began_us {way}, steps.position {way} LIMIT :limit"
    )
    found = await views.read(text, {**where.parameters, "limit": pages.limit + 1})
    rows, more = found[: pages.limit], len(found) > pages.limit
    if pages.backwards:
        rows.reverse()
    wires = [whole(*row[1:]) for row in rows]
    return Page(wires, rows[0][0] if rows else None, rows[-1][0] if rows else None, more)


async def _began(views: Views, filters: StepFilters, id: str) -> tuple[int, int]:
    scope = StepFilters(user_id=filters.user_id, bound_project=filters.bound_project, run_id=filters.run_id)
    rows = await _step_rows(views, "steps.began_us, steps.position", _wanted(scope), id)
    if not rows:
        raise BadRequest(reason=f"The cursor '{id}' is not an id in this list.")
    return rows[0][0], rows[0][1]


async def step(views: Views, filters: StepFilters, id: str, columns: str = STEP) -> Sequence[Any] | None:
    """Return columns of one step that the filters' user may see; None when there is none."""
    rows = await _step_rows(views, columns, _wanted(filters), id)
    return rows[0] if rows else None


async def steps_of(views: Views, run_id: str, ids: Sequence[str]) -> dict[str, bytes]:
    """Return the wires of those of many steps that a run has, by id."""
    found: dict[str, bytes] = {}
    wanted = list(dict.fromkeys(ids))
    for start in range(0, len(wanted), IN_MAX):
        where = Where()
        where.one_of("steps.id", tuple(wanted[start : start + IN_MAX]), "step")
        where.add("steps.run_id = :run_id", run_id=run_id)
        text = f"SELECT {STEP} FROM steps CROSS JOIN runs ON runs.id = steps.run_id WHERE {where}"
        found |= {row[0]: whole(*row[1:]) for row in await views.read(text, where.parameters)}
    return found


async def _step_rows(views: Views, columns: str, where: Where, id: str) -> list[Any]:
    text = (
        f"SELECT {columns} FROM steps CROSS JOIN runs ON runs.id = steps.run_id "
        f"WHERE steps.id = :id AND {where} ORDER BY steps.position LIMIT 1"
    )
    return await views.read(text, {**where.parameters, "id": id})


async def usage_of(views: Views, run_id: str) -> UsageStatistics:
    """Return what a run used so far."""
    sums = await views.read(usage.SUMS, {"id": run_id})
    told = await views.read(usage.TOLD, {"id": run_id})
    return usage.usage(sums[0], told[0][0] if told else None)


async def metrics_of(views: Views, run_id: str) -> RunMetrics:
    """Return the metrics of a run that the views hold."""
    rows = await views.read(usage.METRICS, {"id": run_id})
    return usage.metrics(rows[0], await views.read(usage.TOOLS, {"id": run_id}))
