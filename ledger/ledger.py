"""The ledger: open a log, run commands by the rules, read, and follow what is recorded as it happens."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from itertools import islice
from types import TracebackType
from typing import Any

import msgspec
import structlog

from ledger import checkpoint, commands, limits, messages
from ledger import state as states
from ledger.bulk import Entry, append_one
from ledger.checkpoint import Kept
from ledger.commands import Context, Note, Plan, Receipt
from ledger.decider import Command, Erase
from ledger.errors import Erased, IdempotencyConflict, NotFound, StoreFailed, invalid
from ledger.events import ERASURES, TYPES, Fact, Message, Recorded, draft
from ledger.ids import SYSTEM_USER, label
from ledger.recorder import Recorder
from ledger.session import Work
from ledger.sqlite import SqliteStore
from ledger.state import State
from ledger.store import BATCH_SIZE, MemoryStore, Store
from ledger.writer import QUEUE_MAX, Writer

TAIL_MAX = 20_000
"""Newest events kept in memory for those who follow the log, about 10 MiB; who is further behind reads the file."""
TAIL_SIZE_MAX = 32 * 1024 * 1024
"""Bytes of their data: a message may have 1 MiB."""
SCRUB_TIMEOUT_S = 30.0
"""How long to wait for readers of a state before an erasure: reads over HTTP have deadlines of 20 s."""
SCRUB_INTERVAL_S = 0.1
WATCH_INTERVAL_S = 0.1
"""How often to look for other processes' appends: followers see them within 250 ms."""
WATCH_RETRY_S = 1.0
"""Wait after a look that failed, each of which is logged: a file that cannot be read seldom can be in a moment."""

log = structlog.get_logger("ledger")
Listener = Callable[[list[Recorded]], None]


def wall_clock_us() -> int:
    """Return the time now, microseconds since 1970 UTC."""
    return time.time_ns() // 1000


class Ledger:
    """A log with its rules, made by ``Ledger.open`` and used as an async context manager.

    ::

        async with Ledger.open("ledger.db") as ledger:
            async with ledger.run(agent_id="agent-…") as run:
                ...

    Times are microseconds since 1970 UTC; ids are text such as ``run-<uuid4>``.
    """

    def __init__(self, open_store: Callable[[], Awaitable[Store]], clock: Callable[[], int], queue_max: int) -> None:
        self._open_store = open_store
        self.clock = clock
        self._queue_max = queue_max
        self._tail: deque[Recorded] = deque()
        self._tail_size = 0
        self._grown = asyncio.Event()
        self._listeners: list[Listener] = []
        self._watch: asyncio.Task[None] | None = None
        self._nudge = asyncio.Event()
        self._looking = asyncio.Lock()
        self._told = 0
        self.watch_interval_s = WATCH_INTERVAL_S
        self.size = 0
        self.store: Store
        self._writer: Writer

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] = "ledger.db",
        *,
        read_only: bool = False,
        clock: Callable[[], int] = wall_clock_us,
        queue_max: int = QUEUE_MAX,
        name: str | None = None,
    ) -> Ledger:
        """Return a ledger on the SQLite file at ``path``, made on first use; enter it with ``async with``.

        ``read_only``: nothing is made or written, and every write raises ``StoreClosed``. Raises ``Unreadable`` on
        entering when the file is not a ledger.
        """
        return cls(lambda: SqliteStore.open(path, read_only=read_only, name=name), clock, queue_max)

    @classmethod
    def in_memory(cls, *, clock: Callable[[], int] = wall_clock_us, queue_max: int = QUEUE_MAX) -> Ledger:
        """Return a ledger that is gone with the process, for tests."""

        async def make() -> Store:
            return MemoryStore()

        return cls(make, clock, queue_max)

    async def __aenter__(self) -> Ledger:
        self.store = await self._open_store()
        self.store.grown()  # first the mark, then the size: what is appended in between shows at the next look
        self.size = (await self.store.head()).size
        self._writer = Writer(self.store, self.clock, self._on_recorded, self._queue_max)
        self._watch = asyncio.create_task(self._watch_others(), name="ledger-watch")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close_writer(self) -> None:
        """Take no more writes and answer every waiting caller; reads go on."""
        await self._writer.close()

    async def close(self) -> None:
        """Answer every waiting caller, then release the file."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._writer.close()
        await self.store.close()

    @property
    def name(self) -> str:
        """The ledger's name: the source of its CloudEvents and the origin of its checkpoints."""
        return self.store.name

    @property
    def writer(self) -> Writer:
        """What takes the writes: it tells how many wait, and whether they fail."""
        return self._writer

    # -- writing

    async def execute(self, command: Command, context: Context | None = None) -> Receipt:
        """Run one command by the rules; see ``execute_plan``."""
        plan = commands.single(command)
        return await self.execute_plan(plan, context or Context(actor=SYSTEM_USER), streams=(command.id,))

    async def execute_plan(
        self, plan: Plan, context: Context, *, skip_refused: bool = False, streams: Collection[str] = ()
    ) -> Receipt:
        """Run the commands that a plan names, in one transaction; return once that is durable.

        ``streams``: those it will look up, where known; many callers' are then looked up at once.

        Raises ``InvalidTransition`` (recorded once as ``….refused``), ``NotFound``, ``AlreadyExists``,
        ``VersionMismatch``, ``IdempotencyConflict``, ``InvalidInput``, or ``Unavailable``: nothing was
        recorded, unless it is ``InDoubt``.
        """
        receipt = await self._submit(commands.work(plan, context, skip_refused=skip_refused), context, streams)
        if receipt.prior is not None:
            return await self._answer_again(receipt.prior, context, skip_refused)
        refusal = receipt.refusal
        if refusal is not None:
            refusal.facts["position"] = receipt.position
            try:
                raise refusal
            finally:
                del refusal, receipt  # the error has this frame: in its locals it would keep the request for long
        return receipt

    async def record(self, run_id: str, notes: Sequence[Note[Any]], context: Context | None = None) -> Receipt:
        """Append steps and messages of a run, all or none; return once that is durable. Raises as ``execute_plan``."""
        context = context or Context(actor=SYSTEM_USER)
        receipt = await self._submit(commands.record(run_id, notes, context), context, (run_id,))
        return receipt if receipt.prior is None else await self._answer_again(receipt.prior, context, False)

    async def _submit(self, work: Work, context: Context, streams: Collection[str]) -> Receipt:
        keys = () if context.key is None else (context.key,)
        receipt: Receipt = await self._writer.submit(work, streams, keys)
        return receipt

    async def _answer_again(self, prior: Recorded, context: Context, skip_refused: bool) -> Receipt:
        if prior.data is None:
            state = await self.state(prior.stream)
            if state is None or (context.sees is not None and not context.sees(state)):
                raise IdempotencyConflict(key=context.key)  # whose key it was is not for others to know
            raise Erased(id=prior.stream, position=state.erased_position)
        request = commands.check_prior(prior, context, skip_refused=skip_refused)
        events = await self.store.scan(prior.position - request.events, request.events)
        known = (await self.store.streams([prior.stream], bare=True))[prior.stream]
        state = states.as_of(known, position=prior.position)
        return Receipt(position=prior.position, state=state, events=tuple(events), prior=prior)

    async def append(
        self,
        stream: str,
        type: str,
        data: dict[str, Any],
        *,
        actor: str = SYSTEM_USER,
        time_us: int | None = None,
        key: str | None = None,
        expected_version: int | None = None,
    ) -> Recorded:
        """Append one event that the rules allow and return it as recorded.

        ``expected_version``: the stream's version before it (0: no such stream). The same ``key`` and event again
        returns the first one. Raises as ``execute_plan``, and ``InvalidInput`` for bad data.
        """
        if type not in TYPES:
            raise invalid("type", f"'{type}' is not an event type", sorted(TYPES))
        try:
            fact = _fact(type, data)
        except msgspec.ValidationError as error:
            raise invalid("data", str(error)) from error
        limits.check(fact, stream)
        when = self.clock() if time_us is None else time_us
        wanted = draft(stream, type, fact, time=when, actor=label(actor, "actor"), key=key and label(key, "key"))
        entry = Entry(wanted, expected_version, is_timed=time_us is not None)
        outcome: Recorded = await self.submit(lambda session: append_one(session, entry)[0])
        return outcome

    async def cancel(self, id: str, *, actor: str = SYSTEM_USER) -> State:
        """Cancel a running job or batch, or an active run; return its state. Raises as ``execute_plan``."""
        receipt = await self.execute_plan(commands.cancel_with_members(id, None, None), Context(actor=actor))
        if receipt.state is None:
            raise NotFound(what="resource", id=id)
        return receipt.state

    async def erase(self, id: str, reason: str, *, actor: str = SYSTEM_USER, by: str | None = None) -> Recorded:
        """Remove the data of all events of a resource for good; return the event that says so, once that is durable.

        What ``log`` shows of them afterwards are their envelopes and the digests of what they held. The file may keep
        copies until ``scrub`` has returned True. Raises ``NotFound``, ``Erased`` and ``InvalidInput``.
        """
        receipt = await self.execute(Erase(id=id, reason=reason, by=by), Context(actor=actor))
        return receipt.events[-1]

    async def scrub(self, timeout_s: float = SCRUB_TIMEOUT_S) -> bool:
        """Take what was erased out of the files of the log for good; False where a reader was in the way all the time.

        Whoever opens the ledger to write next, or calls this again, goes on with it.
        """
        patience = time.monotonic() + timeout_s
        while not await self.store.scrub():
            if time.monotonic() >= patience:
                return False
            await asyncio.sleep(SCRUB_INTERVAL_S)
        return True

    async def submit(self, work: Work) -> Any:
        """Run a work of the caller's own in a write transaction."""
        return await self._writer.submit(work)

    def run(self, *, agent_id: str, actor: str = SYSTEM_USER, **facts: Any) -> Recorder:
        """Record a run around a block: created and running before it; completed, failed or cancelled after it.

        ``facts``: any field of ``Created`` (metadata, background, conversation_id, timeout_s, …), and ``id``.
        """
        return Recorder(self, "run", actor, {"agent_id": agent_id, **facts})

    def job(self, *, actor: str = SYSTEM_USER, **facts: Any) -> Recorder:
        """Record a job around a block, as ``run`` does."""
        return Recorder(self, "job", actor, facts)

    # -- evidence

    async def checkpoint(self, *, new_key: bool = False) -> Kept:
        """Sign the log as it stands now, and keep the note; the same log gives the same note again.

        Nothing is signed that does not go on from what was signed before. ``new_key``: sign with a fresh key from now
        on, also what goes on in another way than was signed last; the log keeps the first note of each size.
        Raises ``Damaged``, ``StoreClosed``, and ``Unreadable`` where the key cannot be read or made.
        """
        last = await self.store.last_checkpoint()
        remembered = None if new_key else await self.store.last_signed()
        known = None if new_key else await self.store.published()
        before = [] if last is None else [checkpoint.goes_on_from(last.note, last.size, self.name, known)]
        if remembered is not None and (other := checkpoint.parse(remembered)).origin == self.name:
            before.append(other)
        size, root = await self.store.prove(lambda tree: tree.going_on_from(before))
        signer = await self.store.signer(new=new_key)
        if last is not None and last.size == size and signer.signed(last.note):
            return last
        kept = Kept(size, self.clock(), signer.sign(size, root))
        await self.store.keep_checkpoint(kept, anew=new_key)
        return kept

    # -- reading

    async def read(self, stream: str, after: int = 0) -> list[Recorded]:
        """Return the events of a stream with a version above ``after``; empty when there is none."""
        return await self.store.stream(stream, after)

    async def state(self, id: str) -> State | None:
        """Return what a resource is now, folded from the log; None when it does not exist."""
        return states.fold((await self.store.streams([id], bare=True)).get(id, ()))

    async def events(self, after: int = 0) -> AsyncIterator[Recorded]:
        """Yield every event above position ``after``, in order, and then each further one as it is recorded."""
        async for batch in self.follow(after):
            for event in batch:
                yield event

    async def follow(self, after: int = 0) -> AsyncIterator[list[Recorded]]:
        """Yield the log above ``after`` in batches, waiting for more; other processes' appends within 250 ms."""
        while True:
            batch = await self.next_batch(after)
            if batch:
                yield batch
                after = batch[-1].position
            else:
                await self.wait_beyond(after)

    async def next_batch(self, after: int, limit: int = 10_000) -> list[Recorded]:
        """Return the events just above ``after``, from memory where it still holds them."""
        if self._tail and self._tail[0].position <= after + 1 <= self._tail[-1].position:
            newer = list(islice(reversed(self._tail), self._tail[-1].position - after))  # mostly a few of thousands
            return newer[::-1][:limit]
        return await self.store.scan(after, limit, size_max=BATCH_SIZE)

    async def wait_beyond(self, position: int) -> None:
        """Wait until the log is longer than ``position``."""
        while self.size <= position:
            grown = self._grown
            await grown.wait()

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` with each batch of events as this process learns of it, before its writer is answered."""
        self._listeners.append(listener)

    async def refresh(self, *, surely: bool = False) -> None:
        """Take notice of what other processes appended; ``surely``: also when the file shows no sign of it.

        Whoever calls it while another call is reading waits for that: the sign of an append shows to one of them only.
        """
        size = self.store.grown()
        if size is None and surely:
            size = (await self.store.head()).size
        if size is not None and size > self._told:
            self._told = size
        if self.size < self._told:
            async with self._looking:
                await self._read_on()

    async def _read_on(self) -> None:
        while self.size < self._told:
            events = await self.store.scan(self.size, 10_000, size_max=BATCH_SIZE)
            if not events:
                return
            self._on_recorded([event for event in events if event.position > self.size])

    def _on_recorded(self, events: Sequence[Recorded]) -> None:
        fresh = [event for event in events if event.position > self.size]
        if not fresh:
            return
        if fresh[0].position != self.size + 1:  # another process wrote in between: read all of it from the file
            self._nudge.set()
            return
        kept = fresh
        if erasing := [number for number, event in enumerate(fresh) if event.type in ERASURES]:
            self._tail.clear()  # who is further behind reads what is left of it from the file
            self._tail_size = 0
            kept = fresh[erasing[-1] :]
        self._tail.extend(kept)
        self._tail_size += sum(len(event.data or b"") for event in kept)
        while len(self._tail) > TAIL_MAX or self._tail_size > TAIL_SIZE_MAX:
            self._tail_size -= len(self._tail.popleft().data or b"")
        self.size = fresh[-1].position
        for listener in self._listeners:
            listener(fresh)
        self._grown.set()
        self._grown = asyncio.Event()

    async def _watch_others(self) -> None:
        surely, wait_s = False, self.watch_interval_s
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._nudge.wait()
            surely = surely or self._nudge.is_set()
            self._nudge.clear()
            try:
                await self.refresh(surely=surely)
            except StoreFailed as error:  # a passing fault of the file: the next look tells
                log.warning("ledger.look_failed", error=str(error))
                wait_s = WATCH_RETRY_S
            else:
                surely, wait_s = False, self.watch_interval_s


def _fact(type: str, data: dict[str, Any]) -> Fact:
    shape = TYPES[type].shape
    if shape is not Message or "message" not in data:
        return msgspec.convert(data, shape)
    return msgspec.convert({**data, "message": messages.raw(data["message"], "data.message")}, shape)
