"""The ledger's file: made, opened, checked, and confined to one writer where the library asks for it."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import time
from importlib import resources
from pathlib import Path
from typing import Any

from ledger import engine
from ledger.errors import Unreadable

APPLICATION_ID = 0x4A4C_4447
"""``JLDG``: what ``file`` and SQLite show as the application of a ledger."""
FORMAT = 3
"""``user_version`` of the files that this program writes; older ones are brought up to it when opened to write.

2: the table of imports. 3: erasure in place, with its table of digests.
"""
_ADDED = {2: "imports.sql", 3: "erasures.sql"}
"""What each format added to the one before."""
_SECURE = 3
"""The first format whose files were written from their beginning with ``secure_delete``."""
CACHE_MIB = 64
"""MiB of page cache of the connection that writes."""
WAL_PAGES = 8192
"""Pages of WAL (32 MiB) after which it is written back: streams are spread over the index by chance, so that writing
back seldom writes each page of it once for many transactions."""
_ALIEN = (
    "SELECT iif(type = 'view', 'view', 'virtual table'), name FROM sqlite_schema "
    "WHERE type = 'view' OR sql LIKE 'CREATE VIRTUAL%' LIMIT 1"
)
"""What a crafted file can hold in the place of a table, or beside it, so that reading it runs more than our SQL."""
ENTER_INTERVAL_S = 0.02
"""Wait between two looks at whether another writer lets others in: a start in which it is alone takes about as long."""


def check_place(path: Path, read_only: bool) -> None:
    """Raise ``Unreadable`` where no ledger can be read, or none be made."""
    if not path.exists():
        if read_only:
            raise Unreadable(path=path, reason="there is no such file")
        if not path.parent.is_dir():
            raise Unreadable(path=path, reason="there is no such folder")


def open_reader(path: Path) -> Any:
    """Open a ledger to read it; nothing is made or written. Raises ``Unreadable``."""
    try:
        return _open(path, immutable=False)
    except engine.OperationalError as error:
        # In a folder that cannot be written, WAL mode lacks its shared memory; without a WAL the file is complete.
        wal = path.with_name(f"{path.name}-wal")
        if path.is_file() and wal.exists() and wal.stat().st_size and not os.access(path.parent, os.W_OK):
            what = f"its folder cannot be written, as {wal.name} needs it; copy both to a folder of your own"
            raise Unreadable(path=path, reason=what) from error
        if not path.is_file() or (wal.exists() and wal.stat().st_size):
            raise
        return _open(path, immutable=True)


def _open(path: Path, *, immutable: bool) -> Any:
    connection = engine.connect(path, read_only=True, immutable=immutable)
    try:
        _check_format(connection, path)
        if not connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'erasures'").fetchone()[0]:
            connection.execute("CREATE TEMP TABLE erasures (position INTEGER PRIMARY KEY, digest TEXT) STRICT")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_format(connection: Any, path: Path) -> None:
    found = connection.execute("PRAGMA application_id").fetchone()[0]
    version = format_of(connection)
    if found != APPLICATION_ID:
        raise Unreadable(path=path, reason="it is a database, but not a ledger")
    if version > FORMAT:
        raise Unreadable(path=path, reason=f"its format {version} is newer than this program's {FORMAT}")
    alien = connection.execute(_ALIEN).fetchone()
    if alien is not None:
        what = f"the {alien[0]} '{alien[1]}', which no ledger has; whoever made the file may want to harm who reads it"
        raise Unreadable(path=path, reason=f"it holds {what}")


def open_writer(path: Path, name: str | None, *, is_alone: bool = False) -> Any:
    """Open a ledger to write, made on first use. ``name``: of a new one; made up when None. Raises ``Unreadable``.

    ``is_alone``: no other process writes to it, so that what its write-ahead log holds may be of one that was killed.
    """
    connection = engine.connect(path, read_only=False, cache_mib=CACHE_MIB)
    try:
        if is_alone:
            _renew_wal(connection, path)
        _set_up(connection, path, name)
    except BaseException:
        connection.close()
        raise
    return connection


def _renew_wal(connection: Any, path: Path) -> None:
    """Write once more what the write-ahead log holds, before anything is built on it.

    After an fsync that failed, the kernel may call pages clean that never reached the disk. A process that was killed
    then told nobody; recovery reads the pages from memory, and a later fsync passes them over.
    """
    connection.execute("BEGIN IMMEDIATE")  # nobody appends to it meanwhile, nor begins it anew
    try:
        engine.write_again(Path(f"{path.resolve()}-wal"))
    finally:
        connection.execute("ROLLBACK")


def _set_up(connection: Any, path: Path, name: str | None) -> None:
    if _has_schema(connection):  # somebody else's database is left as it is
        _check_format(connection, path)
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise Unreadable(path=path, reason="its file system does not allow SQLite's WAL mode")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
    connection.execute("PRAGMA secure_delete = ON")  # the root of a growing table leaves a copy of its rows otherwise
    if _has_schema(connection) and format_of(connection) < _SECURE:
        connection.execute("VACUUM")  # such copies are in older files; what is erased later must not be one of them
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _has_schema(connection):
            _create(connection, name)
        else:
            _add(connection, format_of(connection))
        connection.execute("COMMIT")
    except BaseException:
        engine.roll_back(connection)
        raise
    _check_format(connection, path)


Shape = dict[tuple[str, str], str]
_SQLITES = frozenset({("table", "sqlite_stat1"), ("table", "sqlite_stat4"), ("table", "sqlite_sequence")})
"""What SQLite itself adds to a database where it is asked to."""


def shape(connection: Any) -> Shape:
    """Return what a database is made of: kind and name of each table, index and trigger, and its bare SQL."""
    rows = connection.execute("SELECT type, name, sql FROM sqlite_schema WHERE NOT (type = 'index' AND sql IS NULL)")
    return {
        (str(kind), str(name)): " ".join(re.sub(r"--[^\n]*", "", str(sql)).split())
        for kind, name, sql in rows
        if (kind, name) not in _SQLITES
    }


def shape_of_format(number: int) -> Shape:
    """Return the shape of a ledger of a format."""
    connection = engine.library.connect(":memory:")
    try:
        _run_script(connection, "schema.sql")
        for script in (script for added, script in _ADDED.items() if added <= number):
            _run_script(connection, script)
        return shape(connection)
    finally:
        connection.close()


def format_of(connection: Any) -> int:
    """Return the format of a ledger that a connection shows."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _has_schema(connection: Any) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])


def _create(connection: Any, name: str | None) -> None:
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    _run_script(connection, "schema.sql")
    _add(connection, 1)
    now_us = time.time_ns() // 1000
    origin = name or f"jobledger.local/{secrets.token_hex(6)}"
    connection.execute("INSERT INTO ledger (one, name, created) VALUES (1, ?, ?)", (origin, now_us))
    connection.execute("INSERT INTO head (one, size, recorded, frontier) VALUES (1, 0, 0, ?)", (b"",))


def _add(connection: Any, found: int) -> None:
    """Add what the formats after ``found`` have."""
    for script in (script for number, script in _ADDED.items() if number > found):
        _run_script(connection, script)
    connection.execute(f"PRAGMA user_version = {FORMAT}")


def _run_script(connection: Any, name: str) -> None:
    for statement in _statements(resources.files("ledger").joinpath(name).read_text("utf-8")):
        connection.execute(statement)


def _statements(script: str) -> list[str]:
    found, pending = [], ""
    for line in script.splitlines(keepends=True):
        pending += line
        if engine.library.complete_statement(pending):
            found.append(pending)
            pending = ""
    return found


def enter(path: Path) -> tuple[int, bool]:
    """Take a place among those who write to a ledger; return its handle, and whether nobody else has one.

    Who is alone keeps all others out until ``admit``; with a SQLite that has the WAL-reset bug, for good. Others wait
    for that up to ``BUSY_TIMEOUT_S``. Raises ``Unreadable``.
    """
    until_s = time.monotonic() + engine.BUSY_TIMEOUT_S
    handle = _open_lock(path, "writer")
    try:
        while True:
            if _flock(handle, fcntl.LOCK_EX):
                return handle, True
            if engine.has_wal_reset_bug():
                raise Unreadable(
                    path=path,
                    reason=f"another process writes to it, and SQLite {engine.library.sqlite_version} has the "
                    "WAL-reset bug, with which only one may; install pysqlite3 (pip install pysqlite3)",
                )
            if _flock(handle, fcntl.LOCK_SH):
                return handle, False
            if time.monotonic() >= until_s:
                raise Unreadable(path=path, reason="another process writes to it, and lets no other do so")
            time.sleep(ENTER_INTERVAL_S)
    except BaseException:
        os.close(handle)
        raise


def admit(handle: int) -> None:
    """Let others write, too, where the library allows it."""
    if not engine.has_wal_reset_bug():
        fcntl.flock(handle, fcntl.LOCK_SH)


def lock(path: Path, name: str) -> int | None:
    """Take a lock on a ledger, a file beside it that is made on first use; None while another holder has it.

    By whatever links the ledger is reached, that is the same file. The kernel gives it back when the holder's process
    ends, however that ends. All who write to a ledger are on one machine, because WAL mode is memory that they share;
    so the lock reaches as far as the ledger does.
    """
    handle = _open_lock(path, name)
    try:
        if _flock(handle, fcntl.LOCK_EX):
            return handle
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


def _open_lock(path: Path, name: str) -> int:
    where = path.resolve()
    return os.open(where.with_name(f"{where.name}.{name}"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _flock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
