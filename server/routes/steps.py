"""Steps: record them, list and retrieve them, their metrics, what the provider was sent, and feedback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from aiohttp import web

from ledger import ids
from ledger.commands import Note, Receipt
from ledger.errors import NotFound, invalid
from ledger.events import Step
from ledger.scalars import NOT_EMPTY, StepId, Tags, Time
from ledger.times import check_range, from_text
from projections import steplists, stepmetrics, steps
from projections.steplists import StepFilters
from projections.stepmetrics import ProviderTrace, StepMetrics
from projections.transcript import Pages
from server import notes
from server.exchange import Exchange, json_answer, state_of
from server.listing import Made, kept, made, next_link, pages
from server.params import Params, convert
from server.routes.resources import find
from server.routes.runs import RUN
from server.routing import Route

_OURS = {"by", "imputed", "request", "id"}
RecordStep = msgspec.defstruct(
    "RecordStep",
    [
        ("id", StepId | None, None),
        ("time", Time | None, None),
        *[(field.name, field.type, field.default) for field in msgspec.structs.fields(Step) if field.name not in _OURS],
    ],
    kw_only=True,
    forbid_unknown_fields=True,
    module=__name__,
)
"""One object of ``POST /v1/runs/{run_id}/steps``: what a step event may say, with ``time`` when it happened."""


class Feedback(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``PATCH /v1/steps/{step_id}/feedback``; null takes feedback back."""

    feedback: Literal["positive", "negative"] | msgspec.UnsetType | None = msgspec.UNSET
    tags: Tags | None = None


class Asked(NamedTuple):
    """Which steps, and which page of them."""

    filters: StepFilters
    pages: Pages


def run_pages(params: Params) -> Asked:
    """Return the page of ``GET /v1/runs/{run_id}/steps``: newest first."""
    return Asked(StepFilters(), pages(params, "step", "desc"))


def step_pages(params: Params) -> Asked:
    """Return the filters and the page of ``GET /v1/steps/``: newest first."""
    filters = StepFilters(
        agent_id=params.text("agent_id"),
        project_id=params.text("project_id"),
        model=params.text("model"),
        trace_ids=params.many(("trace_ids",)),
        tags=params.many(("tags",)),
        feedback=params.choice("feedback", ("positive", "negative")),
        has_feedback=params.boolean("has_feedback"),
        start_us=params.time_us("start_date"),
        end_us=params.time_us("end_date"),
    )
    return Asked(filters, pages(params, "step", "desc"))


async def list_steps(exchange: Exchange) -> web.Response:
    """List steps of all runs, newest first."""
    exchange.reads_rows()
    return await _list(exchange, None)


async def list_run_steps(exchange: Exchange, run_id: str) -> web.Response:
    """List the steps of a run, newest first."""
    return await _list(exchange, run_id)


async def _list(exchange: Exchange, run_id: str | None) -> web.Response:
    await exchange.wait_for_position()

    async def make() -> Made:
        filters, asked = exchange.asked(run_pages if run_id else step_pages)
        if run_id is not None:
            find(exchange, RUN, run_id)
        page = await steplists.steps(exchange.app.views, _bound(exchange, filters, run_id), asked)
        return Made(b"[" + b",".join(page.wires) + b"]", next_link(exchange, page, backwards=asked.backwards))

    return kept(exchange) or await made(exchange, make)


def _bound(exchange: Exchange, filters: StepFilters, run_id: str | None = None) -> StepFilters:
    """Return the filters, limited to what the caller may see."""
    caller = exchange.caller
    return msgspec.structs.replace(filters, run_id=run_id, user_id=caller.owner_filter, bound_project=caller.project_id)


async def visible_step(exchange: Exchange, step_id: str, columns: str) -> Sequence[Any]:
    """Return columns of a step that the caller may see, from ``steps`` and ``runs``. Raises ``NotFound``."""
    ids.parse(step_id, "step", where="step id")
    row = await steplists.step(exchange.app.views, _bound(exchange, StepFilters()), step_id, columns)
    if row is None:
        raise NotFound(what="step", id=step_id)
    return row


async def retrieve(exchange: Exchange, step_id: str) -> web.Response:
    """Retrieve a step."""
    await exchange.wait_for_position()
    row = await visible_step(exchange, step_id, f"{steplists.STEP}, steps.version")
    return exchange.resource_answer(steps.whole(*row[1:4]), row[4])


async def metrics(exchange: Exchange, step_id: str) -> web.Response:
    """Retrieve where the time of a step went."""
    await exchange.wait_for_position()
    return json_answer(stepmetrics.metrics(await visible_step(exchange, step_id, stepmetrics.DETAILS)))


async def provider_trace(exchange: Exchange, step_id: str) -> web.Response:
    """Retrieve what was sent to the model's provider in a step, and what came back; null where none was recorded."""
    await exchange.wait_for_position()
    return json_answer(stepmetrics.provider_trace(await visible_step(exchange, step_id, stepmetrics.DETAILS)))


async def give_feedback(exchange: Exchange, step_id: str) -> web.Response:
    """Say whether a step was good or bad, and tag it."""
    body = await exchange.body(Feedback)
    if body.feedback is msgspec.UNSET and body.tags is None:
        raise invalid("body", "names nothing to change", ["feedback", "tags"])
    run_id = (await visible_step(exchange, step_id, "steps.run_id"))[0]
    said = Step(id=step_id, by=exchange.caller.by, feedback=body.feedback, tags=body.tags)
    receipt = await notes.record(exchange, run_id, [Note(said)])
    return notes.answer(receipt, await _wires(exchange, run_id, receipt), is_array=False, status=200)


async def record_steps(exchange: Exchange, run_id: str) -> web.Response:
    """Record steps of a run as they begin, go on or end: one or an array of them, all or none."""
    RUN.check(run_id)
    items, is_array = await exchange.items()
    noted = []
    for number, item in enumerate(items):
        noted.append(_note(exchange, item, f"[{number}]." if is_array else ""))
        await notes.pause(number)
    receipt = await notes.record(exchange, run_id, noted)
    return notes.answer(receipt, await _wires(exchange, run_id, receipt), is_array=is_array)


class _Id(msgspec.Struct):
    id: str = ""


_id_of = msgspec.json.Decoder(_Id).decode


def step_id_of(data: bytes | None) -> str:
    """Return the step that an event is about; nothing where it was erased."""
    return _id_of(data or b"{}").id


def _note(exchange: Exchange, item: dict[str, Any], where: str) -> Note[Step]:
    body: Any = convert(item, RecordStep, where)
    said = {name: getattr(body, name) for name in RecordStep.__struct_fields__ if name not in ("id", "time")}
    step = Step(by=exchange.caller.by, id=ids.make("step") if body.id is None else body.id, **said)
    place = f"{where}time"
    return Note(step, None if body.time is None else check_range(from_text(body.time, place), place))


async def _wires(exchange: Exchange, run_id: str, receipt: Receipt) -> list[bytes]:
    """Return the wires of the steps that an append told of, in its order: now, or as they were when it first came."""
    told = [step_id_of(event.data) for event in receipt.events]
    if receipt.prior is None:
        found = await steplists.steps_of(exchange.app.views, run_id, told)
    else:
        run = state_of(receipt, run_id)
        events = await exchange.history(run_id)
        found = steps.fold(
            (event for event in events if event.position <= receipt.position), run.agent_id, run.project_id
        )
    return [found.get(step_id, b"null") for step_id in told]


ROUTES = [
    Route(
        "GET",
        "/v1/runs/{run_id}/steps",
        list_run_steps,
        "read",
        "List a run's steps",
        query=run_pages,
        answer=list[steps.Step],
    ),
    Route(
        "POST",
        "/v1/runs/{run_id}/steps",
        record_steps,
        "write",
        "Record a run's steps",
        body=RecordStep | Annotated[list[RecordStep], NOT_EMPTY],  # type: ignore[valid-type]
        answer=steps.Step | list[steps.Step],
        status=201,
    ),
    Route("GET", "/v1/steps", list_steps, "read", "List steps", query=step_pages, answer=list[steps.Step]),
    Route("GET", "/v1/steps/{step_id}", retrieve, "read", "Retrieve a step", answer=steps.Step, etag=True),
    Route(
        "GET",
        "/v1/steps/{step_id}/metrics",
        metrics,
        "read",
        "Retrieve a step's metrics",
        answer=StepMetrics,
    ),
    Route(
        "GET",
        "/v1/steps/{step_id}/trace",
        provider_trace,
        "read",
        "Retrieve a step's provider trace",
        answer=ProviderTrace | None,
    ),
    Route(
        "PATCH",
        "/v1/steps/{step_id}/feedback",
        give_feedback,
        "write",
        "Give feedback on a step",
        body=Feedback,
        answer=steps.Step,
    ),
]
