"""Folding views in a process of its own while this one appends much, so that an import uses two cores.

It only saves time: whoever opens the views afterwards folds what is missing, also when the process was killed. The
process goes on until its standard input ends, which it does when the importing process ends, in whatever way.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
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
        self._db = db
        self._process: subprocess.Popen[bytes] | None = None
        self._can = not sqlite.has_wal_reset_bug()

    def __enter__(self) -> Beside:
        return self

    def appended(self, events: int) -> None:
        """Start the process once it is worth it."""
        if self._can and events >= WORTH_IT and self._process is None:
            command = [sys.executable, "-m", "projections.beside", str(self._db.resolve())]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: S603 - our own module

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        if error is not None:
            self._process.terminate()
        self._process.communicate()


def _wait_for_end(ended: threading.Event) -> None:
    sys.stdin.buffer.read()
    ended.set()


async def _fold(db: Path) -> None:
    ended = threading.Event()
    threading.Thread(target=_wait_for_end, args=(ended,), daemon=True).start()
    async with Ledger.open(db, read_only=True) as ledger:
        engine = Engine(ledger, views_path(db))
        await engine.open(grows=lambda: not ended.is_set())
        await engine.close()


if __name__ == "__main__":
    asyncio.run(_fold(Path(sys.argv[1])))
