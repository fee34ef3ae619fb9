"""What a projection is: a named, versioned fold of the log into one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

from ledger.events import Recorded


class Projection(Protocol):
    """A fold into one table. Raise ``version`` whenever the table or the fold changes: the engine then rebuilds it."""

    name: str
    version: int
    types: frozenset[str]
    """The event types that it folds; only these are given to it."""
    place: str
    """The column that holds the log position of a row's last change."""
    subject: str
    """The column that names what a row is about."""
    stream: str
    """The column that names the stream which a row is folded from."""
    parts: tuple[str, ...]
    """Further tables, each named behind the first one (``part_of``): renamed, dropped and compared along with it."""
    sums: tuple[str, ...]
    """Those parts whose rows add up: a fold of later events writes what is to be added, wherever the rest stands."""

    def totals(self, db: Any, schema: str = "main") -> dict[tuple[Any, ...], list[Any]]:
        """Return what the sums of a schema add up to by their keys, however that is spread over rows."""

    def create(self, db: Any, table: str) -> None:
        """Create the table under the given name, and its parts, without indexes: a rebuild fills them first."""

    def index(self, db: Any, table: str, generation: str) -> None:
        """Create the indexes that reads need; ``generation`` makes their names unique in the file."""

    def fresh(self) -> Memory:
        """Return an empty memory for a run of ``apply`` calls over one table."""

    def needed(self, events: Sequence[Recorded], memory: Memory) -> list[str]:
        """Return the streams whose rows ``apply`` will have to read back for these events."""

    def apply(
        self,
        db: Any,
        table: str,
        events: Sequence[Recorded],
        memory: Memory,
        births: Mapping[str, int] | None = None,
    ) -> list[str]:
        """Fold events of its types, in order and without a gap, in the caller's transaction; return changed rows' ids.

        ``births``: given when the table has no indexes yet: the position of the first event of each needed stream.
        """


class Memory(dict[Any, Any]):
    """States that a projection keeps between batches, so as not to read them back; may be cleared at any time."""

    def trim(self, size_max: int) -> None:
        """Drop the older half when there are more than ``size_max``."""
        if len(self) > size_max:
            for old in list(islice(self, len(self) // 2)):
                del self[old]


def upsert(db: Any, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write whole rows, new ones or others in their places; the first column is the key, a log position."""
    if rows:
        key, *others = columns
        sets = ", ".join(f"{name} = excluded.{name}" for name in others)
        marks = ",".join("?" * len(columns))
        db.executemany(f"INSERT INTO {table} VALUES ({marks}) ON CONFLICT ({key}) DO UPDATE SET {sets}", rows)


def part_of(table: str, part: str) -> str:
    """Return the name of a part of a projection whose first table has the name ``table``."""
    return f"{table}_{part}"


def tables_of(projection: Projection, suffix: str = "") -> list[str]:
    """Return the names of all tables of a projection; ``suffix``: of the first one, where it is not the one in use."""
    table = projection.name + suffix
    return [table, *(part_of(table, part) for part in projection.parts)]


class Within:
    """What folds have in common that find rows by their own keys, also in a rebuild, as of what happens within runs."""

    stream = "run_id"
    parts: tuple[str, ...] = ()
    sums: tuple[str, ...] = ()

    def totals(self, db: Any, schema: str = "main") -> dict[tuple[Any, ...], list[Any]]:
        """See ``Projection.totals``."""
        return {}

    def fresh(self) -> Memory:
        """See ``Projection.fresh``."""
        return Memory()

    def needed(self, events: Sequence[Recorded], memory: Memory) -> list[str]:
        """See ``Projection.needed``: no row is read back by the birth of its stream."""
        return []
