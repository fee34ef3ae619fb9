"""From commands to recorded events: one work for the writer, with idempotency keys and refusals (contract 2, 3)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from ledger import limits, upcast
from ledger.decider import Change, Command, Create, Decision, admit, cancel, decide
from ledger.errors import IdempotencyConflict, InvalidTransition, LedgerError, NotFound
from ledger.events import NOTHING, Changed, Draft, Fact, Message, Recorded, Refused, Request, Step, draft
from ledger.session import Session, Work
from ledger.state import State
from ledger.transitions import allowed


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, when it happened (microseconds; None: now), and under which idempotency key.

    ``digest``: SHA-256 of the request that the key stands for, hex. ``sees``: whether the asker may see a resource; one
    that they may not see does not exist for them.
    """

    actor: str
    time_us: int | None = None
    key: str | None = None
    digest: str = ""
    correlation: str | None = None
    sees: Callable[[State], bool] | None = None


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What an append led to: the log's position after it and the primary resource's state.

    ``refusal`` is set when the rules refused; ``prior`` when the key had been used: the event that holds it.
    """

    position: int
    state: State | None = None
    events: tuple[Recorded, ...] = ()
    refusal: LedgerError | None = None
    prior: Recorded | None = None


Plan = Callable[[Session], Sequence[Command]]
"""Reads states inside the transaction and names the commands to run; the last one's resource is the primary one."""


def single(command: Command) -> Plan:
    """Return the plan of one command."""
    return lambda _session: (command,)


def cancel_with_members(id: str, etags: tuple[int, ...] | None, by: str | None) -> Plan:
    """Return the plan that cancels a job, run or batch; a batch's active runs go in the same append."""

    def plan(session: Session) -> list[Command]:
        state = session.state(id)
        primary = cancel(id, etags, by)
        if state is None or state.status != "running" or state.deleted_us is not None:
            return [primary]
        members = [run for run in state.runs if _is_member(session.state(run), state)]
        return [*(cancel(run, by=by) for run in members), primary]

    return plan


def _is_member(run: State | None, batch: State) -> bool:
    """Tell whether a run is an active one of the batch: a batch may name the runs of others, but not cancel them."""
    if run is None or not is_cancellable(run):
        return False
    return (run.batch_id, run.user_id, run.project_id) == (batch.id, batch.user_id, batch.project_id)


def create_batch(batch: Create, runs: Sequence[Create]) -> Plan:
    """Return the plan that records a batch, then its runs, then the batch as running."""
    start = msgspec.structs.replace(batch, status="pending")
    running = Change(id=batch.id, status="running", facts=Changed(by=batch.facts.by))
    return lambda _session: (start, *runs, running)


def is_cancellable(state: State | None) -> bool:
    """Tell whether the rules allow a cancel of this resource now."""
    if state is None or state.deleted_us is not None or state.erased_position is not None:
        return False
    return "cancelled" in allowed(state.kind, state.status)


def work(plan: Plan, context: Context, *, skip_refused: bool = False) -> Work:
    """Return the writer's work for a plan. ``skip_refused``: a refusal of one command does not end the others."""

    def run(session: Session) -> Receipt:
        if context.key is not None and (prior := session.find(context.key)) is not None:
            return Receipt(position=prior.position, prior=prior)
        recorded: list[Recorded] = []
        commands = plan(session)
        for command in commands[:-1]:
            decision = decide(session.state(command.id), command, context.actor)
            if decision.refusal is not None and not skip_refused:
                raise decision.refusal
            recorded += session.append(drafts_of(command.id, decision, context, session.now_us))
        if not commands:
            return Receipt(position=session.size)
        primary = commands[-1]
        state = session.state(primary.id)
        if state is not None and context.sees and not isinstance(primary, Create) and not context.sees(state):
            raise NotFound(what=primary.id.partition("-")[0], id=primary.id)
        decision = decide(state, primary, context.actor)
        drafts = drafts_of(primary.id, decision, context, session.now_us)
        if drafts and context.key is not None:
            drafts[-1] = _keyed(drafts[-1], context, len(recorded) + len(drafts))
        recorded += session.append(drafts)
        return Receipt(
            position=session.size,
            state=copy.copy(session.state(primary.id)),
            events=tuple(recorded),
            refusal=None if skip_refused else decision.refusal,
        )

    return run


F = TypeVar("F", bound=Step | Message)


class Note(msgspec.Struct, Generic[F], frozen=True):
    """A step or a message of a run, and when it happened (microseconds; None: when the context says, or now)."""

    fact: F
    time_us: int | None = None


def record(run_id: str, notes: Sequence[Note[Any]], context: Context) -> Work:
    """Return the work that appends what happened within a run: all notes or none."""

    def run(session: Session) -> Receipt:
        if context.key is not None and (prior := session.find(context.key)) is not None:
            return Receipt(position=prior.position, prior=prior)
        state = session.state(run_id)
        if state is None or state.kind != "run" or (context.sees and not context.sees(state)):
            raise NotFound(what="run", id=run_id)
        recorded: list[Recorded] = []
        for number, note in enumerate(notes, 1):
            made = _noted(run_id, note, context, session.now_us)
            admit(state, run_id, made.type, note.fact, session.book)
            if number == len(notes) and context.key is not None:
                made = _keyed(made, context, len(notes))
            recorded += session.append([made])
        state = copy.copy(session.state(run_id))
        return Receipt(position=session.size, state=state, events=tuple(recorded))

    return run


def _noted(run_id: str, note: Note[Any], context: Context, now_us: int) -> Draft:
    limits.check(note.fact, run_id)
    said_us = note.time_us if note.time_us is not None else context.time_us
    name = "run.step" if isinstance(note.fact, Step) else "run.message"
    when = now_us if said_us is None else said_us
    return draft(run_id, name, note.fact, time=when, actor=context.actor, correlation=context.correlation)


def drafts_of(stream: str, decision: Decision, context: Context, now_us: int) -> list[Draft]:
    """Return the drafts of a decision."""
    when = now_us if context.time_us is None else context.time_us
    for _, fact in decision.events:
        if fact is not NOTHING:
            limits.check(fact)
    return [
        draft(stream, name, fact, time=when, actor=context.actor, correlation=context.correlation)
        for name, fact in decision.events
    ]


def _keyed(last: Draft, context: Context, events: int) -> Draft:
    fact: Fact = msgspec.structs.replace(last.fact, request=Request(context.digest, events))
    return draft(
        last.stream, last.type, fact, time=last.time, actor=last.actor, key=context.key, correlation=last.correlation
    )


def check_prior(prior: Recorded, context: Context, *, skip_refused: bool = False) -> Request:
    """Return the request that a used key stood for; raise ``IdempotencyConflict`` when it was another one.

    Raises the refusal again when the first answer was one.
    """
    fact = upcast.fact(prior)
    request = fact.request if fact is not None else None
    if request is None or request.digest != context.digest:
        raise IdempotencyConflict(key=context.key)
    if isinstance(fact, Refused) and not skip_refused:
        kind = prior.type.partition(".")[0]
        raise InvalidTransition(
            id=prior.stream,
            current_status=fact.found,
            requested_status=fact.asked,
            allowed=list(allowed(kind, fact.found)),
            position=prior.position,
        )
    return request
