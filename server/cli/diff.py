"""``jobledger diff``: two runs aligned message by message, from the file alone."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from ledger import ids
from ledger.errors import NotFound
from ledger.events import ERASURES
from projections.diff import Diff, limited
from projections.diff import diff as compared
from server.cli.options import db_option, json_option, out, reading, run, say_json

ENTRIES_MAX: Final = 500
"""Rows of each table that are shown unless all are asked for."""


@click.command(short_help="Compare two runs: where they part, message by message.")
@db_option
@json_option
@click.option("--full", is_flag=True, help="Show everything: every equal message, texts whole.")
@click.argument("a")
@click.argument("b")
def diff(db: Path, as_json: bool, full: bool, a: str, b: str) -> None:
    """Compare two runs, message by message and step by step: where they first part, and where the agent first acts
    otherwise.

    They are aligned by what was said and done; ids, times, blanks and the order of keys make no difference.
    In texts, [-these words-] are of the first run and {+these+} of the second.

    \b
    Examples:
      jobledger diff run-6f9c… run-41d0…
      jobledger diff run-6f9c… run-41d0… --json
    """
    found = run(_compared(db, a, b, full=full))
    if as_json:
        say_json(found)
        return
    from server.cli.sidebyside import show

    show(out(), found if full else limited(found, ENTRIES_MAX))


async def _compared(db: Path, a: str, b: str, *, full: bool) -> Diff:
    async with reading(db) as store:
        histories = []
        for id in (a, b):
            events = await store.stream(ids.parse(id, "run"))
            if not events:
                raise NotFound(what="run", id=id)
            if (erased := next((event for event in events if event.type in ERASURES), None)) is not None:
                click.echo(f"{id} was erased at position {erased.position}; only its envelopes are left", err=True)
            histories.append(events)
    found = compared(*histories, full=full)
    if found is None:
        raise NotFound(what="run", id=a)
    return found


COMMANDS = (diff,)
