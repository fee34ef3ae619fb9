"""Beats: what runs by the clock goes on when the ledger or its views fail for a while, and when we made a mistake."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import structlog
from prometheus_client import Counter

from ledger import engine as sqlite
from ledger.errors import LedgerError
from ledger.store import Store

RETRY_S: Final = 1.0
"""Wait after a beat that failed; what failed it, a full disk or a read past its deadline, seldom passes sooner."""
BROKEN_RETRY_S: Final = 10.0
"""Wait after a beat that a mistake of ours broke: it will most likely break the next one, too."""
BROKEN = Counter(
    "jobledger_beats_broken",
    "Beats that a mistake in the server broke, by which; all else goes on.",
    ["beat"],
    registry=None,
)
"""Counted in this process; ``/metrics`` has it."""

LEASE: Final = "beats"
"""What the lease of the beats is called; the lock file beside the ledger has it as its ending."""
LEASE_INTERVAL_S: Final = 1.0
"""How often a server looks whether the one whose beats go on has ended."""

Once = Callable[[], Awaitable[float] | float]
"""Beats once; gives how many seconds to wait for the next beat."""

log = structlog.get_logger("beats")


async def lead(store: Store) -> None:
    """Return once this server has the lease of the beats: one set of them goes on at a time, however many serve."""

    def take() -> float:
        return 0.0 if store.lease(LEASE) else LEASE_INTERVAL_S

    while wait_s := await beat("lease", take):  # noqa: ASYNC110 - the event is in another process
        await asyncio.sleep(wait_s)
    log.info("beats.leads")


async def forever(name: str, once: Once, first_s: float = 0.0) -> NoReturn:
    """Beat for ever, for the first time after ``first_s``."""
    wait_s = first_s
    while True:
        await asyncio.sleep(wait_s)
        wait_s = await beat(name, once)


async def beat(name: str, once: Once) -> float:
    """Beat once; return how many seconds to wait for the next one, also when this one failed.

    A mistake of ours is logged as an error and counted each time. It ends this beat and not the server: one callback
    that cannot be sent must not take the ledger away from all who read and write it.
    """
    try:
        wait_s = once()
        return wait_s if isinstance(wait_s, int | float) else await wait_s
    except (LedgerError, sqlite.Error) as error:
        log.warning("beat.failed", beat=name, error=str(error))
        return RETRY_S
    except Exception:
        log.exception("beat.broken", beat=name)
        BROKEN.labels(name).inc()
        return BROKEN_RETRY_S
