"""Expiry: running resources past their timeout end, once, however many servers look."""

from __future__ import annotations

import asyncio

import structlog

from ledger.commands import Context, single
from ledger.decider import Expire
from ledger.errors import LedgerError
from ledger.ids import SYSTEM_USER
from ledger.ledger import Ledger
from projections.views import Views
from server import beats

BATCH = 200
"""Resources ended in one beat; more are taken by the next one soon."""
INTERVAL_S = 1.0
"""Longest wait between two looks: what is late, is late by no more."""
AGAIN_S = 0.05
"""Wait after a full batch: the views are to have it, or the next search finds the same."""

log = structlog.get_logger("expiry")
_DUE = """
SELECT id, expires_us FROM jobs WHERE expires_us <= :now UNION ALL
SELECT id, expires_us FROM runs WHERE expires_us <= :now UNION ALL
SELECT id, expires_us FROM batches WHERE expires_us <= :now ORDER BY expires_us LIMIT :limit
"""


class Expiry:
    """An owned beat: finds what is past its timeout and asks the ledger, which decides by the rules, to end it."""

    def __init__(self, ledger: Ledger, views: Views) -> None:
        self._ledger = ledger
        self._views = views

    async def beat(self) -> float:
        """End what is due; return how many seconds to wait for the next beat."""
        now_us = self._ledger.clock()
        due = await self._views.read(_DUE, {"now": now_us, "limit": BATCH})
        context = Context(actor=SYSTEM_USER)
        commands = [Expire(id=id, now_us=now_us) for id, _ in due]
        outcomes = await asyncio.gather(
            *(self._ledger.execute_plan(single(command), context) for command in commands), return_exceptions=True
        )
        has_failed = False
        for command, outcome in zip(commands, outcomes, strict=True):
            if isinstance(outcome, LedgerError):
                has_failed = True
                log.warning("expiry.failed", id=command.id, error=str(outcome))
            elif isinstance(outcome, BaseException):
                raise outcome
        return AGAIN_S if len(due) == BATCH and not has_failed else INTERVAL_S

    async def run(self) -> None:
        """Beat for ever."""
        await beats.forever("expiry", self.beat)
