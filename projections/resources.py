"""The fold that jobs, runs and batches share: a row holds the state in columns, and its wire bytes.

Filters and order use plain indexed columns; reads join the stored bytes (see ``views``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ledger import engine as sqlite
from ledger.events import CALLBACK_TYPES, ERASURES, QUIET, TYPES, Recorded
from ledger.state import MOVED, State, evolve, fact_of
from ledger.times import TIME_MIN_US, from_text
from ledger.weight import is_heavy
from projections import tally
from projections.living import OPEN, SPAN_OF
from projections.projection import Memory
from projections.query import IN_MAX
from projections.tally import Note, note

STATES_MAX = 50_000
"""States remembered between batches, about 1 KiB each, and ``STATE_SIZE_MAX`` more at most; a state that is not
remembered is read back from its row."""

STATE_COLUMNS = State.__struct_fields__[: State.__struct_fields__.index("callback_url")]
"""The first fields of ``State`` are columns, in its order; the others are read back from the wire bytes."""
COLUMNS = (*STATE_COLUMNS, "source_id", "expires_us", "span_us", "span_position", "wire")
NEWEST = "newest_us"
"""One more column, which no later event changes: the latest ``created_us`` of a row and all that stand before it."""
_WIDTH = len(STATE_COLUMNS)
_US, _POSITIONS = SPAN_OF["us"], SPAN_OF["position"]
_TEXT = {
    "id", "kind", "user_id", "status", "project_id", "agent_id", "conversation_id", "base_template_id", "batch_id",
    "stop_reason", "source_id", "created_by", "updated_by",
}  # fmt: skip
IS_MOVED = f"marks & {MOVED}"
"""The condition on rows whose agent or source changed, which few do."""
_INDEXES = (
    ("id", "(id)", ""),
    ("created", "(created_us, id)", ""),
    ("user", "(user_id, created_us, id)", ""),
    ("status", "(status, created_us, id)", ""),
    ("agent", "(agent_id, created_us, id)", "agent_id IS NOT NULL"),
    ("source", "(source_id, created_us, id)", "source_id IS NOT NULL"),
    ("expires", "(expires_us)", "expires_us IS NOT NULL"),
    ("span_us", "(span_us, created_us)", ""),
    ("span_position", "(span_position)", ""),  # which is followed by the key, the position of creation
    ("moved", "(created_us, id)", IS_MOVED),
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
        self.types = frozenset(name for name, info in TYPES.items() if info.kind == kind) | CALLBACK_TYPES
        self.place, self.subject, self.stream = "changed_position", "id", "id"
        self.parts = self.sums = tally.PARTS

    def create(self, db: Any, table: str) -> None:
        """See ``Projection.create``."""
        columns = ", ".join(_declaration(name) for name in (*COLUMNS, NEWEST))
        db.execute(f"CREATE TABLE {table} ({columns}) STRICT")
        tally.create(db, table)

    def index(self, db: Any, table: str, generation: str) -> None:
        """See ``Projection.index``."""
        for name, columns, where in self._indexes:
            unique = "UNIQUE " if name == "id" else ""
            condition = f" WHERE {where}" if where else ""
            db.execute(f"CREATE {unique}INDEX {self.name}_{name}_{generation} ON {table} {columns}{condition}")
        tally.index(db, table, f"{self.name}_ranks_{generation}")

    def totals(self, db: Any, schema: str = "main") -> dict[tuple[Any, ...], list[Any]]:
        """See ``Projection.totals``."""
        return tally.totals(db, schema, self.name)

    def fresh(self) -> Memory:
        """See ``Projection.fresh``."""
        return Memory()

    def apply(
        self,
        db: Any,
        table: str,
        events: Sequence[Recorded],
        memory: Memory,
        births: Mapping[str, int] | None = None,
    ) -> list[str]:
        """See ``Projection.apply``."""
        self._recall(db, table, events, memory, births)
        created: dict[str, State] = {}
        changed: dict[str, State] = {}
        noted: dict[str, State] = {}
        before: dict[str, Note | None] = {}
        for event in events:
            stream = event.stream
            known = memory.get(stream)
            if known is not None and stream not in before and stream not in created and event.type not in QUIET:
                before[stream] = note(known)
            state = evolve(known, event, fact_of(event))
            if state is None:
                continue
            if known is None:
                memory[stream] = created[stream] = state
            elif event.type in QUIET:
                noted[stream] = state
            elif stream not in created:
                changed[stream] = state
        self._write(db, table, created, changed)
        _note(db, table, [state for id, state in noted.items() if id not in created and id not in changed])
        after = {id: note(state) for states in (created, changed) for id, state in states.items()}
        at_once = any(event.type in ERASURES for event in events)
        tally.write(db, table, tally.changes(before, after), memory, at_once=at_once)
        for stream in {event.stream for event in events}:
            if stream in memory and is_heavy(memory[stream]):
                del memory[stream]
        memory.trim(STATES_MAX)
        return [*created, *changed]

    def needed(self, events: Sequence[Recorded], memory: Memory) -> list[str]:
        """See ``Projection.needed``."""
        born: set[str] = set()
        wanted: dict[str, None] = {}
        for event in events:
            if event.version == 1:
                born.add(event.stream)
            elif event.stream not in memory and event.stream not in born:
                wanted[event.stream] = None
        return list(wanted)

    def _recall(
        self, db: Any, table: str, events: Sequence[Recorded], memory: Memory, births: Mapping[str, int] | None
    ) -> None:
        if births is None:
            column, wanted = "id", list[Any](self.needed(events, memory))
        else:  # the table has no index on the id yet, but its rows stand at their birth's position
            column, wanted = "created_position", list(births.values())
        for start in range(0, len(wanted), IN_MAX):
            part = wanted[start : start + IN_MAX]
            marks = ",".join("?" * len(part))
            for row in db.execute(f"SELECT {', '.join(COLUMNS)} FROM {table} WHERE {column} IN ({marks})", part):
                memory[row[1]] = state_of(row)

    def _write(self, db: Any, table: str, created: dict[str, State], changed: dict[str, State]) -> None:
        if created:
            last = db.execute(f"SELECT {NEWEST} FROM {table} ORDER BY created_position DESC LIMIT 1").fetchone()
            newest_us = last[0] if last else TIME_MIN_US
            rows = []
            for state in created.values():
                newest_us = max(newest_us, state.created_us)
                rows.append(self._row(state, newest_us))
            sqlite.insert(db, table, len(COLUMNS) + 1, rows)
        if changed:
            sets = ", ".join(f"{name} = ?{number}" for number, name in enumerate(COLUMNS, 1) if number > 1)
            rows = [self._row(state) for state in changed.values()]
            db.executemany(f"UPDATE {table} SET {sets} WHERE created_position = ?1", rows)

    def _row(self, state: State, *more: Any) -> tuple[Any, ...]:
        source = state.metadata.get("source_id") if state.metadata else None
        expires_us = None if state.timeout_s is None or state.deleted_us is not None else state.deadline_us
        last = (source if isinstance(source, str) else None, expires_us, *_spans(state), self.render(state), *more)
        return msgspec.structs.astuple(state)[:_WIDTH] + last


def _spans(state: State) -> tuple[int, int]:
    """Return the classes of how long a life was seen in lists as no ended one, in microseconds and in positions."""
    ended_us, ended_position = state.ended_us, state.ended_position
    if ended_us is None or ended_position is None:
        ended_us, ended_position = state.deleted_us, state.deleted_position
    if ended_us is None or ended_position is None:
        return OPEN, OPEN
    lasted_us, lasted = ended_us - state.created_us, ended_position - state.created_position
    return _US[lasted_us.bit_length()], _POSITIONS[lasted.bit_length()]


def _note(db: Any, table: str, states: Sequence[State]) -> None:
    """Write what steps and messages move of their run; its wire bytes stay."""
    if states:
        rows = [(state.version, state.effective_us, state.marks, state.created_position) for state in states]
        db.executemany(f"UPDATE {table} SET version = ?, effective_us = ?, marks = ? WHERE created_position = ?", rows)


class _Wire(msgspec.Struct):
    """What of a state only the wire bytes hold."""

    callback_url: str | None = None
    callback_sent_at: str | None = None
    callback_status_code: int | None = None
    callback_error: str | None = None
    metadata: dict[str, Any] | None = None
    request_config: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Wire).decode


def state_of(row: Sequence[Any]) -> State:
    """Return the state that a row (all ``COLUMNS``) holds; what only deciding needs is left out."""
    state = State(*row[:_WIDTH])
    if state.background is not None:
        state.background = bool(state.background)
    wire = _decode(row[-1])
    state.callback_url = wire.callback_url
    state.callback_sent_us = None if wire.callback_sent_at is None else from_text(wire.callback_sent_at)
    state.callback_status_code, state.callback_error = wire.callback_status_code, wire.callback_error
    state.metadata, state.request_config = wire.metadata, wire.request_config
    return state


def _declaration(name: str) -> str:
    if name == "created_position":
        return "created_position INTEGER PRIMARY KEY"  # rows stand in the order of creation, as lists read them
    if name == "wire":
        return "wire BLOB NOT NULL"
    if name in ("usage", "undo"):
        return f"{name} BLOB"
    if name == "timeout_s":
        return "timeout_s REAL"
    return f"{name} {'TEXT' if name in _TEXT else 'INTEGER'}"
