"""``jobledger log`` and ``show``: one history, from the file alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from ledger import cloudevents, ids
from ledger.errors import NotFound
from ledger.events import ERASURES, Recorded
from ledger.state import State
from ledger.times import to_text
from projections import jobs, runs
from projections.history import AsOf
from projections.past import fold_as_of
from server.cli.options import at_option, clean, db_option, json_option, out, point, reading, run, say_json, table


async def history(db: Path, id: str, *kinds: str) -> tuple[str, list[Recorded]]:
    """Return the ledger's name and all events of a stream. ``kinds``: of ids that the command knows."""
    ids.parse(id, *(kinds or ("job", "run", "token")))
    async with reading(db) as store:
        events = await store.stream(id)
        if not events:
            raise NotFound(what=id.partition("-")[0], id=id)
        return store.name, events


def object_of(state: State) -> dict[str, Any]:
    """Return a job, run or batch as HTTP shows it."""
    render = runs.render if state.kind == "run" else jobs.render
    shown: dict[str, Any] = msgspec.json.decode(render(state))
    return shown


def data_of(event: Recorded) -> str:
    """Return the data of an event as JSON text."""
    return "(erased)" if event.data is None else event.data.decode("utf-8", "replace")


@click.command(short_help="Show every event: what, when, by whom.")
@db_option
@json_option
@click.argument("id")
def log(db: Path, as_json: bool, id: str) -> None:
    """Show every event of a job, run or batch: what happened, when, by whom.

    \b
    Example:
      jobledger log job-6f9c2a7e-3a52-4c1e-9d52-0f4c9a1b7d11
    """
    name, events = run(history(db, id))
    if as_json:
        lines = b",".join(cloudevents.encode(event, name) for event in events)
        click.echo(f"[{lines.decode()}]")
        return
    click.echo(f"{'position':>8}  {'version':>7}  {'time':27}  {'type':13}  actor")
    for event in events:
        cells = (f"{event.position:>8}", f"{event.version:>7}", to_text(event.time), f"{event.type:13}", event.actor)
        click.echo("  ".join(clean(cell) for cell in cells))
        if event.data != b"{}":
            click.echo(f"{'':19}{clean(data_of(event))}")


@click.command(short_help="Show it now, or at any point in history.")
@db_option
@json_option
@at_option
@click.argument("id")
def show(db: Path, as_json: bool, when: str | None, id: str) -> None:
    """Show a job, run or batch as it is now, or as of any point in history.

    \b
    Examples:
      jobledger show job-6f9c…
      jobledger show job-6f9c… --at 2026-11-22T03:00:00Z
    """
    _, events = run(history(db, id))
    state = fold_as_of(events, point(when, "--at") or AsOf(position=events[-1].position))
    if state is None:
        raise NotFound(what=id.partition("-")[0], id=f"{id}{f' as of {when}' if when else ' (it was deleted)'}")
    if (erased := next((event for event in events if event.type in ERASURES), None)) is not None:
        click.echo(f"{id} was erased at position {erased.position}; only its envelopes are left", err=True)
    if as_json:
        say_json(object_of(state))
        return
    rows = table("property", "value", header=False)
    for name, value in object_of(state).items():
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        rows.add_row(name, clean(text))
    out().print(rows)


COMMANDS = (log, show)
