"""Checkpoints: signed notes that fix a log's size and tree root (C2SP ``tlog-checkpoint``, ``signed-note``).

::

    jobledger.local/6f9c01aa34bd                              the origin: the ledger's name
    1042                                                      the size of the tree
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=              its root

    — jobledger.local/6f9c01aa34bd Az3grlgtzPICa5OS8npV…      Ed25519 over the lines above, behind 4 bytes of key hash

A verifier key is one line, ``<name>+<key hash in hex>+<base64 of 0x01 and the public key>``. A key file holds the
signer's key as Go's ``note`` package writes it: ``PRIVATE+KEY+<name>+<key hash>+<base64 of 0x01 and the seed>``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import Damaged, InvalidInput, invalid
from ledger.merkle import HASH_BYTES

NOTE_SIZE_MAX = 64 * 1024
"""Characters of a note; one with a dozen co-signatures has 2,000."""
SIGNATURES_MAX = 100
_ED25519 = b"\x01"
_KEY_BYTES = 32
_PRIVATE = "PRIVATE+KEY+"
_DASH = "\N{EM DASH} "


class Signature(NamedTuple):
    """One signature line: by whom, with which key (4 bytes of its hash), and the signature."""

    name: str
    key_hash: bytes
    value: bytes


class Checkpoint(NamedTuple):
    """What a note says: the ledger's name, how many events there were, and the root of the tree over them."""

    origin: str
    size: int
    root: bytes
    text: bytes
    """What is signed: the lines above the empty one."""
    signatures: tuple[Signature, ...]


class Kept(NamedTuple):
    """A note that stands in the ledger: of how many events, made when (microseconds since 1970 UTC)."""

    size: int
    made_us: int
    note: str


class VerifierKey(NamedTuple):
    """The public half of a key, with the name that it signs for."""

    name: str
    public: bytes

    @classmethod
    def parse(cls, line: str, where: str = "key") -> VerifierKey:
        """Read a verifier key. Raises ``InvalidInput``."""
        name, hash_hex, raw = _key_parts(line.strip(), where)
        key = cls(name, raw)
        if key.key_hash.hex() != hash_hex:
            raise invalid(where, "has another key hash than its name and key give: a character is wrong", _KEY_FORM)
        return key

    @property
    def key_hash(self) -> bytes:
        """Four bytes of SHA-256 over name, line feed, algorithm and key: they find a key, and prove nothing."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    @property
    def id(self) -> str:
        """The key hash, hex: what tells two keys of one ledger apart."""
        return self.key_hash.hex()

    def __str__(self) -> str:
        return f"{self.name}+{self.id}+{_base64(_ED25519 + self.public)}"

    def made(self, signature: Signature, text: bytes) -> bool:
        """Tell whether a signature of a text is this key's."""
        if (signature.name, signature.key_hash) != (self.name, self.key_hash):
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature.value, text)
        except InvalidSignature:
            return False
        return True


class Signer:
    """The private half of a key. Its text is a secret."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._seed = seed
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = VerifierKey(name, self._key.public_key().public_bytes_raw())

    @classmethod
    def new(cls, name: str) -> Signer:
        """Make a fresh key that signs for a ledger."""
        return cls(name, Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def parse(cls, line: str, where: str = "key") -> Signer:
        """Read a signer's key. Raises ``InvalidInput``, which never shows it."""
        text = line.strip()
        if not text.startswith(_PRIVATE):
            raise invalid(where, "is no signer's key", _PRIVATE + _KEY_FORM)
        name, hash_hex, raw = _key_parts(text.removeprefix(_PRIVATE), where)
        signer = cls(name, raw)
        if signer.verifier.id != hash_hex:
            raise invalid(where, "has another key hash than its name and key give: a character is wrong")
        return signer

    def to_text(self) -> str:
        """Return the line that ``parse`` reads."""
        return f"{_PRIVATE}{self.verifier.name}+{self.verifier.id}+{_base64(_ED25519 + self._seed)}"

    def signed(self, note: str) -> bool:
        """Tell whether this key signed a note."""
        found = parse(note)
        return any(self.verifier.made(each, found.text) for each in found.signatures)

    def sign(self, size: int, root: bytes) -> str:
        """Return the signed note of a tree of ``size`` leaves with this root (32 bytes)."""
        text = f"{self.verifier.name}\n{size}\n{_base64(root)}\n"
        signature = self.verifier.key_hash + self._key.sign(text.encode())
        return f"{text}\n{_DASH}{self.verifier.name} {_base64(signature)}\n"


def parse(note: str, where: str = "checkpoint") -> Checkpoint:
    """Read a note without believing it: no signature is checked. Raises ``InvalidInput``."""
    if len(note) > NOTE_SIZE_MAX:
        raise invalid(where, f"is longer than {NOTE_SIZE_MAX} characters")
    if any(char < " " and char != "\n" for char in note):
        raise invalid(where, "holds a control character")
    above, mark, below = note.rpartition("\n\n")
    if not mark or not below.endswith("\n"):
        raise invalid(where, "is no signed note: an empty line and lines of signatures must end it")
    lines = above.split("\n")
    if len(lines) < 3 or not all(lines):
        raise invalid(where, "is no checkpoint: it needs lines of origin, size and root")
    origin, size_text, root_text, *_ = lines
    check_name(origin, where)
    is_number = size_text.isascii() and size_text.isdigit() and len(size_text) < 20
    if not is_number or str(int(size_text)) != size_text:
        raise invalid(f"{where}, line 2", "is no size of a tree", "digits, without leading zeros")
    root = _bytes_of(root_text, f"{where}, line 3")
    if len(root) != HASH_BYTES:
        raise invalid(f"{where}, line 3", f"is no root: {len(root)} bytes, not {HASH_BYTES}")
    signed = below[:-1].split("\n")
    if len(signed) > SIGNATURES_MAX:
        raise invalid(where, f"has more than {SIGNATURES_MAX} signatures")
    try:
        text = f"{above}\n".encode()
    except UnicodeEncodeError:
        raise invalid(where, "is no Unicode") from None
    return Checkpoint(origin, int(size_text), root, text, tuple(_signature(line, where) for line in signed))


def signer_of(found: Checkpoint, keys: Sequence[VerifierKey], where: str = "checkpoint") -> VerifierKey | None:
    """Return which of the keys signed for the checkpoint's ledger; None where none did.

    Signatures of unknown keys are passed over, as the standard asks: they may be co-signatures of witnesses. Raises
    ``InvalidInput`` for a wrong signature that says it is by one of the keys.
    """
    by_id = {(key.name, key.key_hash): key for key in keys}
    signers = []
    for signature in found.signatures:
        key = by_id.get((signature.name, signature.key_hash))
        if key is not None and not key.made(signature, found.text):
            raise invalid(where, "has a signature that is wrong: the note was changed, or is not by that key")
        if key is not None and key.name == found.origin:
            signers.append(key)
    return signers[0] if signers else None


def verify(note: str, keys: Sequence[VerifierKey], where: str = "checkpoint") -> tuple[Checkpoint, VerifierKey]:
    """Read a note that one of the keys signed, and none of them wrongly; return what it says, and who signed.

    Raises ``InvalidInput``.
    """
    found = parse(note, where)
    signer = signer_of(found, keys, where)
    if signer is None:
        asked = ", ".join(f"{key.name}+{key.id}" for key in keys) or "none"
        raise invalid(where, f"is not signed by a key that is trusted here ({asked})")
    return found, signer


def goes_on_from(note: str, size: int, name: str, keys: Sequence[VerifierKey] | None) -> Checkpoint:
    """Read a checkpoint that stands in a ledger as one of ``size`` events, before that is signed again.

    ``keys``: one of them must have signed it; None: whoever did. Raises ``Damaged`` for any that is not the ledger's.
    """
    try:
        found = parse(note, f"its checkpoint of {size} events")
        signer = None if keys is None else signer_of(found, keys)
    except InvalidInput as error:
        raise Damaged(reason=str(error)) from error
    if (found.origin, found.size) != (name, size):
        raise Damaged(reason=f"its checkpoint of {size} events is one of {found.size} events of '{found.origin}'")
    if keys is not None and signer is None:
        what = (
            f"its checkpoint of {size} events is by a key that is not known here; put the ledger's .key and .pub back "
            "beside it, or begin with a fresh key: jobledger checkpoint --new-key"
        )
        raise Damaged(reason=what)
    return found


def parse_keys(text: str, where: str = "key") -> list[VerifierKey]:
    """Read verifier keys, one a line; empty lines and those that begin with # say nothing. Raises ``InvalidInput``."""
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    keys = [VerifierKey.parse(line, f"{where}, line {number}") for number, line in lines if line and line[0] != "#"]
    if not keys:
        raise invalid(where, "holds no verifier key", _KEY_FORM)
    return keys


_KEY_FORM = "<name>+<key hash>+<base64>"


def _key_parts(text: str, where: str) -> tuple[str, str, bytes]:
    """Return name, key hash in hex and 32 bytes of an Ed25519 key. A name holds no plus; base64 may."""
    name, _, rest = text.partition("+")
    hash_hex, _, encoded = rest.partition("+")
    check_name(name, where)
    try:
        raw = _bytes_of(encoded, where)
    except InvalidInput:
        raw = b""
    if len(hash_hex) != 8 or raw[:1] != _ED25519 or len(raw) != 1 + _KEY_BYTES:
        raise invalid(where, "is no Ed25519 key of the form of C2SP signed notes", _KEY_FORM)
    return name, hash_hex, raw[1:]


def check_name(name: str, where: str) -> None:
    """Raise ``InvalidInput`` for what cannot name a key, and so no ledger."""
    if not name or "+" in name or any(char.isspace() for char in name):
        raise invalid(where, "has no name, or one with blanks or a plus sign")
    if any("\ud800" <= char <= "\udfff" for char in name):
        raise invalid(where, "has a name that is no Unicode")


def _signature(line: str, where: str) -> Signature:
    name, blank, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not blank:
        raise invalid(where, "has a line that is no signature", f"{_DASH}<name> <base64>")
    check_name(name, where)
    raw = _bytes_of(encoded, where)
    if len(raw) < 5:
        raise invalid(where, "has a signature that is too short")
    return Signature(name, raw[:4], raw[4:])


def _bytes_of(text: str, where: str) -> bytes:
    """Return what base64 stands for; one spelling alone is right."""
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise invalid(where, "holds what is no base64") from error
    if _base64(raw) != text:
        raise invalid(where, "holds base64 in another than the one right spelling")
    return raw


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
