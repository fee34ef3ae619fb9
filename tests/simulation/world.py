"""The world of one seed: its servers, clients, disk, network and clocks, what befalls them, and a trace of it all."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
from rich.console import Console

from ledger import archive, entropy
from ledger.ids import SYSTEM_USER
from server import hub
from server.cli import transfer
from server.grants import grant
from tests.ledger.histories import START_US
from tests.simulation import damage, ending, fates, imports, knobs
from tests.simulation.clients import Client
from tests.simulation.disk import Disk, Weather
from tests.simulation.followers import Crowd, InOrder
from tests.simulation.loop import Loop, Stuck
from tests.simulation.model import Broken, Event, Model, event_of
from tests.simulation.network import Network
from tests.simulation.operations import Operation
from tests.simulation.process import Process
from tests.simulation.servers import Answer, Clock, Server

SETTLE_S = 45.0
"""How long the last server runs at least when all is over: every timeout is past by then, and most callbacks have had
their last attempt."""
SETTLES_MAX = 4
"""How often it runs so long while a callback is owed: a receiver may be slow each time, and waits double."""


class Outcome(msgspec.Struct):
    """What came of a seed: why it failed (None: it did not), what happened how often, and the hash of its trace."""

    seed: int
    failure: str | None
    counts: dict[str, int]
    trace: str
    seconds: float


class World:
    """One run. ``run`` returns what came of it."""

    def __init__(self, seed: int, folder: Path, *, quiet: bool, say: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.quiet = quiet
        self.db = folder / "ledger.db"
        self.counts: Counter[str] = Counter()
        self.failure: str | None = None
        self.chance = self._chance("world")
        self.loop = Loop(self._chance("turns"), self._delay_s, self.fail)
        self.disk = Disk(self.loop, self._chance("disk"), folder, Weather())
        self.disk.on_commit, self.disk.on_last_close = self._look, self._close_eye
        self.model = Model()
        self.network = Network(self.loop, self._chance("network"), lambda: self.model.size)
        self.servers: list[Server] = []
        self.requests: dict[str, Operation] = {}
        self.recorded: set[str] = set()
        """Resources that no client writes to: they are recorded from Python, or imported."""
        self.sources: list[imports.Source] = []
        """What is imported."""
        self.forgotten: dict[str, tuple[Server, int, list[bytes]]] = {}
        """Resources that a server said are erased: which one, at what position, and words that nobody may see now."""
        self.ids: list[tuple[str, str]] = []
        self.foreign_views = b""
        """The views file of another ledger."""
        self.old_views: bytes | None = None
        """An older copy of the own one."""
        self.checkpoints: list[Any] = []
        self.token = ""
        self.user_id = SYSTEM_USER
        self.raw: list[tuple[Any, ...]] = []
        """The rows of the log as they were committed."""
        self.think_s = self.chance.choice([0.002, 0.02, 0.1])
        self.lateness, self.impatience = (0.0, 0.0) if quiet else (0.05, 0.08)
        self.duplicates = 0.1
        self._clocks: list[Clock] = []
        self._numbers = 0
        self._starts = 0
        self._eye: Any = None
        self._trace = hashlib.sha256()
        self._say = say

    def _chance(self, name: str) -> random.Random:
        return random.Random(f"{self.seed} {name}")

    def _delay_s(self) -> float:
        return self.disk.delay_s()

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    # -- what is told of a run

    def tell(self, what: str) -> None:
        """Write a line of the trace."""
        line = f"{self.loop.time():12.6f} {what}"
        self._trace.update(line.encode())
        if self._say is not None:
            self._say(line)

    def fail(self, what: str) -> None:
        """End the run: something is not as it must be."""
        self.tell(f"FAILED {what}")
        if self.failure is None:
            self.failure = what
        self.loop.stop()

    def check(self, look: Callable[[], Any]) -> None:
        """Fail where a check does."""
        try:
            look()
        except Broken as error:
            self.fail(str(error))
        except Exception as error:  # noqa: BLE001 - a check that cannot be made is one that failed
            self.fail(f"a check failed with {error!r} at line {_line(error)}")

    def answered(self, server: Server, method: str, path: str, answer: Answer) -> None:
        """Look at an answer, whatever it is to: faults of ours need a fault of the disk to excuse them."""
        if answer.status < 500:
            return
        if b"restart the process" in answer.body:
            server.is_broken = True
        is_ours = answer.status == 500 or b"database refused" in answer.body
        if self.counts["damages"] and answer.status == 503 and b"the views are " in answer.body:
            return
        if (self.quiet and server.is_serving) or (is_ours and not server.process.faults):
            self.fail(f"{method} {path}: {answer.status} {answer.body.decode()} though nothing failed")

    def forget(self, erasure: Operation, server: Server) -> None:
        """Note that a server said that something is erased."""
        event = erasure.effects[0][-1]
        words = ending.words_of(self, {event.stream})
        self.forgotten.setdefault(event.stream, (server, event.position, [word.encode() for word in words]))

    # -- the log as it grows

    def _look(self, process: Process) -> None:
        self.check(lambda: self._take(process))

    def _take(self, process: Process) -> None:
        if self._eye is None:
            self._eye = self.disk.look(self.db)
        sql = f"SELECT {ending.COLUMNS} FROM events WHERE position > ? ORDER BY position"
        rows = self._eye.execute(sql, (self.model.size,)).fetchall()
        events = [event_of(row[:-2]) for row in rows]
        self.raw += rows
        for group in _groups(events):
            self.tell(
                f"{process.name} records {[(each.position, each.stream, each.type, each.time) for each in group]}"
            )
            self._record(group)

    def _record(self, group: list[Event]) -> None:
        operation = self.requests.get(group[0].correlation or "")
        before = None if operation is None else operation.before(self.model)
        for event in group:
            if operation is None and event.stream not in self.recorded and _is_by_clock(event):
                self.model.check_expiry(event, max(clock.latest_us for clock in self._clocks))
            self.model.apply(event)
        self.counts["events"] += len(group)
        self.counts["erasures"] += group[-1].verb == "erased"
        if operation is not None:
            operation.committed(self.model, group, before)
            return
        for event in group:
            if event.stream in self.recorded:
                continue
            if not _is_by_clock(event) and event.kind not in ("callback", "access"):
                raise Broken(f"{event.type} of {event.stream} at {event.position}, which nobody asked for")
            self.counts["expired"] += _is_by_clock(event)

    def _close_eye(self) -> None:
        if self._eye is not None:
            self._eye.close()
            self._eye = None

    # -- processes

    def process(self, name: str) -> Process:
        """Return a new process."""
        self._starts += 1
        process = Process(f"{name}{self._starts}")
        self.disk.processes.append(process)
        return process

    def clock(self) -> Clock:
        """Return the clock of a new process, up to two seconds wrong."""
        clock = Clock(self.loop, START_US + self.chance.randrange(-2_000_000, 2_000_000))
        self._clocks.append(clock)
        return clock

    def start_server(self) -> Server:
        """Start a server; it serves once it has opened its files."""
        clock = self.clock()
        process = self.process("server")
        server = Server(self.loop, process, self.db, clock, self.network, self._chance(f"{process.name} jitter"))
        server.start()
        self.servers.append(server)
        self.tell(f"{process.name} starts")
        return server

    async def serving(self, server: Server) -> bool:
        """Wait until a server serves; False: it ended before."""
        while not server.is_serving and not server.ended.done():
            await self.loop.pass_time(0.005)
        return server.is_serving

    async def within(self, process: Process, work: Any) -> Any:
        """Do something in a process; return its result, or None where the process died under it."""
        over: asyncio.Future[Any] = self.loop.create_future()
        process.on_death.append(lambda: over.done() or over.set_result(None))
        task = self.loop.create_task(work, context=process.context.copy(), name=process.name)

        def hand_over(done: asyncio.Task[Any]) -> None:
            if over.done():
                return
            if done.cancelled() or done.exception() is None:
                over.set_result(None if done.cancelled() else done.result())
            else:
                over.set_exception(done.exception() or AssertionError())

        task.add_done_callback(hand_over)
        return await over

    # -- the run

    def run(self) -> Outcome:
        """Live through the seed, then look at what is left."""
        began_s = time.perf_counter()
        with self._in_charge(), contextlib.suppress(RuntimeError):  # which a loop raises that was stopped
            try:
                self.loop.run_until_complete(self._live())
            except Stuck as error:
                self.fail(f"stuck: {error}")
            except Exception as error:  # noqa: BLE001 - whatever it was, the seed failed
                if self.failure is None:
                    self.fail(f"{error!r} at line {_line(error)}")
        for said in () if self.failure else self.loop.unheard():
            self.fail(f"an error that nobody heard of: {said}")
        self._count()
        return Outcome(
            self.seed, self.failure, dict(self.counts), self._trace.hexdigest(), time.perf_counter() - began_s
        )

    def _count(self) -> None:
        self.counts["operations"] = self._numbers
        self.counts["failed statements"] = sum(self.disk.faults.values())
        self.counts["failed commits"] = self.disk.failed_commits
        self.counts["callbacks sent"] = len(self.network.received)
        self.counts["callbacks lost"] = self.network.lost
        self.counts["turns"] = self.loop.turns

    @contextlib.contextmanager
    def _in_charge(self) -> Iterator[None]:
        """Put the seed in the place of chance, of clocks and of constants."""
        chance = self._chance("entropy")
        now = self.loop.time
        with contextlib.ExitStack() as stack:
            for module, name, value in (
                (os, "urandom", chance.randbytes),
                (random, "_urandom", chance.randbytes),
                (time, "monotonic", now),
                (time, "sleep", self.disk.sleep),
                (time, "perf_counter", now),
                (time, "perf_counter_ns", lambda: int(now() * 1e9)),
                (time, "time_ns", lambda: START_US * 1000 + int(now() * 1e9)),
                (archive, "ROWS", self.chance.choice([1, 4])),  # in parts, however short a file
                (transfer, "Console", lambda **_: Console(file=io.StringIO())),
                *([] if self.quiet else knobs.turned(self._chance("knobs"))),
            ):
                stack.enter_context(mock.patch.object(module, name, value))
            stack.enter_context(mock.patch.object(hub, "set", InOrder, create=True))
            entropy.empty_all()
            stack.enter_context(self.disk.in_use())
            try:
                yield
            finally:
                entropy.empty_all()

    async def _live(self) -> None:
        first = self.start_server()
        await self.serving(first)
        self.token, _ = await self.within(
            first.process,
            grant(first.app.ledger, user_id=SYSTEM_USER, scopes=["read", "write", "admin"], actor=SYSTEM_USER),
        )
        self.foreign_views = await imports.bring(self)
        many = 1 if self.quiet and self.chance.random() < 0.5 else self.chance.randrange(1, 4)
        for _ in range(many - 1):
            await self.serving(self.start_server())
        if not self.quiet:
            self.disk.weather = fates.weather(self.chance)
        clients = [Client(self, self._chance(f"client {number}")) for number in range(self.chance.randrange(2, 5))]
        operations = (160 if self.quiet else 80) // len(clients)
        followers = Crowd(self, self.chance.randrange(1, 4))
        befall = self.loop.create_task(fates.befall(self))
        await asyncio.gather(*(client.run(operations) for client in clients))
        befall.cancel()
        await asyncio.gather(befall, return_exceptions=True)
        await self._settle(followers)
        self.check(lambda: ending.check(self))

    async def _settle(self, followers: Crowd) -> None:
        """End all processes, then let one server do what is left to do."""
        followers.calm()
        self.disk.weather = Weather(pause=0.01, slow=0.0)
        for server in self.servers:
            server.process.spare()
        await damage.see_mended(self)
        for server in self.servers:
            if self.chance.random() < 0.3 and not self.quiet:
                self.loop.kill(server.process)
            else:
                server.stop()
        for server in self.servers:
            await server.ended
        last = self.start_server()
        last.clock.jump(max(clock.latest_us for clock in self._clocks) / 1e6 - last.clock() / 1e6)
        if not await self.serving(last):
            self.fail(f"the last server {last.ended.result()}")
        await imports.bring_in_the_rest(self)
        for _ in range(SETTLES_MAX):
            await self.loop.pass_time(SETTLE_S)
            if not any(each.owed and each.owed.status == "owed" for each in self.model.resources.values()):
                break
        await followers.hear_out()
        last.stop()
        self.tell(f"{last.process.name} {await last.ended}")
        process = self.process("proof")
        await self.within(process, ending.prove(self))
        self.loop.kill(process)
        for server in self.servers:
            for error in server.fatal:
                self.fail(f"a task of {server.process.name} died: {error!r} at line {_line(error)}")


def _is_by_clock(event: Event) -> bool:
    """Tell whether an event that nobody asked for may be the end of what took too long."""
    return event.verb == "expired" or (event.type == "run.failed" and event.actor == SYSTEM_USER)


def _groups(events: list[Event]) -> Iterator[list[Event]]:
    group: list[Event] = []
    for event in events:
        if group and (event.correlation is None or event.correlation != group[-1].correlation):
            yield group
            group = []
        group.append(event)
    if group:
        yield group


def _line(error: BaseException) -> str:
    frame, found = error.__traceback__, "?"
    while frame is not None:
        found = f"{Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}"
        frame = frame.tb_next
    return found
