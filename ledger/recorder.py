"""The producer's side in Python: ``async with ledger.run(…)`` records a life around a block of code."""

from __future__ import annotations

import asyncio
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from ledger.commands import Context, Receipt
from ledger.decider import Change, Create
from ledger.errors import InvalidTransition
from ledger.events import Changed, Created, ErrorInfo
from ledger.ids import make
from ledger.state import State

if TYPE_CHECKING:
    from ledger.ledger import Ledger

TRACEBACK_SIZE_MAX = 64 * 1024
"""Characters of a traceback (the end of it) and of a message that are kept: enough for hundreds of frames."""


class Recorder:
    """One job or run while its block runs. ``id`` is its id; ``state`` is what it was after the last event."""

    def __init__(self, ledger: Ledger, kind: str, actor: str, facts: dict[str, Any]) -> None:
        self._ledger = ledger
        self._kind = kind
        self._context = Context(actor=actor)
        self.id = str(facts.pop("id", None) or make("run" if kind == "run" else "job"))
        self._facts = msgspec.convert({"user_id": actor, **facts}, Created)
        self.state: State | None = None

    async def __aenter__(self) -> Self:
        command = Create(id=self.id, kind=self._kind, facts=self._facts, status="running")
        self.state = (await self._ledger.execute(command, self._context)).state
        return self

    async def update(self, **facts: Any) -> State | None:
        """Merge ``metadata``, or set ``ttft_ns``, ``total_duration_ns``, ``agent_id``; return the state."""
        return (await self._change(None, msgspec.convert(facts, Changed))).state

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Record the end. By an exception: failed, with type, message and traceback. By CancelledError: cancelled.

        Raises ``InvalidTransition`` after a block that ended well when somebody else ended the run before; after an
        exception that is added to it as a note instead.
        """
        status, facts = _ending(error)
        try:
            await asyncio.shield(self._change(status, facts))
        except InvalidTransition as refusal:
            if error is None:
                raise
            error.add_note(f"{self.id} was not recorded as {status}: {refusal}")

    async def _change(self, status: str | None, facts: Changed) -> Receipt:
        receipt = await self._ledger.execute(Change(id=self.id, status=status, facts=facts), self._context)
        self.state = receipt.state
        return receipt


def _ending(error: BaseException | None) -> tuple[str, Changed]:
    if error is None:
        return "completed", Changed(stop_reason="end_turn")
    if isinstance(error, asyncio.CancelledError):
        return "cancelled", Changed(stop_reason="cancelled")
    text = _unicode("".join(traceback.format_exception(error)))[-TRACEBACK_SIZE_MAX:]
    info = ErrorInfo(type=type(error).__name__, message=_unicode(str(error))[:TRACEBACK_SIZE_MAX], traceback=text)
    return "failed", Changed(stop_reason="error", error=info)


def _unicode(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
