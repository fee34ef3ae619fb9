"""The one fold of the house: ``evolve(state, event, fact) -> state`` for jobs, batches and runs.

Deciding, views, as-of reads and replays all call it, so they cannot disagree. It knows no clock, ids or I/O.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from ledger import callbacks, undo, upcast
from ledger.callbacks import Debt
from ledger.events import (
    NOTHING,
    QUIET,
    TYPES,
    Attempted,
    Changed,
    Created,
    Fact,
    Recorded,
    Refused,
    RunUpdated,
)
from ledger.times import TIME_MAX_US
from ledger.transitions import TERMINAL

INT64_MAX = 2**63 - 1
MOVED, CALLED, LOST, JUMPED, TWICE = 1, 2, 4, 8, 16
"""What a state's marks say: an event after the creation named another agent or source; its callback has events; the
undo does not reach back to the creation; an event was told with a time before the effective one; stop reason or
duration were told by another event than the end."""
_encode = msgspec.json.Encoder().encode


class State(msgspec.Struct, gc=False):
    """What a resource is after its events so far. Times are microseconds, UTC; positions are of the log.

    ``version`` is the stream's; ``etag`` is the version of the last event that changed the resource.
    ``effective_us`` is the latest ``time`` so far: an event takes effect no earlier than those before it,
    so that a producer's clock that jumps back cannot reorder a history (contract 3, As of).
    ``usage``: of a whole run, as its producer told it, the JSON of a ``TokenUsage``. ``debt``: the callback that its
    end owes; the fields ``callback_…`` tell of the last attempt.

    What a resource was earlier can be told from its state alone: each status stands in it with its time, and ``undo``
    has what else changed, as far as ``marks`` do not say otherwise: the sum of ``MOVED``, ``CALLED`` and so on.
    """

    created_position: int
    id: str
    kind: str
    user_id: str
    created_us: int
    status: str = "created"
    version: int = 1
    etag: int = 1
    effective_us: int = 0
    changed_us: int = 0
    changed_position: int = 0
    project_id: str | None = None
    agent_id: str | None = None
    conversation_id: str | None = None
    base_template_id: str | None = None
    batch_id: str | None = None
    background: bool | None = None
    stop_reason: str | None = None
    duration_ns: int | None = None
    timeout_s: float | None = None
    pending_us: int | None = None
    pending_position: int | None = None
    running_us: int | None = None
    running_position: int | None = None
    ended_us: int | None = None
    ended_position: int | None = None
    deleted_us: int | None = None
    deleted_position: int | None = None
    erased_position: int | None = None
    created_by: str = ""
    updated_by: str = ""
    usage: bytes | None = None
    marks: int = 0
    undo: bytes | None = None
    ttft_ns: int | None = None
    callback_url: str | None = None
    callback_sent_us: int | None = None
    callback_status_code: int | None = None
    callback_error: str | None = None
    metadata: dict[str, Any] | None = None
    request_config: dict[str, Any] | None = None
    refused: frozenset[tuple[str, str]] = frozenset()
    runs: tuple[str, ...] = ()
    debt: Debt | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether the status admits no further one."""
        return self.status in TERMINAL

    @property
    def deadline_us(self) -> int | None:
        """When a running resource with a timeout is past it."""
        if self.timeout_s is None or self.running_us is None or self.ended_us is not None:
            return None
        deadline_us = self.running_us + min(self.timeout_s * 1e6, 2.0 * TIME_MAX_US)
        return int(deadline_us) if deadline_us <= TIME_MAX_US else None


def evolve(state: State | None, event: Recorded, fact: Fact | None) -> State | None:
    """Fold one event into the state and return it; the state passed in is taken over.

    ``fact`` is the event's data in today's shape, None when it was erased. Events of streams that are no
    resources (``access.*``), and events before a creation, leave the state as it is.
    """
    apply, status = _FOLDS[event.type]
    if apply is None:
        return _create(event, fact) if status == "created" else state
    if state is None:
        return state
    state.version = event.version
    time_us = event.time
    if time_us > state.effective_us:
        state.effective_us = time_us
    elif time_us < state.effective_us:
        time_us = state.effective_us
        state.marks |= JUMPED
    if apply is _refuse or apply is _note:
        apply(state, event, fact)
        return state
    state.etag = event.version
    state.changed_us = time_us
    state.changed_position = event.position
    if (
        apply is not _call_back and state.updated_by != event.actor
    ):  # who changed a job is not hidden by what tells of it
        _keep(state, {"last_updated_by_id": state.updated_by})
        state.updated_by = event.actor
    if status is not None:
        state.status = status
    apply(state, event, fact)
    return state


def _create(event: Recorded, fact: Fact | None) -> State:
    state = State(event.position, event.stream, event.type.partition(".")[0], event.actor, event.time)
    state.created_by = state.updated_by = event.actor
    state.version = state.etag = event.version
    state.effective_us = state.changed_us = event.time
    state.changed_position = event.position
    if isinstance(fact, Created):
        state.user_id = fact.user_id
        state.project_id = fact.project_id
        state.agent_id = fact.agent_id
        state.conversation_id = fact.conversation_id
        state.base_template_id = fact.base_template_id
        state.batch_id = fact.batch_id
        state.background = fact.background
        state.metadata = fact.metadata
        state.request_config = fact.request_config
        state.callback_url = fact.callback_url
        state.timeout_s = fact.timeout_s
        state.runs = tuple(fact.runs or ())
    return state


def _keep(state: State, old: dict[str, Any]) -> None:
    """Keep the values before the event that is folded now."""
    state.undo = undo.added(state.undo, state.changed_position, state.changed_us, old)
    if state.undo is None:
        state.marks |= LOST
    if "stop_reason" in old or "total_duration_ns" in old:
        state.marks |= TWICE


def _pend(state: State, event: Recorded, fact: Fact | None) -> None:
    state.pending_us, state.pending_position = state.effective_us, event.position
    if old := _change(state, fact):
        _keep(state, old)


def _start(state: State, event: Recorded, fact: Fact | None) -> None:
    state.running_us, state.running_position = state.effective_us, event.position
    if old := _change(state, fact):
        _keep(state, old)


def _end(state: State, event: Recorded, fact: Fact | None) -> None:
    state.ended_us, state.ended_position = state.effective_us, event.position
    known: dict[str, Any] | None = None
    if state.stop_reason is not None or state.duration_ns is not None:
        known = {"stop_reason": state.stop_reason, "total_duration_ns": state.duration_ns}
    if state.status == "cancelled":
        state.stop_reason = "cancelled"
    _measure(state)
    if state.callback_url is not None and state.erased_position is None:
        state.debt = callbacks.owe(event)
    old = _change(state, fact)
    if known:
        _keep(state, old | known)
    elif old:
        old.pop("stop_reason", None)  # an end is taken back to none of these
        old.pop("total_duration_ns", None)
        if old:
            _keep(state, old)


def _measure(state: State) -> None:
    """Take the time between start and end for the duration, unless the producer told one."""
    if state.duration_ns is None and state.running_us is not None and state.ended_us is not None:
        state.duration_ns = min((state.ended_us - state.running_us) * 1000, INT64_MAX)


def _change(state: State, fact: Fact | None) -> dict[str, Any]:
    """Take what an event says beside its status; return the old values of what it says."""
    if fact is NOTHING or not isinstance(fact, Changed):
        return {}
    old: dict[str, Any] = {}
    if fact.stop_reason is not None:
        old["stop_reason"], state.stop_reason = state.stop_reason, fact.stop_reason
    if fact.metadata is not None or fact.error is not None or fact.agent_id is not None:
        place = _place(state)
        _merge(state, fact, old)
        if _place(state) != place:
            state.marks |= MOVED
    if fact.ttft_ns is not None:
        old["ttft_ns"], state.ttft_ns = state.ttft_ns, fact.ttft_ns
    if fact.total_duration_ns is not None:
        old["total_duration_ns"], state.duration_ns = state.duration_ns, fact.total_duration_ns
    return old


def _merge(state: State, fact: Changed, old: dict[str, Any]) -> None:
    if fact.metadata is not None or fact.error is not None:
        old["metadata"] = state.metadata
        error = {} if fact.error is None else {"error": msgspec.to_builtins(fact.error)}
        state.metadata = {**(state.metadata or {}), **(fact.metadata or {}), **error}
    if fact.agent_id is not None:
        old["agent_id"], state.agent_id = state.agent_id, fact.agent_id


def _place(state: State) -> tuple[Any, Any]:
    """Return what lists find a resource by, of all that an event can change: its agent and its source."""
    return state.agent_id, state.metadata.get("source_id") if state.metadata else None


def _update(state: State, event: Recorded, fact: Fact | None) -> None:
    _keep(state, _change(state, fact))
    if isinstance(fact, RunUpdated) and fact.usage is not None:
        state.usage = _encode(fact.usage)


def _note(state: State, event: Recorded, fact: Fact | None) -> None:
    """Steps and messages have views of their own; of the run they move nothing but its version and time."""


def _refuse(state: State, event: Recorded, fact: Fact | None) -> None:
    if isinstance(fact, Refused):
        state.refused |= {(event.actor, fact.asked)}


def _delete(state: State, event: Recorded, fact: Fact | None) -> None:
    state.deleted_us, state.deleted_position = state.effective_us, event.position


def _erase(state: State, event: Recorded, fact: Fact | None) -> None:
    """Leave what the envelopes of the events tell: so it is as if their data had never been there."""
    state.erased_position = event.position
    state.user_id = state.created_by
    for name in _SAID:
        setattr(state, name, _UNSAID[name])
    state.marks &= JUMPED
    state.stop_reason = "cancelled" if state.status == "cancelled" else None
    state.duration_ns = None
    _measure(state)


def _call_back(state: State, event: Recorded, fact: Fact | None) -> None:
    state.marks |= CALLED
    if state.debt is not None:
        state.debt = callbacks.evolve(state.debt, event, fact)
    if isinstance(fact, Attempted):
        state.callback_sent_us = callbacks.sent_us(event, fact)
        state.callback_status_code, state.callback_error = fact.status_code, fact.error


_SAID = (
    "project_id", "agent_id", "conversation_id", "base_template_id", "batch_id", "background", "timeout_s", "usage",
    "undo", "ttft_ns", "callback_url", "callback_sent_us", "callback_status_code", "callback_error", "metadata",
    "request_config", "refused", "runs", "debt",
)  # fmt: skip
"""What only the data of events tells."""
_UNSAID = dict(zip(State.__struct_fields__[-len(State.__struct_defaults__) :], State.__struct_defaults__, strict=True))

_Fold = Callable[[State, Recorded, Fact | None], None]
_VERBS: dict[str, _Fold] = {
    "pending": _pend,
    "running": _start,
    "updated": _update,
    "step": _note,
    "message": _note,
    "refused": _refuse,
    "deleted": _delete,
    "erased": _erase,
    **dict.fromkeys(("attempted", "delivered", "abandoned", "requeued"), _call_back),
    **dict.fromkeys(TERMINAL, _end),
}
_FOLDS: dict[str, tuple[_Fold | None, str | None]] = {
    name: (_VERBS.get(info.verb), info.status) for name, info in TYPES.items()
}


def fact_of(event: Recorded) -> Fact | None:
    """Return what ``evolve`` needs of an event's data: nothing of a step or a message, which may be long."""
    return None if event.type in QUIET else upcast.fact(event)


def fold(events: Iterable[Recorded], until: Callable[[State], bool] | None = None) -> State | None:
    """Fold a stream's events in order. ``until`` is asked after each one; when true, that event no longer counts."""
    state: State | None = None
    for event in events:
        before = copy.copy(state) if until else None
        state = evolve(state, event, fact_of(event))
        if until and state is not None and until(state):
            return before
    return state


def as_of(events: Iterable[Recorded], *, position: int | None = None, time_us: int | None = None) -> State | None:
    """Fold what the ledger knew at ``position``, or what had happened by ``time_us``; None before the creation."""
    if position is not None:
        return fold(event for event in events if event.position <= position)
    return fold(events, until=lambda state: time_us is not None and state.effective_us > time_us)
