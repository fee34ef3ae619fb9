"""The timeline of a history: every event on one line, with the time since the one before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from ledger import events as facts
from ledger import upcast
from ledger.events import Fact, Recorded
from ledger.times import to_text
from projections.excerpts import LINE_MAX, Excerpt, as_text, excerpt, line
from projections.spans import short

_US = 1_000_000


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event. ``gap_s``: since the effective time of the event before it, the latest time told by then.

    ``by``: the admin who acted for the actor. ``step``: the number of the step that it belongs to. ``text``: what was
    said in a message, else the event's data as JSON; null where there is none, or where it was erased.
    """

    position: int
    version: int
    time: str
    gap_s: float
    type: str
    actor: str
    by: str | None = None
    step: int | None = None
    is_error: bool = False
    summary: str
    text: Excerpt | None = None

    @property
    def line(self) -> str:
        """What happened, on one line: its verb, and the summary; steps and messages say enough without a verb."""
        kind, _, verb = self.type.partition(".")
        verb = "" if verb in ("message", "step") else self.type if kind == "callback" else verb
        return f"{verb} {self.summary}".strip()


def timeline(events: Sequence[Recorded], numbers: Mapping[str, int], full: bool) -> Iterator[Entry]:
    """Yield an entry for each event of one history. ``numbers``: of its steps, by id."""
    effective_us: int | None = None
    for event in events:
        gap_us = 0 if effective_us is None else max(0, event.time - effective_us)
        effective_us = event.time if effective_us is None else max(effective_us, event.time)
        fact = upcast.fact(event)
        said = Said.of(fact) if isinstance(fact, facts.Message) else None
        step_id = fact.id if isinstance(fact, facts.Step) else None if said is None else said.step_id
        number = None if step_id is None else numbers.get(step_id)
        yield Entry(
            position=event.position,
            version=event.version,
            time=to_text(event.time),
            gap_s=gap_us / _US,
            type=event.type,
            actor=event.actor,
            by=None if fact is None else fact.by,
            step=number,
            is_error=_is_error(event, fact, said),
            summary=summary(fact, said, number),
            text=_text(event, said, full),
        )


class Said(msgspec.Struct):
    """A message as people read it: its type, who said it, and its text."""

    type: str
    step_id: str | None
    text: str
    is_error: bool

    @classmethod
    def of(cls, fact: facts.Message) -> Said:
        """Return what a message says; parts that are no text are named."""
        message: dict[str, Any] = msgspec.json.decode(bytes(fact.message))
        type = str(message.get("message_type"))
        step_id = message.get("step_id")
        read = _TEXTS.get(type)
        text = as_text(message) if read is None else read(message)
        return cls(type, step_id if isinstance(step_id, str) else None, text, message.get("status") == "error")


def summary(fact: Fact | None, said: Said | None, number: int | None) -> str:
    """Return what an event tells, on one line."""
    if fact is None:
        return "(erased)"
    if said is not None:
        return line(f"{_WHO.get(said.type, said.type)} {said.text[: 4 * LINE_MAX] or '(empty)'}")
    if isinstance(fact, facts.Step):
        return line(_of_step(fact, number))
    return line(_SUMMARIES[type(fact)](fact))


def _is_error(event: Recorded, fact: Fact | None, said: Said | None) -> bool:
    if said is not None:
        return said.is_error
    if isinstance(fact, facts.Step):
        return fact.status == "failed"
    if isinstance(fact, facts.Attempted):
        return fact.error is not None
    return event.type.rpartition(".")[2] in ("failed", "expired", "refused", "abandoned")


def _text(event: Recorded, said: Said | None, full: bool) -> Excerpt | None:
    if said is not None:
        return excerpt(said.text, full)
    if event.data is None or event.data == b"{}":
        return None
    return excerpt(event.data.decode("utf-8", "replace"), full)


# --- messages ---------------------------------------------------------------------------------------------------------


def _content(message: Mapping[str, Any]) -> str:
    parts = message.get("content")
    if not isinstance(parts, list):
        return as_text(parts or "")
    return "\n".join(as_text(part["text"]) if "text" in part else f"[{part.get('type', 'part')}]" for part in parts)


def _calls(message: Mapping[str, Any]) -> str:
    many = message.get("tool_calls")
    calls = many if isinstance(many, list) and many else [message.get("tool_call") or {}]
    return "\n".join(f"{call.get('name') or ''}({call.get('arguments') or ''})" for call in calls)


def _returned(message: Mapping[str, Any]) -> str:
    return as_text(message.get("tool_return") or "")


def _approved(message: Mapping[str, Any]) -> str:
    said = "yes" if message.get("approve") else "no" if message.get("approve") is False else ""
    parts = (said, message.get("reason"), message.get("approvals"))
    return ", ".join(as_text(part) for part in parts if part)


def _field(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda message: as_text(message.get(name) or "")


_TEXTS: Final[dict[str, Callable[[Mapping[str, Any]], str]]] = {
    "system_message": _content,
    "user_message": _content,
    "assistant_message": _content,
    "reasoning_message": _field("reasoning"),
    "hidden_reasoning_message": _field("hidden_reasoning"),
    "tool_call_message": _calls,
    "tool_return_message": _returned,
    "approval_request_message": _calls,
    "approval_response_message": _approved,
    "summary_message": _field("summary"),
    "event_message": _field("event_data"),
}
_WHO: Final = {
    "system_message": "system:",
    "user_message": "user:",
    "assistant_message": "assistant:",
    "reasoning_message": "thinks:",
    "hidden_reasoning_message": "thinks (hidden)",
    "tool_call_message": "calls",
    "tool_return_message": "returns:",
    "approval_request_message": "asks to call",
    "approval_response_message": "approval:",
    "summary_message": "summary:",
    "event_message": "event:",
}


# --- other events -----------------------------------------------------------------------------------------------------


def _of_step(fact: facts.Step, number: int | None) -> str:
    named = f"step {number}" if number is not None else "step"
    tokens = [f"{count:,} {what}" for count, what in _tokens(fact) if count is not None]
    parts = [fact.error_type, fact.model, " + ".join(tokens) + " tokens" if tokens else None]
    return ", ".join([f"{named} {fact.status or 'goes on'}", *(short(part) for part in parts if part)])


def _tokens(fact: facts.Step) -> list[tuple[int | None, str]]:
    return [(fact.prompt_tokens, "prompt"), (fact.completion_tokens, "completion")]


def _of_creation(fact: facts.Created) -> str:
    parts = [
        ("agent", fact.agent_id),
        ("batch", fact.batch_id),
        ("timeout", fact.timeout_s and f"{fact.timeout_s:g} s"),
    ]
    named = [f"{name} {value}" for name, value in parts if value]
    return ", ".join([*named, *_of_metadata(fact.metadata)])


def _of_change(fact: facts.Changed) -> str:
    error = fact.error or facts.ErrorInfo()
    reason = ": ".join(part for part in (error.type, error.message) if part)
    used = fact.usage if isinstance(fact, facts.RunUpdated) else None
    usage = f"usage {as_text(msgspec.to_builtins(used))}" if used is not None else None
    ttft = None if fact.ttft_ns is None else f"first token after {fact.ttft_ns / 1e9:g} s"
    parts = [fact.stop_reason, reason, usage, ttft]
    return ", ".join([*(part for part in parts if part), *_of_metadata(fact.metadata)])


def _of_metadata(metadata: Mapping[str, Any] | None) -> list[str]:
    return [f"metadata {', '.join(metadata)}"] if metadata else []


def _of_attempt(fact: facts.Attempted) -> str:
    outcome = fact.error or "delivered"
    code = "" if fact.status_code is None else f" {fact.status_code}"
    return f"attempt {fact.number}: {outcome}{code} after {fact.duration_ns / 1e9:.3f} s"


_SUMMARIES: Final[dict[type[Fact], Callable[[Any], str]]] = {
    facts.Created: _of_creation,
    facts.Changed: _of_change,
    facts.RunUpdated: _of_change,
    facts.Refused: lambda fact: f"{fact.asked}, as it was {fact.found}",
    facts.Deleted: lambda fact: fact.reason or "",
    facts.Erased: lambda fact: fact.reason,
    facts.Attempted: _of_attempt,
    facts.Delivered: lambda _: "",
    facts.Abandoned: lambda fact: fact.reason,
    facts.Requeued: lambda fact: fact.reason or "",
    facts.Granted: lambda fact: ", ".join(fact.scopes),
    facts.Revoked: lambda fact: fact.reason or "",
}
