"""The key of a ledger: made on first use beside it (``ledger.key``), its public half in ``ledger.pub``."""

from __future__ import annotations

from pathlib import Path

from ledger import private
from ledger.checkpoint import Signer, VerifierKey, parse_keys
from ledger.errors import Unreadable, invalid

PUBLIC_MODE = 0o644


def key_path(db: Path) -> Path:
    """Return where the private key of a ledger file is."""
    return private.beside(db, ".key")


def public_path(db: Path) -> Path:
    """Return where the verifier keys of a ledger file are, the newest last."""
    return private.beside(db, ".pub")


def load(db: Path, name: str) -> Signer:
    """Return the signer of a ledger; the first call makes its key and publishes the public half.

    Processes that start at once all get the same. Raises ``Unreadable`` where the files cannot be read or made, and
    ``InvalidInput`` for a key that is none, is another ledger's, or can be read by others.
    """
    path = key_path(db)
    try:
        if not path.exists():
            private.make(path, f"{Signer.new(name).to_text()}\n".encode())
        signer = _parse(private.read(path), path, name)
        _publish(db, signer.verifier)
    except OSError as error:
        reason = f"the ledger's key cannot be read or made there ({error.strerror or error})"
        raise Unreadable(path=path, reason=reason) from error
    return signer


def renew(db: Path, name: str) -> Signer:
    """Put a fresh key in the place of the old one, whose public half stays published: what it signed stays valid."""
    path = key_path(db)
    signer = Signer.new(name)
    try:
        if path.exists():
            load(db, name)
        private.replace(path, f"{signer.to_text()}\n".encode())
        _publish(db, signer.verifier)
    except OSError as error:
        raise Unreadable(path=path, reason=f"the key cannot be replaced ({error.strerror or error})") from error
    return signer


def published(db: Path) -> list[VerifierKey]:
    """Return the verifier keys beside a ledger, the newest last; none where there is no such file.

    They tell what the ledger's keeper says the keys are: who wants to trust nobody compares them with a copy of their
    own. Raises ``Unreadable`` and ``InvalidInput``.
    """
    path = public_path(db)
    try:
        return read_keys(path)
    except FileNotFoundError:
        return []


def read_keys(path: Path) -> list[VerifierKey]:
    """Return the verifier keys that a file holds, one a line. Raises as ``published``, and ``FileNotFoundError``."""
    try:
        raw = private.read(path, is_secret=False)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreadable(path=path, reason=error.strerror or str(error)) from error
    if len(raw) > private.FILE_SIZE_MAX:
        raise invalid(str(path), f"is longer than {private.FILE_SIZE_MAX} bytes")
    return parse_keys(raw.decode("utf-8", "replace"), str(path))


def _parse(raw: bytes, path: Path, name: str) -> Signer:
    lines = raw.decode("utf-8", "replace").splitlines()
    if len(raw) > private.FILE_SIZE_MAX or len(lines) != 1:
        raise invalid(str(path), "must hold one line, the ledger's private key")
    signer = Signer.parse(lines[0], str(path))
    if signer.verifier.name != name:
        what = f"is the key of '{signer.verifier.name}', not of '{name}'; move it away, and a new one is made"
        raise invalid(str(path), what)
    return signer


def _publish(db: Path, key: VerifierKey) -> None:
    path = public_path(db)
    known = published(db)
    if key in known and known[-1] == key:
        return
    lines = [str(each) for each in [*(each for each in known if each != key), key]]
    private.replace(path, "".join(f"{line}\n" for line in lines).encode(), PUBLIC_MODE)
