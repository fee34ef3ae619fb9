"""Tokens: ``jl_`` + 43 random characters + ``_`` + a checksum, and the events that put them in and out of force."""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib

import msgspec

from ledger.events import Granted, Recorded, Revoked
from ledger.upcast import fact

ACCESS_TYPES = ("access.granted", "access.revoked")
_FORM = re.compile(r"jl_([A-Za-z0-9_-]{43})_([0-9a-z]{7})")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Grant(msgspec.Struct, frozen=True):
    """A token in force: whose it is, what it may do (read, write, admin), where, and until when (microseconds)."""

    id: str
    user_id: str
    scopes: frozenset[str]
    project_id: str | None
    expires_us: int | None
    granted_us: int
    granted_by: str


def mint() -> str:
    """Return a new token; 43 characters hold 256 random bits."""
    body = secrets.token_urlsafe(32)
    return f"jl_{body}_{checksum(body)}"


def checksum(body: str) -> str:
    """Return the 7 characters that follow from the random part: CRC-32 in base 36."""
    value, text = zlib.crc32(body.encode()), ""
    for _ in range(7):
        value, digit = divmod(value, 36)
        text = _DIGITS[digit] + text
    return text


def is_well_formed(token: str) -> bool:
    """Tell whether the text has a token's form and a right checksum, so that typing errors go no further."""
    match = _FORM.fullmatch(token)
    return match is not None and checksum(match[1]) == match[2]


def digest(token: str) -> str:
    """Return what is kept of a token: its SHA-256, hex."""
    return hashlib.sha256(token.encode()).hexdigest()


class Access:
    """The fold of ``access.*`` events: which tokens are in force."""

    def __init__(self) -> None:
        self._by_digest: dict[str, Grant] = {}
        self._digest_of: dict[str, str] = {}
        self._revoked: dict[str, Grant] = {}
        self.position = 0

    def apply(self, events: list[Recorded]) -> None:
        """Fold events of the log, in order; others than ``access.*`` are passed over, known ones too."""
        for event in events:
            if event.type in ACCESS_TYPES and event.position > self.position:
                self.position = event.position
                self._fold(event)

    def _fold(self, event: Recorded) -> None:
        known = fact(event)
        if isinstance(known, Granted):
            self._digest_of[event.stream] = known.token_sha256
            self._by_digest[known.token_sha256] = Grant(
                event.stream,
                known.user_id,
                frozenset(known.scopes),
                known.project_id,
                known.expires_us,
                event.time,
                event.actor,
            )
        elif isinstance(known, Revoked):
            token_sha256 = self._digest_of.pop(event.stream, "")
            grant = self._by_digest.pop(token_sha256, None)
            if grant is not None:
                self._revoked[token_sha256] = grant

    def find(self, token: str, now_us: int) -> Grant | None:
        """Return the grant of a token that is in force now, else None; a lookup by digest, whose time tells nothing."""
        grant = self._by_digest.get(digest(token))
        if grant is None or (grant.expires_us is not None and grant.expires_us <= now_us):
            return None
        return grant

    def holder(self, token: str) -> Grant | None:
        """Return the grant of a token that is or once was in force: whose it was, not what it may do."""
        token_sha256 = digest(token)
        return self._by_digest.get(token_sha256) or self._revoked.get(token_sha256)

    def is_in_force(self, token_id: str, now_us: int) -> bool:
        """Tell whether a token is neither revoked nor expired."""
        grant = self.get(token_id)
        return grant is not None and (grant.expires_us is None or grant.expires_us > now_us)

    def get(self, token_id: str) -> Grant | None:
        """Return a grant by the token's id."""
        return self._by_digest.get(self._digest_of.get(token_id, ""))

    def all(self) -> list[Grant]:
        """Return every grant that is not revoked, oldest first."""
        return sorted(self._by_digest.values(), key=lambda grant: (grant.granted_us, grant.id))
