"""Reads of streams from the log, many at a time: a read costs a change of threads, however little it asks for."""

from __future__ import annotations

import asyncio

from ledger.events import Recorded
from ledger.store import Store


class Streams:
    """Reads the streams of jobs and runs; what is asked for in one turn of the loop is read at once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._asked: list[str] = []
        self._reading: asyncio.Task[dict[str, list[Recorded]]] | None = None

    async def of(self, id: str) -> list[Recorded]:
        """Return the events of a stream, of what happened within a run only that it did; raise ``StoreFailed``.

        A step or message may be what a run's time is taken from, where the clocks of its producers differ.
        """
        self._asked.append(id)
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="callback-streams")
        # Others wait for the same read: who is cancelled must not take it along.
        return (await asyncio.shield(self._reading)).get(id, [])

    async def _read(self) -> dict[str, list[Recorded]]:
        await asyncio.sleep(0)  # whoever starts in this turn of the loop has asked by then
        asked, self._asked, self._reading = self._asked, [], None
        return await self._store.streams(asked, bare=True)
