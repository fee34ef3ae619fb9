"""The fold that jobs, runs and batches share: a row holds the state in columns, and its wire bytes.

Filters and order use plain indexed columns; reads join the stored bytes (see ``views``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import msgspec

from ledger import upcast
from ledger.events import TYPES, Recorded
from ledger.state import State, evolve
from projections.projection import Memory

STATES_MAX = 50_000
"""States remembered between batches, about 1 KiB each; a state that is not remembered is read back from its row."""
IN_MAX = 500

STATE_COLUMNS = tuple(name for name in State.__struct_fields__ if name not in ("metadata", "request_config", "refused", "runs"))
"""Fields of ``State`` that are columns, in its order; the others are in the wire bytes, or only needed to decide."""
COLUMNS = (*STATE_COLUMNS, "source_id", "expires_us", "wire")
_WIDTH = len(STATE_COLUMNS)
_TEXT = {
    "id", "kind", "user_id", "created_by", "updated_by", "status", "project_id", "agent_id", "conversation_id",
    "base_template_id", "batch_id", "callback_url", "callback_error", "stop_reason", "source_id",
}  # fmt: skip
_INDEXES = (
    ("created", "(created_us, id)", ""),
    ("user", "(user_id, created_us, id)", ""),
    ("status", "(status, created_us, id)", ""),
    ("agent", "(agent_id, created_us, id)", "agent_id IS NOT NULL"),
    ("source", "(source_id, created_us, id)", "source_id IS NOT NULL"),
    ("expires", "(expires_us)", "expires_us IS NOT NULL"),
)

Render = Callable[[State], bytes]


class ResourceProjection:
    """Folds the events of one kind of resource into one table."""

    def __init__(
        self, name: str, kind: str, version: int, render: Render, indexes: Sequence[tuple[str, str, str]] = ()
    ) -> None:
        self.name = name
        self.kind = kind
        self.version = version
        self.render = render
        self._indexes = (*_INDEXES, *indexes)
        self._types = frozenset(name for name, info in TYPES.items() if info.kind == kind)

    def create(self, db: Any, table: str) -> None:
        """See ``Projection.create``."""
        columns = ", ".join(_declaration(name) for name in COLUMNS)
        db.execute(f"CREATE TABLE {table} ({columns}) STRICT")

    def index(self, db: Any, table: str, generation: str) -> None:
        """See ``Projection.index``."""
        for name, columns, where in self._indexes:
            condition = f" WHERE {where}" if where else ""
            db.execute(f"CREATE INDEX {self.name}_{name}_{generation} ON {table} {columns}{condition}")

    def fresh(self) -> Memory:
        """See ``Projection.fresh``."""
        return Memory()

    def apply(self, db: Any, table: str, events: Sequence[Recorded], memory: Memory) -> list[str]:
        """See ``Projection.apply``."""
        types = self._types
        mine = [event for event in events if event.type in types]
        if not mine:
            return []
        self._recall(db, table, mine, memory)
        created: dict[str, State] = {}
        changed: dict[str, State] = {}
        for event in mine:
            stream = event.stream
            known = memory.get(stream)
            state = evolve(known, event, upcast.fact(event))
            if state is None:
                continue
            memory[stream] = state
            if known is None:
                created[stream] = state
            elif stream not in created:
                changed[stream] = state
        self._write(db, table, created, changed)
        if len(memory) > STATES_MAX:
            for stream in list(islice(memory, len(memory) // 2)):
                del memory[stream]
        return [*created, *changed]

    def _recall(self, db: Any, table: str, events: Sequence[Recorded], memory: Memory) -> None:
        wanted = list({event.stream for event in events if event.version > 1} - memory.keys())
        born = {event.stream for event in events if event.version == 1}
        wanted = [stream for stream in wanted if stream not in born]
        for start in range(0, len(wanted), IN_MAX):
            part = wanted[start : start + IN_MAX]
            marks = ",".join("?" * len(part))
            for row in db.execute(f"SELECT {', '.join(COLUMNS)} FROM {table} WHERE id IN ({marks})", part):
                memory[row[0]] = state_of(row)

    def _write(self, db: Any, table: str, created: dict[str, State], changed: dict[str, State]) -> None:
        if created:
            marks = ",".join("?" * len(COLUMNS))
            db.executemany(f"INSERT INTO {table} VALUES ({marks})", [self._row(state) for state in created.values()])
        if changed:
            sets = ", ".join(f"{name} = ?{number}" for number, name in enumerate(COLUMNS, 1) if number > 1)
            db.executemany(f"UPDATE {table} SET {sets} WHERE id = ?1", [self._row(state) for state in changed.values()])

    def _row(self, state: State) -> tuple[Any, ...]:
        source = state.metadata.get("source_id") if state.metadata else None
        expires_us = state.deadline_us if state.deleted_us is None else None
        return (
            *msgspec.structs.astuple(state)[:_WIDTH],
            source if isinstance(source, str) else None,
            expires_us,
            self.render(state),
        )


class _Extras(msgspec.Struct):
    metadata: dict[str, Any] | None = None
    request_config: dict[str, Any] | None = None


_extras = msgspec.json.Decoder(_Extras).decode


def state_of(row: Sequence[Any]) -> State:
    """Return the state that a row (all ``COLUMNS``) holds; what only deciding needs is left out."""
    state = State(*row[:_WIDTH])
    if state.background is not None:
        state.background = bool(state.background)
    extras = _extras(row[-1])
    state.metadata, state.request_config = extras.metadata, extras.request_config
    return state


def _declaration(name: str) -> str:
    if name == "id":
        return "id TEXT PRIMARY KEY NOT NULL"
    if name == "wire":
        return "wire BLOB NOT NULL"
    if name == "timeout_s":
        return "timeout_s REAL"
    return f"{name} {'TEXT' if name in _TEXT else 'INTEGER'}"
