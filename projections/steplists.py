"""Lists of steps, and single ones: each with its run, which tells whose it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ledger.errors import BadRequest
from projections.query import IN_MAX, Where
from projections.steps import whole
from projections.transcript import Pages
from projections.views import VISIBLE, Page, Views

STEP = "steps.id, coalesce(steps.agent_id, runs.agent_id), coalesce(steps.project_id, runs.project_id), steps.wire"


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


def _seen_by(filters: StepFilters) -> Where:
    """Return the condition on runs that whoever asks may see."""
    where = Where()
    where.add(VISIBLE)
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
