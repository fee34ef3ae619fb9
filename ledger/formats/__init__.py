"""Foreign histories as rows of moves: one small pure module for each format.

A parser turns numbered lines into ``Row`` (what one record says of one resource) or ``Reject``; the importer fills in,
marked ``imputed``, the statuses that the rules need and the source never showed.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ledger import jsontext
from ledger.errors import invalid
from ledger.events import Changed, Created, Message, Step

INNER: Final = frozenset({"step", "message", "updated"})
"""Verbs that are no status: what happened to a run, or within it, between its statuses."""
TEXT_MAX = 2000
"""Characters of a rejected line that the rejects file keeps."""
RECORD_SIZE_MAX = 64 * 2**20
"""Bytes of one record, what a bulk append may have in all; the longest in the real data has 0.3 MiB."""


class Move(msgspec.Struct, frozen=True):
    """Something that the source says happened, when (microseconds), and what it says about it.

    ``verb``: a status that was reached, or one of ``INNER``.
    """

    verb: str
    time_us: int
    fact: Created | Changed | Step | Message


class Row(msgspec.Struct, frozen=True):
    """One record of the source: the resource it is about, and its moves in order.

    ``key`` names the record for ever, so that importing it again adds nothing. ``raw``: the record as it stood.
    """

    line: int
    stream: str
    kind: str
    key: str
    moves: tuple[Move, ...]
    raw: bytes


class Reject(msgspec.Struct, frozen=True):
    """A line that was not imported, and why."""

    line: int
    reason: str
    text: str


def reject(line: int, reason: object, raw: bytes) -> Reject:
    """Return the reject of a record, of which as much is kept as somebody needs to find it again."""
    text = raw[: TEXT_MAX * 4].decode("utf-8", "replace").strip()[:TEXT_MAX]  # UTF-8 has at most 4 bytes a character
    return Reject(line, str(reason)[:TEXT_MAX], text)


def decode(raw: bytes, where: str) -> Any:
    """Decode the JSON of one record within the bounds of size, depth and numbers. Raises ``LedgerError``."""
    if len(raw) > RECORD_SIZE_MAX:
        raise invalid(where, f"has more than {RECORD_SIZE_MAX >> 20} MiB")
    return jsontext.decode(raw, where)
