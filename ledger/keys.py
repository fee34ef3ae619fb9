"""The key of a ledger: made on first use beside it (``ledger.key``), its public half in ``ledger.pub``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ledger import private
from ledger.checkpoint import Signer, VerifierKey, parse_keys
from ledger.errors import InvalidInput, Unreadable, invalid

PUBLIC_MODE = 0o644


def key_path(db: Path) -> Path:
    """Return where the private key of a ledger file is."""
    return private.beside(db, ".key")


def public_path(db: Path) -> Path:
    """Return where the verifier keys of a ledger file are, the newest last."""
    return private.beside(db, ".pub")


def load(db: Path, name: str) -> Signer:
    """Return the signer of a ledger; the first call makes its key and publishes the public half.

    Processes that start at once all get the same. Raises ``Unreadable`` where the files cannot be read or made, and for
    a key that is none, is another ledger's, or can be read by others.
    """
    path = key_path(db)
    with _named(path):
        if not path.exists():
            private.make(path, f"{Signer.new(name).to_text()}\n".encode())
        signer = _parse(private.read(path), name)
    _publish(db, signer.verifier)
    return signer


def renew(db: Path, name: str) -> Signer:
    """Put a fresh key in the place of the old one, whose public half stays published: what it signed stays valid."""
    path = key_path(db)
    signer = Signer.new(name)
    if path.exists():
        load(db, name)
    with _named(path):
        private.replace(path, f"{signer.to_text()}\n".encode())
    _publish(db, signer.verifier)
    return signer


def published(db: Path) -> list[VerifierKey]:
    """Return the verifier keys beside a ledger, the newest last; none where there is no such file.

    They tell what the ledger's keeper says the keys are: who wants to trust nobody compares them with a copy of their
    own. Raises ``Unreadable``.
    """
    path = public_path(db)
    return read_keys(path) if path.exists() else []


def read_keys(path: Path) -> list[VerifierKey]:
    """Return the verifier keys that a file holds, one a line. Raises ``Unreadable``."""
    with _named(path):
        raw = private.read(path, is_secret=False)
        if len(raw) > private.FILE_SIZE_MAX:
            raise invalid("the file", f"is longer than {private.FILE_SIZE_MAX} bytes")
        return parse_keys(raw.decode("utf-8", "replace"), "the file")


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file in whatever is wrong with it."""
    try:
        yield
    except InvalidInput as error:
        where, what = (error.facts["faults"][0][name] for name in ("where", "what"))
        raise Unreadable(path=path, reason=what if where == str(path) else f"{where} {what}") from error
    except OSError as error:
        raise Unreadable(path=path, reason=error.strerror or str(error)) from error


def _parse(raw: bytes, name: str) -> Signer:
    lines = raw.decode("utf-8", "replace").splitlines()
    if len(raw) > private.FILE_SIZE_MAX or len(lines) != 1:
        raise invalid("the file", "must hold one line, the ledger's private key")
    signer = Signer.parse(lines[0], "the file")
    if signer.verifier.name != name:
        what = f"holds the key of '{signer.verifier.name}', not of '{name}'; move it away, and a new one is made"
        raise invalid("the file", what)
    return signer


def _publish(db: Path, key: VerifierKey) -> None:
    path = public_path(db)
    known = published(db)
    if known and known[-1] == key:
        return
    lines = [str(each) for each in [*(each for each in known if each != key), key]]
    with _named(path):
        private.replace(path, "".join(f"{line}\n" for line in lines).encode(), PUBLIC_MODE)
