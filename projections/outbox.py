"""The outbox: all callbacks as they stand at the end of the log, listed from the files alone (``overlay``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from ledger.callbacks import Debt
from ledger.store import Store
from projections import overlay
from projections.callbacks import CALLBACKS, COLUMNS, WAITING, Callback, callback_of
from projections.overlay import Overlay

STATUSES: Final = ("owed", "delivered", "abandoned", WAITING)
"""What a callback can be, in the order of a life."""

_NAMES = ", ".join(COLUMNS)
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


def given_up(debt: Debt) -> Debt:
    """Return what an import left of a debt: given up from the beginning, also before a server has put that on record.

    Only of a debt whose owing event is among ``Store.imported``.
    """
    return msgspec.structs.replace(debt, status="abandoned", due_us=None, reason="imported")


async def entries(store: Store, views: Path, status: str | None, limit: int) -> list[Callback]:
    """Return at most ``limit`` callbacks, of one of ``STATUSES`` or of all; what is owed first, by when it is due.

    ``views``: where the views file is, if there is one. Raises ``Unreadable`` where there is no room for the fold.
    """

    async def question(at_end: Overlay) -> list[Callback]:
        return (await _opened(at_end)).entries(status, limit)

    return await overlay.ask(store, views, "callbacks", question)


async def abandoned_here(store: Store, views: Path, since_us: int) -> list[str]:
    """Return the ids of what was given up at ``since_us`` or later, but for what an import brought; oldest first.

    ``views`` and errors as in ``entries``.
    """

    async def question(at_end: Overlay) -> list[str]:
        return (await _opened(at_end)).abandoned_here(since_us)

    return await overlay.ask(store, views, "callbacks", question)


async def _opened(at_end: Overlay) -> _Outbox:
    """Return the callbacks at the end of the log, with the note which owing events came by an import."""
    source = await at_end.fold(CALLBACKS)
    db = at_end.db
    db.execute("CREATE TABLE elsewhere (position INTEGER PRIMARY KEY) STRICT")
    owed = db.execute(f"SELECT owed_position FROM ({source}) WHERE status = 'owed'")
    while rows := owed.fetchmany(overlay.BATCH):
        imported = await at_end.store.imported([row[0] for row in rows])
        db.executemany("INSERT OR IGNORE INTO elsewhere VALUES (?)", [(each,) for each in imported])
    return _Outbox(db, source)


class _Outbox:
    """All callbacks. ``source``: the SELECT of their rows."""

    def __init__(self, db: Any, source: str) -> None:
        self._db = db
        self._source = source

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
