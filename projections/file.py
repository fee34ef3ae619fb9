"""The views file: where it is, how it is opened or replaced, and the checkpoint of each projection in it."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from ledger import engine as sqlite
from ledger.events import Recorded
from ledger.leaf import leaf_hash
from projections.projection import Projection, tables_of

PAGE_SIZE = 16_384
"""Bytes of a page of the views file: rows have about 1 KiB, and few of them fit well in the usual 4 KiB."""
CACHE_SIZE = 32 * 1024 * 1024
"""Bytes of page cache of the connection that folds, also for sorting indexes; more does not make it faster."""
WAL_SIZE = 16 * 1024 * 1024
"""Bytes of WAL after which the views are checkpointed."""
NEW = "__new"
"""Behind the name of a table that a rebuild folds, until it takes the place of the one in use."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS projections (
    name TEXT PRIMARY KEY, version INTEGER NOT NULL, position INTEGER NOT NULL, leaf BLOB NOT NULL
) STRICT
"""
_UNSCRUBBED = """
CREATE TABLE IF NOT EXISTS unscrubbed (
    one INTEGER PRIMARY KEY CHECK (one = 1), wanted INTEGER NOT NULL, rewritten INTEGER NOT NULL
) STRICT
"""

log = structlog.get_logger("projections")


def lock(path: Path, *, wait: bool) -> int | None:
    """Take the lock of whoever rebuilds the views, as a file handle; None while another has it, unless ``wait``."""
    handle = os.open(f"{path}.rebuild", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(handle)
        return None
    except BaseException:
        os.close(handle)
        raise
    return handle


def views_path(ledger_path: Path) -> Path:
    """Return where the views of a ledger file are: ``ledger.db`` has ``ledger.views.db``."""
    return ledger_path.with_name(f"{ledger_path.stem}.views{ledger_path.suffix or '.db'}")


def identity(path: Path) -> tuple[int, int] | None:
    """Return which file a path leads to; None: to none. While somebody has a file open, no other gets its identity."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def open_or_replace(path: Path) -> Any:
    """Open the views file to write, made on first use; a damaged one is replaced by an empty one."""
    try:
        return _open(path)
    except sqlite.OperationalError:
        raise
    except sqlite.DatabaseError as error:
        replace(path, error)
        return _open(path)


def replace(path: Path, error: Exception | str) -> None:
    """Remove a damaged views file: it is disposable, and the log has every word of it.

    The database goes first: whoever still has it open then leaves the other two alone, which soon are of a new one.
    """
    log.warning("views.replaced", path=str(path), error=str(error))
    for ending in ("", "-wal", "-shm"):
        Path(f"{path}{ending}").unlink(missing_ok=True)


def _open(path: Path) -> Any:
    sqlite.touch(path)
    connection = sqlite.connect(path, read_only=False)
    connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    connection.execute(f"PRAGMA cache_size = -{CACHE_SIZE // 1024}")  # counted in pages of the size just set
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_SIZE // PAGE_SIZE}")
    connection.execute(_SCHEMA)
    connection.execute(_UNSCRUBBED)
    return connection


def checkpoints(db: Any) -> dict[str, tuple[int, int, bytes]]:
    """Return version, position and leaf hash at that position of each projection, by its name."""
    return {row[0]: row[1:] for row in db.execute("SELECT name, version, position, leaf FROM projections")}


_MOVED = (
    "ON CONFLICT (name) DO UPDATE SET version = excluded.version, position = excluded.position, leaf = excluded.leaf"
)
NO_CHECKPOINT = (-1, 0, b"")
"""Version, position and leaf of a projection that has none."""


def drop(db: Any, name: str) -> None:
    """Drop the checkpoint of a projection, so that nothing of its table counts."""
    db.execute("DELETE FROM projections WHERE name = ?", (name,))


def move(db: Any, projections: Sequence[Projection], last: Recorded | None) -> None:
    """Set checkpoints of projections to an event of the log; None: before the first."""
    position, leaf = (last.position, leaf_hash(last)) if last else (0, b"")
    rows = [(each.name, each.version, position, leaf) for each in projections]
    sqlite.insert(db, "projections", 4, rows, _MOVED)


def make_missing(db: Any, projections: Sequence[Projection]) -> list[Projection]:
    """Make the tables of projections that have none, all empty, in one transaction; return the other projections."""
    db.execute("BEGIN IMMEDIATE")
    try:
        known = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        missing = [each for each in projections if known.isdisjoint(tables_of(each))]
        for projection in missing:
            projection.create(db, projection.name)
            projection.index(db, projection.name, secrets.token_hex(4))
        move(db, missing, None)
        db.execute("COMMIT")
    except BaseException:
        sqlite.roll_back(db)
        raise
    return [each for each in projections if each not in missing]
