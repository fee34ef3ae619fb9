"""Ledgers whose jobs have callbacks: what they owe, or will owe, at the start of a measurement."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from ledger import ids
from ledger.events import Attempted, Draft, draft
from ledger.ids import SYSTEM_USER
from ledger.ledger import Ledger
from ledger.session import Session
from scripts.bench.workplace import APPEND, START_US, Log, Workplace, life
from server.grants import grant

LATER_US = 3_600_000_000
"""How far ahead the next attempt of a callback is that waits for it: beyond any run."""

UrlOf = Callable[[int], str | None]
"""Where the callback of a job goes, by its number from 0; None: it has none."""


def jobs(place: Workplace, count: int, url_of: UrlOf, *, ended: bool = True, tried: bool = False) -> Log:
    """Return a new ledger of jobs that have ended, or else are running; its token may read and write.

    ``tried``: the first attempt of each callback has failed, and its next one is an hour off; without it what is owed
    is due at once.
    """
    return asyncio.run(_make(place.fresh(), count, url_of, ended, tried))


async def _make(path: Path, count: int, url_of: UrlOf, ended: bool, tried: bool) -> Log:
    made = [ids.make("job") for _ in range(count)]
    drafts: list[Draft] = []
    for number, id in enumerate(made):
        url = url_of(number)
        history = life("job", id, number, START_US + number * 1_000_000, url)
        drafts += history if ended else history[:-1]
        if tried and url is not None:
            drafts.append(_failed(id))

    async with Ledger.open(path, name="bench.example/callbacks") as ledger:
        for start in range(0, len(drafts), APPEND):
            part = drafts[start : start + APPEND]

            def work(session: Session, part: list[Draft] = part) -> None:
                session.append(part)

            await ledger.submit(work)
        token, _ = await grant(ledger, user_id=SYSTEM_USER, scopes=["read", "write"], actor=SYSTEM_USER)
    return Log(path, token, [], made)


def _failed(id: str) -> Draft:
    now_us = time.time_ns() // 1000
    fact = Attempted(number=1, duration_ns=300_000, error="connection_failed", due_us=now_us + LATER_US)
    return draft(id, "callback.attempted", fact, time=now_us, actor=SYSTEM_USER)
