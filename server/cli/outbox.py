"""What ``jobledger callbacks list``, ``show`` and ``redeliver`` do, on the file alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from ledger import ids
from ledger.commands import Context
from ledger.errors import NotFound
from ledger.ids import SYSTEM_USER
from ledger.ledger import Ledger
from ledger.store import Store
from ledger.times import TIME_MIN_US, from_text, to_text
from projections import outbox
from projections.callbacks import WAITING
from projections.callbacks import Callback as Row
from projections.file import views_path
from server.callbacks import history
from server.callbacks.history import Callback, CallbackAttempt
from server.callbacks.redelivery import redeliver, redeliver_abandoned
from server.cli.options import clean, existing, out, point, reading, run, say_json, table

SENT_BY = "A running server sends them now; without one they are sent at the next `jobledger serve`."


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One callback of a list. ``last_…``: of the last attempt. ``settled_at``: when it was delivered or given up."""

    id: str
    status: str
    abandoned_reason: str | None
    attempt_count: int
    last_sent_at: str | None
    last_status_code: int | None
    last_error: str | None
    next_attempt_at: str | None
    settled_at: str | None
    url: str


def say_list(db: Path, status: str | None, limit: int, *, as_json: bool) -> None:
    """Print the callbacks of a ledger, as a table or as JSON."""
    found, has_more = run(_entries(db, status, limit))
    if as_json:
        say_json(found)
        return
    rows = table("id", "status", "attempts", "last answer", "next or settled", "url")
    for entry in found:
        cells = (entry.id, _status(entry), str(entry.attempt_count), _last(entry), _when(entry), entry.url)
        rows.add_row(*map(clean, cells))
    out().print(rows)
    if has_more:
        click.echo(f"There are more than {limit}: see --limit and --status.", err=True)


async def _entries(db: Path, status: str | None, limit: int) -> tuple[list[Entry], bool]:
    async with reading(db) as store:
        found = await outbox.entries(store, views_path(db), status, limit + 1)
        return [await _entry(store, callback) for callback in found[:limit]], len(found) > limit


async def _entry(store: Store, callback: Row) -> Entry:
    debt = callback.debt
    next_at = None
    if debt is not None and debt.is_owed:
        (owing,) = await store.scan(debt.owed_position - 1, 1)
        next_at = history.due_at(debt, owing)
    return Entry(
        id=callback.id,
        status=WAITING if debt is None else debt.status,
        abandoned_reason=None if debt is None else debt.reason,
        attempt_count=0 if debt is None else debt.attempts,
        last_sent_at=None if callback.sent_us is None else to_text(callback.sent_us),
        last_status_code=callback.status_code,
        last_error=callback.error,
        next_attempt_at=next_at,
        settled_at=None if debt is None or debt.settled_us is None else to_text(debt.settled_us),
        url=callback.url,
    )


def _status(entry: Entry) -> str:
    return entry.status if entry.abandoned_reason is None else f"{entry.status} ({entry.abandoned_reason})"


def _last(entry: Entry) -> str:
    return " ".join(str(each) for each in (entry.last_status_code, entry.last_error) if each is not None)


def _when(entry: Entry) -> str:
    return entry.next_attempt_at or entry.settled_at or ""


def say_one(db: Path, id: str, when: str | None, *, as_json: bool) -> None:
    """Print what became of one callback, with each of its newest attempts."""
    callback = run(_callback(db, id, when))
    if as_json:
        say_json(callback)
        return
    console = out()
    rows = table("property", "value", header=False)
    for name, value in msgspec.to_builtins(callback).items():
        if name not in ("attempts", "requeued"):
            rows.add_row(name, "null" if value is None else clean(value))
    console.print(rows)
    if callback.attempts:
        console.print(_attempts(callback.attempts))
    for each in callback.requeued:
        by = f", by {each.by} for them" if each.by else ""
        console.print(clean(f"requeued {each.at} for {each.actor}{by}{f': {each.reason}' if each.reason else ''}"))


def _attempts(attempts: Sequence[CallbackAttempt]) -> Any:
    rows = table("attempt", "sent", "answer", "error", "took", "next")
    for each in attempts:
        answer, error = each.status_code or "none", each.error or ""
        took = f"{each.duration_ns / 1e6:,.0f} ms"
        cells = (each.number, each.sent_at, answer, error, took, each.next_attempt_at or "")
        rows.add_row(*map(clean, cells))
    return rows


async def _callback(db: Path, id: str, when: str | None) -> Callback:
    ids.parse(id, "job", "run")
    what = id.partition("-")[0]
    at = point(when, "--at")
    async with reading(db) as store:
        told = await history.read(store, id, at)
    if told is None:
        raise NotFound(what=what, id=f"{id}{f' as of {when}' if when else ''}")
    if told.callback is None:
        raise NotFound(what=f"callback of {what}", id=id)
    return told.callback


def owe(db: Path, wanted: Sequence[str], reason: str | None, *, as_json: bool) -> None:
    """Owe the callbacks of some jobs, batches or runs anew, all or none, and tell how many that were."""
    wanted = list(dict.fromkeys(wanted))
    for id in wanted:
        ids.parse(id, "job", "run")

    async def work() -> int:
        async with Ledger.open(existing(db)) as ledger:
            receipt = await redeliver(ledger, wanted, Context(actor=SYSTEM_USER), reason=reason)
            return len(receipt.events)

    _say_owed(run(work()), as_json)


def owe_abandoned(db: Path, since: str | None, reason: str | None, *, as_json: bool) -> None:
    """Owe all callbacks anew that were given up here, and tell how many that were."""
    since_us = TIME_MIN_US if since is None else from_text(since, "--since")

    async def work() -> int:
        async with Ledger.open(existing(db)) as ledger:
            lost = await outbox.abandoned_here(ledger.store, views_path(db), since_us)
            context = Context(actor=SYSTEM_USER)
            return await redeliver_abandoned(ledger, lost, context, since_us=since_us, reason=reason)

    _say_owed(run(work()), as_json)


def _say_owed(count: int, as_json: bool) -> None:
    if as_json:
        say_json({"requeued": count})
    else:
        click.echo(f"{count:,} owed anew.{f' {SENT_BY}' if count else ''}")
