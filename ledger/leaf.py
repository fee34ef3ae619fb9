"""Leaf data of an event in the Merkle tree (contract 2, Tamper evidence)."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import msgspec
from msgspec.structs import astuple

from ledger.events import Recorded

_encode = msgspec.json.Encoder().encode


def payload_digest(event: Recorded) -> str:
    """Return SHA-256(salt + data as stored), hex; the kept one where data and salt were erased."""
    if event.data is None or event.salt is None:
        return event.digest or ""
    return sha256(event.salt + event.data).hexdigest()


def leaf_data(event: Recorded) -> bytes:
    """Return the compact UTF-8 JSON array that stands for the event in the tree; times in integer microseconds."""
    return _encode(
        (
            event.position,
            event.stream,
            event.version,
            event.type,
            event.schema,
            event.time,
            event.recorded,
            event.actor,
            event.key,
            event.correlation,
            payload_digest(event),
        )
    )


def leaf_hash(event: Recorded) -> bytes:
    """Return the RFC 9162 leaf hash: SHA-256(0x00 + leaf data)."""
    return sha256(b"\x00" + leaf_data(event)).digest()


def row_hash(row: Sequence[Any], digest: str) -> bytes:
    """Return the leaf hash of an event that is a row: its ten columns from position to correlation, and the digest."""
    return sha256(b"\x00" + _encode((*row, digest))).digest()


def leaf_hashes(events: Sequence[Recorded]) -> list[bytes]:
    """Return the leaf hash of each event; every append pays for this loop, so it calls nothing of its own."""
    hashes = []
    for event in events:
        position, stream, version, type, schema, time, recorded, actor, key, correlation, data, salt, digest = astuple(
            event
        )
        if data is not None and salt is not None:
            digest = sha256(salt + data).hexdigest()
        leaf = (position, stream, version, type, schema, time, recorded, actor, key, correlation, digest or "")
        hashes.append(sha256(b"\x00" + _encode(leaf)).digest())
    return hashes
