"""The course of a run: what happened within it, folded from its events into steps and tool calls with their times."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from ledger import events as facts
from ledger import messages, state, upcast
from ledger.events import Recorded
from ledger.times import from_text
from projections import steps
from projections.messages import header_of
from projections.toolcalls import Calls

_WAITED_FOR: Final = {"user_message", "system_message", "tool_return_message", "approval_response_message"}
"""What a model answers: a step that such a message came before did not begin before it."""
_TOOLS: Final = {"tool_call_message", "tool_return_message", "approval_request_message", "approval_response_message"}


class Mention(msgspec.Struct):
    """Where and when the log first named a step; ``after_us``: the latest that it can have waited for by then.

    ``ended_at_once``: whether the first event of the step was its end, so that nothing was recorded of its beginning.
    ``ended_position``: of the event that ended the step.
    """

    position: int
    time_us: int
    after_us: int | None
    ended_at_once: bool = False
    ended_position: int | None = None


class Course:
    """What the events of a run say of it, folded in one pass: itself, its steps, its tool calls.

    ``run`` is None before its creation; ``steps`` and ``mentions`` are by the step's id. A mention may be of a step
    that no event tells of.
    """

    def __init__(self) -> None:
        self.run: state.State | None = None
        self.steps: dict[str, steps.State] = {}
        self.mentions: dict[str, Mention] = {}
        self.calls = Calls()
        self._latest_us: int | None = None

    def take(self, event: Recorded) -> None:
        """Fold one event."""
        self.run = state.evolve(self.run, event, state.fact_of(event))
        if event.type not in facts.QUIET:
            return
        fact = upcast.fact(event)
        if isinstance(fact, facts.Step):
            self._step(event, fact)
        elif isinstance(fact, facts.Message):
            self._message(event, bytes(fact.message))

    def _step(self, event: Recorded, fact: facts.Step) -> None:
        mention = self._mention(fact.id, event, event.time)
        known_before = self.steps.get(fact.id)
        was_open = known_before is None or known_before.ended_us is None
        step = self.steps[fact.id] = steps.evolve(known_before, event, fact)
        if was_open and step.ended_us is not None:
            mention.ended_at_once, mention.ended_position = known_before is None, event.position
            self._pass(step.ended_us)

    def _message(self, event: Recorded, raw: bytes) -> None:
        header = header_of(raw)
        time_us = from_text(header.date) if isinstance(header.date, str) else event.time
        if header.message_type in _WAITED_FOR:
            self._pass(time_us)
        if header.step_id is not None:
            self._mention(header.step_id, event, time_us)
        if header.message_type in _TOOLS:
            self.calls.hear(messages.check(raw), event.position, time_us)

    def _mention(self, step_id: str, event: Recorded, time_us: int) -> Mention:
        return self.mentions.setdefault(step_id, Mention(event.position, time_us, self._latest_us))

    def _pass(self, time_us: int) -> None:
        self._latest_us = time_us if self._latest_us is None else max(self._latest_us, time_us)


def course_of(events: Iterable[Recorded]) -> Course:
    """Return the course of a run from its events, all of them or the first so many."""
    course = Course()
    for event in events:
        course.take(event)
    return course
