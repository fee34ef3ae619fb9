"""The key of a ledger, made on first use beside it (``ledger.key``), its public half, and what it signed last.

``ledger.pub`` has the verifier keys, the newest last. ``ledger.db.signed`` has the last checkpoint: so that a ledger
which was put back to an older state is not signed a second time as if nothing had happened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ledger import private
from ledger.checkpoint import NOTE_SIZE_MAX, Signer, VerifierKey, parse, parse_keys
from ledger.errors import InvalidInput, Unreadable, invalid

KEYS_SIZE_MAX = 1 << 20
"""Bytes of a file of verifier keys: more than 8,000 of them."""


def key_path(db: Path) -> Path:
    """Return where the private key of a ledger file is."""
    return private.beside(db, ".key")


def public_path(db: Path) -> Path:
    """Return where the verifier keys of a ledger file are."""
    return private.beside(db, ".pub")


def signed_path(db: Path) -> Path:
    """Return where the last checkpoint of a ledger file is."""
    return private.named_after(db, ".signed")


def load(db: Path, name: str) -> Signer:
    """Return the signer of a ledger; the first call makes its key and publishes the public half.

    Processes that start at once all get the same. Raises ``Unreadable`` where the files cannot be read or made, and for
    a key that is none, is another ledger's, was replaced by another, or can be read by others.
    """
    path = key_path(db)
    with _named(path):
        if not path.exists():
            private.make(path, _text(Signer.new(name)))
        private.sweep(path)  # a process that made it may have died before it could take the other name away
        signer = _parse(private.read(path), name)
    known = published(db)
    if signer.verifier in known[:-1]:
        reason = "another key took its place, and this one was put back; begin anew: jobledger checkpoint --new-key"
        raise Unreadable(path=path, reason=reason)
    if not known or known[-1] != signer.verifier:
        with _named(path), private.locked(path.parent):
            _publish(db, signer.verifier)
    return signer


def renew(db: Path, name: str) -> Signer:
    """Put a fresh key in the place of the old one, whose public half stays published: what it signed stays valid."""
    path = key_path(db)
    with _named(path), private.locked(path.parent):
        if path.exists():
            _publish(db, _parse(private.read(path), name).verifier)
        signer = Signer.new(name)
        private.replace(path, _text(signer))  # first: whoever loads it publishes it before it signs
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
        raw = private.read(path, is_secret=False, size_max=KEYS_SIZE_MAX)
        if len(raw) > KEYS_SIZE_MAX:
            raise invalid("the file", f"is longer than {KEYS_SIZE_MAX} bytes")
        return parse_keys(raw.decode("utf-8", "replace"), "the file")


def remember(db: Path, note: str, *, anew: bool = False) -> None:
    """Keep the last checkpoint, unless a later one is kept; ``anew``: whatever was kept. Raises ``Unreadable``."""
    path = signed_path(db)
    with _named(path), private.locked(path.parent):
        known = None if anew else remembered(db)
        if known is None or parse(known).size <= parse(note).size:
            private.replace(path, note.encode(), private.PUBLIC_MODE)


def remembered(db: Path) -> str | None:
    """Return the last checkpoint that was signed here, None where none was. Raises ``Unreadable``."""
    path = signed_path(db)
    if not path.exists():
        return None
    with _named(path):
        note = private.read(path, is_secret=False, size_max=NOTE_SIZE_MAX).decode("utf-8", "replace")
        try:
            parse(note, "the file")
        except InvalidInput as error:
            what = f"{error}; put the last checkpoint back, or begin anew: jobledger checkpoint --new-key"
            raise Unreadable(path=path, reason=what) from error
        return note


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


def _text(signer: Signer) -> bytes:
    return f"{signer.to_text()}\n".encode()


def _parse(raw: bytes, name: str) -> Signer:
    lines = raw.decode("utf-8", "replace").splitlines()
    if len(raw) > private.FILE_SIZE_MAX or len(lines) != 1:
        raise invalid("the file", "must hold one line, the ledger's private key")
    signer = Signer.parse(lines[0], "the file")
    if signer.verifier.name != name:
        what = (
            f"holds the key of '{signer.verifier.name}', not of '{name}'; keep it for that ledger, and give the file "
            "of this one another name, by which its key is named"
        )
        raise invalid("the file", what)
    return signer


def _publish(db: Path, key: VerifierKey) -> None:
    """Put a key at the end of those that are published; call it under the lock."""
    known = published(db)
    if known[-1:] != [key]:
        lines = [f"{each}\n" for each in [*(each for each in known if each != key), key]]
        private.replace(public_path(db), "".join(lines).encode(), private.PUBLIC_MODE)
