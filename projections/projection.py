"""What a projection is: a named, versioned fold of the log into one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ledger.events import Recorded


class Projection(Protocol):
    """A fold into one table. Raise ``version`` whenever the table or the fold changes: the engine then rebuilds it."""

    name: str
    version: int

    def create(self, db: Any, table: str) -> None:
        """Create the table under the given name, with the one index that ``apply`` needs."""

    def index(self, db: Any, table: str, generation: str) -> None:
        """Create the indexes that reads need; ``generation`` makes their names unique in the file."""

    def fresh(self) -> Memory:
        """Return an empty memory for a run of ``apply`` calls over one table."""

    def apply(self, db: Any, table: str, events: Sequence[Recorded], memory: Memory) -> list[str]:
        """Fold events, in order and without a gap, inside the caller's transaction; return the ids of changed rows."""


class Memory(dict[str, Any]):
    """States that a projection keeps between batches, so as not to read them back; may be cleared at any time."""
