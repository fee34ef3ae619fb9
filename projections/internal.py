"""Messages in the older shape of batches: the parts that share an id as one message with a role and a list of contents.

The shape is ``InternalMessage`` of letta-client 1.6.5 (``Message`` in 0.1.324), which the batch routes of V1 spoke.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from ledger import messages as union
from ledger.messages import LettaMessage
from projections.transcript import Part

Role = Literal["assistant", "user", "tool", "function", "system", "approval"]


class Function(msgspec.Struct, frozen=True):
    """What a call calls; ``arguments`` is JSON text."""

    name: str
    arguments: str


class Call(msgspec.Struct, frozen=True):
    """A call of a tool, as OpenAI's API has it."""

    id: str
    function: Function
    type: Literal["function"] = "function"


class Return(msgspec.Struct, frozen=True):
    """What a call gave back."""

    tool_call_id: str | None
    status: Literal["success", "error"]
    func_response: str | None
    stdout: list[str] | None
    stderr: list[str] | None


class InternalMessage(msgspec.Struct, kw_only=True):
    """One message. Times are ISO 8601."""

    id: str
    role: Role
    content: list[dict[str, Any]] = msgspec.field(default_factory=list)
    agent_id: str | None = None
    run_id: str | None = None
    step_id: str | None = None
    created_at: str | None = None
    name: str | None = None
    otid: str | None = None
    sender_id: str | None = None
    is_err: bool | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    tool_returns: list[Return] | None = None
    approve: bool | None = None
    approval_request_id: str | None = None
    approvals: list[dict[str, Any]] | None = None
    denial_reason: str | None = None


class BatchMessages(msgspec.Struct, frozen=True):
    """A page of the messages of a batch."""

    messages: list[InternalMessage]


_ROLES: dict[type, Role] = {
    union.SystemMessage: "system",
    union.UserMessage: "user",
    union.ReasoningMessage: "assistant",
    union.HiddenReasoningMessage: "assistant",
    union.ToolCallMessage: "assistant",
    union.ToolReturnMessage: "tool",
    union.AssistantMessage: "assistant",
    union.ApprovalRequestMessage: "approval",
    union.ApprovalResponseMessage: "approval",
    union.SummaryMessage: "user",
    union.EventMessage: "system",
}


def merge(parts: Sequence[Part], agents: Mapping[str, str]) -> list[InternalMessage]:
    """Return the messages that the parts are of, each where its first part stands. ``agents``: by their runs."""
    merged: dict[tuple[str, str], InternalMessage] = {}
    for part in parts:
        message = union.check(part.wire)
        key = (part.run_id, part.id)
        if key not in merged:
            merged[key] = _begin(message, part.run_id, agents.get(part.run_id))
        _ADD[type(message)](merged[key], message)
    return list(merged.values())


def _begin(message: LettaMessage, run_id: str, agent_id: str | None) -> InternalMessage:
    return InternalMessage(
        id=message.id,
        role=_ROLES[type(message)],
        agent_id=agent_id,
        run_id=run_id,
        step_id=message.step_id,
        created_at=message.date,
        name=message.name,
        otid=message.otid,
        sender_id=message.sender_id,
        is_err=message.is_err,
    )


def _add_content(whole: InternalMessage, part: Any) -> None:
    content = [union.Text(text=part.content)] if isinstance(part.content, str) else part.content
    whole.content += msgspec.to_builtins(content)


def _add_reasoning(whole: InternalMessage, part: Any) -> None:
    is_native = part.source == "reasoner_model"
    content = {"type": "reasoning", "is_native": is_native, "reasoning": part.reasoning, "signature": part.signature}
    whole.content.append(content)


def _add_hidden(whole: InternalMessage, part: Any) -> None:
    if part.state == "redacted":
        whole.content.append({"type": "redacted_reasoning", "data": part.hidden_reasoning or ""})
    else:
        whole.content.append({"type": "omitted_reasoning"})


def _add_calls(whole: InternalMessage, part: Any) -> None:
    calls = [
        Call(id=call.tool_call_id or "", function=Function(call.name or "", call.arguments or ""))
        for call in union.calls_of(part)
    ]
    whole.tool_calls = (whole.tool_calls or []) + calls


def _add_return(whole: InternalMessage, part: Any) -> None:
    whole.tool_call_id = whole.tool_call_id or part.tool_call_id
    whole.content.append({"type": "text", "text": part.tool_return})
    returned = [
        Return(
            each.tool_call_id,
            each.status,
            each.tool_return if isinstance(each.tool_return, str) else None,
            each.stdout,
            each.stderr,
        )
        for each in part.tool_returns or [part]
    ]
    whole.tool_returns = [*(whole.tool_returns or []), *returned]


def _add_answer(whole: InternalMessage, part: Any) -> None:
    whole.approve, whole.approval_request_id = part.approve, part.approval_request_id
    whole.denial_reason = part.reason
    whole.approvals = [
        {"approve": answer.approve, "tool_call_id": answer.tool_call_id, "reason": answer.reason, "type": "approval"}
        if isinstance(answer, union.Approval)
        else {
            "tool_call_id": answer.tool_call_id,
            "status": answer.status,
            "func_response": answer.tool_return if isinstance(answer.tool_return, str) else None,
            "stdout": answer.stdout,
            "stderr": answer.stderr,
        }
        for answer in part.approvals or ()
    ] or None


def _add_summary(whole: InternalMessage, part: Any) -> None:
    whole.content.append({"type": "text", "text": part.summary})


def _add_event(whole: InternalMessage, part: Any) -> None:
    text = msgspec.json.encode({"event_type": part.event_type, "event_data": part.event_data}).decode()
    whole.content.append({"type": "text", "text": text})


_ADD: dict[type, Callable[[InternalMessage, Any], None]] = {
    union.SystemMessage: _add_content,
    union.UserMessage: _add_content,
    union.ReasoningMessage: _add_reasoning,
    union.HiddenReasoningMessage: _add_hidden,
    union.ToolCallMessage: _add_calls,
    union.ToolReturnMessage: _add_return,
    union.AssistantMessage: _add_content,
    union.ApprovalRequestMessage: _add_calls,
    union.ApprovalResponseMessage: _add_answer,
    union.SummaryMessage: _add_summary,
    union.EventMessage: _add_event,
}
