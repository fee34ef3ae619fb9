"""What a log engine must do, and the engine in memory that we ship for tests.

Another engine (PostgreSQL, later) implements ``Store`` and nothing above this file changes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol, TypeVar

import msgspec

from ledger.checkpoint import Kept, Signer, VerifierKey, parse
from ledger.errors import StoreClosed
from ledger.events import Recorded
from ledger.leaf import payload_digest
from ledger.merkle import Frontier, subtree_root
from ledger.proofs import Tree
from ledger.session import Head, Sealed, Session, States, Work

T = TypeVar("T")

BATCH_SIZE = 16 * 2**20
"""Bytes of data in one batch of the log, which many thousand events have as a rule: a message may have 1 MiB."""


def up_to(size_max: int | None, events: Iterable[Recorded]) -> Iterator[Recorded]:
    """Yield events until their data is ``size_max`` bytes or more; all of them where that is None."""
    size = 0
    for event in events:
        yield event
        size += len(event.data or b"")
        if size_max is not None and size >= size_max:
            return


class Store(Protocol):
    """A log engine. Works of one ``transact`` are committed together or not at all."""

    name: str

    async def transact(self, works: Sequence[Work], now_us: int) -> tuple[list[Any], list[Recorded]]:
        """Run the works in one durable transaction; return their outcomes (or ``Failure``) and the events recorded.

        Raises ``StoreFailed`` when the engine refused: then nothing of any work was recorded; ``InDoubt`` where a disk
        that fails does not even allow that to be made sure.
        """

    async def probe(self) -> None:
        """Commit a change of nothing, as durably as any other; raise ``StoreFailed`` where the engine refuses it."""

    async def head(self) -> Head:
        """Return the end of the log."""

    async def by_key(self, key: str) -> Recorded | None:
        """Return the event that holds the idempotency key."""

    async def stream(
        self, stream: str, after: int = 0, limit: int | None = None, size_max: int | None = None
    ) -> list[Recorded]:
        """Return the events of a stream with a version above ``after``, in order.

        ``size_max``: end with the event whose data makes it so many bytes; there may be more, whatever ``limit`` says.
        """

    async def streams(
        self, ids: Collection[str], without: Collection[str] = (), *, bare: bool = False
    ) -> dict[str, list[Recorded]]:
        """Return all events of several streams, but those of the types ``without``.

        ``bare``: for folding resources: as ``facts`` does, but with the time of recording, and without the data of
        steps and messages.
        """

    async def births(self, ids: Collection[str]) -> dict[str, int]:
        """Return the position of the first event of each stream that exists."""

    async def imported(self, positions: Collection[int]) -> set[int]:
        """Return those positions whose events came by an import: they owe no callbacks."""

    async def scan(
        self, after: int, limit: int, types: Collection[str] | None = None, size_max: int | None = None
    ) -> list[Recorded]:
        """Return events with a position above ``after``, in order, of the types where given; ``size_max`` as above."""

    async def facts(self, after: int, limit: int, size_max: int | None = None) -> list[Recorded]:
        """Return as ``scan`` does, but without what folds do not look at: recorded, key, correlation, salt, digest."""

    def batches(self, after: int = 0, size: int = 10_000) -> AsyncIterator[list[Recorded]]:
        """Yield the whole log above ``after`` in batches of so many events or ``BATCH_SIZE`` bytes of data, up to the
        end as it is when reached.
        """

    def grown(self) -> int | None:
        """Return the log's size if anybody wrote to it since the last call, else None; cheap and immediate."""

    async def scrub(self) -> bool:
        """Take what was erased out of whatever the engine still keeps of it; tell whether all of it is gone.

        Where a reader still holds an older state of the log it is not, and the call is to be made again.
        """

    async def erased(self) -> int:
        """Return the position of the last event that erased others, 0 where none did."""

    async def prove(self, work: Callable[[Tree], T]) -> T:
        """Return what a function makes of the tree, as it stands at one moment."""

    async def last_checkpoint(self) -> Kept | None:
        """Return the kept checkpoint of the most events, None where there is none."""

    async def last_signed(self) -> str | None:
        """Return the last checkpoint that was signed by this ledger's keeper, as kept apart from the log."""

    async def keep_checkpoint(self, kept: Kept, *, anew: bool = False) -> bool:
        """Keep a checkpoint, durably: apart from the log as the last, and in it unless there is one of that size.

        ``anew``: it is the last whatever was signed before. Tell whether it is kept in the log.
        """

    async def signer(self, *, new: bool = False) -> Signer:
        """Return the ledger's key, made on first use; ``new``: put a fresh one in its place."""

    async def published(self) -> list[VerifierKey]:
        """Return the public halves of the ledger's keys, the newest last."""

    def lease(self, name: str) -> bool:
        """Take the lease of a duty, or find that this store has it: one holder at a time among all on the same log.

        It is held until ``close``, and passes on at once when the holder's process ends, however that ends. Raises
        ``StoreFailed`` where it cannot be told who has it.
        """

    async def close(self) -> None:
        """Release everything; safe to call twice."""


class MemoryStore:
    """The log in memory: same rules, same answers, gone with the process."""

    name = "memory"

    def __init__(self) -> None:
        self._log = _Memory()
        self._states = States()
        self._kept: dict[int, Kept] = {}
        self._last_signed: str | None = None
        self._signers: list[Signer] = []
        self._changed = False
        self._closed = False
        self.before_commit: Callable[[], None] = lambda: None
        """Called before a commit takes effect; tests make it raise ``StoreFailed``."""

    async def transact(self, works: Sequence[Work], now_us: int) -> tuple[list[Any], list[Recorded]]:
        """See ``Store.transact``."""
        if self._closed:
            raise StoreClosed
        session = Session(self._log, self._states, now_us)
        try:
            outcomes = [session.attempt(work, ()) for work in works]
            self.before_commit()
        except BaseException:
            self._states.clear()
            raise
        self._log.commit(session.seal())
        self._states.trim(session.used)
        self._changed = self._changed or bool(session.staged)
        return outcomes, session.staged

    async def probe(self) -> None:
        """See ``Store.probe``."""
        if self._closed:
            raise StoreClosed
        self.before_commit()

    async def head(self) -> Head:
        """See ``Store.head``."""
        return self._log.head()

    async def by_key(self, key: str) -> Recorded | None:
        """See ``Store.by_key``."""
        return self._log.by_key(key)

    async def stream(
        self, stream: str, after: int = 0, limit: int | None = None, size_max: int | None = None
    ) -> list[Recorded]:
        """See ``Store.stream``."""
        found = [event for event in self._log.stream(stream) if event.version > after][:limit]
        return list(up_to(size_max, found))

    async def streams(
        self, ids: Collection[str], without: Collection[str] = (), *, bare: bool = False
    ) -> dict[str, list[Recorded]]:
        """See ``Store.streams``."""
        found = {id: [event for event in self._log.stream(id) if event.type not in without] for id in ids}
        return {stream: events for stream, events in found.items() if events}

    async def births(self, ids: Collection[str]) -> dict[str, int]:
        """See ``Store.births``."""
        return {stream: events[0].position for stream in ids if (events := self._log.stream(stream))}

    async def imported(self, positions: Collection[int]) -> set[int]:
        """See ``Store.imported``."""
        return {each for each in positions if any(first <= each <= last for first, last in self._log.imports)}

    async def scan(
        self, after: int, limit: int, types: Collection[str] | None = None, size_max: int | None = None
    ) -> list[Recorded]:
        """See ``Store.scan``."""
        events = (event for event in self._log.events[after:] if types is None or event.type in types)
        return list(up_to(size_max, islice(events, limit)))

    async def facts(self, after: int, limit: int, size_max: int | None = None) -> list[Recorded]:
        """See ``Store.facts``."""
        return await self.scan(after, limit, size_max=size_max)

    async def batches(self, after: int = 0, size: int = 10_000) -> AsyncIterator[list[Recorded]]:
        """See ``Store.batches``."""
        while batch := await self.scan(after, size, size_max=BATCH_SIZE):
            yield batch
            after = batch[-1].position

    def grown(self) -> int | None:
        """See ``Store.grown``."""
        changed, self._changed = self._changed, False
        return self._log.head().size if changed else None

    async def scrub(self) -> bool:
        """See ``Store.scrub``."""
        return True

    async def erased(self) -> int:
        """See ``Store.erased``."""
        return self._log.erased

    async def prove(self, work: Callable[[Tree], T]) -> T:
        """See ``Store.prove``."""
        leaves, head = self._log.leaves, self._log.head()

        def row(level: int, first: int, count: int) -> list[bytes]:
            width = 1 << level
            return [subtree_root(leaves[at * width : (at + 1) * width]) for at in range(first, first + count)]

        return work(Tree(head.size, head.frontier.root(), row))

    async def last_checkpoint(self) -> Kept | None:
        """See ``Store.last_checkpoint``."""
        return max(self._kept.values(), default=None)

    async def last_signed(self) -> str | None:
        """See ``Store.last_signed``."""
        return self._last_signed

    async def keep_checkpoint(self, kept: Kept, *, anew: bool = False) -> bool:
        """See ``Store.keep_checkpoint``."""
        if anew or self._last_signed is None or parse(self._last_signed).size <= kept.size:
            self._last_signed = kept.note
        return self._kept.setdefault(kept.size, kept) is kept

    async def signer(self, *, new: bool = False) -> Signer:
        """See ``Store.signer``."""
        if new or not self._signers:
            self._signers.append(Signer.new(self.name))
        return self._signers[-1]

    async def published(self) -> list[VerifierKey]:
        """See ``Store.published``."""
        return [signer.verifier for signer in self._signers]

    def lease(self, name: str) -> bool:
        """See ``Store.lease``: nobody else can have this log."""
        return not self._closed

    async def close(self) -> None:
        """See ``Store.close``."""
        self._closed = True


class _Memory:
    def __init__(self) -> None:
        self.events: list[Recorded] = []
        self.leaves: list[bytes] = []
        self._streams: dict[str, list[Recorded]] = {}
        self._keys: dict[str, Recorded] = {}
        self._head = Head(0, 0, Frontier())
        self.imports: list[tuple[int, int]] = []
        self.erased = 0

    def head(self) -> Head:
        return self._head

    def stream(self, stream: str) -> list[Recorded]:
        return list(self._streams.get(stream, ()))

    def at(self, stream: str, version: int) -> Recorded | None:
        events = self._streams.get(stream, [])
        return events[version - 1] if version <= len(events) else None

    def by_key(self, key: str) -> Recorded | None:
        return self._keys.get(key)

    def known(self, streams: Collection[str], keys: Collection[str]) -> tuple[set[str], set[str]]:
        return {stream for stream in streams if stream in self._streams}, {key for key in keys if key in self._keys}

    def commit(self, sealed: Sealed) -> None:
        for event in sealed.events:
            self.events.append(event)
            self._streams.setdefault(event.stream, []).append(event)
            if event.key is not None:
                self._keys[event.key] = event
        self.leaves += sealed.leaves
        self.imports += sealed.imports
        for event in sealed.erased:
            self._blank(event)
        self._head = sealed.head

    def _blank(self, erased: Recorded) -> None:
        events = self._streams[erased.stream]
        for at, event in enumerate(events[: erased.version - 1]):
            blank = msgspec.structs.replace(event, data=None, salt=None, digest=payload_digest(event))
            events[at] = self.events[event.position - 1] = blank
            if event.key is not None:
                self._keys[event.key] = blank
        self.erased = erased.position
