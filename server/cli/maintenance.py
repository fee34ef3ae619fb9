"""``jobledger verify`` and ``rebuild``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from ledger import engine
from ledger.errors import Unreadable
from ledger.ledger import Ledger
from ledger.sqlite import SqliteStore
from ledger.verify import Verdict
from ledger.verify import verify as verify_log
from projections.compare import differences
from projections.engine import Engine
from projections.file import views_path
from server.cli.options import bar, clean, db_option, existing, json_option, run, say_json


@click.command(short_help="Is the record whole and true?")
@db_option
@json_option
@click.option("--views", is_flag=True, help="Also check that the views equal a fresh fold of the log.")
def verify(db: Path, as_json: bool, views: bool) -> None:
    """Check every leaf, the tree, that positions and versions have no gap, and that every transition is legal.

    Exit 0: the record is whole. Exit 1: it is not; the first bad position is named.

    \b
    Example:
      jobledger verify --db ledger.db --views
    """
    started = time.perf_counter()
    verdict = run(_verify(db))
    told = differences(db) if views and verdict.ok else []
    seconds = time.perf_counter() - started
    ok = verdict.ok and not told
    problems = [{"position": problem.position, "problem": problem.problem} for problem in verdict.problems]
    problems += [{"position": position, "problem": problem} for position, problem in told]
    if as_json:
        say_json({"ok": ok, "size": verdict.size, "root": verdict.root, "erased": verdict.erased, "problems": problems})
    elif ok:
        more = f", {verdict.erased:,} erased" if verdict.erased else ""
        beside = "; views equal a fresh fold" if views else ""
        click.echo(f"ok: {verdict.size:,} events{more}, every leaf and transition checked in {seconds:.1f} s{beside}")
        click.echo(f"root {verdict.root}")
    else:
        for problem in problems:
            click.echo(f"position {problem['position']}: {clean(problem['problem'])}")
    sys.exit(0 if ok else 1)


async def _verify(db: Path) -> Verdict:
    store = await SqliteStore.open(db, read_only=True)
    try:
        with bar("events") as progress:
            task = progress.add_task("verify", total=None)
            return await store.call(
                lambda connection: verify_log(
                    connection, lambda done, total: progress.update(task, completed=done, total=total)
                )
            )
    except engine.Error as error:
        raise Unreadable(path=db, reason=str(error)) from error
    finally:
        await store.close()


@click.command(short_help="Fold the views anew; readers never wait.")
@db_option
@json_option
def rebuild(db: Path, as_json: bool) -> None:
    """Fold the views anew beside the old ones and swap them in one step; readers never wait.

    \b
    Example:
      jobledger rebuild --db ledger.db
    """
    existing(db)
    started = time.perf_counter()
    events = run(_rebuild(db))
    seconds = time.perf_counter() - started
    if as_json:
        say_json({"events": events, "seconds": round(seconds, 3)})
    else:
        click.echo(f"{events:,} events folded in {seconds:.1f} s")


async def _rebuild(db: Path) -> int:
    async with Ledger.open(db) as ledger:
        views = Engine(ledger, views_path(db))
        with bar("events") as progress:
            task = progress.add_task("rebuild", total=None)
            try:
                return await views.rebuild_only(lambda done, total: progress.update(task, completed=done, total=total))
            finally:
                await views.close()


COMMANDS = (verify, rebuild)
