"""``jobledger failures``: what fails, how often, since when, and where; from the file alone."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ledger.errors import NotFound
from ledger.transitions import STOP_REASONS
from projections import overlay
from projections.causes import READ, Asked, Cause, Failure, Share, cause, causes
from projections.failures import KINDS_OF_FAILURE
from projections.file import views_path
from projections.overlay import Overlay
from server.cli.charts import bar, sparkline
from server.cli.options import TEXT, clean, db_option, json_option, out, point, reading, run, say_json, table
from server.params import LIMIT_DEFAULT, LIMIT_MAX

_SHOWN = 10
"""Causes of one kind that a list of several kinds shows."""
_WIDTH = 7
"""Of the column of counts."""


@click.command(short_help="Group failures by their causes; one cause in full.")
@db_option
@json_option
@click.argument("signature", required=False)
@click.option("--since", help="Only since then: a time, or after a position.")
@click.option("--new", "only_new", is_flag=True, help="Only causes that had never been seen before --since.")
@click.option("--agent", "agents", type=TEXT, multiple=True, help="Only runs and jobs of this agent; may be repeated.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS_OF_FAILURE), help="What failed.")
@click.option("--stop-reason", type=click.Choice(STOP_REASONS), help="Only what stopped for this reason.")
@click.option("--error-type", help="Only this type of error.")
@click.option("--tool", "tools", multiple=True, help="Only failures of this tool; may be repeated.")
@click.option(
    "--limit", type=click.IntRange(1, LIMIT_MAX), default=LIMIT_DEFAULT, show_default=True, help="At most so many."
)
def failures(
    db: Path,
    as_json: bool,
    signature: str | None,
    since: str | None,
    only_new: bool,
    agents: tuple[str, ...],
    kinds: tuple[str, ...],
    stop_reason: str | None,
    error_type: str | None,
    tools: tuple[str, ...],
    limit: int,
) -> None:
    """Group failures of runs, jobs, batches, steps and tool calls by their causes, the most frequent first.

    Failures share a cause where status, stop reason, type of error, tool and message are the same but for ids, numbers,
    paths, times and quoted values, which are masked. A SIGNATURE shows one cause in full: which agents and models,
    when, and what was said.

    \b
    Examples:
      jobledger failures
      jobledger failures --kind run --since 2026-11-22T03:00:00Z
      jobledger failures --since 120000 --new          causes that no event up to 120000 had
      jobledger failures f1-9d1912dd84c847ff
    """
    if only_new and since is None:
        raise click.UsageError("--new needs --since: new since when?")
    if only_new and signature is not None:
        raise click.UsageError("--new chooses among causes; for one of them, --since alone tells what came since.")
    asked = Asked(
        since=point(since, "--since"),
        only_new=only_new,
        kinds=kinds or None,
        stop_reason=stop_reason,
        error_type=error_type,
        tools=tools or None,
        agent_ids=agents or None,
        limit=limit,
    )
    if signature is not None:
        _one(run(_cause(db, signature, asked)), as_json=as_json)
        return
    found = run(_causes(db, asked))
    if as_json:
        say_json(found)
    elif not found:
        click.echo("no failures" if asked == Asked(limit=limit) else "no such failures")
    else:
        _list(found, all_of=len(kinds) == 1, is_cut=len(found) == limit)


async def _causes(db: Path, asked: Asked) -> list[Failure]:
    async def question(at_end: Overlay) -> list[Failure]:
        return await causes(await at_end.reader(READ), asked)

    async with reading(db) as store:
        return await overlay.ask(store, views_path(db), "failures", question)


async def _cause(db: Path, signature: str, asked: Asked) -> Cause:
    async def question(at_end: Overlay) -> Cause | None:
        return await cause(await at_end.reader(READ), signature, asked)

    async with reading(db) as store:
        found = await overlay.ask(store, views_path(db), "failures", question)
    if found is None:
        raise NotFound(what="failure", id=signature)
    return found


def _list(found: list[Failure], *, all_of: bool, is_cut: bool) -> None:
    console = out()
    for kind in KINDS_OF_FAILURE:
        of_kind = [each for each in found if each.kind == kind]
        shown = of_kind if all_of else of_kind[:_SHOWN]
        if shown:
            console.print(Text(_HEADINGS[kind], style="bold underline"))
        for each in shown:
            _entry(console, each)
        if rest := len(of_kind) - len(shown):
            console.print(f"{'':{_WIDTH}}  and {rest} more {'cause' if rest == 1 else 'causes'}: --kind {kind}")
    console.print()
    if is_cut:
        console.print(f"These are the {len(found)} most frequent causes; --limit shows more.")
    console.print(f"One cause in full: jobledger failures {found[0].signature}")


_HEADINGS = {"run": "runs", "job": "jobs", "batch": "batches", "step": "steps", "tool": "tool calls"}


def _entry(console: Console, failure: Failure) -> None:
    indent = " " * (_WIDTH + 2)
    headline = Text(f"{failure.count:>{_WIDTH},}  {_headline(failure)}", style="bold")
    console.print(headline, overflow="fold")
    lines = [Text(clean(failure.message))] if failure.message else []
    trend = sparkline(failure.trend, len(failure.trend))
    lines.append(Text(f"{_minute(failure.first_seen)} to {_minute(failure.last_seen)}  {trend}"))
    lines.append(Text(f"{failure.signature}  e.g. {clean(failure.samples[0])}", style="dim"))
    for line in lines:
        for part in line.wrap(console, max(20, console.width - len(indent)), overflow="fold"):
            part.rstrip()
            console.print(Text(indent) + part)


def _headline(failure: Failure) -> str:
    parts = (failure.status, failure.stop_reason, failure.error_type, failure.tool and f"in {failure.tool}")
    return clean(" · ".join(part for part in parts if part))


def _one(found: Cause, *, as_json: bool) -> None:
    if as_json:
        say_json(found)
        return
    console = out()
    facts = table("property", "value", header=False)
    for name, value in (
        ("signature", found.signature),
        ("what", f"{found.kind}: {_headline(found)}"),
        ("message", clean(found.message or "")),
        ("count", f"{found.count:,}, in {found.resources:,} of the {_HEADINGS[_HOLDERS.get(found.kind, 'run')]}"),
        ("first seen", found.first_seen),
        ("last seen", found.last_seen),
        ("agents", _shares(found.agents)),
        ("models", _shares(found.models)),
    ):
        if value:
            facts.add_row(name, value)
    console.print(facts)
    console.print()
    console.print(_chart(found))
    console.print()
    for each in found.examples:
        console.print(Text(f"{clean(each.id)}  position {each.position}  {each.time}", style="bold"))
        if each.said:
            console.print(Text(clean(each.said)), overflow="fold")
    console.print()
    console.print(f"why, step by step: jobledger report {clean(found.samples[0])}")


_HOLDERS = {"job": "job", "batch": "batch"}
"""What holds failures of a kind, where that is no run."""


def _shares(shares: list[Share]) -> str:
    return ", ".join(f"{clean(each.name or 'unknown')} ({each.count:,})" for each in shares)


def _chart(found: Cause) -> Table:
    rows = table("from", "failures", "")
    rows.columns[1].justify = "right"
    highest = max(bucket.count for bucket in found.buckets)
    for bucket in found.buckets:
        rows.add_row(_minute(bucket.start), f"{bucket.count:,}", bar(bucket.count, 0, highest, 30))
    return rows


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")


COMMANDS = (failures,)
