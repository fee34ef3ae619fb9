"""Erased data out of the views file for good: the folds delete its rows, and this all that SQLite keeps of them.

A deleted row stays in free pages, in the write-ahead log, and in copies that a table leaves behind when its pages are
balanced, also with ``secure_delete``; only writing the file anew is sure. The views are disposable, so that costs time
and nothing else. A mark in the file stands from the transaction that folds an erasure until all of it is gone, so that
whoever opens the views next goes on where a killed process stopped.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ledger import engine as sqlite
from projections.file import NEW, lock

MEMORY_SIZE_MAX = 128 * 1024 * 1024
"""Bytes of views that are written anew by way of memory; of larger ones the copy goes to a temporary file."""


def want(db: Any) -> None:
    """Mark the file, in the caller's transaction, as one that holds what was erased."""
    db.execute("INSERT INTO unscrubbed VALUES (1, 1, 0) ON CONFLICT (one) DO UPDATE SET wanted = wanted + 1")


def scrub(db: Any, path: Path) -> bool:
    """Take what was erased out of the file; tell whether all of it is gone.

    Where somebody still reads an older state, or rebuilds views, it is not, and the call is to be made again.
    """
    found = db.execute("SELECT wanted, rewritten FROM unscrubbed").fetchone()
    if found is None:
        return True
    wanted, rewritten = found
    if rewritten < wanted:
        rebuilding = lock(path, wait=False)
        if rebuilding is None:
            return False
        try:
            _rewrite(db)
        finally:
            os.close(rebuilding)
        db.execute("UPDATE unscrubbed SET rewritten = ?", (wanted,))
    if not sqlite.empty_wal(db):
        return False
    db.execute("DELETE FROM unscrubbed WHERE rewritten = wanted")  # not where something was erased meanwhile
    return db.execute("SELECT 1 FROM unscrubbed").fetchone() is None


def _rewrite(db: Any) -> None:
    left = db.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'virtual') AND instr(name, ?)",
        (NEW,),
    )
    for (name,) in left.fetchall():  # of a rebuild that was killed
        db.execute(f"DROP TABLE {name}")
    indexes = db.execute("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'virtual'")
    for (name,) in indexes.fetchall():  # full-text indexes keep the words of what was deleted until they are merged
        db.execute(f"INSERT INTO {name} ({name}) VALUES ('optimize')")
    pages, page_size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    try:
        db.execute(f"PRAGMA temp_store = {'MEMORY' if pages * page_size <= MEMORY_SIZE_MAX else 'FILE'}")
        db.execute("VACUUM")
    finally:
        db.execute("PRAGMA temp_store = MEMORY")
