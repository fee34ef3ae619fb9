"""One attempt from the log to the log: what is owed is read, sent, and what became of it recorded."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import structlog

from ledger import state as states
from ledger.callbacks import Debt
from ledger.commands import Context, Receipt, single
from ledger.decider import Abandon, Command, Report
from ledger.errors import LedgerError, StoreClosed
from ledger.events import AbandonReason, CallbackError, Recorded
from ledger.ids import SYSTEM_USER
from ledger.ledger import Ledger
from server.callbacks import payload
from server.callbacks.lanes import Ready
from server.callbacks.metrics import CallbackMetrics
from server.callbacks.schedule import Schedule, retry_after_s
from server.callbacks.sender import Outcome, Sender
from server.callbacks.signing import Signer, webhook_id
from server.callbacks.streams import Streams

RECORD_RETRY_S: Final = 1.0
"""Wait before an outcome that could not be recorded is tried again."""

log = structlog.get_logger("callbacks")


class Result(NamedTuple):
    """What an attempt tells: whether the receiver is well (None: nothing), what was recorded, if anything was, and why
    it did not deliver.
    """

    is_good: bool | None = None
    receipt: Receipt | None = None
    error: CallbackError | None = None


class Delivery:
    """Makes attempts and records them. After ``stop`` those that were cut off are recorded as interrupted."""

    def __init__(
        self,
        ledger: Ledger,
        sender: Sender,
        signer: Signer,
        schedule: Schedule,
        metrics: CallbackMetrics,
        chance: random.Random | None = None,
    ) -> None:
        self._ledger = ledger
        self._sender = sender
        self._signer = signer
        self._schedule = schedule
        self._metrics = metrics
        self._streams = Streams(ledger.store)
        self._chance = chance or random.Random()  # noqa: S311 - jitter, not a secret
        self._posts: set[asyncio.Task[Outcome]] = set()
        self._is_stopping = False

    async def attempt(self, ready: Ready) -> Result:
        """Make one attempt, unless the log says that the debt is not as it was found: the views may have lagged."""
        events = await self._streams.of(ready.id)
        state = states.fold(events)
        debt = None if state is None else state.debt
        if (
            debt is None
            or not debt.is_owed
            or (debt.owed_position, debt.attempts) != (ready.owed_position, ready.attempts)
        ):
            return Result()
        outcome = await self._post(ready, payload.body(events, debt.ended_position), debt.ended_version)
        receipt = await self._record(self._report(ready, debt.tries + 1, outcome))
        self._metrics.attempted(outcome)
        if receipt is not None and receipt.state is not None and receipt.state.debt is not None:
            self._tell(ready, events, outcome, receipt.state.debt)
        is_good = None if outcome.error == "interrupted" else outcome.error in (None, "gone")
        return Result(is_good, receipt, outcome.error)

    async def give_up(self, ready: Ready, reason: AbandonReason) -> Result:
        """Record that a callback will not be sent."""
        abandon = Abandon(id=ready.id, owed_position=ready.owed_position, reason=reason)
        receipt = await self._record(abandon)
        if receipt is not None and receipt.events:
            self._metrics.abandoned(reason)
        return Result(receipt=receipt)

    async def stop(self, grace_s: float) -> None:
        """Wait for attempts under way, and cut off those that take longer."""
        self._is_stopping = True
        if self._posts:
            await asyncio.wait(self._posts, timeout=grace_s)
        for post in self._posts:
            post.cancel()

    async def _post(self, ready: Ready, body: bytes, ended_version: int) -> Outcome:
        headers = self._signer.headers(webhook_id(ready.id, ended_version), self._ledger.clock(), body)
        began_ns = time.perf_counter_ns()
        post = asyncio.create_task(self._sender.post(ready.url, headers, body), name="callback-post")
        self._posts.add(post)
        try:
            return await post
        except asyncio.CancelledError:
            if self._is_stopping and post.cancelled():
                return Outcome(None, "interrupted", time.perf_counter_ns() - began_ns)
            post.cancel()
            raise
        finally:
            self._posts.discard(post)

    def _report(self, ready: Ready, tries: int, outcome: Outcome) -> Report:
        now_us = self._ledger.clock()
        due_us: int | None = None
        if outcome.error == "interrupted":
            due_us = now_us
        elif outcome.error not in (None, "gone"):
            wait_s = self._schedule.wait_s(tries, self._chance, retry_after_s(outcome.retry_after, now_us))
            due_us = None if wait_s is None else now_us + int(wait_s * 1e6)
        return Report(
            id=ready.id,
            owed_position=ready.owed_position,
            duration_ns=outcome.duration_ns,
            status_code=outcome.status_code,
            error=outcome.error,
            due_us=due_us,
        )

    async def _record(self, command: Command) -> Receipt | None:
        """Append what a command leads to, as often as it takes; None when the ledger closes first.

        An outcome that is not recorded is sent again by whoever comes next: at least once.
        """
        context = Context(actor=SYSTEM_USER, time_us=self._ledger.clock())
        while True:
            try:
                return await self._ledger.execute_plan(single(command), context, streams=(command.id,))
            except StoreClosed:
                return None
            except LedgerError as error:
                log.warning("callback.not_recorded", id=command.id, error=str(error))
                await asyncio.sleep(RECORD_RETRY_S)

    def _tell(self, ready: Ready, events: Sequence[Recorded], outcome: Outcome, debt: Debt) -> None:
        if debt.status == "delivered":
            owed = next(event for event in events if event.position == ready.owed_position)
            self._metrics.delivered((self._ledger.clock() - owed.recorded) / 1e6)
            if debt.tries > 1 or any(event.type == "callback.abandoned" for event in events):
                self._metrics.recovered.inc()
                log.info("callback.recovered", id=ready.id, attempts=debt.attempts)
        elif debt.status == "abandoned":
            self._metrics.abandoned(debt.reason or "")
            log.warning(
                "callback.abandoned",
                id=ready.id,
                reason=debt.reason,
                attempts=debt.attempts,
                error=outcome.error,
                status_code=outcome.status_code,
            )
