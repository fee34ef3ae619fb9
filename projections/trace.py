"""The trace of a run, derived from its events: OpenTelemetry spans of the run, its steps and tools, its first token.

Names are those of the semantic conventions for generative AI as of OpenTelemetry 1.41.0; ``jobledger.*`` is what
they do not name. What was said is not in a trace (the conventions leave content to those who ask), but for errors.

**When** things began and ended:

- The run: from running (else its creation) to its end, by the effective times that its status has everywhere.
- A step begins at ``step_start_ns``, else ``llm_request_start_ns``; else when it was first named, if it was recorded
  before its end; else as long before its end as ``step_ns`` (else ``llm_request_ns``) says; else with the last thing it
  can have waited for: the latest end of a step or tool, or word of a user, that the log had before it named the step,
  or the run's start. ``jobledger.step.start_from`` says which.
- It ends ``step_ns`` after that, else with the event that ended it, but not before its model's answer and its tools.
- A tool call: from its message to that of its return, by their own dates, which may be of whole seconds.
- What lies outside its parent is moved to its edge (``spans.child``). What was never ended has no end, even where the
  run has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from ledger import events as facts
from ledger import state
from ledger.events import Recorded
from projections import steps
from projections.course import Course, Mention, course_of
from projections.errors import error_of
from projections.spans import (
    Attributes,
    Span,
    SpanEvent,
    Status,
    bounded,
    child,
    failure,
    known,
    short,
    span_id,
    trace_id,
)
from projections.toolcalls import Call

_USAGE: Final = {
    "gen_ai.usage.input_tokens": "prompt_tokens",
    "gen_ai.usage.output_tokens": "completion_tokens",
    "gen_ai.usage.cache_read.input_tokens": "cached_input_tokens",
    "gen_ai.usage.cache_creation.input_tokens": "cache_write_tokens",
    "gen_ai.usage.reasoning.output_tokens": "reasoning_tokens",
    "jobledger.usage.total_tokens": "total_tokens",
}
_OTHER_ERROR: Final = "_OTHER"
"""What the conventions call an error that nobody named."""


def spans(events: Sequence[Recorded]) -> list[Span]:
    """Return the spans of one run from its events, all of them or the first so many.

    The root comes first, the rest by start and then by place in the log. A parent is always before its children, so
    that the first so many spans are a tree too. Without the run's creation there are none.
    """
    return spans_of(course_of(events))


def spans_of(course: Course) -> list[Span]:
    """Return the spans of one run from its course; see ``spans``."""
    if course.run is None:
        return []
    root = _root(course.run, list(course.steps.values()))
    placed = [*_first_token(root, course.run), *_children(root, course, course.run.id)]
    return [root, *(span for _, span in sorted(placed, key=lambda each: (each[1].start_time_unix_nano, each[0])))]


# --- the run ----------------------------------------------------------------------------------------------------------


def _root(run: state.State, known_steps: Sequence[steps.State]) -> Span:
    start_us = run.created_us if run.running_us is None else run.running_us
    models = {step.model for step in known_steps if step.model is not None}
    end_ns = None if run.ended_us is None else bounded(run.ended_us * 1000)
    error, status, events = _outcome(run, end_ns)
    attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.id": run.agent_id,
        "gen_ai.conversation.id": run.conversation_id,
        "gen_ai.request.model": models.pop() if len(models) == 1 else None,
        **_usage(run, known_steps),
        "error.type": error,
        "jobledger.run.id": run.id,
        "jobledger.run.status": run.status,
        "jobledger.run.stop_reason": run.stop_reason,
        "jobledger.run.step_count": len(known_steps),
        "jobledger.run.duration_ns": run.duration_ns,
        "jobledger.run.queue_ns": None if run.running_us is None else bounded((start_us - run.created_us) * 1000),
        "jobledger.run.ttft_ns": run.ttft_ns,
        "jobledger.run.background": run.background,
        "jobledger.run.batch_id": run.batch_id,
        "jobledger.run.erased": True if run.erased_position is not None else None,
    }
    return Span(
        trace_id=trace_id(run.id),
        span_id=span_id(run.id),
        name=short(_named("invoke_agent", run.agent_id)),
        kind="INTERNAL",
        start_time_unix_nano=bounded(start_us * 1000),
        end_time_unix_nano=end_ns,
        attributes=known(attributes),
        status=status,
        events=events,
    )


def _usage(run: state.State, known_steps: Sequence[steps.State]) -> Attributes:
    """Return the tokens of a run as ``projections.usage`` does: sums over its steps, else what was told of it whole."""
    told = facts.TokenUsage() if run.usage is None else msgspec.json.decode(run.usage, type=facts.TokenUsage)
    found: Attributes = {}
    for attribute, name in _USAGE.items():
        counts = [count for step in known_steps if (count := getattr(step, name)) is not None]
        found[attribute] = sum(counts) if counts else getattr(told, name)
    return found


def _outcome(run: state.State, end_ns: int | None) -> tuple[str | None, Status, list[SpanEvent]]:
    """Return the error type, the status, and the exception that a producer recorded."""
    if run.status != "failed":
        return None, Status("OK" if run.status == "completed" else "UNSET"), []
    error = error_of(run.metadata)
    events = []
    if end_ns is not None and (error.type or error.message):
        said = {
            "exception.type": error.type,
            "exception.message": error.message,
            "exception.stacktrace": error.traceback,
        }
        events.append(SpanEvent("exception", end_ns, known(said)))
    return error.type or run.stop_reason or _OTHER_ERROR, failure(error.message or ""), events


# --- within the run ---------------------------------------------------------------------------------------------------

_Placed = tuple[tuple[int, int], Span]
"""A span and its place among those that start together: the log position that named it, and the order within it."""


def _first_token(root: Span, run: state.State) -> list[_Placed]:
    if run.ttft_ns is None:
        return []
    start_ns = root.start_time_unix_nano
    span = child(
        root,
        span_id=span_id(run.id, "time_to_first_token"),
        name="time_to_first_token",
        kind="INTERNAL",
        start_ns=start_ns,
        end_ns=start_ns + run.ttft_ns,
        attributes={"jobledger.run.ttft_ns": run.ttft_ns},
    )
    return [((run.running_position or run.created_position, 0), span)]


def _children(root: Span, course: Course, run_id: str) -> list[_Placed]:
    """Return the spans of steps and tool calls."""
    tools_end_us: dict[str | None, int] = {}
    for call in course.calls.all:
        end_us = call.start_us if call.end_us is None else call.end_us
        tools_end_us[call.step_id] = max(tools_end_us.get(call.step_id, end_us), end_us)
    placed: list[_Placed] = []
    parents: dict[str | None, Span] = {}
    for id, step in course.steps.items():
        mention = course.mentions[id]
        span = parents[id] = _step(root, step, mention, tools_end_us.get(id))
        placed.append(((mention.position, 0), span))
    for order, call in enumerate(course.calls.all, 1):
        placed.append(((call.position, order), _tool(parents.get(call.step_id, root), run_id, call)))
    return placed


def _step(root: Span, step: steps.State, mention: Mention, tools_end_us: int | None) -> Span:
    start_ns, start_from = _beginning(root, step, mention)
    said = msgspec.json.decode(step.said, type=facts.Step)
    response = said.provider_response or {}
    reason = _text((said.error_data or {}).get("message"))
    failed = step.status == "failed"
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": said.provider_name,
        "gen_ai.request.model": step.model,
        "gen_ai.response.model": _text(response.get("model")),
        "gen_ai.response.id": _text(response.get("id")),
        "gen_ai.response.finish_reasons": None if said.stop_reason is None else [said.stop_reason],
        "gen_ai.agent.id": step.agent_id or root.attributes.get("gen_ai.agent.id"),
        "gen_ai.conversation.id": root.attributes.get("gen_ai.conversation.id"),
        **{attribute: getattr(step, name) for attribute, name in _USAGE.items()},
        "error.type": said.error_type or said.stop_reason or _OTHER_ERROR if failed else None,
        "jobledger.step.id": step.id,
        "jobledger.step.status": step.status,
        "jobledger.step.start_from": start_from,
        "jobledger.step.llm_request_start_ns": step.llm_request_start_ns,
        "jobledger.step.llm_request_ns": step.llm_request_ns,
        "jobledger.step.tool_execution_ns": step.tool_execution_ns,
        "jobledger.step.trace_id": step.trace_id,
    }
    return child(
        root,
        span_id=span_id(step.run_id, "step", step.id),
        name=short(_named("chat", step.model)),
        kind="CLIENT",
        start_ns=start_ns,
        end_ns=_end(step, start_ns, tools_end_us),
        attributes=attributes,
        status=failure(reason or "") if failed else _ended(step.status == "success"),
    )


def _beginning(root: Span, step: steps.State, mention: Mention) -> tuple[int, str]:
    """Return when a step began, and where that is from."""
    for name in ("step_start_ns", "llm_request_start_ns"):
        told = getattr(step, name)
        if told is not None:
            return told, name
    if step.ended_us is None or not mention.ended_at_once:
        return min(step.began_us, mention.time_us) * 1000, "first_named"
    for name in ("step_ns", "llm_request_ns"):
        duration = getattr(step, name)
        if duration is not None:
            return step.ended_us * 1000 - duration, name
    if mention.after_us is None:
        return root.start_time_unix_nano, "run"
    # Never after its own end: a clock that jumped back is no reason to move the end.
    return min(max(mention.after_us * 1000, root.start_time_unix_nano), step.ended_us * 1000), "previous_end"


def _end(step: steps.State, start_ns: int, tools_end_us: int | None) -> int | None:
    if step.step_ns is not None:
        return start_ns + step.step_ns
    if step.ended_us is None:
        return None
    asked_ns = start_ns if step.llm_request_start_ns is None else step.llm_request_start_ns
    tools_us = step.ended_us if tools_end_us is None else tools_end_us
    return max(step.ended_us * 1000, asked_ns + (step.llm_request_ns or 0), tools_us * 1000)


def _tool(parent: Span, run_id: str, call: Call) -> Span:
    failed = call.succeeded is False
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": call.name or None,
        "gen_ai.tool.call.id": call.call_id or None,
        "gen_ai.tool.type": "function",
        "gen_ai.agent.id": parent.attributes.get("gen_ai.agent.id"),
        "error.type": "tool_error" if failed else None,
        "jobledger.step.id": call.step_id,
        "jobledger.tool.call_message_id": call.call_message_id,
        "jobledger.tool.return_message_id": call.return_message_id,
    }
    return child(
        parent,
        span_id=span_id(run_id, "tool", call.call_id, call.number),
        name=short(_named("execute_tool", call.name)),
        kind="INTERNAL",
        start_ns=call.start_us * 1000,
        end_ns=None if call.end_us is None else call.end_us * 1000,
        attributes=attributes,
        status=failure(call.answer) if failed else _ended(call.succeeded is True),
    )


def _named(operation: str, what: str | None) -> str:
    return f"{operation} {what}" if what else operation


def _ended(well: bool) -> Status:
    return Status("OK") if well else Status()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
