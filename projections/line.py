"""The line of long reads of the views: how many wait for their turn, and the gaps between them that SQLite needs.

SQLite begins a write-ahead file anew at a moment when nobody reads by it. Long reads that overlap without end leave no
such moment, and the file grows for as long as they do: 230 MiB in ten minutes of searches and statistics. So once it is
large, the next read waits for those under way, and the file is emptied before it goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

from ledger import engine as sqlite
from ledger.errors import LedgerError, Unavailable

READS_MAX: Final = 64
"""Long reads that may wait for one another; each takes up to 20 s, and more of them would only grow old."""
RETRY_S: Final = 5
"""When a long read that found the line full may come again."""
WAL_SIZE_MAX: Final = 32 * 1024 * 1024
"""Bytes of the views' write-ahead file from which on a gap is made: twice what SQLite is told to empty it at."""
GAP_WAIT_S: Final = 5.0
"""How long a gap waits for the reads under way; those that take longer are few, and are ended after 20 s."""
GAP_INTERVAL_S: Final = 2.0
"""Least time between two gaps: where another process reads, the file stays as it is, and no read waits for that."""

log = structlog.get_logger("projections")


class Line:
    """Where long reads wait. ``wal``: the views' write-ahead file; ``empty`` lets SQLite begin it anew."""

    def __init__(self, wal: Path, reads_max: int = READS_MAX) -> None:
        self.length = 0
        """Long reads that are under way or wait for their turn."""
        self.empty: Callable[[], Awaitable[None]] | None = None
        self._wal = wal
        self._reads_max = reads_max
        self._reading = 0
        self._nobody_reads = asyncio.Event()
        self._nobody_reads.set()
        self._gap = asyncio.Lock()
        self._gap_at_s = 0.0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Have a place in the line; raises ``Unavailable`` where it is full."""
        if self.length >= self._reads_max:
            raise Unavailable(reason=f"{self._reads_max} long reads wait, which is the limit", retry_after_s=RETRY_S)
        self.length += 1
        try:
            yield
        finally:
            self.length -= 1

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Read, after a gap where one is needed."""
        async with self._gap:  # who makes a gap lets the others wait here
            if self._is_large():
                await self._make_gap()
        self._reading += 1
        self._nobody_reads.clear()
        try:
            yield
        finally:
            self._reading -= 1
            if not self._reading:
                self._nobody_reads.set()

    def _is_large(self) -> bool:
        if self.empty is None or asyncio.get_running_loop().time() < self._gap_at_s:
            return False
        try:
            return self._wal.stat().st_size > WAL_SIZE_MAX
        except FileNotFoundError:  # nothing was written since the views were opened
            return False

    async def _make_gap(self) -> None:
        assert self.empty is not None  # noqa: S101 - ``_is_large`` says so
        with suppress(TimeoutError):  # then it is tried as it is, and again later
            async with asyncio.timeout(GAP_WAIT_S):
                await self._nobody_reads.wait()
        try:
            await self.empty()
        except (LedgerError, sqlite.Error) as error:
            log.warning("views.wal_not_emptied", error=str(error))
        self._gap_at_s = asyncio.get_running_loop().time() + GAP_INTERVAL_S
