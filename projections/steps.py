"""The steps view: each step of a run as letta-client reads it, with its times and tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec
from msgspec.structs import astuple

from ledger import events as facts
from ledger import upcast
from ledger.events import Recorded, StepStatus, StopReason
from ledger.steps import ENDED
from projections import tokensums
from projections.projection import Memory, Within, part_of, upsert
from projections.tokensums import Counted, counted

T = TypeVar("T")
STATES_MAX = 20_000
"""Steps remembered between batches, about 2 KiB each; one that is not remembered is read back from its row."""
SAID_KEPT_MAX = 8 * 1024
"""Bytes of JSON of a step that is remembered: one with what a provider was sent and answered may be a MiB and more."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A step on the wire. Tokens are null where no provider reported them; the deprecated ``messages`` is empty."""

    id: str
    run_id: str | None
    status: StepStatus | None
    origin: str | None
    provider_id: str | None
    provider_name: str | None
    provider_category: str | None
    model: str | None
    model_handle: str | None
    model_endpoint: str | None
    context_window_limit: int | None
    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    cached_input_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    prompt_tokens_details: dict[str, Any] | None
    completion_tokens_details: dict[str, Any] | None
    stop_reason: StopReason | None
    error_type: str | None
    error_data: dict[str, Any] | None
    tags: list[str]
    tid: str | None
    trace_id: str | None
    request_id: str | None
    messages: list[dict[str, Any]]
    feedback: Literal["positive", "negative"] | None
    agent_id: str | None = None
    project_id: str | None = None


class State(msgspec.Struct, kw_only=True):
    """What a step is after its events so far; its fields are the columns of its row, with ``wire`` behind them."""

    position: int
    id: str
    run_id: str
    began_us: int
    status: str = "pending"
    ended_us: int | None = None
    changed_position: int = 0
    version: int = 0
    agent_id: str | None = None
    project_id: str | None = None
    model: str | None = None
    feedback: str | None = None
    trace_id: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    cache_read_tokens: int | None = None
    step_start_ns: int | None = None
    step_ns: int | None = None
    llm_request_start_ns: int | None = None
    llm_request_ns: int | None = None
    tool_execution_ns: int | None = None
    said: bytes = b"{}"
    """Everything that was said of the step so far, merged: the JSON of a ``Step`` fact."""


COLUMNS = (*State.__struct_fields__, "wire")
_TEXT = {"id", "run_id", "status", "agent_id", "project_id", "model", "feedback", "trace_id"}
_FROM_RUN = {"agent_id", "project_id"}
"""What the run has where the step has none of its own: it is put behind a row's wire on reading (``whole``)."""
_BLANK: dict[str, Any] = {name: None for name in Step.__struct_fields__ if name not in _FROM_RUN}
_BLANK |= {"tags": [], "messages": []}
"""A step of which nothing is known, as it stands in a row."""
_NOT_SAID = {"by", "imputed", "request"}
_PLAIN = (
    "agent_id", "project_id", "model", "feedback", "trace_id", "step_start_ns", "step_ns", "llm_request_start_ns",
    "llm_request_ns", "tool_execution_ns",
)  # fmt: skip
"""Columns that hold what was said as it is."""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def evolve(state: State | None, event: Recorded, step: facts.Step) -> State:
    """Fold one ``run.step`` into the state of its step and return it; the state passed in is taken over."""
    if state is None:
        state = State(position=event.position, id=step.id, run_id=event.stream, began_us=event.time)
    state.changed_position, state.version = event.position, event.version
    if step.status is not None and step.status != state.status:
        state.status = step.status
        if step.status in ENDED:
            state.ended_us = max(event.time, state.began_us)
    merged = msgspec.to_builtins(step)  # what was said, and nothing else
    for name in _NOT_SAID:
        merged.pop(name, None)
    if state.said != b"{}":
        merged = {**_decode(state.said), **merged}
    state.said = _encode(merged)
    for name in _PLAIN:
        setattr(state, name, merged.get(name))
    _count(state, merged)
    return state


def _count(state: State, said: Mapping[str, Any]) -> None:
    """Take the tokens from where the producer said them: its own fields, else the provider's details."""
    sent = said.get("prompt_tokens_details") or {}
    made = said.get("completion_tokens_details") or {}
    prompt, completion = said.get("prompt_tokens"), said.get("completion_tokens")
    state.prompt_tokens, state.completion_tokens = prompt, completion
    known = prompt is not None or completion is not None
    state.total_tokens = _first(said.get("total_tokens"), (prompt or 0) + (completion or 0) if known else None)
    state.cached_tokens, state.cache_read_tokens = sent.get("cached_tokens"), sent.get("cache_read_tokens")
    state.cached_input_tokens = _first(said.get("cached_input_tokens"), state.cached_tokens, state.cache_read_tokens)
    state.cache_write_tokens = _first(said.get("cache_write_tokens"), sent.get("cache_creation_tokens"))
    state.reasoning_tokens = _first(said.get("reasoning_tokens"), made.get("reasoning_tokens"))


def _first(*values: T | None) -> T | None:
    return next((value for value in values if value is not None), None)


def render(state: State) -> bytes:
    """Return the wire bytes of a step up to its agent and project; see ``whole``."""
    shown = {**_BLANK, **{name: value for name, value in _decode(state.said).items() if name in _BLANK}}
    shown["run_id"], shown["status"], shown["total_tokens"] = state.run_id, state.status, state.total_tokens
    shown["cached_input_tokens"], shown["cache_write_tokens"] = state.cached_input_tokens, state.cache_write_tokens
    shown["reasoning_tokens"] = state.reasoning_tokens
    return _encode(shown)[:-1]


def whole(agent_id: str | None, project_id: str | None, wire: bytes) -> bytes:
    """Return the wire bytes of a step of an agent and project."""
    return wire + b',"agent_id":' + _encode(agent_id) + b',"project_id":' + _encode(project_id) + b"}"


def fold(events: Iterable[Recorded], agent_id: str | None, project_id: str | None) -> dict[str, bytes]:
    """Return the whole wires of the steps of a run, by id, from its events so far; agent and project are the run's."""
    states: dict[str, State] = {}
    for event in events:
        step = upcast.fact(event) if event.type == "run.step" else None
        if isinstance(step, facts.Step):
            states[step.id] = evolve(states.get(step.id), event, step)
    return {
        id: whole(_first(state.agent_id, agent_id), _first(state.project_id, project_id), render(state))
        for id, state in states.items()
    }


class StepsProjection(Within):
    """Folds ``run.step`` into one row for each step; a row stands at the position of the step's first event."""

    name = "steps"
    version = 2
    types = frozenset({"run.step", "run.erased"})
    parts: tuple[str, ...] = (tokensums.PART,)
    sums: tuple[str, ...] = (tokensums.PART,)
    place, subject = "changed_position", "id"

    def create(self, db: Any, table: str) -> None:
        """See ``Projection.create``; the key finds steps again while a rebuild has no indexes yet."""
        columns = ", ".join(_declaration(name) for name in COLUMNS)
        db.execute(f"CREATE TABLE {table} ({columns}, UNIQUE (run_id, id)) STRICT")
        tokensums.create(db, part_of(table, tokensums.PART))

    def index(self, db: Any, table: str, generation: str) -> None:
        """See ``Projection.index``."""
        db.execute(f"CREATE INDEX steps_id_{generation} ON {table} (id)")
        db.execute(f"CREATE INDEX steps_began_{generation} ON {table} (began_us)")
        db.execute(f"CREATE INDEX steps_run_{generation} ON {table} (run_id, began_us)")
        db.execute(f"CREATE INDEX steps_feedback_{generation} ON {table} (feedback) WHERE feedback IS NOT NULL")

    def totals(self, db: Any, schema: str = "main") -> dict[tuple[Any, ...], list[Any]]:
        """See ``Projection.totals``."""
        return tokensums.totals(db, schema, part_of(self.name, tokensums.PART))

    def apply(
        self,
        db: Any,
        table: str,
        events: Sequence[Recorded],
        memory: Memory,
        births: Mapping[str, int] | None = None,
    ) -> list[str]:
        """See ``Projection.apply``."""
        changed: dict[tuple[str, str], State] = {}
        before: dict[tuple[str, str], Counted | None] = {}
        for event in events:
            if event.type == "run.erased":
                _forget(db, table, event.stream, memory, changed, before)
                continue
            step = upcast.fact(event)
            if isinstance(step, facts.Step):
                key = (event.stream, step.id)
                known = memory.get(key) or _recall(db, table, key)
                if key not in before:
                    before[key] = None if known is None else counted(known)
                changed[key] = memory[key] = evolve(known, event, step)
        upsert(db, table, COLUMNS, [(*astuple(state), render(state)) for state in changed.values()])
        after = [counted(state) for state in changed.values()]
        tokensums.write(db, part_of(table, tokensums.PART), before, after)
        for key, state in changed.items():
            if len(state.said) > SAID_KEPT_MAX:
                memory.pop(key, None)
        memory.trim(STATES_MAX)
        return [step_id for _, step_id in changed]


_FIELDS = ", ".join(State.__struct_fields__)


def _recall(db: Any, table: str, key: tuple[str, str]) -> State | None:
    row = db.execute(f"SELECT {_FIELDS} FROM {table} WHERE run_id = ? AND id = ?", key).fetchone()
    return None if row is None else _state_of(row)


def _state_of(row: Sequence[Any]) -> State:
    return State(**dict(zip(State.__struct_fields__, row, strict=True)))


def _forget(
    db: Any,
    table: str,
    run_id: str,
    memory: Memory,
    changed: dict[tuple[str, str], State],
    before: dict[tuple[str, str], Counted | None],
) -> None:
    """Delete the steps of a run that was erased, and take what they count for."""
    for row in db.execute(f"DELETE FROM {table} WHERE run_id = ? RETURNING {_FIELDS}", (run_id,)).fetchall():
        state = _state_of(row)
        before.setdefault((run_id, state.id), counted(state))
    for known in (memory, changed):
        for key in [key for key in known if key[0] == run_id]:
            del known[key]


def _declaration(name: str) -> str:
    if name == "position":
        return "position INTEGER PRIMARY KEY"
    if name in ("wire", "said"):
        return f"{name} BLOB NOT NULL"
    return f"{name} {'TEXT' if name in _TEXT else 'INTEGER'}"


STEPS = StepsProjection()
