"""Tool calls of a run: each call in its messages, with the return that answers it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from ledger import messages
from ledger.messages import ApprovalResponseMessage, LettaMessage, ToolReturn, ToolReturnMessage


class Call(msgspec.Struct, kw_only=True):
    """One call of a tool. Times are microseconds; ``start_us`` of a return that nobody asked for is its own.

    ``number``: how many calls of the run had its ``call_id`` before: ids are the model's, and models repeat themselves.
    ``position``: of the log, of the message that made it known; ``arguments``: JSON text, as the model wrote it.
    """

    position: int
    call_id: str | None
    number: int
    name: str | None
    step_id: str | None
    start_us: int
    end_us: int | None = None
    succeeded: bool | None = None
    arguments: str = ""
    answer: str = ""
    return_position: int | None = None
    call_message_id: str | None = None
    return_message_id: str | None = None


class Calls:
    """Pairs calls and returns as the messages of a run come by; ``all`` is every call, in the order of the log.

    A return answers the newest open call of its id: of its own step if there is one, else of the run. The newest,
    because where a call went unanswered and its id is used again, the oldest would shift every later answer by one.
    """

    def __init__(self) -> None:
        self.all: list[Call] = []
        self._open: dict[tuple[str, ...], list[Call]] = {}
        self._parts: dict[tuple[str, str | None], Call] = {}
        self._returned: set[tuple[str, str]] = set()
        self._seen: Counter[str | None] = Counter()

    def hear(self, message: LettaMessage, position: int, time_us: int) -> None:
        """Take in a message: what it calls, what it returns."""
        for called in messages.calls_of(message):
            self._call(message, called, position, time_us)
        for returned in returns_of(message):
            self._return(message, returned, position, time_us)

    def _call(
        self, message: LettaMessage, called: messages.ToolCall | messages.WholeToolCall, position: int, time_us: int
    ) -> None:
        whole = self._parts.get((message.id, called.tool_call_id))
        if whole is not None and (called.name is None or whole.name is None):
            whole.name = whole.name or called.name  # a stream records a call part by part, and names it once
            whole.arguments += called.arguments or ""
            return
        call = self._add(message, called.tool_call_id, called.name, position, time_us)
        call.arguments = called.arguments or ""
        call.call_message_id = message.id
        self._parts[message.id, call.call_id] = self._parts[message.id, None] = call
        if call.call_id is not None:
            for key in _keys(call.call_id, call.step_id):
                self._open.setdefault(key, []).append(call)

    def _return(self, message: LettaMessage, returned: ToolReturn, position: int, time_us: int) -> None:
        call = self._answered(returned.tool_call_id, message.step_id)
        mark = (message.id, returned.tool_call_id)
        if call is None:
            if mark in self._returned:
                return  # the same return once more
            call = self._add(message, returned.tool_call_id, message.name, position, time_us)
        self._returned.add(mark)
        call.end_us = time_us
        call.name = call.name or message.name
        call.succeeded = returned.status == "success"
        call.answer = text_of(returned)
        call.return_position = position
        call.return_message_id = message.id

    def _answered(self, call_id: str, step_id: str | None) -> Call | None:
        for key in reversed(_keys(call_id, step_id)):
            stack = self._open.get(key, [])
            while stack:
                call = stack.pop()
                if call.end_us is None:  # else it was found by its other key
                    return call
        return None

    def _add(self, message: LettaMessage, call_id: str | None, name: str | None, position: int, time_us: int) -> Call:
        call = Call(
            position=position,
            call_id=call_id,
            number=self._seen[call_id],
            name=name,
            step_id=message.step_id,
            start_us=time_us,
        )
        self._seen[call_id] += 1
        self.all.append(call)
        return call


def _keys(call_id: str, step_id: str | None) -> list[tuple[str, ...]]:
    """What an open call is found by, the surest last."""
    return [(call_id,)] if step_id is None else [(call_id,), (call_id, step_id)]


def returns_of(message: LettaMessage) -> Iterable[ToolReturn]:
    """Return what tools gave back, each once; who runs tools itself may answer a request for approval with it."""
    if isinstance(message, ApprovalResponseMessage):
        return [each for each in message.approvals or () if isinstance(each, ToolReturn)]
    if not isinstance(message, ToolReturnMessage):
        return []
    many = message.tool_returns or []
    if any(each.tool_call_id == message.tool_call_id for each in many):
        return many
    first = ToolReturn(tool_call_id=message.tool_call_id, status=message.status, tool_return=message.tool_return)
    return [first, *many]


def text_of(returned: ToolReturn) -> str:
    parts = returned.tool_return
    if isinstance(parts, str):
        return parts
    return "\n".join(part.text for part in parts if isinstance(part, messages.Text))
