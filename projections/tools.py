"""The tools view: which run called which tool first where; what ``tools_used`` filters by and metrics tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ledger import messages, upcast
from ledger.events import Message, Recorded
from projections.projection import Memory, Within


class ToolsProjection(Within):
    """Folds the calls in ``run.message`` into one row for each run and tool, with the message of the first call.

    ``place``: which call of its message. ``time_us``: of the event.
    """

    name = "tools"
    version = 3
    types = frozenset({"run.message", "run.erased"})
    place, subject = "position", "run_id"

    def create(self, db: Any, table: str) -> None:
        """See ``Projection.create``; the key finds tools again while a rebuild has no indexes yet."""
        db.execute(
            f"CREATE TABLE {table} (tool TEXT NOT NULL, run_id TEXT NOT NULL, position INTEGER NOT NULL, "
            "place INTEGER NOT NULL, time_us INTEGER NOT NULL, PRIMARY KEY (tool, run_id)) STRICT, WITHOUT ROWID"
        )

    def index(self, db: Any, table: str, generation: str) -> None:
        """See ``Projection.index``."""
        db.execute(f"CREATE INDEX tools_run_{generation} ON {table} (run_id, position, place)")

    def apply(
        self,
        db: Any,
        table: str,
        events: Sequence[Recorded],
        memory: Memory,
        births: Mapping[str, int] | None = None,
    ) -> list[str]:
        """See ``Projection.apply``."""
        rows = [
            (tool, event.stream, event.position, place, event.time)
            for event in events
            for place, tool in enumerate(called_by(event))
        ]
        if rows:
            db.executemany(f"INSERT OR IGNORE INTO {table} VALUES (?, ?, ?, ?, ?)", rows)
        if births is None:
            erased = [(event.stream,) for event in events if event.type == "run.erased"]
            db.executemany(f"DELETE FROM {table} WHERE run_id = ?", erased)
        return [run_id for _, run_id, *_ in rows]


class _Calls(msgspec.Struct):
    """Where a message names tools; ``tool_calls`` may also be a part of one call, which ``tool_call`` repeats."""

    tool_call: messages.ToolCall | None = None
    tool_calls: list[messages.ToolCall] | messages.ToolCall | None = None


_calls_of = msgspec.json.Decoder(_Calls).decode


def called_by(event: Recorded) -> list[str]:
    """Return the names of the tools that a ``run.message`` calls."""
    if event.data is None or b'"tool_call"' not in event.data:
        return []
    fact = upcast.fact(event)
    return called(bytes(fact.message)) if isinstance(fact, Message) else []


def called(message: bytes) -> list[str]:
    """Return the names of the tools that a message calls, each once, in the order of the calls."""
    calls = _calls_of(message)
    many = calls.tool_calls if isinstance(calls.tool_calls, list) else []
    names = [call.name for call in (calls.tool_call, *many) if call is not None and call.name]
    return list(dict.fromkeys(names))


TOOLS = ToolsProjection()
