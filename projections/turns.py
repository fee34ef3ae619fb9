"""Turns of a run: what was said in it, message by message, in the form in which two runs can be compared.

A turn is a message; the parts that a stream recorded of one message are one turn. Steps in which nothing was said are
turns too. What is volatile stands beside what was said: ids, times, which step it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from ledger import events as facts
from ledger import messages, upcast
from ledger.events import Recorded
from ledger.formats.simulation import USER_TAG
from ledger.messages import LettaMessage
from projections.course import Course
from projections.differences import canonical, parsed

AGENT, USER, SYSTEM, TOOL = "agent", "user", "system", "tool"
STEP: Final = "step"
"""The type of a turn that is a step without messages."""
_IN_PARTS: Final = {"assistant_message", "reasoning_message"}
"""What streams record part by part, beside calls."""
_VOLATILE: Final = {
    "id", "date", "name", "otid", "sender_id", "step_id", "run_id", "seq_id", "message_type", "tool_call_id",
    "approval_request_id", "signature",
}  # fmt: skip
_WHO: Final = {"system_message": SYSTEM, "user_message": USER, "tool_return_message": TOOL}


class Use(msgspec.Struct, kw_only=True):
    """A call of a tool as it was made. ``arguments``: the JSON value, or the text where it is none."""

    tool: str | None
    arguments: Any
    id: str | None


class Turn(msgspec.Struct, kw_only=True):
    """One turn. ``who`` spoke; ``player``: the agent, or the user whom a model played, in whose step it was.

    ``number``: from 1, as messages are counted. ``content``: a text, or the JSON value that a tool gave back.
    """

    number: int
    position: int
    time_us: int
    type: str
    id: str | None = None
    step_id: str | None = None
    who: str = AGENT
    player: str = AGENT
    content: Any = ""
    calls: list[Use] = []
    tool: str | None = None
    status: str | None = None

    @property
    def text(self) -> str:
        """What was said, as text."""
        return self.content if isinstance(self.content, str) else msgspec.json.encode(self.content).decode()

    @property
    def kind(self) -> tuple[object, ...]:
        """What two turns must share to be variants of each other."""
        return self.type, self.player, self.tool, tuple(use.tool for use in self.calls)

    @property
    def token(self) -> bytes:
        """What two turns share that are the same: blanks, the order of keys and what is volatile make no difference."""
        content = " ".join(self.content.split()) if isinstance(self.content, str) else self.content
        calls = [[use.tool, use.arguments] for use in self.calls]
        return canonical([self.type, self.player, self.tool, self.status, content, calls])


def turns(events: Iterable[Recorded], course: Course) -> list[Turn]:
    """Return the turns of a run from its events and their course."""
    by_model = {id for id, step in course.steps.items() if USER_TAG in (_step(step.said).tags or ())}
    named = {call.return_message_id: call.name for call in course.calls.all if call.return_message_id is not None}
    found: list[Turn] = []
    for event in events:
        fact = upcast.fact(event) if event.type == "run.message" else None
        if not isinstance(fact, facts.Message):
            continue
        message = messages.check(bytes(fact.message))
        turn = _turn(message, event, by_model, named)
        if not (found and _goes_on(found[-1], turn)):
            found.append(turn)
    return _finished([*found, *_silent(course, {turn.step_id for turn in found})])


def _turn(message: LettaMessage, event: Recorded, by_model: set[str], named: dict[str, str | None]) -> Turn:
    player = USER if message.step_id in by_model else AGENT
    said = messages.time_us(message)
    turn = Turn(
        number=0,
        position=event.position,
        time_us=event.time if said is None else said,
        type=str(type(message).__struct_config__.tag),
        id=message.id,
        step_id=message.step_id,
        player=player,
        calls=[
            Use(tool=call.name, arguments=call.arguments or "", id=call.tool_call_id)
            for call in messages.calls_of(message)
        ],
    )
    turn.who = _WHO.get(turn.type, player)
    if isinstance(message, messages.ToolReturnMessage):
        turn.tool, turn.status = message.name or named.get(message.id), message.status
    turn.content = _content(message)
    return turn


def _content(message: LettaMessage) -> Any:
    match message:
        case messages.ToolReturnMessage():
            found: Any = _returned(message)
        case messages.ReasoningMessage():
            found = message.reasoning
        case messages.SummaryMessage():
            found = message.summary
        case messages.ToolCallMessage() | messages.ApprovalRequestMessage():
            found = ""
        case messages.SystemMessage() | messages.UserMessage() | messages.AssistantMessage():
            found = _joined(message.content)
        case _:
            found = _stable(msgspec.to_builtins(message))
    return found


def _returned(message: messages.ToolReturnMessage) -> Any:
    if message.tool_returns:
        return _stable(msgspec.to_builtins(message.tool_returns))
    return parsed(message.tool_return) if message.tool_return[:1] in ("{", "[") else message.tool_return


def _joined(content: str | Sequence[messages.Text | messages.Image]) -> Any:
    """Return content as text where it is nothing else."""
    if isinstance(content, str):
        return content
    texts = [part.text for part in content if isinstance(part, messages.Text)]
    return "\n".join(texts) if len(texts) == len(content) else _stable(msgspec.to_builtins(content))


def _stable(value: Any) -> Any:
    """Return the value without what is volatile."""
    if isinstance(value, dict):
        return {name: _stable(inner) for name, inner in value.items() if name not in _VOLATILE}
    return [_stable(inner) for inner in value] if isinstance(value, list) else value


def _goes_on(last: Turn, turn: Turn) -> bool:
    """Tell whether a message is a further part of the last one; take it in if so."""
    if (last.id, last.type, last.step_id) != (turn.id, turn.type, turn.step_id):
        return False
    if turn.type in _IN_PARTS and isinstance(last.content, str) and isinstance(turn.content, str):
        last.content += turn.content
        return True
    if len(turn.calls) == 1 and last.calls and turn.calls[0].id in (None, last.calls[-1].id):
        whole, part = last.calls[-1], turn.calls[0]
        whole.tool, whole.arguments = whole.tool or part.tool, whole.arguments + part.arguments
        return True
    return False


def _silent(course: Course, spoken_in: set[str | None]) -> list[Turn]:
    """Return the steps in which nothing was said."""
    found = []
    for id, step in course.steps.items():
        if id not in spoken_in:
            mention, said = course.mentions[id], _step(step.said)
            turn = Turn(number=0, position=mention.position, time_us=mention.time_us, type=STEP, id=id, step_id=id)
            turn.who = turn.player = USER if USER_TAG in (said.tags or ()) else AGENT
            turn.tool, turn.status = step.model, step.status
            turn.content = said.error_type or ""
            found.append(turn)
    return found


def _finished(found: Sequence[Turn]) -> list[Turn]:
    """Return the turns in the order of the log with their numbers; messages alone are counted."""
    number = 0
    for turn in (ordered := sorted(found, key=lambda each: each.position)):
        number += turn.type != STEP
        turn.number = number
        for use in turn.calls:
            use.arguments = parsed(use.arguments)
    return ordered


_step = msgspec.json.Decoder(facts.Step).decode
