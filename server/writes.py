"""Writes that fail are tried until one succeeds: a server that is not ready for them is sent none that would tell."""

from __future__ import annotations

from typing import Final

import structlog

from ledger.writer import Writer
from server import beats

INTERVAL_S: Final = 1.0
"""Wait between two tries, each of which is one page and one fsync: as soon as that the server is ready again."""

log = structlog.get_logger("server")


class Writes:
    """Looks after the writes of this process. What is tried changes nothing, and is made only while they fail."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._told = False
        """Whether the log has it that they fail."""

    async def beat(self) -> float:
        """Try a write where the last one failed; return how many seconds to wait for the next beat."""
        if trouble := self._writer.trouble:
            if not self._told:
                log.error("writes.fail", reason=trouble.reason)
            self._told = True
            await self._writer.probe()
        if self._told and self._writer.trouble is None:
            self._told = False
            log.info("writes.go_on")
        return INTERVAL_S

    async def run(self) -> None:
        """Beat for ever."""
        await beats.forever("writes", self.beat)
