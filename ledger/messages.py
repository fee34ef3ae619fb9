"""Messages of a run: the eleven types of the LettaMessage union, checked by shape and kept to the letter.

The shapes are those that letta-client 1.12.1 and 1.6.5 validate strictly; fields that they do not know are kept too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from ledger import ids, jsontext, times
from ledger.errors import InvalidInput, invalid
from ledger.events import Message
from ledger.scalars import Label, MessageId, RunId, StepId, Time


class _Base(msgspec.Struct, frozen=True, kw_only=True, tag_field="message_type"):
    """What every message may have. Parts of one message share its ``id``."""

    id: MessageId
    date: Time | None = None
    name: str | None = None
    otid: Label | None = None
    sender_id: Label | None = None
    step_id: StepId | None = None
    run_id: RunId | None = None
    seq_id: int | None = None
    is_err: bool | None = None


class Text(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """A part of content: text."""

    text: str
    signature: str | None = None


class UrlImage(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="url"):
    """Where an image is."""

    url: str


class Base64Image(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="base64"):
    """An image itself."""

    data: str
    media_type: str
    detail: str | None = None


class LettaImage(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="letta"):
    """An image in the file store of a Letta server."""

    file_id: str
    data: str | None = None
    media_type: str | None = None
    detail: str | None = None


class Image(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="image"):
    """A part of content: an image."""

    source: UrlImage | Base64Image | LettaImage


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call of a tool, or while streaming a part of one; ``arguments`` is JSON text."""

    name: str | None = None
    arguments: str | None = None
    tool_call_id: str | None = None


class WholeToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call of a tool; ``arguments`` is JSON text."""

    name: str
    arguments: str
    tool_call_id: str


class Approval(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="approval"):
    """Whether a call was approved."""

    approve: bool
    tool_call_id: str
    reason: str | None = None


class ToolReturn(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="tool"):
    """What a call of a tool gave back."""

    tool_call_id: str
    status: Literal["success", "error"]
    tool_return: str | list[Text | Image]
    stdout: list[str] | None = None
    stderr: list[str] | None = None


class CompactionStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a compaction did to the context."""

    trigger: str
    context_window: int
    messages_count_before: int
    messages_count_after: int
    context_tokens_before: int | None = None
    context_tokens_after: int | None = None


class SystemMessage(_Base, frozen=True, kw_only=True, tag="system_message"):
    """What the system said."""

    content: str


class UserMessage(_Base, frozen=True, kw_only=True, tag="user_message"):
    """What the user said."""

    content: str | list[Text | Image]


class ReasoningMessage(_Base, frozen=True, kw_only=True, tag="reasoning_message"):
    """What the agent thought."""

    reasoning: str
    source: Literal["reasoner_model", "non_reasoner_model"] | None = None
    signature: str | None = None


class HiddenReasoningMessage(_Base, frozen=True, kw_only=True, tag="hidden_reasoning_message"):
    """That the agent thought something which is not shown."""

    state: Literal["redacted", "omitted"]
    hidden_reasoning: str | None = None


class ToolCallMessage(_Base, frozen=True, kw_only=True, tag="tool_call_message"):
    """The agent called tools."""

    tool_call: ToolCall
    tool_calls: list[WholeToolCall] | ToolCall | None = None


class ToolReturnMessage(_Base, frozen=True, kw_only=True, tag="tool_return_message"):
    """A tool gave something back."""

    tool_return: str
    status: Literal["success", "error"]
    tool_call_id: str
    stdout: list[str] | None = None
    stderr: list[str] | None = None
    tool_returns: list[ToolReturn] | None = None


class AssistantMessage(_Base, frozen=True, kw_only=True, tag="assistant_message"):
    """What the agent said."""

    content: str | list[Text]


class ApprovalRequestMessage(_Base, frozen=True, kw_only=True, tag="approval_request_message"):
    """The agent asks whether it may call tools."""

    tool_call: ToolCall
    tool_calls: list[WholeToolCall] | ToolCall | None = None


class ApprovalResponseMessage(_Base, frozen=True, kw_only=True, tag="approval_response_message"):
    """Somebody answered such a request."""

    approve: bool | None = None
    approval_request_id: str | None = None
    approvals: list[Approval | ToolReturn] | None = None
    reason: str | None = None


class SummaryMessage(_Base, frozen=True, kw_only=True, tag="summary_message"):
    """A summary of the conversation so far."""

    summary: str
    compaction_stats: CompactionStats | None = None


class EventMessage(_Base, frozen=True, kw_only=True, tag="event_message"):
    """Something happened to the conversation itself."""

    event_type: Literal["compaction"]
    event_data: dict[str, Any]


LettaMessage = (
    SystemMessage
    | UserMessage
    | ReasoningMessage
    | HiddenReasoningMessage
    | ToolCallMessage
    | ToolReturnMessage
    | AssistantMessage
    | ApprovalRequestMessage
    | ApprovalResponseMessage
    | SummaryMessage
    | EventMessage
)
"""The union, told apart by ``message_type``."""
TYPES: Final = (
    "system_message", "user_message", "reasoning_message", "hidden_reasoning_message", "tool_call_message",
    "tool_return_message", "assistant_message", "approval_request_message", "approval_response_message",
    "summary_message", "event_message",
)  # fmt: skip
"""The eleven types."""

_decode: Callable[[bytes], LettaMessage] = msgspec.json.Decoder(LettaMessage).decode
_encode = msgspec.json.Encoder().encode


def record(
    value: dict[str, Any], prefix: str = "", *, run_id: str | None = None, by: str | None = None
) -> tuple[Message, LettaMessage]:
    """Return the fact that records a message, with an id where it has none, and the message as it was understood.

    Raises ``InvalidInput``; ``prefix`` goes before the names of its faults, such as ``[3].``.
    """
    if "id" not in value:
        value = {"id": ids.make("message"), **value}
    encoded = raw(value, prefix.rstrip(".") or "body")
    return Message(by=by, message=encoded), check(bytes(encoded), prefix, run_id)


def raw(value: Any, where: str) -> msgspec.Raw:
    """Return the JSON of a message as events hold it. Raises ``InvalidInput`` for what is no JSON within bounds."""
    try:
        encoded = _encode(value)
    except (UnicodeEncodeError, TypeError, RecursionError) as error:
        raise invalid(where, "holds what is no JSON, or text that is no Unicode") from error
    jsontext.check_bounds(encoded, where)
    jsontext.check_long_integers(encoded, where, value)
    return msgspec.Raw(encoded)


def check(raw: bytes, prefix: str = "", run_id: str | None = None) -> LettaMessage:
    """Return a message from its JSON. Raises ``InvalidInput`` where it has not the shape of its type."""
    try:
        message = _decode(raw)
    except msgspec.ValidationError as error:
        raise _fault(prefix, error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(prefix.rstrip(".") or "body", f"is not JSON: {error}") from error
    ids.parse(message.id, "message", where=f"{prefix}id")
    if message.step_id is not None:
        ids.parse(message.step_id, "step", where=f"{prefix}step_id")
    if message.date is not None:
        times.check_range(times.from_text(message.date, f"{prefix}date"), f"{prefix}date")
    for name, text in (("otid", message.otid), ("sender_id", message.sender_id)):
        if text is not None:
            ids.label(text, prefix + name)
    if run_id is not None and message.run_id not in (None, run_id):
        raise invalid(f"{prefix}run_id", f"names another run than {run_id}", run_id)
    return message


def time_us(message: LettaMessage) -> int | None:
    """Return when a message was said, by its own date."""
    return None if message.date is None else times.from_text(message.date)


def calls_of(message: LettaMessage) -> list[ToolCall | WholeToolCall]:
    """Return the calls that a message makes, each once."""
    if not isinstance(message, ToolCallMessage | ApprovalRequestMessage):
        return []
    calls: list[ToolCall | WholeToolCall] = list(message.tool_calls) if isinstance(message.tool_calls, list) else []
    known = {call.tool_call_id for call in calls}
    return calls if message.tool_call.tool_call_id in known else [message.tool_call, *calls]


def _fault(prefix: str, error: msgspec.ValidationError) -> InvalidInput:
    what, _, place = str(error).partition(" - at `$")
    allowed: Any = None
    if "message_type" in str(error):
        place, allowed = "message_type", list(TYPES)
        what = "is missing" if "missing" in what else "is not a type of message"
    place = place.rstrip("`").lstrip(".")
    return invalid((prefix + place if place else prefix.rstrip(".") or "body")[:200], what, allowed)
