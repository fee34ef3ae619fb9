"""Events that somebody brings ready-made, admitted one by one by the same rules as commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from ledger.decider import admit
from ledger.errors import Erased, IdempotencyConflict, LedgerError, NotFound, VersionMismatch
from ledger.events import Draft, Recorded
from ledger.session import Session, Work
from ledger.state import State


class Entry(msgspec.Struct, frozen=True):
    """A brought event. ``expected_version``: the stream's version before it, where the bringer knows it.

    ``line``: where it stood in the input, from 1. ``is_timed``: whether the bringer said when it happened.
    """

    draft: Draft
    expected_version: int | None = None
    line: int = 0
    is_timed: bool = True


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What became of brought events; ``position`` is the log's size afterwards."""

    appended: int
    duplicate: int
    position: int


class LineError(LedgerError):
    """Line {line}: {reason}"""


def append_all(entries: Sequence[Entry], sees: Callable[[State], bool] = lambda state: True) -> Work:
    """Return the work that appends all entries or none. Raises ``LineError`` for the first that is refused.

    ``sees``: whether the bringer may see a resource; one that they may not see does not exist for them.
    """

    def run(session: Session) -> Tally:
        appended = 0
        for entry in entries:
            try:
                state = session.state(entry.draft.stream)
                if state is not None and not sees(state):
                    raise NotFound(what=state.kind, id=state.id)
                appended += append_one(session, entry)[1]
            except LedgerError as error:
                raise LineError(line=entry.line, reason=str(error), cause=error) from error
        return Tally(appended=appended, duplicate=len(entries) - appended, position=session.size)

    return run


def append_one(session: Session, entry: Entry) -> tuple[Recorded, bool]:
    """Stage one event if the rules allow it; return it and True, or the equal one that was there and False."""
    known = find_equal(session, entry)
    if known is not None:
        return known, False
    draft = entry.draft
    admit(session.state(draft.stream), draft.stream, draft.type, draft.fact, session.book)
    return session.append([draft])[0], True


def find_equal(session: Session, entry: Entry) -> Recorded | None:
    """Return the event that the log already holds for this one: by its key, or by its place in the stream.

    Raises ``IdempotencyConflict`` or ``VersionMismatch`` when another event stands there, ``Erased`` where nothing is
    left of it.
    """
    draft = entry.draft
    if draft.key is not None and (prior := session.find(draft.key)) is not None:
        if prior.data is None:  # nobody can tell any more whether it said the same
            state = session.state(prior.stream)
            raise Erased(id=prior.stream, position=0 if state is None else state.erased_position)
        if not is_equal(prior, entry):
            raise IdempotencyConflict(key=draft.key)
        return prior
    if entry.expected_version is None:
        return None
    current = session.version(draft.stream)
    if current > entry.expected_version:
        prior = session.at(draft.stream, entry.expected_version + 1)
        if prior is not None and is_equal(prior, entry):
            return prior
    if current != entry.expected_version:
        raise VersionMismatch(id=draft.stream, current=current, expected=entry.expected_version)
    return None


def is_equal(event: Recorded, entry: Entry) -> bool:
    """Tell whether a recorded event says just what the entry would."""
    draft = entry.draft
    said = (event.stream, event.type, event.actor, event.data, event.schema)
    wanted = (draft.stream, draft.type, draft.actor, draft.data, draft.schema)
    return said == wanted and (event.time == draft.time or not entry.is_timed)
