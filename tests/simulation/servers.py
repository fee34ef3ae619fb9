"""A server in a simulated process: started and stopped as ``serve`` does, asked in memory instead of by a socket."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.http import HttpVersion, HttpVersion11, RawRequestMessage
from aiohttp.http_writer import StreamWriter
from aiohttp.streams import StreamReader
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ledger import engine as sqlite
from ledger.errors import LedgerError
from server.app import App
from server.callbacks.delivery import Delivery
from server.callbacks.dispatcher import Dispatcher
from server.callbacks.metrics import CallbackMetrics
from server.callbacks.schedule import Schedule
from server.callbacks.signing import Signer
from server.config import Config
from tests.simulation.loop import Loop
from tests.simulation.network import Network
from tests.simulation.process import Process
from tests.simulation.wire import Answer, Protocol, Wire

SCHEDULE = Schedule((0.5, 2.0, 5.0))
"""Waits between attempts at a callback, short enough that a run sees the last one."""
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
STOP_TIMEOUT_S = 5.0


class Clock:
    """The wall clock of a process, which jumps when told."""

    def __init__(self, loop: Loop, start_us: int) -> None:
        self._loop = loop
        self._start_us = start_us
        self.latest_us = 0

    def __call__(self) -> int:
        now_us = self._start_us + int(self._loop.time() * 1e6)
        self.latest_us = max(self.latest_us, now_us)
        return now_us

    def jump(self, seconds: float) -> None:
        self._start_us += int(seconds * 1e6)


class Server:
    """One ``jobledger serve``. ``send`` is what a client does; ``run`` is the life of the process."""

    def __init__(
        self, loop: Loop, process: Process, db: Path, clock: Clock, network: Network, chance: random.Random
    ) -> None:
        self.process = process
        self.floor = 0
        """The log's size as of the newest write that this server answered."""
        self.is_serving = False
        self.is_broken = False
        """Whether it said that it must be started again."""
        self.app: App
        self.fatal: list[BaseException] = []
        self.ended: asyncio.Future[str] = loop.create_future()
        self._loop = loop
        self._db = db
        self.clock = clock
        self._network = network
        self._chance = chance
        self._stop = asyncio.Event()
        self._waiting: list[asyncio.Future[Answer]] = []
        process.on_death.append(self._died)

    def start(self) -> None:
        """Begin its life."""
        self._loop.create_task(self._run(), context=self.process.context.copy(), name=self.process.name)

    def stop(self) -> None:
        """Ask it to end, as SIGTERM does."""
        self._stop.set()

    async def _run(self) -> None:
        try:
            await self._open()
        except (LedgerError, sqlite.Error) as error:
            self._end(f"did not start: {error}")
            return
        except BaseException:
            self._end("did not start")  # why, its task tells
            raise
        self.is_serving = True
        await self._stop.wait()
        self.is_serving = False
        await self.app.drain(STOP_TIMEOUT_S)
        await self.app.close()
        self.process.ended_well = not self.process.faults
        self._end("stopped")

    async def _open(self) -> None:
        config = Config(db=self._db, callbacks=False, wait_timeout_s=5.0, ping_interval_s=2.0, stream_stall_s=1.0)
        self.app = app = App(config, clock=self.clock)
        app.on_fatal = self.fatal.append
        await app.open()
        signer = Signer.parse(SECRET, "the simulation")
        metrics = CallbackMetrics(app.metrics)
        network: Any = self._network
        delivery = Delivery(app.ledger, network, signer, SCHEDULE, metrics, self._chance)
        app.dispatcher = Dispatcher(app.ledger, app.engine, app.views, delivery)
        app.start_beats()

    def _end(self, how: str) -> None:
        self.process.is_dying = True
        if not self.ended.done():
            self.ended.set_result(how)

    def _died(self) -> None:
        self.is_serving = False
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(ConnectionResetError("the server died"))
        if not self.ended.done():
            self.ended.set_result("died")

    async def send(
        self, method: str, target: str, headers: dict[str, str], body: bytes, patience_s: float
    ) -> Answer | None:
        """Send a request; None: the server is not there, died, or took longer than the client's patience."""
        if not self.is_serving:
            return None
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting.append(answer)
        work = self._answer(method, target, headers, body)
        task = self._loop.create_task(work, context=self.process.context.copy(), name="request")
        task.add_done_callback(lambda done: _hand_over(done, answer))
        try:
            async with asyncio.timeout(patience_s):
                return await answer
        except TimeoutError:
            if self._chance.random() < 0.5:
                task.cancel()
            return None
        except ConnectionResetError:
            return None
        finally:
            self._waiting.remove(answer)

    def follow(self, wire: Wire, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        """Send a request whose answer may be a stream; what comes of it, comes over the wire."""
        request = self._request(method, target, headers, body, wire.protocol, wire.version)
        self.process.on_death.append(wire.abort)
        work = self._stream(request, wire)
        self._loop.create_task(work, context=self.process.context.copy(), name="stream")

    async def _stream(self, request: web.BaseRequest, wire: Wire) -> None:
        try:
            response: Any = await self.app.handle(request)
            if response.prepared:
                await response.write_eof()
            else:
                wire.answer = _answer_of(response)
            wire.close()
        except ConnectionError:
            wire.abort()
        finally:
            self.process.on_death.remove(wire.abort)

    async def _answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        request = self._request(method, target, headers, body, Protocol(self._loop), HttpVersion11)
        return _answer_of(await self.app.handle(request))

    def _request(
        self, method: str, target: str, headers: dict[str, str], body: bytes, protocol: Any, version: HttpVersion
    ) -> web.BaseRequest:
        content = StreamReader(protocol, 2**16, loop=self._loop)
        sent = {"Content-Length": str(len(body)), **headers}
        message = RawRequestMessage(
            method, target, version, CIMultiDictProxy(CIMultiDict(sent)), (), False, None, False, False,
            URL(target, encoded=True),
        )  # fmt: skip
        task: Any = asyncio.current_task()
        writer: Any = StreamWriter(protocol, self._loop)
        request = web.BaseRequest(message, content, protocol, writer, task, self._loop)
        half = self._chance.randrange(len(body) + 1) if self._chance.random() < 0.1 else len(body)
        content.feed_data(body[:half])
        if half < len(body):
            self._loop.call_later(self._chance.uniform(0, 0.05), _feed, content, body[half:])
        else:
            content.feed_eof()
        return request


def _answer_of(response: Any) -> Answer:
    return Answer(response.status, dict(response.headers), bytes(response.body or b""))


def _feed(content: StreamReader, rest: bytes) -> None:
    content.feed_data(rest)
    content.feed_eof()


def _hand_over(task: asyncio.Task[Answer], answer: asyncio.Future[Answer]) -> None:
    if answer.done():
        if not task.cancelled():
            task.exception()
    elif task.cancelled():
        answer.set_exception(ConnectionResetError("the server let go of it"))
    elif (error := task.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(task.result())
