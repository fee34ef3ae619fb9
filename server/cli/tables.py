"""What ``jobledger export --table`` does: a table of jobs, runs, batches or steps as CSV or Parquet."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

import click

from ledger import engine as sqlite
from ledger.errors import Unreadable
from projections import overlay
from projections.file import views_path
from projections.overlay import Overlay
from projections.tables import TABLES, Table, count, parts
from server.cli.options import bar, check_target, reading, run
from server.cli.tablefiles import CsvFile, ParquetFile, TableFile, check_pyarrow, whole

FORMATS: Final[dict[str, Callable[[Table, IO[bytes]], TableFile]]] = {"csv": CsvFile, "parquet": ParquetFile}


def write_table(db: Path, name: str, format: str, target: Path | None) -> None:
    """Write a table to a file, or to stdout where there is no target, which Parquet needs."""
    table = TABLES[name]
    if format == "parquet":
        check_pyarrow()
        if target is None or (target.exists() and not target.is_file()):
            raise click.UsageError("Parquet needs a file: name one with --out.")
    if target is None:
        run(_write(db, table, format, sys.stdout.buffer, has_bar=False))
        return
    check_target(db, target)
    with whole(target) as file:
        run(_write(db, table, format, file, has_bar=True))


async def _write(db: Path, table: Table, format: str, file: IO[bytes], *, has_bar: bool) -> None:
    async with reading(db) as store:

        async def question(at_end: Overlay) -> None:
            reader, total = await count(at_end, table)
            made: TableFile = FORMATS[format](table, file)
            with bar("rows") as progress:
                task = progress.add_task(table.name, total=total, visible=has_bar)
                try:
                    async for rows in parts(at_end, reader, table):
                        made.write(rows)
                        progress.advance(task, len(rows))
                except sqlite.Error as error:  # not to be asked anew, as rows are written already
                    reason = f"{error}; `jobledger rebuild` makes the views anew"
                    raise Unreadable(path=views_path(db), reason=reason) from error
            made.close()

        await overlay.ask(store, views_path(db), table.name, question)
