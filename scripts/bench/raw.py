"""Raw SQLite as a baseline for writing: the very rows that a ledger holds, in batches of a given size.

The same library module as the ledger's, WAL and ``synchronous=FULL``, the same page size and cache; a table of the same
columns and primary key with the indexes that the ledger's ``events`` has (taken from its schema, so that they stay the
same), or without its secondary indexes; no triggers, no head, no tree. One transaction a batch: BEGIN IMMEDIATE,
``executemany``, COMMIT. The rows are read from the ledger outside the measured time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ledger import engine
from scripts.bench.contest import Lap, Watch

CACHE_KIB = 64 * 1024
"""As the ledger's own write connection."""


def write(source: Path, target: Path, batch: int, *, indexes: bool = True, whole: bool = False) -> Lap:
    """Write the events of a ledger into a new file; return rows a second.

    Only the transactions are timed; ``whole``: also making the file, and the last checkpoint on closing it.
    """
    reading = engine.connect(source, read_only=True)
    rows = reading.execute("SELECT * FROM events ORDER BY position")
    insert = f"INSERT INTO events VALUES ({','.join('?' * len(rows.description))})"  # noqa: S608 - marks only
    around, within = Watch(), Watch()
    with around:
        writing = _empty(reading, target, indexes=indexes)
    count = 0
    while part := rows.fetchmany(batch):
        with within:
            writing.execute("BEGIN IMMEDIATE")
            writing.executemany(insert, part)
            writing.execute("COMMIT")
        count += len(part)
    with around:
        writing.close()
    reading.close()
    return (within + around if whole else within).lap(count)


def _empty(reading: Any, target: Path, *, indexes: bool) -> Any:
    writing = engine.library.connect(str(target), isolation_level=None)
    writing.execute(f"PRAGMA page_size = {reading.execute('PRAGMA page_size').fetchone()[0]}")
    writing.execute("PRAGMA journal_mode = WAL")
    writing.execute("PRAGMA synchronous = FULL")
    writing.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    kinds = "('table', 'index')" if indexes else "('table')"
    schema = f"SELECT sql FROM sqlite_schema WHERE tbl_name = 'events' AND sql IS NOT NULL AND type IN {kinds}"  # noqa: S608 - of two constants
    for (sql,) in reading.execute(f"{schema} ORDER BY type = 'index'").fetchall():
        writing.execute(sql)
    return writing
