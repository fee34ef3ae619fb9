"""Signatures by the Standard Webhooks specification 1.0.0, with which a receiver knows that a callback is ours.

Signed is ``{webhook-id}.{webhook-timestamp}.{body}``, once with each secret, so that a secret can be replaced while
receivers still check with the old one. A secret is a text:

    whsec_<base64 of 24 to 64 random bytes>     v1, HMAC-SHA256: the receiver checks with the same secret
    whsk_<base64 of an Ed25519 private key>     v1a, Ed25519: the receiver checks with the public half, whpk_<base64>

Of a ``whsk_`` the specification says no more than that. The reference library for Go reads the 32 bytes of the seed,
Svix writes 64 (seed, then public key); both are read here, and the seed is made.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from standardwebhooks.webhooks import Webhook

from ledger.errors import InvalidInput, invalid

SECRETS_MAX = 5
"""Secrets at once: each costs the time of a signature and 50 to 100 bytes of a header; a rotation needs two."""
HMAC_SIZE_MIN, HMAC_SIZE_MAX = 24, 64
"""Bytes of a ``whsec_`` secret, by the specification."""
HMAC_SIZE = 32
"""Bytes of one made here: as many as HMAC-SHA256 gives out, so that more would not make it stronger (RFC 2104, 3)."""
SEED_SIZE, PAIR_SIZE = 32, 64
"""Bytes of an Ed25519 private key (RFC 8032, 5.1.5), and of one with its public key behind it."""
HMAC_PREFIX, PRIVATE_PREFIX, PUBLIC_PREFIX = "whsec_", "whsk_", "whpk_"
MAKE_ONE = "`jobledger callbacks secret --new` prints a fresh one"


class Key(Protocol):
    """One secret, ready to sign."""

    version: str
    """The identifier before its signatures."""
    verifier: str
    """What a receiver checks with, as text; no two keys have the same."""

    def sign(self, webhook_id: str, now_s: int, body: str) -> str:
        """Return ``version,base64`` for the body at a time in whole seconds since 1970."""


class HmacKey:
    """A secret shared with the receiver: HMAC-SHA256, ``v1``."""

    version = "v1"

    def __init__(self, material: bytes) -> None:
        self.verifier = _text(HMAC_PREFIX, material)
        self._webhook = Webhook(material)

    def sign(self, webhook_id: str, now_s: int, body: str) -> str:
        """Return the signature; see ``Key``."""
        return self._webhook.sign(webhook_id, datetime.fromtimestamp(now_s, UTC), body)


class Ed25519Key:
    """A private key of which receivers have the public half: Ed25519, ``v1a``."""

    version = "v1a"

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._private.public_key().public_bytes_raw()
        self.verifier = _text(PUBLIC_PREFIX, self.public)

    def sign(self, webhook_id: str, now_s: int, body: str) -> str:
        """Return the signature; see ``Key``."""
        return _text("v1a,", self._private.sign(f"{webhook_id}.{now_s}.{body}".encode()))


class Signer:
    """Signs callbacks with one or more secrets, the newest first. It shows no secret but where it is asked to."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = tuple(keys)

    @classmethod
    def parse(cls, text: str, where: str) -> Signer:
        """Return the signer for a comma-separated list of secrets, the newest first; blanks around them are allowed.

        ``where`` is what errors name as the place of the text. Raises ``InvalidInput``, which never holds any of it.
        """
        if not text.strip():
            raise invalid(where, f"holds no secret; {MAKE_ONE}")
        parts = [part.strip() for part in text.split(",")]
        if len(parts) > SECRETS_MAX:
            raise invalid(where, f"holds {len(parts)} secrets; at most {SECRETS_MAX} can be in use at once")
        keys = [_key(part, where, f"secret {number} of {len(parts)}") for number, part in enumerate(parts, 1)]
        for index, key in enumerate(keys):
            if key.verifier in [other.verifier for other in keys[:index]]:
                raise invalid(where, f"secret {index + 1} of {len(parts)} is there before; write each once")
        return cls(keys)

    def headers(self, webhook_id: str, now_us: int, body: bytes) -> dict[str, str]:
        """Return the three headers for a body in UTF-8 that is sent now (microseconds since 1970 UTC).

        Raises ``ValueError`` for an id with a full stop, which would let one signature fit two contents, and for a
        body that is not UTF-8.
        """
        if "." in webhook_id:
            raise ValueError("a webhook-id must hold no full stop")
        now_s, text = now_us // 1_000_000, body.decode()
        return {
            "webhook-id": webhook_id,
            "webhook-timestamp": str(now_s),
            "webhook-signature": " ".join([key.sign(webhook_id, now_s, text) for key in self._keys]),
        }

    def public(self) -> list[str]:
        """Return the public halves (``whpk_…``) of the Ed25519 keys, newest first."""
        return [key.verifier for key in self._keys if isinstance(key, Ed25519Key)]

    def verifiers(self) -> list[tuple[str, str]]:
        """Return what receivers check with, newest first, each as (``v1``, the secret) or (``v1a``, its public half).

        What it returns for ``v1`` is the secret itself: not for logs.
        """
        return [(key.version, key.verifier) for key in self._keys]

    def __repr__(self) -> str:
        return f"<Signer {' '.join(key.version for key in self._keys)}>"


def webhook_id(stream: str, version: int) -> str:
    """Return the ``webhook-id`` of what the event with this version of a stream owes.

    It follows from the event alone, so it is the same over retries, restarts and restored copies, which receivers need
    to drop repeats; 128 bits of SHA-256, no full stop.
    """
    content = f"{stream}\0{version}".encode()
    return f"msg_{hashlib.sha256(content).hexdigest()[:32]}"


def new_secret() -> str:
    """Return a fresh ``whsec_…`` of 256 random bits."""
    return _text(HMAC_PREFIX, secrets.token_bytes(HMAC_SIZE))


def new_private_key() -> str:
    """Return a fresh Ed25519 key, ``whsk_…`` with its seed; ``Signer.public`` tells its public half."""
    return _text(PRIVATE_PREFIX, secrets.token_bytes(SEED_SIZE))


def _text(prefix: str, material: bytes) -> str:
    return prefix + base64.b64encode(material).decode()


def _key(text: str, where: str, which: str) -> Key:
    """Return the key that a secret is the text of; ``which`` names it in errors, as its text must not."""
    if text.startswith(HMAC_PREFIX):
        material = _decoded(text.removeprefix(HMAC_PREFIX), where, which, HMAC_PREFIX)
        if not HMAC_SIZE_MIN <= len(material) <= HMAC_SIZE_MAX:
            raise _fault(
                where, f"{which} must be {HMAC_SIZE_MIN} to {HMAC_SIZE_MAX} bytes in base64 after {HMAC_PREFIX}"
            )
        return HmacKey(material)
    if text.startswith(PRIVATE_PREFIX):
        material = _decoded(text.removeprefix(PRIVATE_PREFIX), where, which, PRIVATE_PREFIX)
        if len(material) not in (SEED_SIZE, PAIR_SIZE):
            raise _fault(
                where,
                f"{which} must be {SEED_SIZE} bytes (the seed) or {PAIR_SIZE} (seed and public key) in base64 "
                f"after {PRIVATE_PREFIX}",
            )
        key = Ed25519Key(material[:SEED_SIZE])
        if material[SEED_SIZE:] not in (b"", key.public):
            raise _fault(where, f"{which} has a public key behind its seed that is not the seed's")
        return key
    if text.startswith(PUBLIC_PREFIX):
        raise _fault(where, f"{which} is a public key, which cannot sign; write its private half, {PRIVATE_PREFIX}…")
    if not text:
        raise _fault(where, f"{which} is empty; write one secret between two commas")
    raise _fault(where, f"{which} must begin with {HMAC_PREFIX} (HMAC-SHA256) or {PRIVATE_PREFIX} (Ed25519)")


def _decoded(text: str, where: str, which: str, prefix: str) -> bytes:
    """Return the bytes of base64 as RFC 4648 (section 4) writes it, padding and all: some receivers are strict."""
    try:
        material = base64.b64decode(text.encode("ascii", "replace"), validate=True)
    except ValueError:  # whose own words may quote what stands there
        material = b""
    if base64.b64encode(material).decode() != text:
        raise _fault(where, f"{which} must be standard base64 after {prefix}: letters, digits, + and /, padded with =")
    return material


def _fault(where: str, what: str) -> InvalidInput:
    return invalid(where, f"{what}; {MAKE_ONE}")
