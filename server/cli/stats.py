"""``jobledger stats``: how many jobs, runs and batches there are, from the files alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import msgspec
from rich.table import Table

from ledger.transitions import STOP_REASONS, statuses
from projections.file import views_path
from projections.history import AsOf
from projections.stats import Counts, Stats
from projections.stats import stats as counted
from server.cli.options import at_option, clean, db_option, json_option, out, point, reading, run, say_json, table

NO_REASON = "none"
"""In the table, the row of those that have no stop reason."""


@click.command(short_help="Count jobs, runs and batches by status and stop reason.")
@db_option
@json_option
@at_option
def stats(db: Path, as_json: bool, when: str | None) -> None:
    """Count jobs, runs and batches by status and by stop reason, now or as of any point in history.

    What was deleted by then, or erased since, is not counted.

    \b
    Examples:
      jobledger stats
      jobledger stats --at 2026-11-22T03:00:00Z
      jobledger stats --at 1234 --json
    """
    found, size = run(_stats(db, point(when, "--at")))
    if as_json:
        say_json({"at": when, "size": size, **msgspec.to_builtins(found)})
        return
    click.echo(f"as of {clean(when or 'now')}, of a log of {size:,} events")
    console = out()
    console.print(_table("status", [*statuses("job")], found, lambda counts, name: counts.statuses.get(name)))
    reasons = [each for each in STOP_REASONS if any(each in counts.stop_reasons for counts in _kinds(found))]
    if reasons:
        console.print()
        console.print(_table("stop reason", [*reasons, NO_REASON], found, _by_reason))


async def _stats(db: Path, at: AsOf | None) -> tuple[Stats, int]:
    async with reading(db) as store:
        size = (await store.head()).size
        return await counted(store, views_path(db), at or AsOf(position=size)), size


def _kinds(found: Stats) -> tuple[Counts, Counts, Counts]:
    return found.jobs, found.runs, found.batches


def _by_reason(counts: Counts, name: str) -> int:
    if name == NO_REASON:
        return counts.total - sum(counts.stop_reasons.values())
    return counts.stop_reasons.get(name, 0)


def _table(what: str, names: list[str], found: Stats, count: Callable[[Counts, str], int | None]) -> Table:
    """Return a row for each name and one for all; empty where a kind cannot have it."""
    rows = table(what, *Stats.__struct_fields__)
    for column in rows.columns[1:]:
        column.justify = "right"
    for name in names:
        cells = [count(counts, name) for counts in _kinds(found)]
        rows.add_row(name, *("" if cell is None else f"{cell:,}" for cell in cells))
    rows.add_row("total", *(f"{counts.total:,}" for counts in _kinds(found)))
    return rows


COMMANDS = (stats,)
