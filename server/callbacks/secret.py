"""Where the secrets of callbacks come from: the environment, else a file beside the ledger, made on first use."""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ledger.errors import Unreadable, invalid
from server.callbacks.signing import MAKE_ONE, Signer, new_secret

VARIABLE = "JOBLEDGER_CALLBACK_SECRET"
FILE_SIZE_MAX = 4096
"""Bytes of the file that are read at most: the most secrets, each at its longest, take less than 500."""
FORBIDDEN_MODE = 0o077
"""What nobody but the owner may do with the file: read, write or execute it."""


def secret_path(db: Path) -> Path:
    """Return where the secrets of a ledger file are: ``ledger.db`` has ``ledger.secret``."""
    # A ledger that is itself named so must not be taken for its secrets.
    return db.with_name(f"{db.name}.secret") if db.suffix == ".secret" else db.with_suffix(".secret")


def origin(db: Path, environ: Mapping[str, str]) -> str:
    """Return where the secrets of a ledger are looked for: the name of the variable, or the file's path."""
    return VARIABLE if environ.get(VARIABLE) else str(secret_path(db))


def read(db: Path, environ: Mapping[str, str]) -> Signer | None:
    """Return the signer with the secrets in use, None while there are none; makes nothing.

    Raises ``InvalidInput`` for secrets that are none or that others may read, ``Unreadable`` for a file that is none.
    """
    if text := environ.get(VARIABLE):
        return Signer.parse(text, VARIABLE)
    path = secret_path(db)
    try:
        raw = _read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unreadable(path=path, reason=error.strerror or "the system gave no reason") from error
    return _parse(raw, path)


def load(db: Path, environ: Mapping[str, str]) -> Signer:
    """Return the signer with the secrets in use; the first call on a ledger makes the file, with a fresh secret.

    Processes that start at once all get the same. Raises as ``read`` does, and ``Unreadable`` when the file cannot
    be made.
    """
    if found := read(db, environ):
        return found
    path = secret_path(db)
    try:
        _make(path)
    except OSError as error:
        reason = f"there is none yet, and it cannot be made ({error.strerror}); set {VARIABLE}: {MAKE_ONE}"
        raise Unreadable(path=path, reason=reason) from error
    found = read(db, environ)
    if found is None:
        raise Unreadable(path=path, reason="it is a link to nothing, or was removed just now")
    return found


def _make(path: Path) -> None:
    """Make the file with a fresh secret, unless there is one by then.

    It appears whole or not at all: written under another name, then linked, which fails when another process was first.
    What a killed process leaves under that other name is never read, and stays as private.
    """
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".secret")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(f"{new_secret()}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another process was first: its secret holds
            os.link(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder durable: a secret that receivers were given must not be gone after a power cut."""
    if os.name == "nt":  # which opens no folders, and writes names through its journal
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path) -> bytes:
    """Return what the file holds, at most one byte more than it may, once its kind and mode are seen to be right."""
    with open(path, "rb", opener=_open) as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise Unreadable(path=path, reason="it is no regular file")
        if os.name != "nt" and mode & FORBIDDEN_MODE:  # Windows has no such modes and shows 0666 for all
            what = f"can be read or changed by others than its owner; run: chmod 600 {shlex.quote(str(path))}"
            raise invalid(str(path), what, "mode 600")
        return file.read(FILE_SIZE_MAX + 1)


def _open(path: str, flags: int) -> int:
    """Open without waiting: a pipe in the file's place would block for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _parse(raw: bytes, path: Path) -> Signer:
    """Return the signer for what the file holds: one line of secrets. Errors name the line, not what is in it."""
    if len(raw) > FILE_SIZE_MAX:
        raise invalid(str(path), f"is longer than {FILE_SIZE_MAX} bytes; write one line of secrets with commas between")
    lines = raw.splitlines() or [b""]
    for number, line in enumerate(lines[1:], 2):
        if line.strip():
            raise invalid(f"{path}, line {number}", "must be empty; write all secrets on line 1 with commas between")
    # The variable cannot hold other than text; a byte that is no ASCII can be no part of a secret either.
    return Signer.parse(lines[0].decode("ascii", "replace"), f"{path}, line 1")
