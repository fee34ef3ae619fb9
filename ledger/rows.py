"""Rows of foreign histories into the ledger: what each record becomes, and what of it is there already."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from itertools import takewhile

import msgspec

from ledger import limits, steps, upcast
from ledger.decider import admit
from ledger.errors import IdempotencyConflict, InvalidTransition, NotFound
from ledger.events import Changed, Created, Draft, Fact, Recorded, Request, Step, draft
from ledger.formats import INNER, Row
from ledger.ids import SYSTEM_USER
from ledger.session import Session
from ledger.state import State, evolve
from ledger.transitions import allowed, chain

_IMPUTED = Changed(imputed=True)


def enter(session: Session, row: Row) -> tuple[int, int]:
    """Stage the events of a row, all or none; return how many were added, and how many were there already.

    Raises ``LedgerError`` for what the rules refuse, and for a record that is not the one that its key stands for.
    """
    prior = session.find(row.key)
    if prior is not None:
        return 0, _recognise(session, row, prior)
    drafts = _drafts(session, row)
    session.append(drafts)
    return len(drafts), 0


def _recognise(session: Session, row: Row, prior: Recorded) -> int:
    """Return how many events a row that is there had led to; ``prior`` is the last of them, which holds its key."""
    last = row.moves[-1]
    request = _request(prior)
    is_same = (prior.stream, prior.type, prior.time) == (row.stream, f"{row.kind}.{last.verb}", last.time_us)
    if not is_same or (request is not None and request.digest != _digest(row)):
        raise IdempotencyConflict(key=row.key)
    if request is not None:
        return request.events
    before = reversed(session.stream(row.stream)[: prior.version - 1])
    return 1 + len(list(takewhile(lambda event: event.key is None, before)))


def _request(prior: Recorded) -> Request | None:
    """Return what the last event of a run tells of the record it came from: its digest and how many events it had.

    Jobs come from records of a few numbers, whose status and time tell them apart well enough.
    """
    fact = upcast.fact(prior) if prior.type.startswith("run.") else None
    return None if fact is None else fact.request


def _digest(row: Row) -> str:
    return hashlib.sha256(row.raw.strip()).hexdigest()


def _drafts(session: Session, row: Row) -> list[Draft]:
    """Return the events of a row, those that the rules need and the source never showed marked as imputed."""
    state = session.state(row.stream)
    if state is not None and state.deleted_us is not None:
        raise NotFound(what=row.kind, id=row.stream)
    found = None if state is None else state.status
    drafts = _walk(row, found)
    if not drafts:
        raise _refusal(row, found)
    last, request = drafts[-1], None
    if row.kind == "run":
        _admit(session, row, drafts)
        request = Request(_digest(row), len(drafts))
    fact = last.fact if request is None else msgspec.structs.replace(last.fact, request=request)
    drafts[-1] = draft(row.stream, last.type, fact, time=last.time, actor=SYSTEM_USER, key=row.key)
    return drafts


def _walk(row: Row, found: str | None) -> list[Draft]:
    """Return the events that lead from a status through a row's moves, or none where no legal way does."""
    drafts: list[Draft] = []
    for move in row.moves:
        if move.verb not in INNER:
            way = chain(row.kind, found, move.verb)
            if not way:
                return []
            for status in way[:-1]:
                fact: Fact = Created(user_id=SYSTEM_USER, imputed=True) if status == "created" else _IMPUTED
                drafts.append(draft(row.stream, f"{row.kind}.{status}", fact, time=move.time_us, actor=SYSTEM_USER))
            found = move.verb
        drafts.append(draft(row.stream, f"{row.kind}.{move.verb}", move.fact, time=move.time_us, actor=SYSTEM_USER))
    return drafts


def _admit(session: Session, row: Row, drafts: Sequence[Draft]) -> None:
    """Raise for the first event of a run that the rules or limits refuse, each after those before it.

    What happened in a run comes from far more hands than a line of an accounting log, so every value is checked.
    """
    state = copy.copy(session.state(row.stream))
    book = {} if state is None else dict(session.book(row.stream))
    for each in drafts:
        limits.check(each.fact, row.stream)
        admit(state, row.stream, each.type, each.fact, lambda _: book)
        if isinstance(each.fact, Step):
            steps.enter(book, each.fact)
        state = evolve(state, _as_recorded(each, state), each.fact)


def _as_recorded(each: Draft, state: State | None) -> Recorded:
    """Return a draft as the event that it would be, as far as the state looks at it."""
    version = 1 if state is None else state.version + 1
    return Recorded(
        0, each.stream, version, each.type, each.schema, each.time, each.time, each.actor, None, None, each.data, None
    )


def _refusal(row: Row, found: str | None) -> InvalidTransition:
    asked = [move.verb for move in row.moves if move.verb not in INNER]
    for verb in asked:
        if not chain(row.kind, found, verb):
            break
        found = verb
    following = list(allowed(row.kind, found))
    return InvalidTransition(id=row.stream, current_status=found, requested_status=verb, allowed=following)
