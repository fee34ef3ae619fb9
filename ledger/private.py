"""Small files beside a ledger: each whole or absent, durable, and secrets for their owner alone."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shlex
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ledger.errors import Unreadable, invalid

FILE_SIZE_MAX = 4096
"""Bytes of such a file that are read at most, where it holds one secret or verdict."""
FORBIDDEN_MODE = 0o077
"""What nobody but the owner may do with a secret: read, write or execute it."""
PARTIAL = ".partial"
"""In names of files that are not yet whole; they end as the others, which .gitignore keeps out of repositories."""
SECRET_MODE = 0o600
PUBLIC_MODE = 0o644


def beside(db: Path, suffix: str) -> Path:
    """Return where a file of a ledger is, by whatever links that is reached: ``ledger.db`` has ``ledger.key``."""
    where = db.resolve()
    # A ledger that is itself named so must not be taken for it.
    return named_after(db, suffix) if where.suffix == suffix else where.with_suffix(suffix)


def named_after(db: Path, suffix: str) -> Path:
    """Return where a file of one ledger file alone is: ``ledger.db`` has ``ledger.db.signed``, and a copy another."""
    where = db.resolve()
    return where.with_name(f"{where.name}{suffix}")


def make(path: Path, content: bytes, mode: int = SECRET_MODE) -> bool:
    """Make a file unless there is one by then; tell whether this call made it. It is durable afterwards.

    It appears whole or not at all: written under another name, then linked, which fails when another process was first.
    """
    with _written(path, content, mode) as partial:
        try:
            os.link(partial, path)
        except FileExistsError:
            return False
        sync_folder(path.parent)
        return True


def replace(path: Path, content: bytes, mode: int = SECRET_MODE) -> None:
    """Put a file in the place of another, in one step; it is durable afterwards."""
    with _written(path, content, mode) as partial:
        partial.replace(path)
        sync_folder(path.parent)


def read(path: Path, *, is_secret: bool = True, size_max: int = FILE_SIZE_MAX) -> bytes:
    """Return what a file holds, at most one byte more than ``size_max``.

    Raises ``FileNotFoundError``; ``Unreadable`` for what is no file, ``InvalidInput`` for a secret others may read.
    """
    with open(path, "rb", opener=_open) as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise Unreadable(path=path, reason="it is no regular file")
        if is_secret and os.name != "nt" and mode & FORBIDDEN_MODE:  # Windows has no such modes and shows 0666 for all
            what = f"can be read or changed by others than its owner; run: chmod 600 {shlex.quote(str(path))}"
            raise invalid(str(path), what, "mode 600")
        return file.read(size_max + 1)


def for_owner(path: str, flags: int) -> int:
    """Open a file, as the ``opener`` of ``open``; one that is made is for its owner alone, whatever the umask."""
    return os.open(path, flags, SECRET_MODE)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time change several of these files together; it waits for the others."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of another in one step, when all is written; it is durable afterwards."""
    with _begun(path) as (file, partial):
        yield file
        _sync(file)
        partial.replace(path)
        sync_folder(path.parent)


@contextlib.contextmanager
def _written(path: Path, content: bytes, mode: int) -> Iterator[Path]:
    with _begun(path) as (file, partial):
        file.write(content)
        _sync(file)
        if mode != SECRET_MODE:
            partial.chmod(mode)
        yield partial


@contextlib.contextmanager
def _begun(path: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """Begin a file under another name, which is gone afterwards, and take away what killed processes began."""
    sweep(path)
    opened, partial = _partial(path)
    with opened as file:
        try:
            yield file, partial
        finally:
            partial.unlink(missing_ok=True)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _partial(path: Path) -> tuple[IO[bytes], Path]:
    """Open a file under another name, mode 0600, and lock it: so ``sweep`` knows that somebody lives to end it."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=PARTIAL + path.suffix)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return os.fdopen(handle, "wb"), Path(name)
        os.close(handle)  # it was swept before it was locked


def sweep(path: Path) -> None:
    """Remove what killed processes began for this file and never ended: it may hold the same secret."""
    for left in path.parent.glob(f".{glob.escape(path.name)}-*{PARTIAL}{glob.escape(path.suffix)}"):
        with contextlib.suppress(OSError), left.open("rb") as file:  # somebody writes it, or removed it, or owns it
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()


def _open(path: str, flags: int) -> int:
    """Open without waiting: a pipe in the file's place would block for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def sync_folder(folder: Path) -> None:
    """Make a new name in a folder durable: a secret that others were given must not be gone after a power cut."""
    if os.name == "nt":  # which opens no folders, and writes names through its journal
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
