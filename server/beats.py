"""Beats: what runs by the clock goes on when the ledger or its views fail for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from ledger import engine as sqlite
from ledger.errors import LedgerError
from ledger.store import Store

RETRY_S: Final = 1.0
"""Wait after a beat that failed; what failed it, a full disk or a read past its deadline, seldom passes sooner."""

LEASE: Final = "beats"
"""What the lease of the beats is called; the lock file beside the ledger has it as its ending."""
LEASE_INTERVAL_S: Final = 1.0
"""How often a server looks whether the one whose beats go on has ended."""

log = structlog.get_logger("beats")


async def lead(store: Store) -> None:
    """Return once this server has the lease of the beats: one set of them goes on at a time, however many serve."""

    async def take() -> float:
        return 0.0 if store.lease(LEASE) else LEASE_INTERVAL_S

    while wait_s := await beat("lease", take):  # noqa: ASYNC110 - the event is in another process
        await asyncio.sleep(wait_s)
    log.info("beats.leads")


async def beat(name: str, once: Callable[[], Awaitable[float]]) -> float:
    """Beat once; return how many seconds to wait for the next one, also when the ledger or the views failed.

    Any other error is a mistake of ours: it passes, and ends the server.
    """
    try:
        return await once()
    except (LedgerError, sqlite.Error) as error:
        log.warning("beat.failed", beat=name, error=str(error))
        return RETRY_S
