"""What became of a callback: to whom it was owed, and each attempt at it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ledger import callbacks, upcast
from ledger import events as facts
from ledger.events import CALLBACK_TYPES, Recorded
from ledger.state import State
from ledger.times import to_text


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at a callback; ``time`` is when its answer or its error came."""

    number: int
    position: int
    time: str
    duration_s: float
    status_code: int | None
    error: str | None


class Owed(msgspec.Struct, frozen=True, kw_only=True):
    """The callback of a job or run. ``receiver`` is only its host: the rest of a URL may hold secrets.

    ``status``: ``owed``, ``delivered`` or ``abandoned`` (``reason`` says why); null before the end, which owes it.
    """

    receiver: str | None
    status: str | None
    reason: str | None
    attempts: list[Attempt]


def owed(resource: State, events: Sequence[Recorded]) -> Owed | None:
    """Return what became of the callback of a job or run; None where it has none."""
    own = [event for event in events if event.type in CALLBACK_TYPES]
    if resource.callback_url is None and not own:
        return None
    debt = resource.debt
    return Owed(
        receiver=None if resource.callback_url is None else callbacks.receiver(resource.callback_url),
        status=None if debt is None else debt.status,
        reason=None if debt is None else debt.reason,
        attempts=[
            Attempt(
                number=fact.number,
                position=event.position,
                time=to_text(event.time),
                duration_s=fact.duration_ns / 1e9,
                status_code=fact.status_code,
                error=fact.error,
            )
            for event in own
            if isinstance(fact := upcast.fact(event), facts.Attempted)
        ],
    )
