"""The producer's side in Python: ``async with ledger.run(…)`` records a life around a block of code."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec

from ledger import messages
from ledger.commands import Context, Note, Receipt
from ledger.decider import Change, Create
from ledger.errors import InvalidTransition, invalid
from ledger.events import Changed, Created, ErrorInfo, Fact, RunUpdated, Step
from ledger.ids import make
from ledger.state import State

if TYPE_CHECKING:
    from ledger.ledger import Ledger

F = TypeVar("F", bound=Fact)
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
        """Merge ``metadata``, or set ``ttft_ns``, ``total_duration_ns``, ``agent_id``, ``usage``; return the state.

        ``usage``: tokens of a whole run (``prompt_tokens``, …), where they are not counted by the step.
        """
        shape = RunUpdated if self._kind == "run" else Changed
        return (await self._change(None, _converted(facts, shape))).state

    async def step(self, id: str | None = None, *, status: str | None = "success", **facts: Any) -> str:
        """Record a step, durably; return its id. ``facts``: any field of ``ledger.events.Step``.

        Begin a step with ``status="pending"`` and end it under its id; ``status=None`` adds to what is known of it.
        Raises ``InvalidInput``, and ``InvalidTransition`` for a step that has ended. ``batch`` records many at once.
        """
        note = _step(id, status, facts)
        await self._record([note])
        return note.fact.id

    async def message(self, *messages: dict[str, Any]) -> list[str]:
        """Record messages of the LettaMessage union, durably and all or none; return their ids.

        Each is a dict with its ``message_type``; an id is made where there is none. Raises ``InvalidInput``.
        """
        made = [self._message(message) for message in messages]
        await self._record([note for note, _ in made])
        return [id for _, id in made]

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[Batch]:
        """Collect steps and messages, and record them in one append when the block ends without an exception."""
        batch = Batch(self._message)
        yield batch
        if batch.notes:
            await self._record(batch.notes)

    def _message(self, value: dict[str, Any]) -> tuple[Note[Any], str]:
        fact, message = messages.record(value, run_id=self.id)
        return Note(fact, messages.time_us(message)), message.id

    async def _record(self, notes: Sequence[Note[Any]]) -> None:
        if self._kind != "run":
            raise invalid(self.id, "is no run: only runs have steps and messages")
        self.state = (await self._ledger.record(self.id, notes, self._context)).state

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


class Batch:
    """Steps and messages that are recorded together, in the order in which they were added."""

    def __init__(self, message: Callable[[dict[str, Any]], tuple[Note[Any], str]]) -> None:
        self.notes: list[Note[Any]] = []
        self._message = message

    def step(self, id: str | None = None, *, status: str | None = "success", **facts: Any) -> str:
        """Add a step, as ``Recorder.step``; return its id."""
        note = _step(id, status, facts)
        self.notes.append(note)
        return note.fact.id

    def message(self, message: dict[str, Any]) -> str:
        """Add a message; return its id."""
        note, id = self._message(message)
        self.notes.append(note)
        return id


def _step(id: str | None, status: str | None, facts: dict[str, Any]) -> Note[Step]:
    return Note(_converted({"id": id or make("step"), "status": status, **facts}, Step))


def _converted(facts: dict[str, Any], shape: type[F]) -> F:
    try:
        return msgspec.convert(facts, shape)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$")
        raise invalid(place.rstrip("`").lstrip(".") or "facts", what) from error


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
