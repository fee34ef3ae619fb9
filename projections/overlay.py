"""Views as they stand at the end of the log, asked from the files alone, which stay as they are.

Where the views file is there, undamaged, of this log and of today's fold, only what is behind it is folded from the
log; else all of it is. The fold is that of the views, into a database of its own that is gone with the connection and
goes to the disk where it is large.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from ledger import engine as sqlite
from ledger.errors import Unreadable
from ledger.events import Recorded
from ledger.leaf import leaf_hash
from ledger.store import BATCH_SIZE, Store
from projections.file import NO_CHECKPOINT, checkpoints
from projections.projection import Projection, part_of
from projections.query import IN_MAX
from projections.reader import Place, Reader

BATCH: Final = 10_000
"""Events that are folded at once."""
HERE: Final = "here"
"""What makes the names of indexes unique."""
CACHE_SIZE: Final = 64 * 2**20
"""Bytes of the own database that stay in memory, some 100,000 callbacks."""

T = TypeVar("T")


async def ask(store: Store, views: Path, what: str, question: Callable[[Overlay], Awaitable[T]]) -> T:
    """Return what a question finds. ``views``: where the views file is, if there is one; ``what``: what is asked for.

    Raises ``Unreadable`` where there is no room for the fold.
    """
    try:
        return await _ask(store, views, question)
    except sqlite.Error:  # the views are damaged or being replaced, and the log has every word of them
        try:
            return await _ask(store, None, question)
        except sqlite.Error as error:
            raise Unreadable(path=f"the {what} of the log", reason=str(error)) from error


async def _ask(store: Store, views: Path | None, question: Callable[[Overlay], Awaitable[T]]) -> T:
    db = sqlite.library.connect("", uri=True, isolation_level=None, timeout=sqlite.BUSY_TIMEOUT_S)
    try:
        db.execute(f"PRAGMA cache_size = -{CACHE_SIZE // 1024}")
        is_there = views is not None and _attach(db, views)
        db.execute("BEGIN")  # the checkpoints of the views and their rows are of one moment
        return await question(Overlay(db, store, is_there=is_there))
    finally:
        db.close()


def _attach(db: Any, views: Path) -> bool:
    """Attach the views file to read it; tell whether there is one."""
    if not views.exists():
        return False
    db.execute("ATTACH ? AS views", (f"{views.resolve().as_uri()}?mode=ro",))
    return True


class Overlay:
    """A database with what the views do not have, and the views beside it. ``db`` may take tables of the question.

    ``reader`` is for questions that are put to the views of a server, too: their SQL is the same. What lists as of a
    point need of rows (``resources.NEWEST``) is not kept here.
    """

    def __init__(self, db: Any, store: Store, *, is_there: bool) -> None:
        self.db = db
        self.store = store
        self._is_there = is_there
        self._behind: dict[str, bool] = {}

    async def reader(self, projections: Sequence[Projection]) -> Reader:
        """Fold what the views of these projections do not have; return what reads their tables by their own names."""
        for projection in projections:
            await self.fold(projection)
            if not self._behind[projection.name]:
                projection.index(self.db, projection.name, HERE)
        for projection in projections:
            for part in projection.parts:
                if part in projection.sums:
                    self._name(part_of(projection.name, part), self._sums(projection, part))
            self._name(projection.name, self._source(projection))
        return _Reader(self.db, {projection.name: self._places(projection) for projection in projections})

    async def fold(self, projection: Projection) -> str:
        """Fold what a view does not have. Return the SELECT of its rows."""
        name = projection.name
        position = await self._reached(projection) if self._is_there else 0
        is_behind = self._behind[name] = position > 0
        self.db.execute(f"CREATE TABLE touched_{name} (id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID")
        projection.create(self.db, name)
        if is_behind:  # what is taken over may be erased, which a fold of the whole log does not have to look for
            projection.index(self.db, name, HERE)
        memory = projection.fresh()
        while batch := await self.store.scan(position, BATCH, projection.types, BATCH_SIZE):
            if is_behind:
                self._take_over(projection, batch)
            births = None if is_behind else await self.store.births(projection.needed(batch, memory))
            projection.apply(self.db, name, batch, memory, births)
            position = batch[-1].position
        return self._source(projection)

    async def _reached(self, projection: Projection) -> int:
        """Return up to which position the views count: 0 where they are of another fold or another log."""
        version, position, leaf = checkpoints(self.db).get(projection.name, NO_CHECKPOINT)
        if version != projection.version or not position:
            return 0
        found = await self.store.scan(position - 1, 1)
        return position if found and leaf_hash(found[0]) == leaf else 0

    def _take_over(self, projection: Projection, batch: Sequence[Recorded]) -> None:
        """Take over from the views what the log goes on with, each once: it may be erased here."""
        name, stream = projection.name, projection.stream
        behind = f"SELECT * FROM views.{name} WHERE {self._untouched(projection)}"
        wanted = list({event.stream for event in batch})
        for start in range(0, len(wanted), IN_MAX):
            part = wanted[start : start + IN_MAX]
            marks = ",".join("?" * len(part))
            self.db.execute(f"INSERT INTO main.{name} {behind} AND {stream} IN ({marks})", part)
        self.db.executemany(f"INSERT OR IGNORE INTO touched_{name} VALUES (?)", [(id,) for id in wanted])

    def _untouched(self, projection: Projection) -> str:
        return f"{projection.stream} NOT IN (SELECT id FROM main.touched_{projection.name})"

    def _places(self, projection: Projection) -> list[Place]:
        """Return where the rows of a view are."""
        if not self._behind[projection.name]:
            return [Place("main", "1")]
        touched = self.db.execute(f"SELECT 1 FROM main.touched_{projection.name} LIMIT 1").fetchone()
        if touched is None:
            return [Place("views", "1")]
        return [Place("main", "1"), Place("views", self._untouched(projection))]

    def _source(self, projection: Projection) -> str:
        return " UNION ALL ".join(
            f"SELECT * FROM {place.schema}.{projection.name} WHERE {place.condition}"
            for place in self._places(projection)
        )

    def _sums(self, projection: Projection, part: str) -> str:
        table = part_of(projection.name, part)
        schemas = [place.schema for place in self._places(projection)]
        return " UNION ALL ".join(f"SELECT * FROM {schema}.{table}" for schema in schemas)

    def _name(self, name: str, source: str) -> None:
        self.db.execute(f"CREATE TEMP VIEW {name} AS {source}")  # found before tables of the name


class _Reader:
    """See ``Reader``."""

    def __init__(self, db: Any, places: Mapping[str, Sequence[Place]]) -> None:
        self._db = db
        self._places = places

    async def read(self, text: str, parameters: dict[str, Any], *, is_long: bool = False) -> list[Any]:
        rows: list[Any] = self._db.execute(text, parameters).fetchall()
        return rows

    def places(self, name: str) -> Sequence[Place]:
        return self._places[name]
