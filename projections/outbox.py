"""The outbox: all callbacks as they stand at the end of the log, listed from the files alone, which stay as they are.

Where the views file is there, undamaged, of this log and of today's fold, only what is behind it is folded from the
log; else all of it is. The fold is that of the callbacks view, into a database of its own that is gone with the
connection and goes to the disk where it is large.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from ledger import engine as sqlite
from ledger.callbacks import Debt
from ledger.errors import Unreadable
from ledger.leaf import leaf_hash
from ledger.store import Store
from projections.callbacks import CALLBACKS, COLUMNS, WAITING, Callback, callback_of
from projections.file import NO_CHECKPOINT, checkpoints
from projections.query import IN_MAX

STATUSES: Final = ("owed", "delivered", "abandoned", WAITING)
"""What a callback can be, in the order of a life."""
BATCH: Final = 10_000
"""Events that are folded at once."""
BATCH_SIZE: Final = 32 * 2**20
"""Bytes of their data: the creation of a job may bring 1 MiB of metadata."""
CACHE_SIZE: Final = 64 * 2**20
"""Bytes of the own database that stay in memory, some 100,000 callbacks."""

_NAMES = ", ".join(COLUMNS)
_HERE = f"SELECT {_NAMES} FROM main.callbacks"
_BEHIND = f"SELECT {_NAMES} FROM views.callbacks WHERE id NOT IN (SELECT id FROM touched)"
_IMPORTED = "status = 'owed' AND owed_position IN (SELECT position FROM elsewhere)"
_OWED = "status = 'owed' AND owed_position NOT IN (SELECT position FROM elsewhere)"
_ABANDONED = f"(status = 'abandoned' OR {_IMPORTED})"
_WHERE: Final = {"owed": _OWED, "delivered": "status = 'delivered'", "abandoned": _ABANDONED, WAITING: "status IS NULL"}
_GROUPS: Final = (
    (("owed",), "due_us, owed_position"),
    (("delivered", "abandoned"), "settled_us DESC, ended_position DESC"),
    ((WAITING,), "position DESC"),
)
"""How callbacks are listed: what is owed, by when it is due; then what is settled, newest first; then the rest."""

T = TypeVar("T")


def given_up(debt: Debt) -> Debt:
    """Return what an import left of a debt: given up from the beginning, also before a server has put that on record.

    Only of a debt whose owing event is among ``Store.imported``.
    """
    return msgspec.structs.replace(debt, status="abandoned", due_us=None, reason="imported")


async def entries(store: Store, views: Path, status: str | None, limit: int) -> list[Callback]:
    """Return at most ``limit`` callbacks, of one of ``STATUSES`` or of all; what is owed first, by when it is due.

    ``views``: where the views file is, if there is one. Raises ``Unreadable`` where there is no room for the fold.
    """
    return await _ask(store, views, lambda outbox: outbox.entries(status, limit))


async def abandoned_here(store: Store, views: Path, since_us: int) -> list[str]:
    """Return the ids of what was given up at ``since_us`` or later, but for what an import brought; oldest first.

    ``views`` and errors as in ``entries``.
    """
    return await _ask(store, views, lambda outbox: outbox.abandoned_here(since_us))


async def _ask(store: Store, views: Path, question: Callable[[_Outbox], T]) -> T:
    try:
        return await _ask_once(store, views, question)
    except sqlite.Error:  # the views are damaged or being replaced, and the log has every word of them
        try:
            return await _ask_once(store, None, question)
        except sqlite.Error as error:
            raise Unreadable(path="the callbacks of the log", reason=str(error)) from error


async def _ask_once(store: Store, views: Path | None, question: Callable[[_Outbox], T]) -> T:
    db = sqlite.library.connect("", uri=True, isolation_level=None, timeout=sqlite.BUSY_TIMEOUT_S)
    try:
        db.execute(f"PRAGMA cache_size = -{CACHE_SIZE // 1024}")
        outbox = _Outbox(db, store)
        await outbox.fold(views)
        return question(outbox)
    finally:
        db.close()


class _Outbox:
    """A database with what the views do not have, and the views beside it."""

    def __init__(self, db: Any, store: Store) -> None:
        self._db = db
        self._store = store
        self._source = _HERE

    def entries(self, status: str | None, limit: int) -> list[Callback]:
        """See ``entries`` of this module."""
        found: list[Callback] = []
        for statuses, order in _GROUPS:
            chosen = [each for each in statuses if status in (None, each)]
            if chosen and len(found) < limit:
                where = " OR ".join(f"({_WHERE[each]})" for each in chosen)
                found += self._select(f"{where} ORDER BY {order} LIMIT ?", limit - len(found))
        return found

    def abandoned_here(self, since_us: int) -> list[str]:
        """See ``abandoned_here`` of this module."""
        where = "status = 'abandoned' AND reason IS NOT 'imported' AND settled_us >= ?"
        text = f"SELECT id FROM ({self._source}) WHERE {where} ORDER BY settled_us, ended_position"
        return [row[0] for row in self._db.execute(text, (since_us,))]

    def _select(self, rest: str, limit: int) -> list[Callback]:
        rows = self._db.execute(f"SELECT {_NAMES} FROM ({self._source}) WHERE {rest}", (limit,)).fetchall()
        return [self._as_it_is(callback_of(row)) for row in rows]

    def _as_it_is(self, callback: Callback) -> Callback:
        debt = callback.debt
        if debt is not None and debt.is_owed:
            known = self._db.execute("SELECT 1 FROM elsewhere WHERE position = ?", (debt.owed_position,)).fetchone()
            callback.debt = debt if known is None else given_up(debt)
        return callback

    async def fold(self, views: Path | None) -> None:
        """Fold what the views do not have; all where there are none that count."""
        is_there = views is not None and _attach(self._db, views)
        self._db.execute("BEGIN")  # the checkpoint of the views and their rows are of one moment
        position = await self._reached() if is_there else 0
        self._create()
        if position:
            self._source = f"{_HERE} UNION ALL {_BEHIND}"
        memory = CALLBACKS.fresh()
        while batch := await self._store.scan(position, BATCH, CALLBACKS.types, BATCH_SIZE):
            if self._source is not _HERE:
                self._take_over({event.stream for event in batch})
            CALLBACKS.apply(self._db, "callbacks", batch, memory)
            position = batch[-1].position
        await self._find_imported()

    def _create(self) -> None:
        self._db.execute("CREATE TABLE touched (id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID")
        self._db.execute("CREATE TABLE elsewhere (position INTEGER PRIMARY KEY) STRICT")
        CALLBACKS.create(self._db, "callbacks")

    async def _reached(self) -> int:
        """Return up to which position the views count: 0 where they are of another fold or another log."""
        version, position, leaf = checkpoints(self._db).get(CALLBACKS.name, NO_CHECKPOINT)
        if version != CALLBACKS.version or not position:
            return 0
        found = await self._store.scan(position - 1, 1)
        return position if found and leaf_hash(found[0]) == leaf else 0

    def _take_over(self, ids: set[str]) -> None:
        """Take over from the views what the log goes on with, each once: it may be erased here."""
        wanted = list(ids)
        for start in range(0, len(wanted), IN_MAX):
            part = wanted[start : start + IN_MAX]
            marks = ",".join("?" * len(part))
            self._db.execute(f"INSERT INTO main.callbacks {_BEHIND} AND id IN ({marks})", part)
        self._db.executemany("INSERT OR IGNORE INTO touched VALUES (?)", [(id,) for id in wanted])

    async def _find_imported(self) -> None:
        """Note which owing events came by an import."""
        owed = self._db.execute(f"SELECT owed_position FROM ({self._source}) WHERE status = 'owed'")
        while rows := owed.fetchmany(BATCH):
            imported = await self._store.imported([row[0] for row in rows])
            self._db.executemany("INSERT OR IGNORE INTO elsewhere VALUES (?)", [(each,) for each in imported])


def _attach(db: Any, views: Path) -> bool:
    """Attach the views file to read it; tell whether there is one."""
    if not views.exists():
        return False
    db.execute("ATTACH ? AS views", (f"{views.resolve().as_uri()}?mode=ro",))
    return True
