"""The server: one ledger, its views, and the way of a request through routing, access, handler, answer and log."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import cached_property, partial
from typing import Any

import msgspec
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector

from ledger import ids
from ledger.errors import BadRequest, Unavailable
from ledger.ledger import Ledger, wall_clock_us
from ledger.tokens import ACCESS_TYPES, Access
from projections.callbacks import CALLBACKS
from projections.engine import Engine
from projections.file import views_path
from projections.rebuild import Progress
from projections.views import Views
from server import audit, beats, logs, problems
from server.admission import Answers, Bodies
from server.auth import NOBODY, Callers
from server.callbacks.dispatcher import Dispatcher
from server.callbacks.opening import open_dispatcher
from server.checkpoints import Checkpoints
from server.config import Config
from server.connections import Connections
from server.exchange import Exchange
from server.expiry import Expiry
from server.fellows import Fellows
from server.hub import Hub
from server.metrics import of_process
from server.openapi.document import document
from server.routes import (
    agents,
    batches,
    callbacks,
    diff,
    docs,
    erasures,
    failures,
    health,
    jobs,
    messages,
    proofs,
    report,
    runs,
    search,
    stats,
    steps,
    stream,
    tokens,
    trace,
    usage,
)
from server.routes import log as log_routes
from server.routes import metrics as metrics_routes
from server.routing import Router, routes_of
from server.scrubber import Scrubber
from server.writes import Writes

NOTICE_INTERVAL_S = 0.005
"""How old this process's knowledge of others' appends may be when a request is let in: revoking works at once."""
BESIDE_INTERVAL_S = 0.02
"""How often one of several workers looks for what the others appended: streams and callbacks wait no longer."""
ACCESS_MAX = 1_000_000
"""Events of tokens that are read at the start, about 300 bytes each."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

log = structlog.get_logger("server")
ROUTER = Router(
    routes_of(
        *(jobs, runs, erasures, callbacks, messages, steps, usage, trace, report, diff, stream),
        *(batches, agents, failures, search, stats),
        *(log_routes, proofs, tokens, health, metrics_routes, docs),
    )
)


class App:
    """A server on one ledger file. ``open`` it, give ``handle`` to aiohttp, ``close`` it."""

    def __init__(self, config: Config, *, clock: Callable[[], int] = wall_clock_us) -> None:
        self.config = config
        self.ledger = Ledger.open(config.db, clock=clock)
        self.engine = Engine(self.ledger, views_path(config.db))
        self.access = Access()
        self.views: Views
        self.writes: Writes
        self.expiry: Expiry
        self.scrubber: Scrubber
        self.checkpoints: Checkpoints
        self.hub: Hub
        self.dispatcher: Dispatcher | None = None
        self.metrics = CollectorRegistry()
        ProcessCollector(namespace="jobledger", registry=self.metrics)  # memory, CPU, open descriptors
        self.answers = Answers(config.answers_size_max)
        self.connections = Connections(config, self.metrics, self.answers)
        self.bodies = Bodies(config.bodies_size_max, config.command_size_max)
        self.fellows: Fellows | None = None
        if config.shared is not None:
            self.fellows = Fellows(config.shared, config.worker, partial(of_process, self))
        self.on_fatal: Callable[[BaseException], None] = lambda error: None
        """Called when a task that the server needs has died."""
        self._tasks: list[asyncio.Task[None]] = []
        self._callers = Callers(self.access, clock)
        self._access_log = logs.access_logger()
        self._stamps = logs.Stamps()
        self._prefix = secrets.token_hex(6)
        self._requests = 0
        self._under_way = 0
        self._stopping = False
        self._idle = asyncio.Event()
        self._is_one_of_many = config.workers > 1
        self._noticed_at = 0.0
        self.notice_interval_s = 0.0 if self._is_one_of_many else NOTICE_INTERVAL_S
        self._loop_time = asyncio.get_running_loop().time

    @cached_property
    def openapi(self) -> bytes:
        """The OpenAPI document of the routes, as JSON."""
        return msgspec.json.encode(document(ROUTER.routes))

    async def open(self, progress: Progress | None = None) -> None:
        """Open the ledger, bring the views up to it, and follow it; where that is cut short, release all of it."""
        async with AsyncExitStack() as opened:
            await self.ledger.__aenter__()
            opened.push_async_callback(self.ledger.close)
            opened.push_async_callback(self.engine.close)
            await self._open(progress, opened)
            opened.pop_all()

    async def _open(self, progress: Progress | None, opened: AsyncExitStack) -> None:
        await self._learn_access()
        await self.engine.open(progress)
        self.views = Views(self.engine.path, self.ledger.store.streams, self.config.reads_max)
        opened.push_async_callback(self.views.close)
        await self.views.open()
        self.engine.on_changed = self._changed
        self.views.line.empty = self.engine.empty_wal
        self.engine.on_lost, self.engine.on_made_anew = self.views.lose, self.views.reopen
        self.views.on_damaged = self.engine.note
        if self._is_one_of_many:  # to their clients they are one server: what one answered, each of them has
            self.ledger.watch_interval_s = BESIDE_INTERVAL_S
            self.views.read_interval_s = 0.0
        else:
            self.views.is_told = lambda: self.engine.is_writing
        self.hub = Hub(self.engine.position)
        self.engine.on_applied = self.hub.applied
        self.engine.start().add_done_callback(self._ended)
        self.writes = Writes(self.ledger.writer)
        self.expiry = Expiry(self.ledger, self.views)
        self.scrubber = Scrubber(self.ledger, self.engine)
        self.checkpoints = Checkpoints(self.ledger)
        if self.config.callbacks:
            self.dispatcher = await open_dispatcher(self.config, self.ledger, self.engine, self.views, self.metrics)

    async def _learn_access(self) -> None:
        """Fold who may do what, in order: what others append meanwhile comes after what is read, not before it."""
        read, size = 0, -1
        while size != self.ledger.size:
            size = self.ledger.size
            self.access.apply(await self.ledger.store.scan(read, ACCESS_MAX, ACCESS_TYPES))
            read = size
        self.ledger.listen(self.access.apply)

    def _changed(self, changed: dict[str, list[str]]) -> None:
        others_wrote = self.engine.others_wrote
        self.views.forget(changed, others_wrote or self._is_one_of_many)
        if self.dispatcher is not None:
            if changed.get(CALLBACKS.name):
                self.dispatcher.wake(changed[CALLBACKS.name])
            if others_wrote:
                self.dispatcher.search_soon()

    def start_beats(self) -> None:
        """Start what runs by the clock."""
        self._own(self._look_after_streams(), "streams")
        self._own(self.connections.run(), "connections")
        self._own(self.writes.run(), "writes")
        if self.fellows is not None:
            self._own(self.fellows.run(), "metrics")
        self._own(self._lead(), "beats")
        if self.dispatcher is not None:
            self._own(self.dispatcher.run(), "callbacks")

    async def _lead(self) -> None:
        """Expire, scrub and sign once this server is the one that does so for the ledger."""
        await beats.lead(self.ledger.store)
        self._own(self.expiry.run(), "expiry")
        self._own(self.scrubber.run(), "scrubber")
        self._own(self.checkpoints.run(), "checkpoints")

    async def _look_after_streams(self) -> None:
        def once() -> float:
            self.hub.beat()
            return self.config.ping_interval_s

        await beats.forever("streams", once, self.config.ping_interval_s)

    def _own(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task.died", task=task.get_name(), exc_info=error)
            self.on_fatal(error)

    async def close(self) -> None:
        """Stop the beats, answer what was taken on, release the files."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.dispatcher is not None:
            await self.dispatcher.close()
        await self.ledger.close_writer()
        await self.checkpoints.close()
        await self.engine.close()
        await self.views.close()
        await self.ledger.close()

    async def drain(self, timeout_s: float) -> None:
        """Answer the requests under way, at most for ``timeout_s``; each connection ends with its answer.

        Streams end between two events.
        """
        self._stopping = True
        self.hub.stop()
        if self._under_way:
            self._idle.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._idle.wait()
            except TimeoutError:
                log.warning("server.stopped_early", requests_under_way=self._under_way)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        started = time.perf_counter()
        self._under_way += 1
        exchange = Exchange(self, request, self._request_id(request))
        try:
            response = await self._answer(exchange)
            response.headers["X-Request-Id"] = exchange.request_id
            if self._stopping or exchange.connection.is_over or response.headers.get("Connection") == "close":
                response.force_close()
            self._log(exchange, response.status, started)
            return response
        except (ConnectionError, asyncio.CancelledError) as error:
            exchange.outcome = audit.DISCONNECTED if isinstance(error, ConnectionError) else audit.STOPPED
            self._log(exchange, None, started)
            raise
        finally:
            exchange.let_go()
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def _answer(self, exchange: Exchange) -> web.StreamResponse:
        request = exchange.request
        values: list[str] = []
        try:
            if not exchange.target_is_ascii:
                raise BadRequest(reason="The path or query holds bytes that are no ASCII; escape them with %.")
            route, values = ROUTER.find(request.method, exchange.path)
            exchange.pattern = route.pattern
            if values:
                exchange.resource = values[0]
            if route.scope is not None and self._loop_time() - self._noticed_at >= self.notice_interval_s:
                await self._notice()
            if (exchange.connection.is_over or self._under_way > self.config.requests_max) and not route.always:
                self._check_room(exchange)
            if route.scope is not None:
                exchange.caller = self._callers.authenticate(request.headers, route.scope)
                if exchange.query_string and route.query is None:
                    exchange.no_params()
            response = await route.handler(exchange, *values)
            exchange.hold(response)
            return response
        except ConnectionError:
            raise
        except Exception as error:
            if problems.type_of(error) == problems.INTERNAL:
                log.exception("request.failed", request_id=exchange.request_id, route=exchange.pattern)
            self._refused(exchange, values, error)
            return problems.to_response(error, exchange.request_id)

    @property
    def requests(self) -> int:
        """Requests under way, streams apart."""
        return self._under_way - self.hub.subscribers

    def full(self) -> list[str]:
        """Tell which limits are reached, so that most requests are refused."""
        found = []
        if self.connections.is_full:
            found.append(f"{self.connections.max} connections are open, which is the limit")
        if self.requests > self.config.requests_max:
            found.append(f"{self.config.requests_max} requests are under way, which is the limit")
        return found

    def _check_room(self, exchange: Exchange) -> None:
        if exchange.connection.is_over or self.requests > self.config.requests_max:
            raise Unavailable(reason=next(iter(self.full()), "there were too many connections"))

    def _refused(self, exchange: Exchange, values: Sequence[str], error: Exception) -> None:
        """Keep for the log how a request failed, whose it was, and what it named, as far as that names anything."""
        exchange.outcome = problems.type_of(error)
        if exchange.caller is NOBODY:
            exchange.caller = self._callers.holder(exchange.request.headers)
        if values and exchange.resource == values[0] and not ids.is_id(values[0], *ids.KINDS):
            exchange.resource = ""

    def _log(self, exchange: Exchange, status: int | None, started: float) -> None:
        now = time.perf_counter()
        caller, method, pattern = exchange.caller, exchange.request.method, exchange.pattern
        self._access_log.request(
            logs.Access(
                self._stamps.of(time.time_ns() // 1000),
                "request",
                exchange.request_id,
                method if pattern or method in audit.METHODS else audit.OTHER_METHOD,
                pattern or ROUTER.known_part(exchange.path),
                audit.told(exchange.resource),
                status,
                exchange.outcome,
                caller.user_id if caller.token_id else None,
                caller.token_id or None,
                caller.by,
                caller.project_id and audit.told(caller.project_id),
                int((now - started) * 1e6),
                exchange.events_sent,
            )
        )

    async def _notice(self) -> None:
        self._noticed_at = self._loop_time()
        await self.ledger.refresh()

    def _request_id(self, request: web.BaseRequest) -> str:
        given = request.headers.get("X-Request-Id")
        if given is None or not _REQUEST_ID.fullmatch(given) or audit.told(given) != given:
            return self.request_id()
        return given

    def request_id(self) -> str:
        """Return a new request id."""
        self._requests += 1
        return f"req-{self._prefix}-{self._requests:x}"
