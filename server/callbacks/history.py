"""What became of one callback, folded from the history of its job or run: for HTTP and the command line alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from ledger import upcast
from ledger.callbacks import AT_ONCE, Debt, sent_us
from ledger.events import CALLBACK_TYPES, QUIET, AbandonReason, Attempted, CallbackError, Fact, Recorded, Requeued
from ledger.scalars import Nanoseconds, Time
from ledger.state import State
from ledger.store import Store
from ledger.times import to_text
from projections.history import AsOf
from projections.outbox import given_up
from projections.past import fold_as_of
from server.callbacks.signing import webhook_id

SHOWN_MAX: Final = 100
"""Attempts, and requests to send again, that are shown: the newest, about 200 bytes each. The log has them all."""

Status = Literal["waiting", "owed", "delivered", "abandoned"]
_Shown = Meta(extra_json_schema={"maxItems": SHOWN_MAX})


class CallbackAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt: ``status_code`` of the answer, null where there was none; ``error`` is null after a 2xx.

    ``duration_ns``: from ``sent_at`` to the head of the answer, or to the error. ``next_attempt_at``: when it was to be
    tried again; null where it was not.
    """

    number: int
    sent_at: Time
    status_code: int | None
    error: CallbackError | None
    duration_ns: Nanoseconds
    next_attempt_at: Time | None


class CallbackRequeue(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody asked for the callback to be sent again. ``by``: the admin who did so for the actor."""

    at: Time
    actor: str
    by: str | None
    reason: str | None


class Callback(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a callback.

    ``status``: ``waiting`` while the job or run has not ended, ``owed`` until it is delivered or given up. What an
    import brought is ``abandoned`` for the reason ``imported``; ``abandoned_at`` is null until a server that sends
    callbacks has put that on record. ``next_attempt_at`` is ``owed_since`` where it is due at once. ``attempts`` and
    ``requeued`` are the newest, oldest first; ``attempt_count`` counts all.
    """

    url: str
    status: Status
    webhook_id: str | None
    owed_since: Time | None
    next_attempt_at: Time | None
    delivered_at: Time | None
    abandoned_at: Time | None
    abandoned_reason: AbandonReason | None
    attempt_count: int
    attempts: Annotated[list[CallbackAttempt], _Shown]
    requeued: Annotated[list[CallbackRequeue], _Shown]


class Told(NamedTuple):
    """A job, batch or run at a point of its history, and its callback; None where nobody asked for one."""

    state: State
    callback: Callback | None


async def read(store: Store, id: str, at: AsOf | None = None) -> Told | None:
    """Return what the log says of a callback, now or at a point in history.

    None where there was no such job, batch or run, or where it was deleted.
    """
    # Steps and messages leave a run as it was, but a time is reached by whatever happened then.
    without = QUIET if at is None or at.time_us is None else ()
    events = (await store.streams([id], without)).get(id)
    if not events:
        return None
    state = fold_as_of(events, at or AsOf(position=events[-1].position))
    if state is None:
        return None
    if state.debt is not None:
        state.debt = await settled(store, state.debt)
    return Told(state, _callback(state, [event for event in events if event.version <= state.version]))


async def settled(store: Store, debt: Debt) -> Debt:
    """Return a debt as what it comes to: one that is owed by what an import brought is given up."""
    is_imported = debt.is_owed and bool(await store.imported({debt.owed_position}))
    return given_up(debt) if is_imported else debt


def _callback(state: State, events: Sequence[Recorded]) -> Callback | None:
    if state.callback_url is None:
        return None
    debt = state.debt
    if debt is None:
        return _waiting(state.callback_url)
    told = [(event, upcast.fact(event)) for event in events if event.type in CALLBACK_TYPES]
    (owing,) = (event for event in events if event.position == debt.owed_position)
    settled_at = None if debt.settled_us is None else to_text(debt.settled_us)
    return Callback(
        url=state.callback_url,
        status=debt.status,  # type: ignore[arg-type]
        webhook_id=webhook_id(state.id, debt.ended_version),
        owed_since=to_text(owing.time),
        next_attempt_at=due_at(debt, owing),
        delivered_at=settled_at if debt.status == "delivered" else None,
        abandoned_at=settled_at if debt.status == "abandoned" else None,
        abandoned_reason=debt.reason,  # type: ignore[arg-type]
        attempt_count=debt.attempts,
        attempts=list(_attempts(told))[-SHOWN_MAX:],
        requeued=list(_requeues(told))[-SHOWN_MAX:],
    )


def _waiting(url: str) -> Callback:
    return Callback(
        url=url,
        status="waiting",
        webhook_id=None,
        owed_since=None,
        next_attempt_at=None,
        delivered_at=None,
        abandoned_at=None,
        abandoned_reason=None,
        attempt_count=0,
        attempts=[],
        requeued=[],
    )


def due_at(debt: Debt, owing: Recorded) -> str | None:
    """Return when the next attempt is due; None: never. ``owing``: the event that owes it."""
    if debt.due_us is None:
        return None
    return to_text(owing.time if debt.due_us == AT_ONCE else debt.due_us)


def _attempts(told: Iterable[tuple[Recorded, Fact | None]]) -> Iterable[CallbackAttempt]:
    for event, fact in told:
        if isinstance(fact, Attempted):
            yield CallbackAttempt(
                number=fact.number,
                sent_at=to_text(sent_us(event, fact)),
                status_code=fact.status_code,
                error=fact.error,
                duration_ns=fact.duration_ns,
                next_attempt_at=None if fact.due_us is None else to_text(fact.due_us),
            )


def _requeues(told: Iterable[tuple[Recorded, Fact | None]]) -> Iterable[CallbackRequeue]:
    for event, fact in told:
        if isinstance(fact, Requeued):
            yield CallbackRequeue(at=to_text(event.time), actor=event.actor, by=fact.by, reason=fact.reason)
