"""The dispatcher: finds what the log owes, and sends it when its turn comes, each attempt once.

A beat looks for what is due, in the views, and starts what may start (``lanes``). What commits meanwhile is told by the
engine, and starts at once. One dispatcher works at a time on a ledger: the holder of the store's lease. A debt is in
hand from when it is found until the views have the outcome of its attempt, and the log is asked, once it is in hand,
whether it still is as it was found; so nothing is sent twice but what a killed process sent and could not record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable
from contextlib import AsyncExitStack, suppress
from typing import Any, Final

import structlog

from ledger.errors import LedgerError
from ledger.ledger import Ledger
from projections.engine import Engine
from projections.query import IN_MAX, Where
from projections.views import Views
from server import beats
from server.callbacks.delivery import Delivery, Result
from server.callbacks.lanes import SLOW_AFTER_S, Lanes, Ready

LEASE: Final = "callbacks"
"""What the lease of a dispatcher is called; the lock file beside the ledger has it as its ending."""
INTERVAL_S: Final = 1.0
"""Longest wait between two beats, and between two searches that cost little."""
SEARCH_INTERVAL_S: Final = 0.02
"""Least wait between two searches, while they find what was not in hand."""
READY_MAX: Final = 20_000
"""Debts in memory that wait for their turn, about 500 bytes each; what is beyond them waits in the views."""
EACH_MAX: Final = 128
"""Debts of one receiver that a search takes, so that those of others are found however many one has: it takes more
than a hundred dead receivers to fill the memory, and what ends meanwhile is told of, and needs no search."""
NEWS_MAX: Final = 5_000
"""Changed callbacks that are looked up by their ids; when there are more, a search finds them."""
SEARCH_SHARE: Final = 50
"""A search is followed by a pause of so many times its duration, so that searching takes 2 % of a core at most. It
takes 0.5 ms for one receiver, 5 for ten, 50 for 100,000 with little due."""
SEARCH_PAUSE_MAX_S: Final = 5.0
"""Longest such pause: a search in whose middle the machine was busy or asleep tells nothing of the next one."""
RELEASE_TIMEOUT_S: Final = 3600.0
"""How long the views may lag before a debt is let go of; the log is asked before anything is sent anyway."""
STOP_GRACE_S: Final = 3.0
"""How long a stop waits for attempts under way; those that are cut off then are recorded as interrupted."""

_FOUND = "id, url, receiver, owed_position, attempts"
_SEARCH = """
WITH RECURSIVE owing (receiver) AS (
    SELECT min(receiver) FROM callbacks
    WHERE due_us IS NOT NULL AND EXISTS (SELECT 1 FROM callbacks WHERE due_us <= :now)
    UNION ALL
    SELECT (SELECT min(receiver) FROM callbacks WHERE due_us IS NOT NULL AND receiver > owing.receiver)
    FROM owing WHERE receiver IS NOT NULL
)
SELECT id, url, callbacks.receiver, owed_position, attempts FROM owing CROSS JOIN callbacks ON position IN (
    SELECT position FROM callbacks WHERE receiver = owing.receiver AND due_us <= :now
    ORDER BY due_us, position LIMIT :each
) ORDER BY row_number() OVER (PARTITION BY callbacks.receiver ORDER BY due_us, position), due_us LIMIT :limit
"""
"""The first few of each receiver, which the index gives from receiver to receiver: however many one is owed, the search
looks at no more of them."""
_UPCOMING = "SELECT due_us FROM callbacks WHERE due_us > :now ORDER BY due_us LIMIT 1"

log = structlog.get_logger("callbacks")


class Dispatcher:
    """Owns the attempts under way. ``run`` beats for ever; ``wake`` tells it of news; ``close`` ends it cleanly.

    ``closing``: what is released at the end.
    """

    def __init__(
        self,
        ledger: Ledger,
        engine: Engine,
        views: Views,
        delivery: Delivery,
        lanes: Lanes | None = None,
        closing: AsyncExitStack | None = None,
    ) -> None:
        self._ledger = ledger
        self._engine = engine
        self._views = views
        self._delivery = delivery
        self._lanes = lanes or Lanes()
        self._closing = closing or AsyncExitStack()
        self._in_hand: set[str] = set()
        self._news: set[str] = set()
        self._woken = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._search_at_s = 0.0
        self._may_search_at_s = 0.0
        self._leads = False
        self._is_stopping = False
        self._loop = asyncio.get_running_loop()

    def wake(self, ids: Iterable[str]) -> None:
        """Say that these callbacks changed; what is due of them starts at once."""
        if len(self._news) < NEWS_MAX:
            self._news.update(ids)
        else:
            self._search_at_s = 0.0
        self._woken.set()

    def search_soon(self) -> None:
        """Say that callbacks may have changed, nobody knows which: another process wrote the views."""
        if self._leads and self._may_search_at_s < self._search_at_s:
            self._search_at_s = self._may_search_at_s
            self._woken.set()

    async def run(self) -> None:
        """Beat for ever, at once when there is news."""
        while True:
            wait_s = await beats.beat("callbacks", self.beat)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()

    async def beat(self) -> float:
        """Take in hand what is due and start what may start; return how many seconds to wait for the next beat."""
        self._woken.clear()
        if self._is_stopping or not self._has_lease():
            self._news.clear()
            return INTERVAL_S
        now_us = self._ledger.clock()
        await self._take(await self._due_of_news(now_us))
        self._start()  # news does not wait for a search
        wait_s = min(await self._search(now_us), await self._until_next(now_us))
        self._start()
        return self._lanes.rate_wait_s(self._loop.time()) if self._lanes.waits_for_rate else wait_s

    def _has_lease(self) -> bool:
        """Take the lease, or find that this server has it: only then it sends."""
        if not self._leads and self._ledger.store.lease(LEASE):
            self._leads = True
            log.info("callbacks.leads")
        return self._leads

    async def _due_of_news(self, now_us: int) -> list[Ready]:
        news, self._news = list(self._news), set()
        found: list[Ready] = []
        for start in range(0, len(news), IN_MAX):
            where = Where()
            where.one_of("id", tuple(news[start : start + IN_MAX]), "id")
            where.add("due_us <= :now", now=now_us)
            text = f"SELECT {_FOUND} FROM callbacks WHERE {where}"  # noqa: S608 - names of our own
            found += [Ready(*row) for row in await self._views.read(text, where.parameters)]
        return found

    async def _search(self, now_us: int) -> float:
        """Search the views for what is due, now and then; return how long to wait for the next search."""
        began_s = self._loop.time()
        if began_s < self._search_at_s:
            return self._search_at_s - began_s
        room = READY_MAX - self._lanes.ready
        if room < READY_MAX // 2:  # whoever ends an attempt wakes us
            return INTERVAL_S
        rows = await self._views.read(_SEARCH, {"now": now_us, "each": EACH_MAX, "limit": room})
        taken = await self._take([Ready(*row) for row in rows])
        now_s = self._loop.time()
        # While a search finds what was not in hand, there may be more behind it.
        share_s = min(SEARCH_SHARE * (now_s - began_s), SEARCH_PAUSE_MAX_S)
        pause_s = max(share_s, SEARCH_INTERVAL_S if taken else INTERVAL_S)
        self._search_at_s = now_s + pause_s
        self._may_search_at_s = now_s + max(share_s, SEARCH_INTERVAL_S)
        return pause_s

    async def _until_next(self, now_us: int) -> float:
        """Return how long to wait until something gets due."""
        upcoming = await self._views.read(_UPCOMING, {"now": now_us})
        return max((upcoming[0][0] - now_us) / 1e6, 0.001) if upcoming else INTERVAL_S

    async def _take(self, found: list[Ready]) -> int:
        """Take in hand what was found, and give up what came by an import; return how many were not in hand before."""
        fresh = [ready for ready in found if ready.id not in self._in_hand]
        if not fresh:
            return 0
        imported = await self._ledger.store.imported({ready.owed_position for ready in fresh})
        for ready in fresh:
            self._in_hand.add(ready.id)
            if ready.owed_position in imported:
                self._own(self._handle(ready, self._delivery.give_up(ready, "imported")))
            else:
                self._lanes.offer(ready)
        return len(fresh)

    def _start(self) -> None:
        if not self._is_stopping:
            for ready in self._lanes.start(self._loop.time()):
                self._own(self._handle(ready, self._attempt(ready)))

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="callback")
        self._tasks.add(task)
        task.add_done_callback(self._is_over)

    def _is_over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("callback.failed", exc_info=error)

    async def _handle(self, ready: Ready, work: Awaitable[Result]) -> None:
        """Do the work on a debt in hand, and let go of it once the views have the result; then it may be due again.

        Where something failed on our side, the next search finds it.
        """
        try:
            receipt = (await work).receipt
            if receipt is not None:
                await self._engine.wait_for(receipt.position, RELEASE_TIMEOUT_S)
            self._news.add(ready.id)
        except LedgerError as error:
            log.warning("callback.failed", id=ready.id, error=str(error))
        finally:
            self._in_hand.discard(ready.id)
        self._woken.set()

    async def _attempt(self, ready: Ready) -> Result:
        timer = self._loop.call_later(SLOW_AFTER_S, self._is_slow, ready.id)
        result = Result()
        try:
            result = await self._delivery.attempt(ready)
        finally:
            timer.cancel()
            if self._lanes.ended(ready.id, result.is_good):
                self._tell(ready, result)
            self._start()
        return result

    def _tell(self, ready: Ready, result: Result) -> None:
        if result.is_good:
            log.info("receiver.recovered", receiver=ready.host)
        else:
            log.warning("receiver.failing", receiver=ready.host, id=ready.id, error=result.error)

    def _is_slow(self, id: str) -> None:
        self._lanes.slow(id)
        self._start()

    async def close(self, grace_s: float = STOP_GRACE_S) -> None:
        """Start nothing more, wait for attempts under way, interrupt those that take longer, and record them all."""
        self._is_stopping = True
        self._lanes.drop()
        await self._delivery.stop(grace_s)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_GRACE_S)  # they record what became of them
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._closing.aclose()
