"""Files of tables: CSV for anything, Parquet with real types for what reads it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, Protocol

import click

from ledger import private
from ledger.times import to_text
from projections.tables import Kind, Row, Table
from server.cli import csvcells

GROUP_ROWS: Final = 100_000
"""Rows of a row group of a Parquet file."""
GROUP_SIZE: Final = 64 * 2**20
"""Bytes in memory of a row group: readers hold one at a time, and so does the writer."""
NEEDS_PYARROW: Final = "Parquet needs pyarrow, which is not installed: pip install 'jobledger[parquet]'"


class TableFile(Protocol):
    """A file that takes the rows of a table part by part."""

    def write(self, rows: Sequence[Row]) -> None:
        """Take rows."""

    def close(self) -> None:
        """Write what is left."""


class CsvFile:
    """A table as CSV: a header, times as ISO 8601 UTC, nothing where a value is unknown."""

    def __init__(self, table: Table, file: IO[bytes]) -> None:
        self._kinds = list(table.columns.values())
        self._file = file
        self._put([tuple(table.columns)])

    def write(self, rows: Sequence[Row]) -> None:
        """See ``TableFile.write``."""
        self._put([tuple(map(_shown, self._kinds, row)) for row in rows])

    def _put(self, rows: Sequence[Row]) -> None:
        text = io.StringIO(newline="")
        csvcells.write(text, rows)
        self._file.write(text.getvalue().encode())

    def close(self) -> None:
        """See ``TableFile.close``."""
        self._file.flush()


def _shown(kind: Kind, value: Any) -> Any:
    if kind == "time" and value is not None:
        return to_text(value)
    return ("true" if value else "false") if kind == "bool" and value is not None else value


class ParquetFile:
    """A table as Parquet, in row groups; timestamps are microseconds, UTC."""

    def __init__(self, table: Table, file: IO[bytes]) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        types = {
            "text": pa.string(), "json": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(),
            "time": pa.timestamp("us", tz="UTC"),
        }  # fmt: skip
        self._arrow = pa
        self._schema = pa.schema([(name, types[kind]) for name, kind in table.columns.items()])
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._batches: list[Any] = []

    def write(self, rows: Sequence[Row]) -> None:
        """See ``TableFile.write``."""
        columns = zip(*rows, strict=True)
        arrays = [
            self._arrow.array(column, type=field.type) for column, field in zip(columns, self._schema, strict=True)
        ]
        self._batches.append(self._arrow.record_batch(arrays, schema=self._schema))
        is_full = sum(batch.num_rows for batch in self._batches) >= GROUP_ROWS
        if is_full or sum(batch.nbytes for batch in self._batches) >= GROUP_SIZE:
            self._flush()

    def _flush(self) -> None:
        if self._batches:
            group = self._arrow.Table.from_batches(self._batches, schema=self._schema)
            self._writer.write_table(group, row_group_size=GROUP_ROWS)
            self._batches = []

    def close(self) -> None:
        """See ``TableFile.close``."""
        self._flush()
        self._writer.close()


def check_pyarrow() -> None:
    """Raise ``UsageError`` where Parquet cannot be written."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise click.UsageError(NEEDS_PYARROW) from None


@contextmanager
def whole(target: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the target's place in one step, when all of it is written; a pipe or device at once."""
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            yield file
        return
    with private.whole(target) as file:
        yield file
