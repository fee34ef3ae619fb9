"""Where the secrets of callbacks come from: the environment, else a file beside the ledger, made on first use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ledger import private
from ledger.errors import Unreadable, invalid
from ledger.private import FILE_SIZE_MAX
from server.callbacks.signing import MAKE_ONE, Signer, new_secret

VARIABLE = "JOBLEDGER_CALLBACK_SECRET"


def secret_path(db: Path) -> Path:
    """Return where the secrets of a ledger file are: ``ledger.db`` has ``ledger.secret``."""
    return private.beside(db, ".secret")


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
        raw = private.read(path)
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
    path = secret_path(db)
    if found := read(db, environ):
        private.sweep(path)  # a process that made it may have died before it could take the other name away
        return found
    try:
        private.make(path, f"{new_secret()}\n".encode())
    except OSError as error:
        reason = f"there is none yet, and it cannot be made ({error.strerror}); set {VARIABLE}: {MAKE_ONE}"
        raise Unreadable(path=path, reason=reason) from error
    found = read(db, environ)
    if found is None:
        raise Unreadable(path=path, reason="it is a link to nothing, or was removed just now")
    return found


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
