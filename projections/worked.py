"""What a run did, step by step: each step and tool call with its times, what it was asked and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ledger import events as facts
from ledger.times import to_text
from projections import steps
from projections.course import Course
from projections.excerpts import Excerpt, excerpt, of_error
from projections.faults import reason_of
from projections.spans import Span, short, span_id
from projections.toolcalls import Call


class CallTold(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One tool call. ``status`` and ``answer`` are null where it was never answered; ``position``: of its message."""

    position: int
    call_id: str | None
    tool: str | None
    step: int | None
    step_id: str | None
    arguments: Excerpt
    status: str | None
    answer: Excerpt | None
    started_at: str
    ended_at: str | None
    duration_s: float | None


class StepTold(msgspec.Struct, frozen=True, kw_only=True):
    """One step with its calls. ``start_from``: what its beginning is known by (see the trace of a run).

    ``position`` is where the log first named it, ``ended_position`` that of the event that ended it.
    """

    number: int
    id: str
    position: int
    ended_position: int | None
    model: str | None
    tags: list[str]
    status: str
    stop_reason: str | None
    error_type: str | None
    error: Excerpt | None
    started_at: str
    ended_at: str | None
    duration_s: float | None
    start_from: str
    llm_request_s: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    calls: list[CallTold]


class Worked:
    """Tells of the steps and calls of one run. ``spans``: of its trace."""

    def __init__(self, course: Course, numbers: Mapping[str, int], spans: Sequence[Span], full: bool) -> None:
        self._course = course
        self._numbers = numbers
        self._spans = {span.span_id: span for span in spans}
        self._full = full

    def tell(self, run_id: str, said: Mapping[str, facts.Step]) -> tuple[list[StepTold], list[CallTold]]:
        """Return the steps with their calls, and the calls that belong to no step. ``said``: of the steps, by id."""
        calls: dict[str | None, list[CallTold]] = {}
        for call in self._course.calls.all:
            key = call.step_id if call.step_id in self._numbers else None
            calls.setdefault(key, []).append(self._call(run_id, call))
        told = [self._step(run_id, id, said[id], calls.get(id, [])) for id in self._numbers]
        return told, calls.get(None, [])

    def _call(self, run_id: str, call: Call) -> CallTold:
        span = self._spans[span_id(run_id, "tool", call.call_id, call.number)]
        answered = call.succeeded is not None
        shorten = excerpt if call.succeeded else of_error
        return CallTold(
            position=call.position,
            call_id=None if call.call_id is None else self._name(call.call_id),
            tool=None if call.name is None else self._name(call.name),
            step=None if call.step_id is None else self._numbers.get(call.step_id),
            step_id=call.step_id,
            arguments=excerpt(call.arguments, self._full),
            status=("success" if call.succeeded else "error") if answered else None,
            answer=shorten(call.answer, self._full) if answered else None,
            **_times(span),
        )

    def _step(self, run_id: str, id: str, said: facts.Step, calls: list[CallTold]) -> StepTold:
        step: steps.State = self._course.steps[id]
        mention = self._course.mentions[id]
        span = self._spans[span_id(run_id, "step", id)]
        return StepTold(
            number=self._numbers[id],
            id=id,
            position=mention.position,
            ended_position=mention.ended_position,
            model=step.model,
            tags=list(said.tags or ()),
            status=step.status,
            stop_reason=said.stop_reason,
            error_type=said.error_type,
            error=of_error(reason_of(said), self._full) if step.status == "failed" else None,
            start_from=span.attributes["jobledger.step.start_from"],
            llm_request_s=None if step.llm_request_ns is None else step.llm_request_ns / 1e9,
            prompt_tokens=step.prompt_tokens,
            completion_tokens=step.completion_tokens,
            total_tokens=step.total_tokens,
            calls=calls,
            **_times(span),
        )

    def _name(self, text: str) -> str:
        return text if self._full else short(text)


def _times(span: Span) -> dict[str, Any]:
    start_ns, end_ns = span.start_time_unix_nano, span.end_time_unix_nano
    return {
        "started_at": to_text(start_ns // 1000),
        "ended_at": None if end_ns is None else to_text(end_ns // 1000),
        "duration_s": None if end_ns is None else (end_ns - start_ns) / 1e9,
    }
