"""The status history, in SQL: when each status was reached stands in the row of its resource.

The rules allow each status once, so a life has at most one time and one log position for created, pending, running,
the end and the deletion. From these columns a query tells what a resource was at any time or position, without
folding its events.
"""

from __future__ import annotations

from typing import NamedTuple


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
