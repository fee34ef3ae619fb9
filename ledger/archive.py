"""Histories into the ledger and out of it: foreign formats, exports and what restores them, bundles of evidence."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import msgspec

from ledger import bundle as bundles
from ledger import checkpoint, cloudevents, ids, rows
from ledger.bulk import Entry, append_one
from ledger.decider import admit
from ledger.entropy import Entropy
from ledger.errors import IdempotencyConflict, LedgerError, NotFound, VersionMismatch, invalid
from ledger.events import Recorded
from ledger.formats import Reject, Row, google2011, letta_evals, reject, swf, tau2
from ledger.ids import SYSTEM_USER
from ledger.leaf import leaf_hash
from ledger.ledger import Ledger
from ledger.session import Session, Work
from ledger.store import Store
from ledger.tokens import ACCESS_TYPES

ROWS = 4000
"""Records in one transaction of an import: about 6,000 events, some 50 ms; other writers get in between."""
PART_SIZE = 8 * 2**20
"""Bytes of records in one transaction of an import: a record of an agent's run may have as much as a thousand jobs."""

T = TypeVar("T")
Parser = Callable[[Iterable[bytes], str], Iterator[Row | Reject]]
FOREIGN: dict[str, Parser] = {
    "letta-evals": letta_evals.parse,
    "tau2": tau2.parse,
    "swf": swf.parse,
    "google-2011": google2011.parse,
}
FORMATS = ("jobledger", *FOREIGN)
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a part of an import; counts are of events, rejects are lines."""

    appended: int
    duplicate: int
    rejects: tuple[Reject, ...]
    lines: int


async def load(
    ledger: Ledger, lines: Iterable[bytes], format: str, source: str, *, owes_callbacks: bool = False
) -> AsyncIterator[Outcome]:
    """Import numbered lines; yield what became of each part once it is durable.

    ``source``: the name of the file, which with a line or record number tells the same record again.
    ``owes_callbacks``: whether what is owed in it is to be sent from here.
    """
    parts: Iterator[Work]
    if format == "jobledger":
        origin = _Origin()
        parts = (_load_events(part, origin) for part in _chunks(enumerate(lines, 1), ROWS * 4))
    else:
        parts = (_load_rows(part) for part in _parts(FOREIGN[format](lines, source)))
    if not owes_callbacks:
        parts = map(_marked, parts)
    work = await asyncio.to_thread(next, parts, None)
    while work is not None:
        outcome, work = await asyncio.gather(ledger.submit(work), asyncio.to_thread(next, parts, None))
        yield outcome


def _marked(work: Work) -> Work:
    def run(session: Session) -> Outcome:
        first = session.size + 1
        outcome: Outcome = work(session)
        session.mark_imported(first)
        return outcome

    return run


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


def _parts(rows: Iterable[Row | Reject]) -> Iterator[list[Row | Reject]]:
    part: list[Row | Reject] = []
    size = 0
    for row in rows:
        part.append(row)
        size += len(row.raw) if isinstance(row, Row) else 0
        if len(part) >= ROWS or size >= PART_SIZE:
            yield part
            part, size = [], 0
    if part:
        yield part


def _load_rows(told: Sequence[Row | Reject]) -> Work:
    whole = [row for row in told if isinstance(row, Row)]
    streams, keys = {row.stream for row in whole}, [row.key for row in whole]

    def run(session: Session) -> Outcome:
        appended = duplicate = 0
        rejects: list[Reject] = []
        session.expect(streams, keys)
        for row in told:
            if isinstance(row, Reject):
                rejects.append(row)
                continue
            try:
                added, known = rows.enter(session, row)
                appended += added
                duplicate += known
            except LedgerError as error:
                rejects.append(reject(row.line, error, row.raw))
        return Outcome(appended=appended, duplicate=duplicate, rejects=tuple(rejects), lines=len(told))

    return run


class _Origin:
    """Whether this ledger is, so far, the one that an export came from: only then its events keep their positions."""

    def __init__(self) -> None:
        self.is_same = True
        self.is_proven = False
        """Whether an event of it stood or was put at its old position here."""
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
                rejects.append(reject(number, error, line))
            except LedgerError as error:
                rejects.append(reject(number, error, line))
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
    if _is_known(session.at(recorded.stream, recorded.version), recorded):
        origin.is_proven = True
        return False
    if recorded.stream in origin.differing:
        raise invalid("subject", "an earlier event of this stream was rejected, so that this one has no place either")
    origin.is_same = origin.is_same and recorded.position == session.size + 1
    if not origin.is_proven and recorded.recorded < session.recorded_us:
        origin.is_same = False  # that it would be the next here is chance: what stands here was recorded later
    if origin.is_same and recorded.version == session.version(recorded.stream) + 1:
        _restore(session, recorded, event)
        origin.is_proven = True
        return True
    if event.datadigest is not None:
        raise invalid("data", "was erased: such an event can only be restored at its old place, into an empty ledger")
    if recorded.type in ACCESS_TYPES:
        raise invalid(
            "type", "tokens of another ledger are not taken over; make new ones with `jobledger token create`"
        )
    return append_one(session, _entry(event, session.now_us))[1]


def _entry(event: cloudevents.CloudEvent, now_us: int) -> Entry:
    expected = None if event.streamversion is None else event.streamversion - 1
    draft = cloudevents.to_draft(event, actor=SYSTEM_USER, now_us=now_us)
    return Entry(draft, expected, is_timed=event.time is not None)


def _is_known(known: Recorded | None, recorded: Recorded) -> bool:
    """Tell whether the log has this event; one that was erased here, or there, is told by its digest."""
    if known is None or known == recorded:
        return known is not None
    return None in (known.data, recorded.data) and leaf_hash(known) == leaf_hash(recorded)


def _restore(session: Session, recorded: Recorded, event: cloudevents.CloudEvent) -> None:
    fact = None
    if recorded.digest is not None:
        if recorded.salt is not None or not _DIGEST.fullmatch(recorded.digest):
            raise invalid("datadigest", "must be SHA-256 in hexadecimal, and stand without a salt")
    else:
        fact = cloudevents.to_draft(event, actor=recorded.actor, now_us=session.now_us).fact
        if recorded.salt is None or len(recorded.salt) != Entropy.SIZE or not any(recorded.salt):
            raise invalid("salt", f"must be {Entropy.SIZE} random bytes in hexadecimal")
    if recorded.recorded < session.recorded_us and session.size:
        raise invalid("recordedtime", "is before that of the event before it")
    if recorded.key is not None and session.find(recorded.key) is not None:
        raise IdempotencyConflict(key=recorded.key)
    admit(session.state(recorded.stream), recorded.stream, recorded.type, fact, session.book)
    session.restore(recorded, fact)


async def dump(store: Store, *, after: int = 0, stream: str | None = None) -> AsyncIterator[list[bytes]]:
    """Yield the log above ``after``, or one stream of it, as lines of CloudEvents without line ends, in parts."""
    if stream is not None:
        events = [event for event in await store.stream(stream) if event.position > after]
        yield [cloudevents.encode(event, store.name) for event in events]
        return
    async for batch in store.batches(after):
        yield [cloudevents.encode(event, store.name) for event in batch]


async def bundle(ledger: Ledger, stream: str) -> bytes:
    """Return the bundle of a stream's events as they are now; a checkpoint is made for it, by the ledger's own key.

    Raises ``NotFound``, ``InvalidInput`` where it would be too large, and as ``Ledger.checkpoint`` does.
    """
    events = await ledger.read(stream)
    if not events:
        raise NotFound(what=stream.partition("-")[0], id=stream)
    while True:
        kept = await ledger.checkpoint()
        key = (await ledger.store.signer()).verifier
        if checkpoint.signer_of(checkpoint.parse(kept.note), [key]):
            break  # else another process put a fresh key in its place just now
    return await ledger.store.prove(lambda tree: bundles.pack(ledger.name, key, kept.note, events, tree))
