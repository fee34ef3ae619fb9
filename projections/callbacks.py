"""The callbacks view: every callback that was asked for, what is owed of it, and when it is due next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import astuple

from ledger import callbacks, upcast
from ledger.callbacks import Debt
from ledger.events import CALLBACK_TYPES, Attempted, Created, Recorded
from ledger.transitions import KINDS, TERMINAL, statuses
from projections.projection import Memory, Within, upsert
from projections.query import IN_MAX

STATES_MAX = 20_000
"""Callbacks remembered between batches, about 1 KiB each; one that is not remembered is read back from its row."""

_BIRTHS = frozenset(f"{kind}.created" for kind in KINDS)
_ENDS = frozenset(f"{kind}.{status}" for kind in KINDS for status in statuses(kind) if status in TERMINAL)
_ERASURES = frozenset(f"{kind}.erased" for kind in KINDS)


class Callback(msgspec.Struct, gc=False):
    """A callback after the events so far; its fields are the columns of its row, those of ``Debt`` behind them.

    ``receiver``: scheme, host and port of the URL. ``sent_us``, ``status_code`` and ``error`` are of the last attempt.
    """

    position: int
    id: str
    kind: str
    user_id: str
    project_id: str | None
    url: str
    receiver: str
    changed_position: int
    sent_us: int | None = None
    status_code: int | None = None
    error: str | None = None
    debt: Debt | None = None


WAITING = "waiting"
"""The status while the job or run has not ended."""
_OWN = Callback.__struct_fields__[:-1]
_DEBT = Debt.__struct_fields__
COLUMNS = (*_OWN, *_DEBT)
_TEXT = {"id", "kind", "user_id", "project_id", "url", "receiver", "error", "status", "reason"}
_NO_DEBT = (None,) * len(_DEBT)


def evolve(callback: Callback | None, event: Recorded) -> Callback | None:
    """Fold one event into the callback of its stream and return it; None where nobody asked for one.

    The callback passed in is taken over.
    """
    if callback is None:
        return _create(event) if event.type in _BIRTHS else None
    callback.changed_position = event.position
    if event.type in _ENDS:
        callback.debt = callbacks.owe(event)
    elif callback.debt is not None:
        fact = upcast.fact(event)
        callback.debt = callbacks.evolve(callback.debt, event, fact)
        if isinstance(fact, Attempted):
            callback.sent_us = callbacks.sent_us(event, fact)
            callback.status_code, callback.error = fact.status_code, fact.error
    return callback


def _create(event: Recorded) -> Callback | None:
    if not callbacks.may_name(event.data):
        return None
    fact = upcast.fact(event)
    if not isinstance(fact, Created) or fact.callback_url is None:
        return None
    kind = event.type.partition(".")[0]
    at = event.position
    url = fact.callback_url
    return Callback(at, event.stream, kind, fact.user_id, fact.project_id, url, callbacks.receiver(url), at)


def callback_of(row: Sequence[Any]) -> Callback:
    """Return the callback that a row (all ``COLUMNS``) holds."""
    debt = row[len(_OWN) :]
    callback = Callback(*row[: len(_OWN)])
    callback.debt = None if debt[0] is None else Debt(*debt)
    return callback


class CallbacksProjection(Within):
    """Folds what makes, attempts and settles callbacks into one row for each resource with a ``callback_url``.

    A row stands at the position of the resource's creation; ``due_us`` is null unless something is owed.
    """

    name = "callbacks"
    version = 2
    types = _BIRTHS | _ENDS | _ERASURES | CALLBACK_TYPES
    place, subject, stream = "changed_position", "id", "id"

    def create(self, db: Any, table: str) -> None:
        """See ``Projection.create``; the key finds callbacks again while a rebuild has no indexes yet."""
        columns = ", ".join(_declaration(name) for name in COLUMNS)
        db.execute(f"CREATE TABLE {table} ({columns}, UNIQUE (id)) STRICT")

    def index(self, db: Any, table: str, generation: str) -> None:
        """See ``Projection.index``."""
        db.execute(f"CREATE INDEX callbacks_due_{generation} ON {table} (due_us, position) WHERE due_us IS NOT NULL")
        db.execute(
            f"CREATE INDEX callbacks_receiver_{generation} ON {table} (receiver, due_us, position) "
            "WHERE due_us IS NOT NULL"
        )
        db.execute(f"CREATE INDEX callbacks_status_{generation} ON {table} (status, ended_position)")

    def apply(
        self,
        db: Any,
        table: str,
        events: Sequence[Recorded],
        memory: Memory,
        births: Mapping[str, int] | None = None,
    ) -> list[str]:
        """See ``Projection.apply``."""
        born = {event.stream: event for event in events if event.type in _BIRTHS}
        is_new = any(callbacks.may_name(event.data) for event in born.values())
        if not is_new and not memory and db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is None:
            return []  # many ledgers have no callback at all
        _recall(db, table, {event.stream for event in events} - born.keys() - memory.keys(), memory)
        changed: dict[str, Callback] = {}
        erased: dict[str, None] = {}
        for event in events:
            stream = event.stream
            if event.type in _ERASURES:
                erased[stream] = None
                memory.pop(stream, None)
                changed.pop(stream, None)
                continue
            callback = evolve(memory.get(stream), event)
            if callback is not None:
                memory[stream] = changed[stream] = callback
        upsert(db, table, COLUMNS, [_row(callback) for callback in changed.values()])
        db.executemany(f"DELETE FROM {table} WHERE id = ?", [(stream,) for stream in erased])
        memory.trim(STATES_MAX)
        return [*changed, *erased]


def _recall(db: Any, table: str, streams: Iterable[str], memory: Memory) -> None:
    """Read back the callbacks of streams; most have none."""
    wanted = list(streams)
    for start in range(0, len(wanted), IN_MAX):
        part = wanted[start : start + IN_MAX]
        marks = ",".join("?" * len(part))
        for row in db.execute(f"SELECT {', '.join(COLUMNS)} FROM {table} WHERE id IN ({marks})", part):
            memory[row[1]] = callback_of(row)


def _row(callback: Callback) -> tuple[Any, ...]:
    return astuple(callback)[:-1] + (astuple(callback.debt) if callback.debt else _NO_DEBT)


def _declaration(name: str) -> str:
    if name == "position":
        return "position INTEGER PRIMARY KEY"
    return f"{name} {'TEXT' if name in _TEXT else 'INTEGER'}"


CALLBACKS = CallbacksProjection()
