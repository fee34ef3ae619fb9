"""Sending callbacks again: what is settled is owed anew, by the server and the command line alike."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from ledger.commands import Context, Plan, Receipt
from ledger.decider import Abandon, Command, Redeliver
from ledger.events import QUIET
from ledger.ledger import Ledger
from ledger.session import Session
from ledger.state import State, fold
from ledger.store import Store
from server.callbacks.history import settled

BATCH: Final = 500
"""Callbacks that are owed anew in one transaction, a few milliseconds; other writers get in between."""


async def redeliver(
    ledger: Ledger, ids: Sequence[str], context: Context, *, by: str | None = None, reason: str | None = None
) -> Receipt:
    """Owe callbacks anew, at once: all of them or none. What is owed at once already stays as it is.

    Raises ``NothingOwed`` where the job or run has not ended or has no callback, ``NotFound``, ``Erased``, and what
    ``Ledger.execute_plan`` raises.
    """
    commands: list[Command] = [*await _given_up(ledger.store, ids)]
    commands += [Redeliver(id=id, by=by, reason=reason) for id in ids]
    return await ledger.execute_plan(lambda _session: commands, context, streams=ids)


async def _given_up(store: Store, ids: Collection[str]) -> list[Abandon]:
    """Return what puts on record that imported debts were given up: to the rules alone they are owed at once."""
    found = []
    for id, events in (await store.streams(ids, QUIET)).items():
        state = fold(events)
        debt = None if state is None or state.deleted_us is not None else state.debt
        if debt is not None and debt.is_owed and not (await settled(store, debt)).is_owed:
            found.append(Abandon(id=id, owed_position=debt.owed_position, reason="imported"))
    return found


async def redeliver_abandoned(
    ledger: Ledger, ids: Sequence[str], context: Context, *, since_us: int, reason: str | None = None
) -> int:
    """Owe anew what was given up at ``since_us`` or later of these callbacks; return how many.

    What is no longer so, was deleted meanwhile or came by an import is passed over.
    """
    count = 0
    for start in range(0, len(ids), BATCH):
        part = ids[start : start + BATCH]
        receipt = await ledger.execute_plan(_again(part, since_us, reason), context, streams=part)
        count += len(receipt.events)
    return count


def _again(ids: Sequence[str], since_us: int, reason: str | None) -> Plan:
    def plan(session: Session) -> list[Redeliver]:
        lost = [id for id in ids if _is_lost(session.state(id), since_us)]
        return [Redeliver(id=id, reason=reason) for id in lost]

    return plan


def _is_lost(state: State | None, since_us: int) -> bool:
    if state is None or state.deleted_us is not None or state.debt is None:
        return False
    debt = state.debt
    settled_us = debt.settled_us
    return (
        debt.status == "abandoned" and debt.reason != "imported" and settled_us is not None and settled_us >= since_us
    )
