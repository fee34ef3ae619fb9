"""``jobledger stuck``: what began, has not ended, and has been silent for long; from the files alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from ledger.ledger import wall_clock_us
from ledger.times import to_text
from projections import overlay
from projections.durations import in_words
from projections.file import views_path
from projections.overlay import Overlay
from projections.query import OPEN, Filters, Query
from projections.stuck import PROJECTIONS, Silent
from projections.stuck import stuck as found_stuck
from server.cli.options import TEXT, clean, db_option, json_option, out, reading, run, say_json, table

LIMIT_MAX: Final = 100_000
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DAYS_MAX: Final = 100 * 365


class Duration(click.ParamType[int]):
    """A length of time, such as ``90s``, ``10m``, ``2h`` or ``1.5d``; in microseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the microseconds."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([0-9]{1,10}(?:\.[0-9]{1,6})?)([smhd])", value)
        time_us = round(float(match[1]) * _UNITS_S[match[2]] * 1e6) if match else 0
        if not 0 < time_us <= _DAYS_MAX * 86_400 * 1_000_000:
            self.fail(f"'{value}' is no length of time such as 90s, 10m, 2h or 1d", param, ctx)
        return time_us


class LastSign(msgspec.Struct, frozen=True, kw_only=True):
    """The last event that was heard: of the resource, or of a batch's run."""

    stream: str
    type: str
    time: str
    actor: str
    position: int


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One that is stuck. ``since``: when it reached its status; ``silent_s``: seconds since its last sign of life."""

    id: str
    kind: str
    status: str
    since: str
    silent_s: float
    last_sign_at: str
    last_sign: LastSign | None
    agent_id: str | None


@click.command(short_help="List what began, never ended, and has been silent for long.")
@db_option
@json_option
@click.option("--for", "silent_us", type=Duration(), default="10m", show_default=True, help="Silent for so long.")
@click.option("--agent", "agents", type=TEXT, multiple=True, help="Only those of this agent; repeatable.")
@click.option("--status", "statuses", multiple=True, type=click.Choice(OPEN), help="Only these; repeatable.")
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=100, show_default=True, help="At most so many.")
def stuck(
    db: Path, as_json: bool, silent_us: int, agents: tuple[str, ...], statuses: tuple[str, ...], limit: int
) -> None:
    """List jobs, runs and batches that began and have not ended, and of which nothing has been heard for long: the
    longest silent first, each with its last sign of life.

    Every event is a sign of life at the time it tells: a change, a step, a message, also a request that was refused;
    for a batch also those of its runs. So a run that is slow and goes on is not listed. Imported histories have the
    times of their producers: what was left open in 2011 is stuck since then.

    \b
    Examples:
      jobledger stuck
      jobledger stuck --for 2h --status running --agent agent-1
      jobledger stuck --for 90s --json
    """
    now_us = wall_clock_us()
    filters = Filters(stuck_for_us=silent_us, agent_ids=agents or None, statuses=statuses or None)
    found = run(_stuck(db, Query(table="", filters=filters, limit=limit + 1, now_us=now_us)))
    entries = [_entry(each, now_us) for each in found[:limit]]
    if as_json:
        say_json(entries)
    else:
        _say(entries)
    if len(found) > limit:
        click.echo(f"There are more than {limit}: see --limit, --for and --status.", err=True)


async def _stuck(db: Path, query: Query) -> list[Silent]:
    async with reading(db) as store:

        async def question(at_end: Overlay) -> list[Silent]:
            return await found_stuck(await at_end.reader(PROJECTIONS), store, query)

        return await overlay.ask(store, views_path(db), "jobs, runs and batches", question)


def _entry(silent: Silent, now_us: int) -> Entry:
    last = silent.last
    sign = None
    if last is not None:
        sign = LastSign(
            stream=last.stream, type=last.type, time=to_text(last.time), actor=last.actor, position=last.position
        )
    return Entry(
        id=silent.id,
        kind=silent.kind,
        status=silent.status,
        since=to_text(silent.since_us),
        silent_s=(now_us - silent.last_us) / 1e6,
        last_sign_at=to_text(silent.last_us),
        last_sign=sign,
        agent_id=silent.agent_id,
    )


def _say(entries: list[Entry]) -> None:
    if not entries:
        click.echo("nothing is stuck")
        return
    rows = table("id", "kind", "status", "since", "silent for", "last sign", "agent")
    for entry in entries:
        sign = entry.last_sign
        last = "" if sign is None else f"{sign.type} {entry.last_sign_at} by {sign.actor}, position {sign.position}"
        cells = (entry.id, entry.kind, entry.status, entry.since, in_words(entry.silent_s), last, entry.agent_id or "")
        rows.add_row(*map(clean, cells))
    out().print(rows)


COMMANDS = (stuck,)
