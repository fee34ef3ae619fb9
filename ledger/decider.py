"""Commands, and what they lead to: ``decide(state, command) -> Decision`` by the rules of the transition table.

Pure: time and ids arrive inside the command. A refusal is a decision too: it may leave one ``….refused`` event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ledger import events as facts
from ledger import ids, steps
from ledger.callbacks import check_url
from ledger.errors import (
    AlreadyExists,
    Erased,
    InvalidTransition,
    LedgerError,
    NotFound,
    NothingOwed,
    VersionMismatch,
    invalid,
)
from ledger.events import (
    CALLBACK_TYPES,
    TYPES,
    Abandoned,
    AbandonReason,
    Attempted,
    CallbackError,
    Changed,
    Created,
    Deleted,
    Delivered,
    ErrorInfo,
    Fact,
    Refused,
    Requeued,
    Step,
)
from ledger.state import State
from ledger.transitions import TERMINAL, allowed, chain


class Create(msgspec.Struct, frozen=True, kw_only=True):
    """Begin a resource; a later ``status`` walks the whole chain in one append."""

    id: str
    kind: str
    facts: Created
    status: str = "created"
    end: Changed = Changed()


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Move one legal step (``status``), or update what is not a status, or both in one event."""

    id: str
    status: str | None = None
    facts: Changed = Changed()
    etags: tuple[int, ...] | None = None


class Delete(msgspec.Struct, frozen=True, kw_only=True):
    """Hide a resource from reads, in whatever status it is."""

    id: str
    etags: tuple[int, ...] | None = None
    reason: str | None = None


class Erase(msgspec.Struct, frozen=True, kw_only=True):
    """Remove the data of all events of a resource for good, in whatever status it is, also a deleted one."""

    id: str
    reason: str
    by: str | None = None


class Expire(msgspec.Struct, frozen=True, kw_only=True):
    """End a running resource that is past its timeout at ``now_us``; nothing where it is not."""

    id: str
    now_us: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Record one attempt of a callback, and what it means for the debt: a 2xx (no ``error``) delivers, 410 abandons.

    ``owed_position``: of the event that the attempt was made for. ``due_us``: when the next one is due after another
    failure; None: that was the last of the schedule.
    """

    id: str
    owed_position: int
    duration_ns: int
    status_code: int | None = None
    error: CallbackError | None = None
    due_us: int | None = None


class Abandon(msgspec.Struct, frozen=True, kw_only=True):
    """Give up a callback that is owed by the event at ``owed_position``; nothing where it is not."""

    id: str
    owed_position: int
    reason: AbandonReason


class Redeliver(msgspec.Struct, frozen=True, kw_only=True):
    """Owe a callback anew, at once, whatever became of it.

    Also where it is owed at once already: an attempt under way may be its last, and what an import brought is not sent
    until somebody asks for it here.
    """

    id: str
    by: str | None = None
    reason: str | None = None


Command = Create | Change | Delete | Erase | Expire | Report | Abandon | Redeliver


class Decision(msgspec.Struct, frozen=True):
    """The events that a command leads to, as (type, fact), and the refusal to tell its caller, if any."""

    events: tuple[tuple[str, Fact], ...] = ()
    refusal: LedgerError | None = None


def decide(state: State | None, command: Command, actor: str) -> Decision:
    """Return what the command leads to, given the state of its resource.

    Raises ``NotFound``, ``AlreadyExists``, ``Erased``, ``VersionMismatch`` and ``InvalidInput``; these leave no event.
    """
    return _DECIDE[type(command)](state, command, actor)


def cancel(id: str, etags: tuple[int, ...] | None = None, by: str | None = None) -> Change:
    """Make the command that cancels a job, batch or run."""
    return Change(id=id, status="cancelled", facts=Changed(by=by), etags=etags)


def _create(state: State | None, command: Create, actor: str) -> Decision:
    ids.parse(command.id, "run" if command.kind == "run" else "job")
    if state is not None:
        raise AlreadyExists(id=command.id)
    if command.facts.callback_url is not None:
        check_url(command.facts.callback_url)
    steps = chain(command.kind, None, command.status)
    if not steps:
        raise invalid("status", f"'{command.status}' is not a status of a {command.kind}")
    facts: list[Fact] = [command.facts, *(Changed(by=command.facts.by) for _ in steps[1:])]
    if len(steps) > 1:
        facts[-1] = _end(command.status, command.end)
    elif command.end != Changed(by=command.end.by):
        raise invalid("status", "only a status after created can come with a stop reason, error or duration")
    names = (f"{command.kind}.{step}" for step in steps)
    return Decision(tuple(zip(names, facts, strict=True)))


def _change(state: State | None, command: Change, actor: str) -> Decision:
    state = _present(state, command.id, command.etags)
    if command.status is None:
        if command.facts.stop_reason is not None:
            raise invalid("stop_reason", "goes with a terminal status", sorted(TERMINAL))
        if command.facts == Changed(by=command.facts.by):
            raise invalid("body", "names nothing to change")
        return Decision(((f"{state.kind}.updated", command.facts),))
    if command.status not in allowed(state.kind, state.status):
        return _refuse(state, command.status, actor, command.facts.by)
    return Decision(((f"{state.kind}.{command.status}", _end(command.status, command.facts)),))


def _delete(state: State | None, command: Delete, actor: str) -> Decision:
    state = _present(state, command.id, command.etags)
    return Decision(((f"{state.kind}.deleted", Deleted(reason=command.reason)),))


def _erase(state: State | None, command: Erase, actor: str) -> Decision:
    if state is None:
        raise NotFound(what=command.id.partition("-")[0], id=command.id)
    _check_not_erased(state)
    if not command.reason.strip():
        raise invalid("reason", "must say why; it is all that will be left")
    return Decision(((f"{state.kind}.erased", facts.Erased(reason=command.reason, by=command.by)),))


def _check_not_erased(state: State) -> None:
    if state.erased_position is not None:
        raise Erased(id=state.id, position=state.erased_position)


def _expire(state: State | None, command: Expire, actor: str) -> Decision:
    if state is None or state.deleted_us is not None or state.erased_position is not None or state.status != "running":
        return Decision()
    deadline_us = state.deadline_us
    if deadline_us is None or deadline_us > command.now_us:
        return Decision()
    if state.kind == "run":
        error = ErrorInfo(type="timeout", message=f"the run was not ended within its timeout of {state.timeout_s:g} s")
        return Decision((("run.failed", Changed(stop_reason="error", error=error)),))
    return Decision(((f"{state.kind}.expired", Changed()),))


def _report(state: State | None, command: Report, actor: str) -> Decision:
    debt = None if state is None else state.debt
    if debt is None:  # erased meanwhile
        return Decision()
    is_this = debt.is_owed and debt.owed_position == command.owed_position
    is_final = command.error in (None, "gone")
    attempted = Attempted(
        number=debt.attempts + 1,
        duration_ns=command.duration_ns,
        status_code=command.status_code,
        error=command.error,
        due_us=command.due_us if is_this and not is_final else None,
    )
    events: list[tuple[str, Fact]] = [("callback.attempted", attempted)]
    if debt.is_owed and command.error is None:
        events.append(("callback.delivered", Delivered()))
    elif is_this and command.error == "gone":
        events.append(("callback.abandoned", Abandoned(reason="gone")))
    elif is_this and command.due_us is None and command.error != "interrupted":  # which is no attempt of the schedule
        events.append(("callback.abandoned", Abandoned(reason="exhausted")))
    return Decision(tuple(events))


def _abandon(state: State | None, command: Abandon, actor: str) -> Decision:
    debt = None if state is None else state.debt
    if debt is None or not debt.is_owed or debt.owed_position != command.owed_position:
        return Decision()
    return Decision((("callback.abandoned", Abandoned(reason=command.reason)),))


def _redeliver(state: State | None, command: Redeliver, actor: str) -> Decision:
    state = _present(state, command.id, None)
    if state.debt is None:
        what = "it has no callback_url" if state.callback_url is None else f"it is {state.status}, not at its end"
        raise NothingOwed(id=command.id, reason=what)
    return Decision((("callback.requeued", Requeued(by=command.by, reason=command.reason)),))


_DECIDE: dict[type, Callable[[State | None, Any, str], Decision]] = {
    Create: _create,
    Change: _change,
    Delete: _delete,
    Erase: _erase,
    Expire: _expire,
    Report: _report,
    Abandon: _abandon,
    Redeliver: _redeliver,
}


def _present(state: State | None, id: str, etags: tuple[int, ...] | None) -> State:
    if state is None or state.deleted_us is not None:
        raise NotFound(what=id.partition("-")[0], id=id)
    _check_not_erased(state)
    if etags is not None and state.etag not in etags:
        raise VersionMismatch(id=id, expected=" or ".join(map(str, etags)) or "none", current=state.etag)
    return state


def _end(status: str, facts: Changed) -> Changed:
    if status == "cancelled":
        if facts.stop_reason not in (None, "cancelled"):
            raise invalid("stop_reason", "a cancel sets 'cancelled'", ["cancelled"])
        return msgspec.structs.replace(facts, stop_reason="cancelled")
    if facts.stop_reason is not None and status not in TERMINAL:
        raise invalid("stop_reason", "goes with a terminal status", sorted(TERMINAL))
    return facts


def _refuse(state: State, asked: str, actor: str, by: str | None) -> Decision:
    refusal = _illegal(state, asked)
    if (actor, asked) in state.refused:
        return Decision(refusal=refusal)
    return Decision(((f"{state.kind}.refused", Refused(asked=asked, found=state.status, by=by)),), refusal)


STREAMS = {"job": ("job",), "batch": ("job",), "run": ("run",), "callback": ("job", "run"), "access": ("token",)}
"""The kinds of ids of the streams that the events of a kind stand in."""


def admit(
    state: State | None, stream: str, type: str, fact: Fact | None, book: Callable[[str], steps.Book] | None = None
) -> None:
    """Raise unless an event that somebody brings (bulk append, import) is legal after ``state``.

    The same table as for commands: ``AlreadyExists``, ``NotFound`` or ``InvalidTransition``; ``InvalidInput`` when the
    type does not belong to the stream; ``Erased`` where that was erased. ``book`` gives the statuses of a run's steps.
    """
    info = TYPES[type]
    ids.parse(stream, *STREAMS[info.kind], where="subject")
    if info.kind == "access":
        return
    if type in CALLBACK_TYPES:
        _admit_callback(state, stream, type, fact)
        return
    if info.verb == "created":
        _admit_creation(state, stream, info.kind, fact)
        return
    is_gone = state is not None and state.deleted_us is not None and info.verb != "erased"
    if state is None or state.kind != info.kind or is_gone:
        raise NotFound(what=info.kind, id=stream)
    _check_not_erased(state)
    if isinstance(fact, Step) and book is not None:
        steps.admit(book(stream), fact)
    if info.status is not None:
        if info.status not in allowed(state.kind, state.status):
            raise _illegal(state, info.status)
        if isinstance(fact, Changed):
            _end(info.status, fact)


def _admit_creation(state: State | None, stream: str, kind: str, fact: Fact | None) -> None:
    if state is not None:
        raise AlreadyExists(id=stream)
    if kind == "run" and isinstance(fact, Created) and not fact.agent_id:
        raise invalid("data.agent_id", "a run needs its agent")


def _admit_callback(state: State | None, stream: str, type: str, fact: Fact | None) -> None:
    """Raise ``NothingOwed`` where a callback event cannot follow: only what is owed is delivered or abandoned.

    Where its data was erased, so was that of the creation, which alone tells whether there was a callback.
    """
    if state is None:
        raise NotFound(what=stream.partition("-")[0], id=stream)
    if fact is None:
        return
    debt = state.debt
    if debt is None:
        raise NothingOwed(id=stream, reason="it has no callback that its end owes")
    if type in ("callback.delivered", "callback.abandoned") and not debt.is_owed:
        raise NothingOwed(id=stream, reason=f"it was {debt.status}")


def _illegal(state: State, asked: str) -> InvalidTransition:
    return InvalidTransition(
        id=state.id,
        current_status=state.status,
        requested_status=asked,
        allowed=list(allowed(state.kind, state.status)),
    )
