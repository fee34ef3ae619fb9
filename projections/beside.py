"""Folding views in a process of its own while this one appends much, so that an import uses two cores.

It only saves time: whoever opens the views afterwards folds what is missing, also when the process was killed.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from multiprocessing.synchronize import Event
from pathlib import Path
from types import TracebackType

from ledger import engine as sqlite
from ledger.ledger import Ledger
from projections.engine import Engine
from projections.file import views_path

WORTH_IT = 100_000
"""Events appended from which on a second process, about half a second to start, saves more than it costs."""


class Beside:
    """Context around an import: ``appended`` is told how many events there are so far."""

    def __init__(self, db: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._ended = context.Event()
        self._process = context.Process(target=_follow, args=(db, self._ended), daemon=True)
        self._can = not sqlite.has_wal_reset_bug()

    def __enter__(self) -> Beside:
        return self

    def appended(self, events: int) -> None:
        """Start the process once it is worth it."""
        if self._can and events >= WORTH_IT and self._process.pid is None:
            self._process.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._process.pid is None:
            return
        if error is not None:
            self._process.terminate()
        self._process.join()


def _follow(db: Path, ended: Event) -> None:
    asyncio.run(_fold(db, ended))


async def _fold(db: Path, ended: Event) -> None:
    async with Ledger.open(db, read_only=True) as ledger:
        engine = Engine(ledger, views_path(db))
        await engine.open(grows=lambda: not ended.is_set())
        await engine.close()
