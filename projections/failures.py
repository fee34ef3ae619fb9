"""The failures view: each failure of a run, job, batch, step or tool call, with the signature of its cause.

A run, job or batch failed when it ended so, when it expired, and when it completed for another reason than having come
to its end, such as ``max_steps``: it was cut short. What was cancelled did not fail. A step failed when it ended so,
but for one whose tools failed: those calls are failures of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ledger import engine as sqlite
from ledger import messages, upcast
from ledger.events import TYPES, Changed, Created, ErrorInfo, Message, Recorded, Step
from ledger.messages import ToolReturn
from ledger.transitions import KINDS
from projections.projection import Memory, Within
from projections.signature import NAME_MAX, error_type, mask, read_of, signature, tool_name
from projections.spans import short
from projections.toolcalls import returns_of, text_of

KINDS_OF_FAILURE: Final = ("run", "job", "batch", "step", "tool")
"""What can fail."""
ENDS_WELL: Final = frozenset({None, "end_turn", "tool_rule", "requires_approval", "cancelled"})
"""Stop reasons with which something completed and did what it should."""
SAID_MAX: Final = 500
"""Characters of what was said of a failure that its row keeps; the log has all of it."""
CALLS_MAX: Final = 1_000
"""Calls of a run whose answers are waited for; older ones are forgotten, and an answer then has no name of its own."""
STEPS_MAX: Final = 100
"""Steps of a run of which it is known that their tools failed."""
OPEN_MAX: Final = 50_000
"""Runs and jobs remembered between batches; what is not remembered is read back from its row."""
_COLUMNS: Final = (
    "stream", "position", "place", "kind", "signature", "time_us", "status", "stop_reason", "error_type", "tool",
    "message", "said", "step_id", "agent_id", "model", "user_id", "project_id", "state",
)  # fmt: skip
_MARKS: Final = ",".join("?" * len(_COLUMNS))
_OPEN: Final = -1
"""The place of the row of what is remembered."""
_TOOL_ERROR: Final = "tool_error"
_VERBS: Final = ("created", "updated", "completed", "failed", "cancelled", "expired", "deleted", "erased")


class Told(msgspec.Struct, frozen=True):
    """What was told of something that went wrong."""

    type: str | None = None
    message: str | None = None


class Open(msgspec.Struct, omit_defaults=True):
    """What may matter to a failure of something that has not ended: whose it is, and what was told of it so far.

    ``model``: of the last step. ``calls``: those without an answer, by their ids. ``step``: the error of the last step
    that ended, if it failed. ``steps``: those of which a tool has failed.
    """

    user_id: str | None = None
    project_id: str | None = None
    agent_id: str | None = None
    model: str | None = None
    calls: dict[str, str] = {}
    error: Told | None = None
    stop_reason: str | None = None
    step: Told | None = None
    steps: list[str] = []
    position: int = 0
    """Of the last event that it was looked at for."""
    is_kept: bool = False
    """Whether it has a row."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be remembered."""
        known = (self.user_id, self.model, self.calls, self.error, self.stop_reason, self.step, self.steps)
        return not any(known)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Open).decode


class FailuresProjection(Within):
    """Folds failures into one row each, and what has not ended into one row without a signature (``Open``).

    The key finds rows of a stream also while a rebuild has no indexes yet. What is deleted or erased has no rows. The
    owner is null in the row of what failed after the end of its run, of which nothing is remembered any more.
    """

    name = "failures"
    version = 3
    types = frozenset(f"{kind}.{verb}" for kind in KINDS for verb in _VERBS if f"{kind}.{verb}" in TYPES) | {
        "run.step",
        "run.message",
    }
    place, subject, stream = "position", "stream", "stream"

    def create(self, db: Any, table: str) -> None:
        """See ``Projection.create``."""
        db.execute(
            f"CREATE TABLE {table} (stream TEXT NOT NULL, position INTEGER NOT NULL, place INTEGER NOT NULL, "
            "kind TEXT, signature TEXT, time_us INTEGER, status TEXT, stop_reason TEXT, error_type TEXT, tool TEXT, "
            "message TEXT, said TEXT, step_id TEXT, agent_id TEXT, model TEXT, user_id TEXT, project_id TEXT, "
            "state BLOB, PRIMARY KEY (stream, position, place)) STRICT, WITHOUT ROWID"
        )

    def index(self, db: Any, table: str, generation: str) -> None:
        """See ``Projection.index``."""
        known = "WHERE signature IS NOT NULL"
        columns = "signature, time_us, position, kind, agent_id, model, user_id, project_id"  # all that grouping needs
        db.execute(f"CREATE INDEX failures_cause_{generation} ON {table} ({columns}) {known}")

    def apply(
        self,
        db: Any,
        table: str,
        events: Sequence[Recorded],
        memory: Memory,
        births: Mapping[str, int] | None = None,
    ) -> list[str]:
        """See ``Projection.apply``."""
        fold = _Fold(db, table, memory)
        for event in events:
            fold.take(event)
        fold.keep()
        memory.trim(OPEN_MAX)
        return []


class _Fold:
    """One batch of events on its way into a table."""

    def __init__(self, db: Any, table: str, memory: Memory) -> None:
        self._db = db
        self._table = table
        self._memory = memory
        self._changed: dict[str, Open] = {}

    def take(self, event: Recorded) -> None:
        """Fold one event."""
        if event.type == "run.message":
            self._message(event)
        elif event.type == "run.step":
            self._step(event)
        else:
            self._life(event, TYPES[event.type].verb)

    def keep(self) -> None:
        """Write what is to be remembered of what changed."""
        changed = self._changed.items()
        where = f"stream = ? AND place = {_OPEN}"
        known = [(stream,) for stream, open in changed if open.is_kept]
        self._db.executemany(f"DELETE FROM {self._table} WHERE {where}", known)
        rows = []
        for stream, open in changed:
            open.is_kept = not open.is_empty
            if open.is_kept:
                rows.append((stream, open.position, _OPEN, _encode(open)))
        columns = "stream, position, place, state"
        sqlite.insert(self._db, f"{self._table} ({columns})", 4, rows)

    def _open(self, event: Recorded) -> Open:
        """Return what is remembered of a stream, to be changed."""
        stream = event.stream
        open: Open | None = self._memory.get(stream)
        if open is None:
            text = f"SELECT state FROM {self._table} WHERE stream = ? AND place = {_OPEN}"
            found = self._db.execute(text, (stream,)).fetchone()
            open = self._memory[stream] = Open() if found is None else _decode(found[0])
        open.position = event.position
        self._changed[stream] = open
        return open

    def _forget(self, event: Recorded) -> None:
        is_kept = self._open(event).is_kept
        self._changed[event.stream] = self._memory[event.stream] = Open(is_kept=is_kept)

    # --- what happens within a run ------------------------------------------------------------------------------------

    def _message(self, event: Recorded) -> None:
        data = event.data
        if data is None or not (b'"tool_call"' in data or b'"tool_return' in data):
            return
        fact = upcast.fact(event)
        if not isinstance(fact, Message):
            return
        message = messages.check(bytes(fact.message))
        open = self._open(event)
        for call in messages.calls_of(message):
            if call.tool_call_id and call.name:
                open.calls[call.tool_call_id] = call.name
        while len(open.calls) > CALLS_MAX:
            del open.calls[next(iter(open.calls))]
        for place, returned in enumerate(returns_of(message)):
            name = open.calls.pop(returned.tool_call_id, None) or message.name
            if returned.status == "error":
                self._tool(event, place, returned, name, message.step_id)

    def _tool(self, event: Recorded, place: int, returned: ToolReturn, name: str | None, step_id: str | None) -> None:
        said = text_of(returned) or "\n".join(returned.stderr or ())
        told = Told(error_type(said), said)
        if step_id is not None:
            steps = self._open(event).steps
            steps[:] = [*(each for each in steps if each != step_id), step_id][-STEPS_MAX:]
            of_step = "stream = ? AND kind = 'step' AND step_id = ? AND error_type = ?"  # it may have ended already
            self._db.execute(f"DELETE FROM {self._table} WHERE {of_step}", (event.stream, step_id, _TOOL_ERROR))
        self._add(event, "tool", "error", told, place=place, tool=name, step_id=step_id)

    def _step(self, event: Recorded) -> None:
        data = event.data
        if data is None or not (b'"status":' in data or b'"model":' in data):
            return
        fact = upcast.fact(event)
        if not isinstance(fact, Step):
            return
        open = self._open(event)
        open.model = fact.model or open.model
        if fact.status in (None, "pending"):
            return
        if fact.status != "failed":
            open.step = None
            return
        told = Told(fact.error_type or fact.stop_reason, _text(fact.error_data))
        open.step = msgspec.structs.replace(told, message=told.message and told.message[:SAID_MAX])
        if fact.error_type != _TOOL_ERROR or fact.id not in open.steps:
            self._add(event, "step", "failed", told, stop_reason=fact.stop_reason, step_id=fact.id)

    # --- what happens to a job, batch or run --------------------------------------------------------------------------

    def _life(self, event: Recorded, verb: str) -> None:
        stream = event.stream
        if verb == "created":
            self._create(event)
        elif verb == "updated":
            self._update(event)
        elif verb in ("deleted", "erased"):
            self._forget(event)
            self._db.execute(f"DELETE FROM {self._table} WHERE stream = ? AND place >= 0", (stream,))
        else:
            self._end(event, verb)

    def _create(self, event: Recorded) -> None:
        fact = upcast.fact(event)
        open = self._changed[event.stream] = self._memory[event.stream] = Open(position=event.position)
        if isinstance(fact, Created):
            open.user_id, open.project_id, open.agent_id = fact.user_id, fact.project_id, fact.agent_id

    def _update(self, event: Recorded) -> None:
        data = event.data
        if data is None or not (b'"error"' in data or b'"stop_reason"' in data or b'"agent_id"' in data):
            return
        fact = upcast.fact(event)
        if not isinstance(fact, Changed):
            return
        told = _told(fact)
        if (told or fact.stop_reason) and self._amend(event.stream, fact.stop_reason, told):
            return
        open = self._open(event)
        if open.user_id is not None:  # it has not ended
            open.error, open.stop_reason = _kept(told) or open.error, fact.stop_reason or open.stop_reason
            open.agent_id = fact.agent_id or open.agent_id

    def _amend(self, stream: str, stop_reason: str | None, told: Told | None) -> bool:
        """Tell the failure with which a stream ended anew; return whether there is one."""
        text = f"SELECT position, kind, status, stop_reason, error_type, said FROM {self._table} WHERE stream = ?"
        for position, kind, status, known, type, said in self._db.execute(text, (stream,)).fetchall():
            if kind in KINDS:
                told = told or Told(type, said)
                row = _row(kind, status, stop_reason or known, told, None)
                sets = ", ".join(f"{name} = ?" for name in row)
                where = "stream = ? AND position = ?"
                self._db.execute(f"UPDATE {self._table} SET {sets} WHERE {where}", (*row.values(), stream, position))
                return True
        return False

    def _end(self, event: Recorded, status: str) -> None:
        if status == "completed" and event.data in _ENDED_WELL:
            known = self._memory.get(event.stream)
            if known is None or known.is_kept:
                self._forget(event)
            else:  # began in this batch, or not long ago: there is no row of it
                self._changed.pop(event.stream, None)
                self._memory[event.stream] = Open()
            return
        open = self._open(event)
        fact = upcast.fact(event)
        changed = fact if isinstance(fact, Changed) else Changed()
        stop_reason = changed.stop_reason or open.stop_reason
        if status in ("failed", "expired") or (status == "completed" and stop_reason not in ENDS_WELL):
            told = _told(changed) or open.error or (open.step if status == "failed" else None) or Told()
            self._add(event, TYPES[event.type].kind, status, told, stop_reason=stop_reason)
        self._forget(event)

    def _add(
        self,
        event: Recorded,
        kind: str,
        status: str,
        told: Told,
        *,
        stop_reason: str | None = None,
        place: int = 0,
        tool: str | None = None,
        step_id: str | None = None,
    ) -> None:
        row = _row(kind, status, stop_reason, told, tool if kind == "tool" else None)
        values = {"stream": event.stream, "position": event.position, "place": place, "time_us": event.time} | row
        open = self._open(event)
        values |= {"step_id": step_id, "agent_id": open.agent_id, "model": open.model}
        values |= {"user_id": open.user_id, "project_id": open.project_id}
        text = f"INSERT OR REPLACE INTO {self._table} VALUES ({_MARKS})"
        self._db.execute(text, [values.get(name) for name in _COLUMNS])


_ENDED_WELL: Final = (b"{}", b'{"stop_reason":"end_turn"}')
"""Data of most completions."""


def _row(kind: str, status: str, stop_reason: str | None, told: Told, tool: str | None) -> dict[str, Any]:
    """Return what a row says of a cause."""
    type = None if told.type is None else short(told.type, NAME_MAX)
    masked = mask(told.message, tool) or None if told.message else None
    name = tool_name(tool) if kind == "tool" else None
    return {
        "kind": kind,
        "signature": signature(kind, status, stop_reason, type, name, masked),
        "status": status,
        "stop_reason": stop_reason,
        "error_type": type,
        "tool": name,
        "message": masked,
        "said": told.message and short(told.message, SAID_MAX),
    }


def _told(fact: Changed) -> Told | None:
    """Return what a change says of an error: its own, one in the metadata, or a reason there."""
    if fact.error is not None:
        return Told(fact.error.type, fact.error.message or _last_line(fact.error))
    metadata = fact.metadata or {}
    error = metadata.get("error")
    if isinstance(error, dict):
        type = error.get("type")
        return Told(type if isinstance(type, str) else None, _text(error))
    for said in (error, metadata.get("reason")):
        if isinstance(said, str) and said:
            return Told(None, said)
    return None


def _kept(told: Told | None) -> Told | None:
    """Return what an end will need of what was told before it: a message may have 1 MiB, and thousands are kept."""
    if told is None:
        return None
    return Told(told.type and short(told.type, NAME_MAX), told.message and read_of(told.message))


def _last_line(error: ErrorInfo) -> str | None:
    return (error.traceback or "").strip().rpartition("\n")[2] or None


def _text(data: Mapping[str, Any] | None) -> str | None:
    """Return the text in what was told of an error, which every provider shapes in its own way."""
    if not data:
        return None
    many = data.get("errors")
    if isinstance(many, list) and many and isinstance(many[-1], str):
        return many[-1]
    for name in ("message", "detail", "error", "reason"):
        said = data.get(name)
        if isinstance(said, dict):
            said = said.get("message")
        if isinstance(said, str) and said:
            return said
    return msgspec.json.encode(data).decode()


FAILURES = FailuresProjection()
