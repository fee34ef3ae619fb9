"""Views as they stand at the end of the log, asked from the files alone, which stay as they are.

Where the views file is there, undamaged, of this log and of today's fold, only what is behind it is folded from the
log; else all of it is. The fold is that of the views, into a database of its own that is gone with the connection and
goes to the disk where it is large.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from ledger import engine as sqlite
from ledger.errors import Unreadable
from ledger.events import Recorded
from ledger.leaf import leaf_hash
from ledger.store import Store
from projections.file import NO_CHECKPOINT, checkpoints
from projections.projection import Projection
from projections.query import IN_MAX

BATCH: Final = 10_000
"""Events that are folded at once."""
BATCH_SIZE: Final = 32 * 2**20
"""Bytes of their data: the creation of a job may bring 1 MiB of metadata."""
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
    """A database with what the views do not have, and the views beside it. ``db`` may take tables of the question."""

    def __init__(self, db: Any, store: Store, *, is_there: bool) -> None:
        self.db = db
        self.store = store
        self._is_there = is_there

    async def fold(self, projection: Projection, columns: Sequence[str]) -> str:
        """Fold what a view does not have. Return the SELECT of its rows, those of ``columns``, which are all it has."""
        name, names = projection.name, ", ".join(columns)
        here = f"SELECT {names} FROM main.{name}"
        behind = f"SELECT {names} FROM views.{name} WHERE id NOT IN (SELECT id FROM touched_{name})"
        position = await self._reached(projection) if self._is_there else 0
        is_behind = position > 0
        self.db.execute(f"CREATE TABLE touched_{name} (id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID")
        projection.create(self.db, name)
        memory = projection.fresh()
        while batch := await self.store.scan(position, BATCH, projection.types, BATCH_SIZE):
            if is_behind:
                self._take_over(name, behind, batch)
            births = await self.store.births(projection.needed(batch, memory))
            projection.apply(self.db, name, batch, memory, births)
            position = batch[-1].position
        return f"{here} UNION ALL {behind}" if is_behind else here

    async def _reached(self, projection: Projection) -> int:
        """Return up to which position the views count: 0 where they are of another fold or another log."""
        version, position, leaf = checkpoints(self.db).get(projection.name, NO_CHECKPOINT)
        if version != projection.version or not position:
            return 0
        found = await self.store.scan(position - 1, 1)
        return position if found and leaf_hash(found[0]) == leaf else 0

    def _take_over(self, name: str, behind: str, batch: Sequence[Recorded]) -> None:
        """Take over from the views what the log goes on with, each once: it may be erased here."""
        wanted = list({event.stream for event in batch})
        for start in range(0, len(wanted), IN_MAX):
            part = wanted[start : start + IN_MAX]
            marks = ",".join("?" * len(part))
            self.db.execute(f"INSERT INTO main.{name} {behind} AND id IN ({marks})", part)
        self.db.executemany(f"INSERT OR IGNORE INTO touched_{name} VALUES (?)", [(id,) for id in wanted])
