"""``jobledger import``, ``export`` and ``backup``: histories into the ledger and out of it."""

from __future__ import annotations

import gzip
import os
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ledger import archive, database, engine, private
from ledger.errors import Unreadable
from ledger.formats import Reject
from ledger.ledger import Ledger
from projections.beside import Beside
from projections.engine import Engine
from projections.file import views_path
from server.cli.options import check_target, db_option, json_option, reading, run, say_json
from server.cli.tablefiles import whole
from server.cli.tables import write_table


@click.command(name="import")
@db_option
@json_option
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--format", "format_", type=click.Choice(archive.FORMATS), default="jobledger", show_default=True)
@click.option(
    "--rejects", type=click.Path(path_type=Path, dir_okay=False), help="Where refused lines go, with reasons."
)
@click.option(
    "--callbacks", is_flag=True, help="Owe the callbacks that the history has not delivered; without it, none is sent."
)
def import_(
    db: Path, as_json: bool, files: tuple[Path, ...], format_: str, rejects: Path | None, callbacks: bool
) -> None:
    """Import histories from FILES (plain or .gz). The same file twice adds nothing.

    What a rule refuses goes to the rejects file as JSON lines with file, line, reason and text. Statuses that the
    source never showed but the rules need are added and marked `imputed`. A whole export (`--format jobledger`)
    into an empty ledger restores it: same positions, times and tree root.

    letta-evals and tau2 are runs of agents, with their steps, messages and tokens; swf and google-2011 are jobs.

    \b
    Examples:
      jobledger import results.jsonl --format letta-evals
      jobledger import experiments/*.json --format tau2 --rejects rejects.jsonl
      jobledger import SDSC-BLUE-2000-4.2-cln.swf.gz --format swf
      jobledger import part-000*.csv.gz --format google-2011 --rejects rejects.jsonl
    """
    started = time.perf_counter()
    tally = run(_import(db, files, format_, rejects, callbacks))
    seconds = time.perf_counter() - started
    tally["events_per_s"] = round((tally["appended"] + tally["duplicate"]) / seconds)
    if as_json:
        say_json(tally)
        return
    click.echo(f"appended  {tally['appended']:>10,}\nduplicate {tally['duplicate']:>10,}")
    where = f"  (see {rejects})" if rejects and tally["rejected"] else ""
    click.echo(f"rejected  {tally['rejected']:>10,}{where}\n{tally['events_per_s']:,} events/s")


async def _import(
    db: Path, files: tuple[Path, ...], format_: str, rejects: Path | None, callbacks: bool
) -> dict[str, Any]:
    tally = {"appended": 0, "duplicate": 0, "rejected": 0}
    with _Rejects(rejects) as refused:
        async with Ledger.open(db) as ledger:
            with Beside(db) as beside:
                for path in files:
                    await _import_file(ledger, path, format_, tally, refused, beside, callbacks)
            views = Engine(ledger, views_path(db))
            await views.open()
            await views.close()
    return tally


async def _import_file(
    ledger: Ledger,
    path: Path,
    format_: str,
    tally: dict[str, Any],
    refused: _Rejects,
    beside: Beside,
    callbacks: bool,
) -> None:
    source = _name(path).removesuffix(".gz")
    with _bar(path) as (progress, task), path.open("rb") as raw:
        async for part in archive.load(ledger, _lines(raw, path), format_, source, owes_callbacks=callbacks):
            tally["appended"] += part.appended
            tally["duplicate"] += part.duplicate
            tally["rejected"] += len(part.rejects)
            refused.write(path, part.rejects)
            beside.appended(tally["appended"])
            progress.update(task, completed=raw.tell())


def _name(path: Path) -> str:
    """Return the name of a file as text: a name may hold any bytes, the ledger and the rejects file only Unicode."""
    return os.fsencode(path.name).decode("utf-8", "replace")


class _Rejects:
    """The rejects file, made when the first line goes into it; nothing where the user named none."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> _Rejects:
        return self

    def write(self, source: Path, rejects: Sequence[Reject]) -> None:
        """Write a JSON line for each."""
        if self._path is None or not rejects:
            return
        if self._file is None:
            self._file = open(self._path, "wb", opener=private.for_owner)  # noqa: SIM115 - closed by __exit__
        for reject in rejects:
            line = {"file": _name(source), "line": reject.line, "reason": reject.reason, "text": reject.text}
            self._file.write(msgspec.json.encode(line) + b"\n")

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


class _bar:  # noqa: N801 - reads as a function
    """A progress bar over the bytes of a file, quiet when stderr is no terminal."""

    def __init__(self, path: Path) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._progress.add_task(path.name, total=path.stat().st_size)

    def __enter__(self) -> tuple[Progress, Any]:
        self._progress.start()
        return self._progress, self._task

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def _lines(raw: BufferedReader, path: Path) -> Iterator[bytes]:
    try:
        if raw.peek(2)[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield from unpacked
        else:
            yield from raw
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise Unreadable(path=path, reason=f"it is a damaged gzip file: {error}") from error


@click.command(short_help="Write the log as lines, or tables as CSV or Parquet.")
@db_option
@click.option("--stream", help="Only the events of this job, run or batch.")
@click.option("--after", type=click.IntRange(0), help="Only events above this position.")
@click.option("--format", "format_", type=click.Choice(["jsonl", "csv", "parquet"]), default="jsonl", show_default=True)
@click.option("--table", type=click.Choice(["jobs", "runs", "steps", "batches"]), help="What CSV and Parquet are of.")
@click.option(
    "--out",
    "target",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="File to write; stdout when not given, or -.",
)
def export(
    db: Path, stream: str | None, after: int | None, format_: str, table: str | None, target: Path | None
) -> None:
    """Write the log as CloudEvents, one JSON object a line. `import` restores a whole export to the letter.

    With --table and --format csv or parquet, write what jobs, runs, batches or steps are now, a row each, for DuckDB,
    pandas or a spreadsheet. Metadata are JSON text. In CSV, a text that begins with = + - @, a tab, a line's end or an
    apostrophe has one apostrophe more in front, so that no spreadsheet takes it for a formula; numbers stay as they
    are. Parquet has real types; it needs pyarrow: pip install 'jobledger[parquet]'.

    \b
    Examples:
      jobledger export --out ledger.jsonl && jobledger import ledger.jsonl --db copy.db
      jobledger export --format csv --table runs > runs.csv
      jobledger export --format parquet --table steps --out steps.parquet
    """
    if target == Path("-"):
        target = None
    if (format_ == "jsonl") != (table is None):
        wrong = "--table goes with" if table else f"--format {format_} needs --table, which is one of jobs, runs, steps"
        raise click.UsageError(f"{wrong} {'--format csv or parquet' if table else 'or batches'}.")
    if table is not None:
        if stream is not None or after is not None:
            raise click.UsageError("--stream and --after choose events; a table is of what there is now.")
        write_table(db, table, format_, target)
    elif target is None:
        run(_export(db, stream, after or 0, sys.stdout.buffer))
    else:
        check_target(db, target)
        with whole(target) as file:
            run(_export(db, stream, after or 0, file))


async def _export(db: Path, stream: str | None, after: int, file: IO[bytes]) -> None:
    async with reading(db) as store:
        async for lines in archive.dump(store, after=after, stream=stream):
            if lines:
                file.write(b"\n".join(lines) + b"\n")
    file.flush()


@click.command(short_help="Copy the ledger beside running servers.")
@db_option
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
def backup(db: Path, target: Path) -> None:
    """Copy the ledger to TARGET, whole and consistent, also while servers write to it.

    \b
    Example:
      jobledger backup /backups/ledger-2026-11-22.db
    """
    if target.exists():
        raise click.UsageError(f"{target} exists; name a new file.")
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        size = _copy(db, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)
        private.sync_folder(target.parent)
    finally:
        partial.unlink(missing_ok=True)
    click.echo(f"{target}: {size:,} events")


def _copy(db: Path, target: Path) -> int:
    """Copy a ledger with SQLite's online backup; return how many events the copy has."""
    database.check_place(db, read_only=True)
    engine.touch(target)
    try:
        with closing(database.open_reader(db)) as source, closing(engine.connect(target, read_only=False)) as copy:
            source.backup(copy, pages=4096)
            if copy.execute("PRAGMA journal_mode = DELETE").fetchone()[0] != "delete":
                raise Unreadable(path=target, reason="the disk does not take all of it")
            return int(copy.execute("SELECT size FROM head").fetchone()[0])
    except engine.Error as error:
        raise Unreadable(path=db, reason=str(error)) from error


COMMANDS = (import_, export, backup)
