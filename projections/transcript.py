"""Reads of what happened within runs: pages of messages and steps, usage and metrics.

Messages stand in the order of arrival, each with all its parts: they share its id, and a page never splits them, so
that clients that page by id get each part once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import msgspec

from ledger.errors import BadRequest
from projections import usage
from projections.progress import MEMBERS
from projections.query import Where
from projections.steps import whole
from projections.usage import RunMetrics, UsageStatistics
from projections.views import Page, Views

IN_MAX = 500
"""Parameters of one IN list."""


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


class Scope(NamedTuple):
    """Which messages a list is of: the condition, and the same for a row that is found by its message's id.

    The latter shields columns (``+run_id``) that would lure SQLite away from the index of ids.
    """

    where: Where
    by_id: str


def of_run(run_id: str) -> Scope:
    """Return the messages of a run."""
    where = Where()
    where.add("run_id = :run_id", run_id=run_id)
    return Scope(where, "run_id = :run_id")


def of_step(run_id: str, step_id: str) -> Scope:
    """Return the messages of a step."""
    where = of_run(run_id).where
    where.add("step_id = :step_id", step_id=step_id)
    return Scope(where, "run_id = :run_id AND +step_id = :step_id")


def of_batch(batch_id: str, agent_id: str | None) -> Scope:
    """Return the messages of a batch's runs, or of those of one agent."""
    where = Where()
    mine = f"SELECT runs.id FROM {MEMBERS} WHERE runs.batch_id = :batch_id AND {_VISIBLE}"
    if agent_id is not None:
        mine += " AND runs.agent_id = :agent_id"
        where.parameters["agent_id"] = agent_id
    where.add(f"run_id IN ({mine})", batch_id=batch_id)
    return Scope(where, f"+run_id IN ({mine})")


async def messages(views: Views, scope: Scope, pages: Pages) -> tuple[list[Part], bool]:
    """Return one page of messages in the asked order, and whether there is more behind it.

    A message stands where its first part arrived, so parts that arrive later, in between the parts of others, move
    nothing that a client has walked past. Raises ``BadRequest`` for a cursor that is no message of the scope.
    """
    heads = await _heads(views, scope, pages)
    ids: list[str] = []
    held = 0
    for id, count in heads:
        if held >= pages.limit:
            break
        ids.append(id)
        held += count
    rows = await _parts(views, scope, ids)
    place = {id: number for number, id in enumerate(ids)}
    sign = -1 if pages.falls else 1
    rows.sort(key=lambda part: (place[part.id], sign * part.position))
    if pages.backwards:
        rows.reverse()
    return rows, len(ids) < len(heads)


async def spoken(views: Views, scope: Scope, pages: Pages) -> tuple[list[Part], bool]:
    """Return all parts of one page of whole messages, oldest first; ``limit`` counts messages here.

    Raises ``BadRequest`` as ``messages`` does.
    """
    heads = await _heads(views, scope, pages)
    ids = [id for id, _ in heads[: pages.limit]]
    rows = await _parts(views, scope, ids)
    place = {id: number for number, id in enumerate(reversed(ids) if pages.falls else ids)}
    rows.sort(key=lambda part: (place[part.id], part.position))
    return rows, len(heads) > pages.limit


async def agents_of(views: Views, run_ids: Collection[str]) -> dict[str, str]:
    """Return the agent of each of many runs."""
    wanted = msgspec.json.encode(sorted(set(run_ids))).decode()
    text = "SELECT id, agent_id FROM runs WHERE id IN (SELECT value FROM json_each(:ids))"
    return dict(await views.read(text, {"ids": wanted}))


async def _heads(views: Views, scope: Scope, pages: Pages) -> list[tuple[str, int]]:
    """Return the messages of a page and one more: id and number of parts, by where their first parts stand."""
    where = Where()
    where.conditions, where.parameters = [*scope.where.conditions], {**scope.where.parameters}
    for name, id, is_later in (("after", pages.after, True), ("before", pages.before, False)):
        if id is not None:
            rises = is_later != pages.descending
            where.add(f"position {'>' if rises else '<'} :{name}", **{name: await _first(views, scope, id)})
    same = f"FROM messages AS other WHERE other.id = messages.id AND {scope.by_id}"
    where.add(f"NOT EXISTS (SELECT 1 {same} AND other.position < messages.position)")
    order = f"ORDER BY position {'DESC' if pages.falls else 'ASC'}"
    text = (
        f"SELECT id, (SELECT count(*) {same}) FROM messages WHERE position IN "
        f"(SELECT position FROM messages WHERE {where} {order} LIMIT :limit) {order}"
    )
    rows = await views.read(text, {**where.parameters, "limit": pages.limit + 1})
    return [(id, count) for id, count in rows]


async def _parts(views: Views, scope: Scope, ids: Sequence[str]) -> list[Part]:
    chosen = "id IN (SELECT value FROM json_each(:ids))"
    text = f"SELECT position, run_id, id, wire FROM messages WHERE {chosen} AND {scope.by_id}"
    rows = await views.read(text, {**scope.where.parameters, "ids": msgspec.json.encode(ids).decode()})
    return [Part(*row) for row in rows]


async def _first(views: Views, scope: Scope, id: str) -> int:
    text = f"SELECT min(position) FROM messages WHERE id = :id AND {scope.by_id}"
    first: int | None = (await views.read(text, {**scope.where.parameters, "id": id}))[0][0]
    if first is None:
        raise BadRequest(reason=f"The cursor '{id}' is not an id in this list.")
    return first


STEP = "steps.id, steps.wire, coalesce(steps.agent_id, runs.agent_id), coalesce(steps.project_id, runs.project_id)"
_VISIBLE = "runs.deleted_us IS NULL AND runs.erased_position IS NULL"


def _seen_by(filters: StepFilters) -> Where:
    """Return the condition on runs that whoever asks may see."""
    where = Where()
    where.add(_VISIBLE)
    if filters.user_id is not None:
        where.add("runs.user_id = :user_id", user_id=filters.user_id)
    if filters.bound_project is not None:
        where.add("runs.project_id = :bound", bound=filters.bound_project)
    return where


def _wanted(filters: StepFilters) -> Where:
    where = _seen_by(filters)
    for condition, name, value in (
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
    if filters.run_id is None:  # an id is one place of a walk: what another run calls by it, its own list shows
        earlier = "SELECT 1 FROM steps AS earlier CROSS JOIN runs AS its ON its.id = earlier.run_id"
        seen = " AND ".join(each.replace("runs.", "its.") for each in _seen_by(filters).conditions)
        where.add(
            f"NOT EXISTS ({earlier} WHERE earlier.id = steps.id AND earlier.position < steps.position AND {seen})"
        )
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
