"""The status history, in SQL: when each status was reached stands in the row of its resource.

The rules allow each status once, so a life has at most one time and one log position for created, pending, running,
the end and the deletion. From these columns a query tells what a resource was at any time or position, without
folding its events.

Few of a million rows were alive at a point: those are found by how long lives last. A life of class k lasts less than
2**k, so that one which was alive at T began after T - 2**k.
"""

from __future__ import annotations

from typing import Final, NamedTuple

SPAN_MIN: Final = 8
"""The class of the shortest lives: all of less than 256 microseconds or positions, which few are at once."""
SPAN_OPEN: Final = 62
"""The class of lives that have not ended: longer than any calendar or log."""
SPANS: Final = f"[{','.join(map(str, range(SPAN_MIN, SPAN_OPEN + 1)))}]"
"""All classes, as JSON."""


def span_of(length: int) -> int:
    """Return the class of a life that lasted so many microseconds or positions."""
    return min(max(length.bit_length(), SPAN_MIN), SPAN_OPEN)


class AsOf(NamedTuple):
    """A point in history: what the ledger knew at ``position``, or what had happened by ``time_us``."""

    position: int | None = None
    time_us: int | None = None

    @property
    def suffix(self) -> str:
        """The ending of the columns that hold this kind of point."""
        return "position" if self.time_us is None else "us"

    @property
    def value(self) -> int:
        """The point itself."""
        return (self.position if self.time_us is None else self.time_us) or 0


def existed(at: AsOf, of: str = "") -> str:
    """Return the condition that a resource existed then and was not deleted; binds ``:as_of``. ``of``: ``runs.``."""
    end = at.suffix
    return f"{of}created_{end} <= :as_of AND ({of}deleted_{end} IS NULL OR {of}deleted_{end} > :as_of)"


def status_at(at: AsOf, of: str = "") -> str:
    """Return the expression of the status then; binds ``:as_of``. ``of``: the table's name and a dot, in joins."""
    end = at.suffix
    return (
        f"CASE WHEN {of}ended_{end} <= :as_of THEN {of}status "
        f"WHEN {of}running_{end} <= :as_of THEN 'running' "
        f"WHEN {of}pending_{end} <= :as_of THEN 'pending' ELSE 'created' END"
    )


def alive(at: AsOf, table: str) -> str:
    """Return the query of where rows stand that had not ended then, and of a few that had.

    Binds ``:as_of``, ``:spans`` and ``:living_max``. It is one range of the index for each class; the limit also keeps
    SQLite from mixing it with what else is asked, which would lead it to other indexes.
    """
    end = at.suffix
    return (
        f"SELECT created_position AS place FROM (SELECT value AS span FROM json_each(:spans)) CROSS JOIN {table} "
        f"ON span_{end} = span AND created_{end} > :as_of - (1 << span) AND created_{end} <= :as_of LIMIT :living_max"
    )
