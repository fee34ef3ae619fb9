"""Typed ids: ``job-<uuid4>``, ``run-<uuid4>``, ``step-<uuid4>``, ``message-<uuid4>``, ``user-…``, ``token-…``."""

from __future__ import annotations

import hashlib
import re

from ledger.entropy import Entropy
from ledger.errors import invalid

SYSTEM_USER = "user-00000000-0000-4000-8000-000000000000"
"""The user that the V1 server used when no other was named; also the actor of the ledger's own beats."""

LABEL_SIZE_MAX = 256
"""Characters of an id that is not ours (agents, conversations, templates); the longest in the real data has 42."""

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
KINDS = ("job", "run", "step", "message", "user", "token")
_TYPED = {kind: re.compile(rf"{kind}-{_UUID}").fullmatch for kind in KINDS}
_entropy = Entropy()
_LABEL = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]+").fullmatch
LABEL_PATTERN = "^[^\\x00-\\x1f\\x7f-\\x9f]*$"
"""What a label looks like, as JSON Schema writes it; JSON that can be read has no surrogates."""


def make(kind: str) -> str:
    """Return a new random id of the kind, such as ``run-6f9c…``."""
    return f"{kind}-{_uuid4(_entropy.take())}"


def derive(kind: str, source: str, foreign: str) -> str:
    """Return the one id that (source, foreign id) always maps to, in the form of a uuid4.

    Importing the same record twice thus names the same stream.
    """
    digest = hashlib.sha256(f"{source}\0{foreign}".encode()).digest()
    return f"{kind}-{_uuid4(digest[:16])}"


def _uuid4(raw: bytes) -> str:
    """Return 16 bytes as the text of a version 4 UUID (RFC 9562, 5.4): 122 of their bits are kept."""
    text = raw.hex()
    variant = "89ab"[raw[8] >> 4 & 3]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


def pattern(*kinds: str) -> str:
    """Return the regular expression of the ids of some kinds, as JSON Schema writes it."""
    prefix = kinds[0] if len(kinds) == 1 else f"({'|'.join(kinds)})"
    return f"^{prefix}-{_UUID}$"


def is_id(text: str, *kinds: str) -> bool:
    """Tell whether ``text`` is a well-formed id of one of the kinds (any uuid version, lower case)."""
    return any(_TYPED[kind](text) for kind in kinds)


def parse(text: str, *kinds: str, where: str = "id") -> str:
    """Return ``text`` when it is a well-formed id of one of the kinds; raise ``InvalidInput`` otherwise."""
    if is_id(text, *kinds):
        return text
    forms = " or ".join(f"{kind}-<uuid4>" for kind in kinds)
    raise invalid(where, f"'{text[:80]}' is not an id of the form {forms} in lower case", forms)


def label(text: str, where: str, size_max: int = LABEL_SIZE_MAX) -> str:
    """Return ``text`` when it can name something of another system: 1 to 256 characters, no controls."""
    if len(text) <= size_max and _LABEL(text):
        return text
    raise invalid(where, f"must have 1 to {size_max} characters and no control characters")
