"""What producers tell of a run, steps and messages: from a body to one append, and its answer (contract 4)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from ledger.commands import Note, Receipt
from server.exchange import JSON, Exchange

PAUSE_EVERY = 500
"""Objects checked before other requests get their turn, about 5 ms."""


async def record(exchange: Exchange, run_id: str, notes: Sequence[Note[Any]]) -> Receipt:
    """Append what happened within a run, all or none; return once the views have it."""
    receipt = await exchange.app.ledger.record(run_id, notes, exchange.context())
    await exchange.wait_for_own(receipt.position)
    return receipt


async def pause(number: int) -> None:
    """Let other requests have their turn now and then, while many objects are checked."""
    if number % PAUSE_EVERY == PAUSE_EVERY - 1:
        await asyncio.sleep(0)


def answer(receipt: Receipt, wires: Sequence[bytes], *, is_array: bool, status: int = 201) -> web.Response:
    """Return what was recorded in the form of the request: one object, or an array."""
    headers = {"Content-Type": JSON, "Ledger-Position": str(receipt.position)}
    if receipt.prior is not None:
        headers["Idempotency-Replayed"] = "true"
    body = b"[" + b",".join(wires) + b"]" if is_array else wires[0]
    return web.Response(status=status, body=body, headers=headers)
