"""Histories into the ledger and out of it: foreign formats, exports, and restoring an export to the letter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import islice, takewhile
from typing import TypeVar

import msgspec

from ledger import cloudevents, ids
from ledger.bulk import Entry, append_one
from ledger.decider import admit
from ledger.entropy import Entropy
from ledger.errors import IdempotencyConflict, InvalidTransition, LedgerError, NotFound, VersionMismatch, invalid
from ledger.events import Changed, Created, Draft, Fact, Recorded, draft
from ledger.formats import Reject, Row, google2011, swf
from ledger.ids import SYSTEM_USER
from ledger.ledger import Ledger
from ledger.session import Session, Work
from ledger.store import Store
from ledger.tokens import ACCESS_TYPES
from ledger.transitions import allowed, chain

ROWS = 4000
"""Records in one transaction of an import: about 6,000 events, some 50 ms; other writers get in between."""
TEXT_MAX = 2000
"""Characters of a rejected line that the rejects file keeps."""

T = TypeVar("T")
Parser = Callable[[Iterable[bytes], str], Iterator[Row | Reject]]
FOREIGN: dict[str, Parser] = {"swf": swf.parse, "google-2011": google2011.parse}
FORMATS = ("jobledger", *FOREIGN)
_IMPUTED = Changed(imputed=True)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a part of an import; counts are of events, rejects are lines."""

    appended: int
    duplicate: int
    rejects: tuple[Reject, ...]
    lines: int


async def load(ledger: Ledger, lines: Iterable[bytes], format: str, source: str) -> AsyncIterator[Outcome]:
    """Import numbered lines; yield what became of each part once it is durable.

    ``source``: the name of the file, which with a line or record number tells the same record again.
    """
    parts: Iterator[Work]
    if format == "jobledger":
        origin = _Origin()
        parts = (_load_events(part, origin) for part in _chunks(enumerate(lines, 1), ROWS * 4))
    else:
        parts = (_load_rows(part) for part in _chunks(FOREIGN[format](lines, source), ROWS))
    work = await asyncio.to_thread(next, parts, None)
    while work is not None:
        outcome, work = await asyncio.gather(ledger.submit(work), asyncio.to_thread(next, parts, None))
        yield outcome


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


def _load_rows(rows: Sequence[Row | Reject]) -> Work:
    whole = [row for row in rows if isinstance(row, Row)]
    streams, keys = {row.stream for row in whole}, [row.key for row in whole]

    def run(session: Session) -> Outcome:
        appended = duplicate = 0
        rejects: list[Reject] = []
        session.expect(streams, keys)
        for row in rows:
            if isinstance(row, Reject):
                rejects.append(row)
                continue
            try:
                drafts = _drafts(session, row)
                if drafts:
                    session.append(drafts)
                    appended += len(drafts)
                else:
                    duplicate += _size_of(session, row)
            except LedgerError as error:
                rejects.append(Reject(row.line, str(error), _text(row.raw)))
        return Outcome(appended=appended, duplicate=duplicate, rejects=tuple(rejects), lines=len(rows))

    return run


def _drafts(session: Session, row: Row) -> list[Draft]:
    """Return the events of a row, those that the rules need and the source never showed marked as imputed."""
    prior = session.find(row.key)
    if prior is not None:
        last = row.moves[-1]
        if (prior.stream, prior.type, prior.time) != (row.stream, f"{row.kind}.{last.status}", last.time_us):
            raise IdempotencyConflict(key=row.key)
        return []
    state = session.state(row.stream)
    if state is not None and state.deleted_us is not None:
        raise NotFound(what=row.kind, id=row.stream)
    drafts = _walk(row, None if state is None else state.status)
    if not drafts:
        raise _refusal(row, None if state is None else state.status)
    last_draft = drafts[-1]
    drafts[-1] = draft(
        row.stream, last_draft.type, last_draft.fact, time=last_draft.time, actor=SYSTEM_USER, key=row.key
    )
    return drafts


def _size_of(session: Session, row: Row) -> int:
    """Return how many events a row that is there had led to: back from the one that holds its key to the next key."""
    last = session.find(row.key)
    if last is None:
        return 0
    before = reversed(session.stream(row.stream)[: last.version - 1])
    return 1 + len(list(takewhile(lambda event: event.key is None, before)))


def _walk(row: Row, found: str | None) -> list[Draft]:
    """Return the events that lead from a status through a row's moves, or none where no legal way does."""
    drafts: list[Draft] = []
    for move in row.moves:
        steps = chain(row.kind, found, move.status)
        if not steps:
            return []
        for step in steps[:-1]:
            fact: Fact = Created(user_id=SYSTEM_USER, imputed=True) if step == "created" else _IMPUTED
            drafts.append(draft(row.stream, f"{row.kind}.{step}", fact, time=move.time_us, actor=SYSTEM_USER))
        drafts.append(draft(row.stream, f"{row.kind}.{move.status}", move.fact, time=move.time_us, actor=SYSTEM_USER))
        found = move.status
    return drafts


def _refusal(row: Row, found: str | None) -> InvalidTransition:
    for move in row.moves:
        if not chain(row.kind, found, move.status):
            break
        found = move.status
    following = list(allowed(row.kind, found))
    return InvalidTransition(id=row.stream, current_status=found, requested_status=move.status, allowed=following)


class _Origin:
    """Whether this ledger is, so far, the one that an export came from: only then its events keep their positions."""

    def __init__(self) -> None:
        self.is_same = True
        self.differing: set[str] = set()
        """Streams that have other events here: what follows in the export must not be appended to them."""


def _load_events(lines: Sequence[tuple[int, bytes]], origin: _Origin) -> Work:
    def run(session: Session) -> Outcome:
        appended = duplicate = 0
        rejects: list[Reject] = []
        for number, line in lines:
            if not line.strip():
                continue
            try:
                if _load_event(session, line, origin):
                    appended += 1
                else:
                    duplicate += 1
            except VersionMismatch as error:
                origin.differing.add(error.facts["id"])
                rejects.append(Reject(number, str(error), _text(line)))
            except LedgerError as error:
                rejects.append(Reject(number, str(error), _text(line)))
        return Outcome(appended=appended, duplicate=duplicate, rejects=tuple(rejects), lines=len(lines))

    return run


def _load_event(session: Session, line: bytes, origin: _Origin) -> bool:
    """Stage an exported event: at its old position where that is the next one here, else at the end as a new one."""
    event = cloudevents.decode(line)
    ids.parse(event.subject, "job", "run", "token", where="subject")
    if event.datadigest is not None and not isinstance(event.data, msgspec.UnsetType):
        raise invalid("datadigest", "stands for erased data, but the data is there")
    if event.position is None or event.recordedtime is None:
        return append_one(session, _entry(event, session.now_us))[1]
    recorded = cloudevents.to_recorded(event)
    if session.at(recorded.stream, recorded.version) == recorded:
        return False
    if event.datadigest is not None:
        raise invalid("data", "was erased: such an event can be restored from a backup, not from an export")
    if recorded.stream in origin.differing:
        raise invalid("subject", "an earlier event of this stream was rejected, so that this one has no place either")
    origin.is_same = origin.is_same and recorded.position == session.size + 1
    if origin.is_same and recorded.version == session.version(recorded.stream) + 1:
        _restore(session, recorded, cloudevents.to_draft(event, actor=recorded.actor, now_us=session.now_us))
        return True
    if recorded.type in ACCESS_TYPES:
        raise invalid(
            "type", "tokens of another ledger are not taken over; make new ones with `jobledger token create`"
        )
    return append_one(session, _entry(event, session.now_us))[1]


def _entry(event: cloudevents.CloudEvent, now_us: int) -> Entry:
    expected = None if event.streamversion is None else event.streamversion - 1
    draft = cloudevents.to_draft(event, actor=SYSTEM_USER, now_us=now_us)
    return Entry(draft, expected, is_timed=event.time is not None)


def _restore(session: Session, recorded: Recorded, wanted: Draft) -> None:
    if recorded.salt is None or len(recorded.salt) != Entropy.SIZE:
        raise invalid("salt", f"must be {Entropy.SIZE} bytes in hexadecimal")
    if recorded.recorded < session.recorded_us and session.size:
        raise invalid("recordedtime", "is before that of the event before it")
    if recorded.key is not None and session.find(recorded.key) is not None:
        raise IdempotencyConflict(key=recorded.key)
    admit(session.state(recorded.stream), recorded.stream, recorded.type, wanted.fact, session.book)
    session.restore(recorded, wanted)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").strip()[:TEXT_MAX]


async def dump(store: Store, *, after: int = 0, stream: str | None = None) -> AsyncIterator[list[bytes]]:
    """Yield the log above ``after``, or one stream of it, as lines of CloudEvents without line ends, in parts."""
    if stream is not None:
        events = [event for event in await store.stream(stream) if event.position > after]
        yield [cloudevents.encode(event, store.name) for event in events]
        return
    async for batch in store.batches(after):
        yield [cloudevents.encode(event, store.name) for event in batch]
