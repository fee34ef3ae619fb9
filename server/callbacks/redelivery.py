"""Sending callbacks again: what is settled is owed anew, by the server and the command line alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ledger.commands import Context, Plan, Receipt
from ledger.decider import Redeliver
from ledger.ledger import Ledger
from ledger.session import Session
from ledger.state import State

BATCH: Final = 500
"""Callbacks that are owed anew in one transaction, a few milliseconds; other writers get in between."""


async def redeliver(
    ledger: Ledger, ids: Sequence[str], context: Context, *, by: str | None = None, reason: str | None = None
) -> Receipt:
    """Owe callbacks anew, at once, whatever became of them: all of them or none.

    Raises ``NothingOwed`` where the job or run has not ended or has no callback, ``NotFound``, ``Erased``, and what
    ``Ledger.execute_plan`` raises.
    """
    commands = [Redeliver(id=id, by=by, reason=reason) for id in ids]
    return await ledger.execute_plan(lambda _session: commands, context, streams=ids)


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
