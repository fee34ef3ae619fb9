"""``jobledger search``: events that say some words, from the files alone."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from ledger import ids
from ledger.times import from_text
from ledger.transitions import KINDS, STOP_REASONS, statuses
from projections import overlay
from projections.batches import BATCHES
from projections.documents import WHATS, What
from projections.file import views_path
from projections.finds import Asked, Find, Finds, find
from projections.jobs import JOBS
from projections.overlay import Overlay
from projections.query import Filters
from projections.runs import RUNS
from projections.texts import TEXTS
from projections.tools import TOOLS
from server.cli.options import TEXT, clean, db_option, json_option, out, point, reading, run, say_json

LIMIT_MAX = 10_000
"""Finds that are read at once; more are had with ``--before``."""


@click.command(short_help="Find words in messages, errors, tools and metadata.")
@db_option
@json_option
@click.option("--what", "whats", type=click.Choice(WHATS), multiple=True, help="Only there; may be repeated.")
@click.option("--kind", "kinds", type=click.Choice(KINDS), multiple=True, help="Only what these say.")
@click.option("--id", "id", help="Only what this job, run or batch says.")
@click.option("--agent", type=TEXT, help="Only of this agent.")
@click.option("--status", type=click.Choice(statuses("job")), multiple=True, help="Only of those that are so now.")
@click.option("--stop-reason", type=click.Choice(STOP_REASONS), help="Only of those that stopped for this.")
@click.option("--tool", "tools", type=TEXT, multiple=True, help="Only of runs that called this tool.")
@click.option("--since", metavar="WHEN", help="Only what happened at this time or later, or after this position.")
@click.option("--until", metavar="WHEN", help="Only what happened at this time or earlier.")
@click.option("--before", type=click.IntRange(1, 2**63 - 1), help="Only what stands before this position of the log.")
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=20, show_default=True, help="How many at most.")
@click.argument("text", nargs=-1, required=True)
def search(
    db: Path,
    as_json: bool,
    whats: tuple[What, ...],
    kinds: tuple[str, ...],
    id: str | None,
    agent: str | None,
    status: tuple[str, ...],
    stop_reason: str | None,
    tools: tuple[str, ...],
    since: str | None,
    until: str | None,
    before: int | None,
    limit: int,
    text: tuple[str, ...],
) -> None:
    """Find events that say TEXT, newest first: in messages, errors, names of tools and metadata.

    All words must be there. "A phrase" in quotes, OR between two, -word for what must not be there (behind --), begin*
    for all words that begin so. What was deleted or erased is not found, nor are numbers in metadata.

    \b
    Examples:
      jobledger search timeout
      jobledger search '"connection refused" OR unreachable' --what error --status failed
      jobledger search --tool get_user_details --since 2026-11-22 -- refund -gift
    """
    filters = Filters(
        id=None if id is None else ids.parse(id, "job", "run", where="--id"),
        agent_ids=None if agent is None else (agent,),
        statuses=status or None,
        stop_reason=stop_reason,
        tools=tools or None,
    )
    first = point(since, "--since")
    asked = Asked(
        query=" ".join(text),
        whats=tuple(each for each in WHATS if not whats or each in whats),
        kinds=kinds or KINDS,
        filters=filters,
        since_us=None if first is None else first.time_us,
        after=None if first is None else first.position,
        until_us=None if until is None else from_text(until, "--until"),
        before=before,
        limit=limit,
    )
    with _patience(db):
        finds = run(_finds(db, asked))
    if as_json:
        say_json(finds.found)
    else:
        _say(finds)


async def _finds(db: Path, asked: Asked) -> Finds:
    async def question(at_end: Overlay) -> Finds:
        return await find(await at_end.reader((JOBS, RUNS, BATCHES, TOOLS, TEXTS)), asked)

    async with reading(db) as store:
        return await overlay.ask(store, views_path(db), "texts", question)


def _patience(db: Path) -> contextlib.AbstractContextManager[object]:
    """Tell on a terminal that it takes a while, where the whole log is read for want of views."""
    console = Console(stderr=True)
    if views_path(db).exists() or not db.exists() or not console.is_terminal:
        return contextlib.nullcontext()
    click.echo("There are no views: the whole log is read. `jobledger rebuild` makes this instant.", err=True)
    return console.status("reading the log")


def _say(finds: Finds) -> None:
    console = out()
    for found in finds.found:
        console.print(_head(found), style="dim" if console.is_terminal else None)
        console.print(Text("    ").append_text(_snippet(found)))
    if not finds.found:
        click.echo("Nothing says that.", err=True)
    if finds.next_before is not None:
        click.echo(f"There are more: go on with --before {finds.next_before}.", err=True)


def _head(found: Find) -> str:
    about: Sequence[str | None] = (
        str(found.position), found.time, found.stream, found.status, found.stop_reason, found.agent_id,
        ", ".join(found.what), found.message_type,
    )  # fmt: skip
    return "  ".join(clean(each) for each in about if each is not None)


def _snippet(found: Find) -> Text:
    text = Text()
    for part in found.snippet:
        text.append(clean(part.text), style="bold" if part.hit else "")
    return text


COMMANDS = (search,)
