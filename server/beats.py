"""Beats: what runs by the clock goes on when the ledger or its views fail for a while."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from ledger import engine as sqlite
from ledger.errors import LedgerError

RETRY_S: Final = 1.0
"""Wait after a beat that failed; what failed it, a full disk or a read past its deadline, seldom passes sooner."""

log = structlog.get_logger("beats")


async def beat(name: str, once: Callable[[], Awaitable[float]]) -> float:
    """Beat once; return how many seconds to wait for the next one, also when the ledger or the views failed.

    Any other error is a mistake of ours: it passes, and ends the server.
    """
    try:
        return await once()
    except (LedgerError, sqlite.Error) as error:
        log.warning("beat.failed", beat=name, error=str(error))
        return RETRY_S
