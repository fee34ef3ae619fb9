"""``jobledger erase``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from ledger import ids
from ledger.commands import Context
from ledger.decider import Erase
from ledger.ids import SYSTEM_USER
from ledger.ledger import Ledger
from ledger.session import Session
from projections.engine import Engine
from projections.file import views_path
from server.cli.options import db_option, existing, json_option, run, say_json
from server.scrubber import Scrubber


@click.command(short_help="Remove data for good; that it was, and why, stays.")
@db_option
@json_option
@click.option("--reason", required=True, help="Why. It stays in the log, so it must hold nothing of what is erased.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.argument("id_list", metavar="ID…", nargs=-1, required=True)
def erase(db: Path, as_json: bool, reason: str, yes: bool, id_list: tuple[str, ...]) -> None:
    """Remove the data of all events of jobs, batches and runs for good, also of deleted ones: of all IDs or none.

    It is gone from the log, its write-ahead log, the views, and every backup that is made afterwards; what was copied
    or exported before keeps it. Who erased what, when and why stays, with the events' types, times, actors, ids and
    idempotency keys, and with digests, so that every proof still holds. Works beside a running server. What was erased
    already stays as it is.

    \b
    Examples:
      jobledger erase run-6f9c… --reason "request 4711 of the data subject"
      jobledger erase job-1… job-2… --reason "tenant left" --yes
    """
    if not reason.strip():
        raise click.UsageError("--reason must say why")
    wanted = list(dict.fromkeys(id_list))
    for id in wanted:
        ids.parse(id, "job", "run")
    if not yes and sys.stdin.isatty():
        click.confirm(f"Erase the data of {', '.join(wanted)} for good?", abort=True, err=True)
    events, scrubbed = run(_erase(existing(db), wanted, reason))
    if as_json:
        say_json({"erased": events, "scrubbed": scrubbed})
    else:
        click.echo(f"{events:,} events lost their data." if events else "All of that was erased already.")
    if not scrubbed:
        click.echo(
            "jobledger: somebody reads an older state of the files, which still hold the data; run this again", err=True
        )
        sys.exit(1)


async def _erase(db: Path, wanted: Sequence[str], reason: str) -> tuple[int, bool]:
    async with Ledger.open(db) as ledger:

        def plan(session: Session) -> list[Erase]:
            states = {id: session.state(id) for id in wanted}
            left = [id for id, state in states.items() if state is None or state.erased_position is None]
            return [Erase(id=id, reason=reason) for id in left]

        receipt = await ledger.execute_plan(plan, Context(actor=SYSTEM_USER), streams=wanted)
        path = views_path(db)
        engine = Engine(ledger, path) if path.exists() else None
        try:
            if engine is not None:
                await engine.open()
            scrubbed = await Scrubber(ledger, engine).scrub()
        finally:
            if engine is not None:
                await engine.close()
        return sum(event.version - 1 for event in receipt.events), scrubbed


COMMANDS = (erase,)
