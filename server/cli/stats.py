"""``jobledger stats``: counts, rates, percentiles and tokens, from the files alone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import click
import msgspec
from click.core import ParameterSource

from ledger import ids
from ledger.errors import invalid
from projections import overlay
from projections.file import views_path
from projections.history import AsOf
from projections.overlay import Overlay
from projections.period import AUTO, BUCKETS, up_to
from projections.statistics import KINDS, READS, TOP, Asked, Statistics, statistics
from projections.stats import Stats
from projections.stats import stats as counted
from projections.tallied import Whose
from server.cli import csvcells
from server.cli.figures import show_counts, show_statistics
from server.cli.options import at_option, clean, db_option, json_option, out, point, reading, run, say_json
from server.cli.statsrows import HEADER, rows_of

TOP_MAX = 1000
"""Agents and models that are told of at most."""


@click.command(short_help="Counts, rates, percentiles, tokens: by status, time, agent, model.")
@db_option
@json_option
@at_option
@click.option("--kind", type=click.Choice([*KINDS, "all"]), default="all", show_default=True, help="Only of this kind.")
@click.option("--agent", "agent_id", help="Only of this agent.")
@click.option("--since", help="Only what was created at this time or later.")
@click.option("--until", help="Only what was created at this time or earlier.")
@click.option("--bucket", type=click.Choice([*BUCKETS, AUTO]), default=AUTO, show_default=True, help="Count by these.")
@click.option("--top", type=click.IntRange(0, TOP_MAX), default=TOP, show_default=True, help="How many agents, models.")
@click.option("--csv", "as_csv", is_flag=True, help="One table for spreadsheets, a number in each line.")
def stats(db: Path, as_json: bool, when: str | None, as_csv: bool, **said: Any) -> None:
    """Tell what jobs, runs and batches came to: by status and stop reason, over time, by agent and by model.

    Percentiles of durations, of the time in the queue and to the first token are at most 1 % off. Charts show what
    failed or expired as the light end of a bar. What was deleted or erased is not counted; its tokens are, until it is
    erased. With --at, only statuses and stop reasons are told, as of any point in history.

    \b
    Examples:
      jobledger stats
      jobledger stats --kind run --since 2026-11-01 --bucket day
      jobledger stats --agent agent-7 --csv > agent-7.csv
      jobledger stats --at 2026-11-22T03:00:00Z
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other.")
    if when is not None:
        if _given(*said, "as_csv"):
            raise click.UsageError(
                "--at tells statuses and stop reasons only: no other option goes with it but --json."
            )
        _show_then(db, when, as_json=as_json)
        return
    asked = _asked(**said)
    found, size = run(_statistics(db, asked))
    if as_json:
        since, until = said["since"], said["until"]
        head = {"at": None, "size": size, "agent_id": said["agent_id"], "since": since, "until": until}
        say_json({**head, **msgspec.to_builtins(found)})
    elif as_csv:
        text = io.StringIO()
        csvcells.write(text, [HEADER, *rows_of(found)])
        click.echo(text.getvalue(), nl=False)
    else:
        limits = [f"{name} {clean(said[key])}" for name, key in LIMITS.items() if said[key] is not None]
        click.echo(", ".join([f"as of now, of a log of {size:,} events", *limits]))
        show_statistics(out(), found)


LIMITS = {"agent": "agent_id", "since": "since", "until": "until"}


def _given(*names: str) -> bool:
    context = click.get_current_context()
    return any(context.get_parameter_source(name) != ParameterSource.DEFAULT for name in names)


def _asked(*, kind: str, agent_id: str | None, since: str | None, until: str | None, bucket: str, top: int) -> Asked:
    return Asked(
        kinds=tuple(KINDS) if kind == "all" else (kind,),
        whose=Whose(agent_id=None if agent_id is None else ids.label(agent_id, "--agent")),
        period=up_to(_time(since, "--since"), _time(until, "--until")),
        bucket=bucket,
        top=top,
    )


def _time(text: str | None, option: str) -> int | None:
    at = point(text, option)
    if at is not None and at.time_us is None:
        raise invalid(option, "must be a time", "such as 2026-11-22T14:03:00Z")
    return None if at is None else at.time_us


async def _statistics(db: Path, asked: Asked) -> tuple[Statistics, int]:
    async def question(at_end: Overlay) -> Statistics:
        return await statistics(await at_end.reader(READS), asked)

    async with reading(db) as store:
        size = (await store.head()).size
        return await overlay.ask(store, views_path(db), "statistics", question), size


def _show_then(db: Path, when: str, *, as_json: bool) -> None:
    """Show what there was at a point in history."""
    found, size = run(_counted(db, point(when, "--at")))
    if as_json:
        say_json({"at": when, "size": size, **msgspec.to_builtins(found)})
        return
    click.echo(f"as of {clean(when)}, of a log of {size:,} events")
    show_counts(out(), found)


async def _counted(db: Path, at: AsOf | None) -> tuple[Stats, int]:
    async with reading(db) as store:
        size = (await store.head()).size
        return await counted(store, views_path(db), at or AsOf(position=size)), size


COMMANDS = (stats,)
