"""Foreign histories as rows of moves: one small pure module for each format.

A parser turns numbered lines into ``Row`` (what one record says of one resource) or ``Reject``; the importer fills in,
marked ``imputed``, the statuses that the rules need and the source never showed.
"""

from __future__ import annotations

import msgspec

from ledger.events import Changed, Created


class Move(msgspec.Struct, frozen=True):
    """A status that the source says was reached, when (microseconds), and what it says about it."""

    status: str
    time_us: int
    fact: Created | Changed


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
