"""``jobledger verify`` and ``rebuild``."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import msgspec

from ledger import keys as keys_of
from ledger import verdicts
from ledger.checkpoint import VerifierKey
from ledger.ledger import Ledger, wall_clock_us
from ledger.soundness import verify_file
from ledger.times import to_text
from ledger.verify import Problem, Verdict, in_order
from projections.compare import differences
from projections.engine import Engine
from projections.file import views_path
from server.cli.evidence import key_option, read_note, trusted, verify_bundle
from server.cli.options import bar, clean, db_option, existing, json_option, run, say_json


@click.command(short_help="Is the record whole and true?")
@db_option
@json_option
@click.option("--views", is_flag=True, help="Also check that the views equal a fresh fold of the log.")
@click.option("--against", multiple=True, metavar="FILE", help="A checkpoint that was kept elsewhere; - is stdin.")
@key_option
@click.argument("file", required=False)
def verify(db: Path, as_json: bool, views: bool, against: tuple[str, ...], key: str | None, file: str | None) -> None:
    """Check every leaf, the tree, all checkpoints, that positions and versions have no gap, and every transition.

    With FILE, check that bundle instead (see `jobledger bundle`); it needs no ledger.

    Whoever can write the file can rewrite all of it, with the tree and with checkpoints of a fresh key. So keep
    checkpoints elsewhere (`jobledger checkpoint --out`): --against shows by them whether the log was cut or rewritten.
    With --key, a checkpoint must be signed by that key; what stands behind the last such one, nobody vouches for yet.

    Works on a copy, and beside a running server, which tells of the last verdict (GET /v1/ledger). Exit 0: the record
    is whole. Exit 1: it is not; the first bad position is named, or the file itself. Exit 2: it cannot be read at all.

    \b
    Examples:
      jobledger verify --db ledger.db --views
      jobledger verify --against monday.checkpoint --key ledger.pub
      jobledger verify run.bundle --key ledger.pub
    """
    if file is not None:
        if views or against:
            raise click.UsageError("--views and --against go with a ledger, not with a bundle")
        sys.exit(0 if verify_bundle(file, key, as_json) else 1)
    started = time.perf_counter()
    existing(db)
    keys = trusted(key) if key else keys_of.published(db)
    notes = {name: read_note(name) for name in against}
    verdict = _since_the_last(db, run(_verify(db, keys, notes, must_sign=key is not None)))
    if views and verdict.ok:
        wrong = [Problem(position, problem) for position, problem in differences(db)]
        verdict = msgspec.structs.replace(verdict, ok=not wrong, problems=wrong)
    verdicts.note(db, verdict, wall_clock_us())
    if as_json:
        told = msgspec.to_builtins(verdict)
        del told["name"]  # two copies of a log, whatever their names, have the same verdict
        say_json(told)
    elif verdict.ok:
        _say_ok(verdict, time.perf_counter() - started, views)
    else:
        for problem in verdict.problems:
            place = f"position {problem.position}" if problem.position else "the file"
            click.echo(f"{place}: {clean(problem.problem)}")
    sys.exit(0 if verdict.ok else 1)


def _since_the_last(db: Path, verdict: Verdict) -> Verdict:
    """Add to a verdict that the log was longer when it was last verified: a tail can be lost without a trace in it."""
    last = verdicts.last_of(db)
    if last is None or not last.ok or last.name != verdict.name or last.size <= verdict.size:
        return verdict
    when = to_text(last.verified_us)
    what = f"the log ends at {verdict.size}, but had {last.size} events when it was last verified, {when}"
    problems = in_order([*verdict.problems, Problem(verdict.size + 1, what)])
    return msgspec.structs.replace(verdict, ok=False, problems=problems)


def _say_ok(verdict: Verdict, seconds: float, views: bool) -> None:
    more = f", {verdict.erased:,} erased" if verdict.erased else ""
    beside = "; views equal a fresh fold" if views else ""
    click.echo(f"ok: {verdict.size:,} events{more}, every leaf and transition checked in {seconds:.1f} s{beside}")
    if verdict.checkpoints:
        many = "1 checkpoint" if verdict.checkpoints == 1 else f"{verdict.checkpoints:,} checkpoints"
        upto = f", the last of {verdict.signed:,} events" if verdict.signed else ""
        click.echo(f"{many}, {verdict.signatures:,} with the signature of a known key{upto}")
    click.echo(f"root {verdict.root}")


async def _verify(db: Path, keys: Sequence[VerifierKey], against: Mapping[str, str], *, must_sign: bool) -> Verdict:
    with bar("events") as progress:
        task = progress.add_task("verify", total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        return await verify_file(db, show, keys=keys, must_sign=must_sign, against=against)


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
