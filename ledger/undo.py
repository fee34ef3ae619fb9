"""What events changed beside a status: the old values, kept in the state, so that it can be taken back without the log.

An entry is ``[position, time_us, {field: old value}]`` in JSON, with fields named as clients read them.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

SIZE_MAX: Final = 2048
"""Bytes that are kept of one resource, a few times what a usual one is on the wire; of more, the log must tell."""


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """What one event changed: where and when it took effect, and the values before it."""

    position: int
    time_us: int
    old: dict[str, msgspec.Raw]


entries = msgspec.json.Decoder(list[Entry]).decode
_encode = msgspec.json.Encoder().encode


def added(undo: bytes | None, position: int, time_us: int, old: dict[str, Any]) -> bytes | None:
    """Return the entries with one more, None where that would be too much."""
    entry = _encode((position, time_us, old))
    more = b"[" + entry + b"]" if undo is None else undo[:-1] + b"," + entry + b"]"
    return more if len(more) <= SIZE_MAX else None
