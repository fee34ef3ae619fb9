"""Checkpoints by the clock: what the log was like is signed while it grows, so that later it cannot be another."""

from __future__ import annotations

from typing import Final

import structlog

from ledger.errors import LedgerError
from ledger.ledger import Ledger
from server import beats

INTERVAL_S: Final = 300.0
"""Wait between two looks at whether the log grew: at most 288 notes a day by the clock, 250 bytes each."""

log = structlog.get_logger("checkpoints")


class Checkpoints:
    """Signs the log when it has grown, and once more when the server stops."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._size = -1
        """How many events the last checkpoint has, as far as this process knows."""
        self._begun = False

    async def beat(self) -> float:
        """Sign the log if it grew; return how many seconds to wait for the next beat.

        Where it cannot be signed, because its file or its key is damaged, that is logged each time.
        """
        if self._ledger.size != self._size:
            try:
                self._size = (await self._ledger.checkpoint()).size
            except LedgerError:
                log.exception("checkpoint.failed")
        return INTERVAL_S

    async def run(self) -> None:
        """Beat for ever, first when there was time for the log to grow."""
        self._begun = True
        await beats.forever("checkpoints", self.beat, INTERVAL_S)

    async def close(self) -> None:
        """Sign what came since the last beat, if there were beats at all."""
        if self._begun:
            await self.beat()
