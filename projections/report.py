"""The report of one run: what it was, how it went, what was wrong, and everything that happened, in order.

It is a fold of the run's events and of nothing else, so that command line, HTTP and HTML tell the same. Jobs and
batches have one too: without steps, but with times, failures and callbacks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ledger import events as facts
from ledger import upcast
from ledger.errors import BadRequest
from ledger.events import Recorded
from ledger.state import State
from ledger.times import to_text
from projections.attempts import Owed, owed
from projections.course import Course, course_of
from projections.durations import Durations, durations
from projections.errors import error_of
from projections.excerpts import Excerpt, as_text, excerpt, of_error
from projections.faults import Fault, Faults, GoodStep, Retry
from projections.gaps import Gap, gaps
from projections.loops import Loop, identity, loops
from projections.timeline import Entry, timeline
from projections.trace import spans_of
from projections.usage import UsageStatistics, folded
from projections.verdict import verdict
from projections.worked import CallTold, StepTold, Worked

METADATA_MAX: Final = 20
"""Names of metadata that a report shows unless all of it is asked for."""


class ErrorTold(msgspec.Struct, frozen=True, kw_only=True):
    """The error that a producer recorded at the end."""

    type: str | None
    message: Excerpt | None
    traceback: Excerpt | None


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is, and how it stands. ``costs``: the numbers of its metadata that are named so."""

    id: str
    kind: str
    agent_id: str | None
    conversation_id: str | None
    batch_id: str | None
    project_id: str | None
    user_id: str
    models: list[str]
    status: str
    stop_reason: str | None
    error: ErrorTold | None
    created_at: str
    running_at: str | None
    ended_at: str | None
    last_event_at: str
    ttft_s: float | None
    durations: Durations
    usage: UsageStatistics
    costs: dict[str, float]
    metadata: dict[str, Excerpt]
    metadata_size: int
    events: int
    steps: int
    tool_calls: int
    messages: int


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody did: a cancel, a deletion, an erasure. ``by``: the admin who acted for the actor."""

    position: int
    time: str
    actor: str
    by: str | None
    reason: str | None


class RefusedChange(msgspec.Struct, frozen=True, kw_only=True):
    """A status that somebody asked for and the rules refused, as the run was ``found``."""

    position: int
    time: str
    actor: str
    by: str | None
    asked: str
    found: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The report of one run, job or batch. Times of day are ISO 8601, durations seconds, positions those of the log.

    ``first_error`` is the first of ``errors``. ``last_good_step``: the last step that succeeded and none of whose tool
    calls failed; of a run that failed, the last before that. ``outside``: tool calls that belong to no known step.
    """

    verdict: str
    header: Header
    first_error: Fault | None
    last_good_step: GoodStep | None
    errors: list[Fault]
    loops: list[Loop]
    retries: list[Retry]
    refused: list[RefusedChange]
    cancelled: Act | None
    deleted: Act | None
    erased: Act | None
    gaps: list[Gap]
    callback: Owed | None
    steps: list[StepTold]
    outside: list[CallTold]
    timeline: list[Entry]


def report(events: Sequence[Recorded], *, full: bool = False) -> Report:
    """Return the report of one history, all its events or the first so many. ``full``: texts whole, not shortened.

    Raises ``BadRequest`` where the history has no creation.
    """
    course = course_of(events)
    run = course.run
    if run is None:
        raise BadRequest(reason="There is no report of a history without its creation.")
    numbers = _numbers(course)
    spans = spans_of(course)
    within = [span for span in spans[1:] if span.name != "time_to_first_token"]
    entries = list(timeline(events, numbers, full))
    faults = Faults(course, numbers, {event.position: event.time for event in events}, full)
    errors, identities = faults.all(run), [identity(call) for call in course.calls.all]
    acts = _acts(events)
    steps, outside = Worked(course, numbers, spans, full).tell(run.id, faults.said)
    times = durations(run, within)
    repeated = loops(course.calls.all, identities, numbers, full)
    return Report(
        verdict=verdict(run, times, steps, errors, repeated, acts.get("cancelled")),
        header=_header(events, course, run, times, full),
        first_error=errors[0] if errors else None,
        last_good_step=faults.last_good_step(run),
        errors=errors,
        loops=repeated,
        retries=faults.retries(identities),
        refused=_refusals(events),
        cancelled=acts.get("cancelled"),
        deleted=acts.get("deleted"),
        erased=acts.get("erased"),
        gaps=gaps(entries, run, within),
        callback=owed(run, events),
        steps=steps,
        outside=outside,
        timeline=entries,
    )


def _numbers(course: Course) -> dict[str, int]:
    """Return the numbers of the steps, from 1, in the order in which the log first named them."""
    ids = sorted(course.steps, key=lambda each: course.mentions[each].position)
    return {id: number for number, id in enumerate(ids, 1)}


def _header(events: Sequence[Recorded], course: Course, run: State, times: Durations, full: bool) -> Header:
    models = dict.fromkeys(step.model for step in course.steps.values() if step.model is not None)
    metadata = run.metadata or {}
    return Header(
        id=run.id,
        kind=run.kind,
        agent_id=run.agent_id,
        conversation_id=run.conversation_id,
        batch_id=run.batch_id,
        project_id=run.project_id,
        user_id=run.user_id,
        models=list(models),
        status=run.status,
        stop_reason=run.stop_reason,
        error=_error(run, full),
        created_at=to_text(run.created_us),
        running_at=None if run.running_us is None else to_text(run.running_us),
        ended_at=None if run.ended_us is None else to_text(run.ended_us),
        last_event_at=to_text(run.effective_us),
        ttft_s=None if run.ttft_ns is None else run.ttft_ns / 1e9,
        durations=times,
        usage=folded(course.steps.values(), run.usage),
        costs=_costs(metadata),
        metadata=_metadata(metadata, full),
        metadata_size=len(metadata),
        events=len(events),
        steps=len(course.steps),
        tool_calls=len(course.calls.all),
        messages=sum(event.type == "run.message" for event in events),
    )


def _error(run: State, full: bool) -> ErrorTold | None:
    if "error" not in (run.metadata or {}):
        return None
    error = error_of(run.metadata)
    return ErrorTold(
        type=error.type,
        message=None if error.message is None else of_error(error.message, full),
        traceback=None if error.traceback is None else of_error(error.traceback, full),
    )


def _costs(metadata: Mapping[str, Any]) -> dict[str, float]:
    named = {name: value for name, value in metadata.items() if "cost" in name.lower().replace("-", "_").split("_")}
    return {
        name: value for name, value in named.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _metadata(metadata: Mapping[str, Any], full: bool) -> dict[str, Excerpt]:
    shown = [name for name in metadata if name != "error"]
    return {
        excerpt(name, full).text: excerpt(as_text(metadata[name]), full)
        for name in (shown if full else shown[:METADATA_MAX])
    }


def _acts(events: Sequence[Recorded]) -> dict[str, Act]:
    """Return who cancelled, deleted and erased, each by its verb."""
    found: dict[str, Act] = {}
    for event in events:
        verb = event.type.partition(".")[2]
        if verb in ("cancelled", "deleted", "erased"):
            fact = upcast.fact(event)
            reason = fact.reason if isinstance(fact, facts.Deleted | facts.Erased) else None
            by = None if fact is None else fact.by
            time = to_text(event.time)
            found[verb] = Act(position=event.position, time=time, actor=event.actor, by=by, reason=reason)
    return found


def _refusals(events: Sequence[Recorded]) -> list[RefusedChange]:
    return [
        RefusedChange(
            position=event.position,
            time=to_text(event.time),
            actor=event.actor,
            by=fact.by,
            asked=fact.asked,
            found=fact.found,
        )
        for event in events
        if event.type.endswith(".refused") and isinstance(fact := upcast.fact(event), facts.Refused)
    ]
