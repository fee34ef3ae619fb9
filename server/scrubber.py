"""Erased data out of all files of the ledger, as soon as nobody reads an older state of them any more."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog

from ledger import engine as sqlite
from ledger.errors import LedgerError
from ledger.ledger import SCRUB_TIMEOUT_S, Ledger
from projections.engine import Engine
from server import beats

INTERVAL_S: Final = 60.0
"""Wait between two looks for what another process erased, or could not scrub before it ended."""
RETRY_S: Final = 1.0
LOOK_S: Final = 0.05

log = structlog.get_logger("server")


class Scrubber:
    """Scrubs the log's and the views' files. Whatever cannot be done at once is done by a later beat."""

    def __init__(self, ledger: Ledger, engine: Engine | None) -> None:
        self._ledger = ledger
        self._engine = engine
        self.patience_s = SCRUB_TIMEOUT_S

    async def scrub(self) -> bool:
        """Return whether all that was erased is gone from every file, after ``patience_s`` at the latest.

        A file that fails meanwhile is no reason to call an erasure failed, which is recorded: a later beat goes on.
        """
        until = time.monotonic() + self.patience_s
        try:
            while not await self._once():
                if time.monotonic() >= until:
                    return False
                await asyncio.sleep(LOOK_S)
        except (LedgerError, sqlite.Error, OSError) as error:
            log.warning("scrub.put_off", error=str(error))
            return False
        return True

    async def _once(self) -> bool:
        is_gone = await self._ledger.store.scrub()
        return (self._engine is None or await self._engine.scrub()) and is_gone

    async def beat(self) -> float:
        """Scrub what is left to scrub; return how many seconds to wait for the next beat."""
        return INTERVAL_S if await self._once() else RETRY_S

    async def run(self) -> None:
        """Beat for ever."""
        await beats.forever("scrubber", self.beat)
