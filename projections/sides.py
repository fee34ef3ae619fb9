"""The two sides of a diff: what is known of each run as a whole, and of their steps side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec

from ledger import events as facts
from ledger import state
from ledger.events import Recorded
from ledger.formats.simulation import USER_TAG
from ledger.scalars import Nanoseconds, RunStatus, Time
from ledger.times import to_text
from projections.course import Course
from projections.spans import bounded
from projections.trace import spans
from projections.turns import AGENT, USER, Turn
from projections.usage import UsageStatistics, folded


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of two runs. ``reward`` and ``grade``: of its metadata, where they are numbers or words."""

    id: str
    agent_id: str | None
    models: list[str]
    status: RunStatus
    stop_reason: str | None
    error_type: str | None
    error_message: str | None
    created_at: Time
    completed_at: Time | None
    queue_ns: Nanoseconds | None
    ttft_ns: Nanoseconds | None
    total_duration_ns: Nanoseconds | None
    events: int
    messages: int
    tool_calls: int
    usage: UsageStatistics
    reward: float | str | None
    grade: float | str | None


class StepSide(msgspec.Struct, frozen=True, kw_only=True):
    """A step of one side. ``number``: from 1, as the log names them. ``duration_ns`` as the trace has it."""

    number: int
    id: str
    who: Literal["agent", "user"]
    model: str | None
    status: str
    error_type: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    duration_ns: Nanoseconds | None


class StepPair(msgspec.Struct, frozen=True, kw_only=True):
    """Steps whose messages stand beside each other; a side is null where the other run has no such step."""

    a: StepSide | None
    b: StepSide | None


def side(course: Course, events: Sequence[Recorded]) -> Side:
    """Return what is known of a run as a whole, from its course and its events."""
    run = course.run
    assert run is not None  # noqa: S101  # the caller looked
    metadata = run.metadata or {}
    told = metadata.get("error")
    error: dict[str, Any] = told if isinstance(told, dict) else {"message": told}
    return Side(
        id=run.id,
        agent_id=run.agent_id,
        models=sorted({step.model for step in course.steps.values() if step.model is not None}),
        status=run.status,
        stop_reason=run.stop_reason,
        error_type=_word(error.get("type")),
        error_message=_word(error.get("message")),
        created_at=to_text(run.created_us),
        completed_at=None if run.ended_us is None else to_text(run.ended_us),
        queue_ns=_queue_ns(run),
        ttft_ns=run.ttft_ns,
        total_duration_ns=run.duration_ns,
        events=len(events),
        messages=sum(event.type == "run.message" for event in events),
        tool_calls=len(course.calls.all),
        usage=folded(course.steps.values(), run.usage),
        reward=_score(metadata.get("reward")),
        grade=_score(metadata.get("grade")),
    )


def _queue_ns(run: state.State) -> int | None:
    return None if run.running_us is None else bounded((run.running_us - run.created_us) * 1000)


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _score(value: Any) -> float | str | None:
    return None if isinstance(value, bool) or not isinstance(value, int | float | str) else value


def paired_steps(
    pairs: Sequence[tuple[Turn | None, Turn | None]],
    a: tuple[Course, Sequence[Recorded]],
    b: tuple[Course, Sequence[Recorded]],
) -> list[StepPair]:
    """Return the steps of two runs side by side, by which of their turns stand beside each other."""
    of_a, of_b = _steps(*a), _steps(*b)
    partner: dict[str, str] = {}
    taken: set[str] = set()
    for one, other in pairs:
        if one is None or other is None or one.step_id is None or other.step_id is None:
            continue
        if one.step_id not in partner and other.step_id not in taken:
            partner[one.step_id] = other.step_id
            taken.add(other.step_id)
    return [
        StepPair(a=of_a.get(id_a) if id_a else None, b=of_b.get(id_b) if id_b else None)
        for id_a, id_b in _ordered(pairs, partner, taken)
        if id_a in of_a or id_b in of_b
    ]


def _ordered(
    pairs: Sequence[tuple[Turn | None, Turn | None]], partner: dict[str, str], taken: set[str]
) -> Iterator[tuple[str | None, str | None]]:
    """Yield the ids of steps in the order of the turns, each once."""
    seen_a: set[str] = set()
    seen_b: set[str] = set()
    for one, other in pairs:
        id_a, id_b = (turn.step_id if turn is not None else None for turn in (one, other))
        if id_a is not None and id_a not in seen_a:
            seen_a.add(id_a)
            yield id_a, partner.get(id_a)
        if id_b is not None and id_b not in taken and id_b not in seen_b:
            seen_b.add(id_b)
            yield None, id_b


def _steps(course: Course, events: Sequence[Recorded]) -> dict[str, StepSide]:
    durations: dict[str, int | None] = {}
    for span in spans(events):
        id = span.attributes.get("jobledger.step.id")
        if isinstance(id, str) and span.end_time_unix_nano is not None:
            durations[id] = span.end_time_unix_nano - span.start_time_unix_nano
    found: dict[str, StepSide] = {}
    for number, (id, step) in enumerate(course.steps.items(), 1):
        said = _decode(step.said)
        found[id] = StepSide(
            number=number,
            id=id,
            who=USER if USER_TAG in (said.tags or ()) else AGENT,  # type: ignore[arg-type]
            model=step.model,
            status=step.status,
            error_type=said.error_type,
            prompt_tokens=step.prompt_tokens,
            completion_tokens=step.completion_tokens,
            total_tokens=step.total_tokens,
            duration_ns=durations.get(id),
        )
    return found


_decode = msgspec.json.Decoder(facts.Step).decode
