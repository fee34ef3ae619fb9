"""A conversation of an agent as moves: each message in its order, each step after the last message of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from ledger import messages
from ledger.errors import invalid
from ledger.events import Message, Step
from ledger.formats import Move
from ledger.messages import LettaMessage, ToolReturnMessage

EXCERPT_MAX: Final = 500
"""Characters of what went wrong that a step's error keeps; the message itself has all of it."""


class Said(msgspec.Struct, frozen=True):
    """A message of a run: when it was said (microseconds), how it is recorded, and how it was understood."""

    time_us: int
    fact: Message
    message: LettaMessage


def listen(told: Sequence[dict[str, Any]], run_id: str) -> list[Said]:
    """Return the messages of a run in the order in which they are told.

    One without a date was said with the one before it. Raises ``InvalidInput`` for what is no message of the run.
    """
    said: list[Said] = []
    for number, value in enumerate(told, 1):
        place = f"message {number}."
        if "id" not in value:
            raise invalid(f"{place}id", "is missing")
        fact, message = messages.record(value, place, run_id=run_id)
        time_us = messages.time_us(message)
        if time_us is None:
            if not said:
                raise invalid(f"{place}date", "is missing")
            time_us = said[-1].time_us
        said.append(Said(time_us, fact, message))
    return said


def moves(said: Sequence[Said], steps: Mapping[str, Step]) -> Iterator[Move]:
    """Yield each message, and after the last message of a step that step, at the time of that message."""
    last = {each.message.step_id: index for index, each in enumerate(said)}
    for index, each in enumerate(said):
        yield Move("message", each.time_us, each.fact)
        step_id = each.message.step_id
        if step_id is not None and last[step_id] == index:
            yield Move("step", each.time_us, steps[step_id])


def tool_errors(said: Sequence[Said]) -> dict[str, dict[str, Any]]:
    """Return what went wrong in each step whose tools gave an error back: the first one, and how many there were."""
    names: dict[str | None, str | None] = {}
    found: dict[str, dict[str, Any]] = {}
    for each in said:
        message = each.message
        names.update((call.tool_call_id, call.name) for call in messages.calls_of(message))
        if isinstance(message, ToolReturnMessage) and message.status == "error" and message.step_id is not None:
            error = found.setdefault(
                message.step_id,
                {
                    "tool": excerpt(message.name or names.get(message.tool_call_id)),
                    "tool_call_id": message.tool_call_id,
                    "message": excerpt(message.tool_return),
                    "count": 0,
                },
            )
            error["count"] += 1
    return found


def excerpt(text: str | None) -> str | None:
    """Return the beginning of a text that may be long: models make up names of tools thousands of characters long."""
    return text if text is None or len(text) <= EXCERPT_MAX else text[: EXCERPT_MAX - 1] + "…"
