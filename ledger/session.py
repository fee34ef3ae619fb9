"""One write transaction, seen from the rules: states read inside it, events staged for its commit.

A store gives a session what only the engine knows (``Source``); the session stamps events with position,
version, recorded time and salt, folds the states, and seals the staged events into the Merkle tree.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from ledger import steps
from ledger.entropy import Entropy
from ledger.errors import LedgerError, invalid
from ledger.events import ERASURES, TYPES, Draft, Fact, Recorded, Step
from ledger.leaf import leaf_hashes
from ledger.merkle import Frontier
from ledger.state import State, evolve, fact_of
from ledger.times import TIME_MAX_US, TIME_MIN_US, check_range
from ledger.weight import is_heavy

STATES_MAX = 20_000
"""States that a process keeps between transactions, about 1 KiB each, and ``STATE_SIZE_MAX`` more at most; beyond
it the older half is dropped."""
BOOKS_MAX = 1_000
"""Runs whose steps a process keeps between transactions, about 100 bytes a step; beyond it all are dropped."""


class Head(NamedTuple):
    """Where the log ends: its size (the last position), when that was recorded, and the tree's frontier."""

    size: int
    recorded_us: int
    frontier: Frontier


class Source(Protocol):
    """What a session asks of the engine, inside the transaction."""

    def head(self) -> Head:
        """Return the end of the log."""

    def stream(self, stream: str) -> list[Recorded]:
        """Return all events of a stream, in order."""

    def at(self, stream: str, version: int) -> Recorded | None:
        """Return one event of a stream."""

    def by_key(self, key: str) -> Recorded | None:
        """Return the event that holds the idempotency key."""

    def known(self, streams: Collection[str], keys: Collection[str]) -> tuple[set[str], set[str]]:
        """Return those of many streams that have an event, and those of many keys that are used."""


class Sealed(NamedTuple):
    """What a commit writes: events with their leaf hashes, completed tree nodes, and the new end of the log.

    ``imports``: first and last positions of what came from elsewhere. ``erased``: those of the events that erase the
    data of what their streams held before them.
    """

    events: list[Recorded]
    leaves: list[bytes]
    nodes: list[tuple[int, int, bytes]]
    head: Head
    imports: list[tuple[int, int]]
    erased: list[Recorded]


Work = Callable[["Session"], Any]
"""A caller's share of a transaction: reads states, stages events, returns its answer or raises."""


class Failure(NamedTuple):
    """The outcome of a work that raised: nothing of it was staged."""

    error: BaseException


class States:
    """What a process keeps between transactions: states, cleared when the file changed, and a stock of salts."""

    def __init__(self, size_max: int | None = None) -> None:
        self.known: dict[str, State] = {}
        self.books: dict[str, steps.Book] = {}
        self.head: Head | None = None
        self.salts = Entropy()
        self._size_max = STATES_MAX if size_max is None else size_max

    def clear(self) -> None:
        """Forget everything."""
        self.known.clear()
        self.books.clear()
        self.head = None

    def trim(self, used: Iterable[str]) -> None:
        """Drop the heavy ones of those that were used, and the older half when there are too many."""
        known = self.known
        for stream in used:
            if stream in known and is_heavy(known[stream]):
                del known[stream]
        if len(self.known) > self._size_max:
            for stream in list(self.known)[: len(self.known) // 2]:
                del self.known[stream]
        if len(self.books) > BOOKS_MAX:
            self.books.clear()


class Session:
    """The transaction as works see it. One work that raises leaves no trace; the others stay."""

    def __init__(self, source: Source, states: States, now_us: int) -> None:
        self._source = source
        self._states = states.known
        self._salts = states.salts
        self._start = states.head or source.head()
        self._kept = states
        self.recorded_us = self._start.recorded_us
        self.now_us = now_us
        self.staged: list[Recorded] = []
        self.imports: list[tuple[int, int]] = []
        self._keys: dict[str, Recorded] = {}
        self._new_keys: set[str] = set()
        self._versions: dict[str, int] = {}
        self._undo: dict[str, State | None] = {}

    def expect(self, streams: Collection[str], keys: Collection[str]) -> None:
        """Find out at once which of many streams and keys are new, so that each need not be looked up alone."""
        unknown = [stream for stream in streams if stream not in self._states and stream not in self._versions]
        known_streams, known_keys = self._source.known(unknown, keys)
        for stream in unknown:
            if stream not in known_streams:
                self._versions[stream] = 0
        self._new_keys.update(key for key in keys if key not in known_keys)

    @property
    def size(self) -> int:
        """The log's size with what is staged so far."""
        return self._start.size + len(self.staged)

    @property
    def used(self) -> Iterable[str]:
        """The streams that were looked at or added to."""
        return self._versions

    def state(self, stream: str) -> State | None:
        """Return the state of a resource as of now in this transaction; only look at it, do not change it."""
        state = self._states.get(stream)
        if state is None and stream not in self._versions:
            for event in self._source.stream(stream):
                state = evolve(state, event, fact_of(event))
                self._versions[stream] = event.version
            if state is not None:
                self._states[stream] = state
            self._versions.setdefault(stream, 0)
        return state

    def version(self, stream: str) -> int:
        """Return the version of a stream, 0 when it has no event."""
        state = self.state(stream)
        return state.version if state is not None else self._versions.get(stream, 0)

    def find(self, key: str) -> Recorded | None:
        """Return the event that holds an idempotency key, staged ones included."""
        known = self._keys.get(key)
        return self._source.by_key(key) if known is None and key not in self._new_keys else known

    def at(self, stream: str, version: int) -> Recorded | None:
        """Return one event of a stream, staged ones included; None when it does not have that version."""
        if not 1 <= version <= self.version(stream):
            return None
        staged = (event for event in self.staged if event.stream == stream and event.version == version)
        return self._source.at(stream, version) or next(staged, None)

    def stream(self, stream: str) -> list[Recorded]:
        """Return all events of a stream, staged ones included."""
        return self._source.stream(stream) + [event for event in self.staged if event.stream == stream]

    def book(self, run: str) -> steps.Book:
        """Return the statuses of a run's steps as of now in this transaction; only look at it, do not change it."""
        book = self._kept.books.get(run)
        if book is None:
            book = self._kept.books[run] = steps.fold(self.stream(run))
        return book

    def append(self, drafts: Sequence[Draft]) -> list[Recorded]:
        """Stage events at the end of the log, all or none; they are recorded when the transaction commits.

        Raises ``InvalidInput`` for what no log can hold.
        """
        events = []
        self.recorded_us = max(self.recorded_us, self.now_us)
        for draft in drafts:
            check_storable(draft)
        for draft in drafts:
            stream = draft.stream
            version = (self._versions.get(stream) or self.version(stream)) + 1
            event = Recorded(
                len(self.staged) + self._start.size + 1,
                stream,
                version,
                draft.type,
                draft.schema,
                draft.time,
                self.recorded_us,
                draft.actor,
                draft.key,
                draft.correlation,
                draft.data,
                self._salts.take(),
            )
            self._stage(event, draft.fact)
            events.append(event)
        return events

    def restore(self, event: Recorded, fact: Fact | None) -> None:
        """Stage an event exactly as it stood in another ledger: its position must be the next one here."""
        self.recorded_us = event.recorded
        self._stage(event, fact)

    def mark_imported(self, first: int) -> None:
        """Note that what is staged from position ``first`` on is history of another place: it owes no callbacks."""
        if first <= self.size:
            self.imports.append((first, self.size))

    def attempt(self, work: Work, fatal: tuple[type[BaseException], ...]) -> Any:
        """Run one work; return its answer, or a ``Failure`` after taking back what it staged.

        Errors of the ``fatal`` kinds (the engine's) end the whole transaction.
        """
        self._undo.clear()
        mark = len(self.staged)
        try:
            return work(self)
        except fatal:
            raise
        except Exception as error:  # noqa: BLE001 - it is handed to the caller whose work it was
            self._take_back(mark)
            if isinstance(error, LedgerError):
                return Failure(error.with_traceback(None))  # an answer; its frames would keep the whole batch for long
            error.add_note("raised by a work inside a write transaction; nothing of it was recorded")
            return Failure(error)

    def seal(self) -> Sealed:
        """Hash the staged events into the tree."""
        leaves = leaf_hashes(self.staged)
        frontier = self._start.frontier.copy()
        nodes = frontier.extend(leaves)
        self._kept.head = Head(self.size, self.recorded_us, frontier)
        erased = [event for event in self.staged if event.type in ERASURES]
        return Sealed(self.staged, leaves, nodes, self._kept.head, self.imports, erased)

    def _stage(self, event: Recorded, fact: Fact | None) -> None:
        stream = event.stream
        state = self._states.get(stream)
        if stream not in self._undo:
            self._undo[stream] = copy.copy(state)
        self.staged.append(event)
        if event.key is not None:
            self._keys[event.key] = event
        self._versions[stream] = event.version
        if isinstance(fact, Step) and stream in self._kept.books:
            steps.enter(self._kept.books[stream], fact)
        if TYPES[event.type].kind != "access":
            evolved = evolve(state, event, fact)
            if evolved is not None:
                self._states[stream] = evolved

    def _take_back(self, mark: int) -> None:
        for event in self.staged[mark:]:
            if event.key is not None:
                del self._keys[event.key]
        dropped = self.staged[mark:]
        del self.staged[mark:]
        self.imports = [(first, last) for first, last in self.imports if last <= self.size]
        for event in reversed(dropped):
            self._kept.books.pop(event.stream, None)
            self._versions[event.stream] = event.version - 1
        for stream, state in self._undo.items():
            if state is None:
                self._states.pop(stream, None)
            else:
                self._states[stream] = state


def check_storable(draft: Draft) -> None:
    """Raise ``InvalidInput`` for a draft that no log can hold: text that is no Unicode, times beyond the calendar."""
    if not TIME_MIN_US <= draft.time <= TIME_MAX_US:
        check_range(draft.time, "time")
    for text in (draft.stream, draft.actor, draft.key, draft.correlation):
        if text is not None and not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise invalid("event", "holds text that is no Unicode") from error
