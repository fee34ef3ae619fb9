"""The aiohttp server that an app runs on: its connections, and answers in our one shape also for what is no HTTP."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import ERROR, RequestHandler, RequestPayloadError, _ErrInfo

from ledger.errors import BadRequest, LedgerError, Unavailable
from server import connections, framing, problems
from server.app import App
from server.connections import ANSWER_RATE, Connections

LINGER_S = 2.0
"""How long to read on after an answer to a body that was refused, so that the client sees the answer."""
LINE_SIZE_MAX = 8190
"""Bytes of a request's first line, and of one header: what proxies take, too."""
HEADERS_MAX = 100
"""Headers of a request; browsers behind several proxies send thirty."""

_UNREADABLE = ERROR._replace(version=HttpVersion11)
"""What stands for a request that cannot be read, so that it is answered in our version."""

log = structlog.get_logger("server")


class Connection(RequestHandler):
    """A connection; what cannot be parsed is answered as JSON and logged in one line."""

    def __init__(self, server: AppServer, connections: Connections, **options: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self.is_over = False
        """Whether it is beyond the limit: it may ask one thing, and is told health alone."""
        self.is_stream = False
        """Whether a stream is served, which has a deadline of its own."""
        self._connections = connections
        self._channel: asyncio.Transport
        """The transport also while it is being closed, when aiohttp has let go of it."""
        self._head_since_s: float | None = None
        """When the head that is awaited began; None: none is."""
        self._has_begun = False
        self._blocked_since_s: float | None = None
        """When something was first seen waiting for the client to take it; None: it takes all."""
        self._blocked_size = 0
        self._held = 0
        """Bytes of a large answer that are counted until the client has it."""
        self._is_kept = False
        """Whether the client has ended its side, and waits for the rest of what it asked."""
        self._body: StreamReader = EMPTY_PAYLOAD
        """The body of the request that came last, which may be under way."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection on, or turn it away."""
        self._channel = cast(asyncio.Transport, transport)
        if not self._connections.enter(self):
            self._force_close = True  # so that nothing of it is heard
            self._channel.write(_message(Unavailable(reason="there are too many connections"), ""))
            self._channel.close()
            return
        connections.watch(transport, self._connections.patience)
        self._head_since_s = self._connections.now()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count the connection out."""
        self._connections.leave(self)
        self._let_go()
        self._body = EMPTY_PAYLOAD  # it knows this connection: neither would be freed
        if isinstance(exc, OSError) and not isinstance(exc, ConnectionError):  # as where TCP gave up on the peer
            exc = ConnectionResetError(str(exc))  # who reads a body would take another for an error of its own
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, and note how long the head of a request has been on its way."""
        before = len(self._messages)
        super().data_received(data)
        if len(self._messages) > before:
            self._look(before)
        if self._messages:
            self._head_since_s = None
        elif data and self._waiter is not None and not self._waiter.done():  # no request, so this was a part of a head
            self._has_begun = True
            if self._head_since_s is None:
                self._head_since_s = self._connections.now()

    def _look(self, first: int) -> None:
        """Look at the requests that came, from one of the queue on: where each ends, and what that means."""
        for at in range(first, len(self._messages)):
            message, payload = self._messages[at]
            if isinstance(message, _ErrInfo):
                if not self._body.is_eof():  # nothing more of it comes, and who reads it would wait for all its time
                    self._body.set_exception(RequestPayloadError("its framing is broken"))
            elif (fault := framing.fault_of(message)) is not None:
                self._messages[at] = _ErrInfo(400, BadHttpMessage(fault), fault), EMPTY_PAYLOAD
            elif framing.is_last(message):
                self._messages[at] = message._replace(should_close=True), payload
            self._body = payload

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks for it, aiohttp never keeps one open
        """Answer what was asked before the client ended its side, and close then; return whether there is anything.

        An end in the middle of a stream, or of the only request, is that of the connection: whoever is killed says as
        much.
        """
        if self._is_kept:  # uvloop says it again
            return True
        is_awaited = self._waiter is not None
        if not self._request_count or self.is_stream or (is_awaited and not self._messages):
            return False
        if not self._body.is_eof():  # the last one never comes whole; those before it did
            if len(self._messages) <= is_awaited:
                return False
            self._messages.pop()
        if self._messages:
            message, payload = self._messages[-1]
            if not isinstance(message, _ErrInfo):  # which is the last in any case
                self._messages[-1] = message._replace(should_close=True), payload
        else:
            self.close()
        self._is_kept = True
        return True

    def log_exception(self, *args: Any, **more: Any) -> None:
        """Log what aiohttp has caught, but a body that turned out broken behind its answer: its request has a line."""
        if not isinstance(more.get("exc_info"), RequestPayloadError | HttpProcessingError):
            super().log_exception(*args, **more)

    def resume_writing(self) -> None:
        """Note that the client took most of what waited."""
        self._blocked_since_s = None
        super().resume_writing()

    def head_is_late(self, now_s: float, timeout_s: float) -> bool:
        """Tell whether the head of a request has been on its way, or not begun, for longer than it may."""
        return self._head_since_s is not None and now_s >= self._head_since_s + timeout_s

    def answer_is_late(self, now_s: float, timeout_s: float) -> bool:
        """Tell whether the client has had enough time to take what waits for it; to be asked now and then."""
        waiting = 0 if self.is_stream else self._channel.get_write_buffer_size()
        if not waiting:
            self._blocked_since_s = None
            if self._current_request is None:
                self._let_go()
            return False
        if self._blocked_since_s is None:
            self._blocked_since_s, self._blocked_size = now_s, waiting
        return now_s >= self._blocked_since_s + timeout_s + self._blocked_size / ANSWER_RATE

    def refuse_head(self) -> None:
        """End a connection whose head is late: with an answer where it has begun."""
        self._head_since_s = None
        if self._has_begun and not self._channel.is_closing():
            timeout_s = self._connections.config.head_timeout_s
            self._channel.write(_message(problems.SlowHead(timeout_s=timeout_s), self._new_request_id()))
        self.force_close()

    async def finish_response(self, *answered: Any) -> tuple[web.StreamResponse, bool]:
        """Send an answer, and let go of it where all of it was taken at once, as of most; a beat sees to the others."""
        try:
            return await super().finish_response(*answered)
        finally:
            if self._held and not self._channel.get_write_buffer_size():
                self._let_go()

    def hold(self, size: int) -> None:
        """Count a large answer in until the client has taken it. Raises ``Unavailable`` where there is no room."""
        self._let_go()
        self._held = self._connections.answers.take(size)

    def _let_go(self) -> None:
        if self._held:
            self._connections.answers.give_back(self._held)
            self._held = 0

    def cut(self) -> None:
        """Break the connection off, with what waits on it."""
        self._channel.abort()

    def _new_request_id(self) -> str:
        return self._manager.request_id() if isinstance(self._manager, AppServer) else ""

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what never became a request, then close the connection."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun; another cannot be sent")
        request_id = self._new_request_id()
        if status < 500:
            first = (message or "it cannot be parsed").strip().splitlines()[0]
            error: BaseException = BadRequest(reason=f"This is no HTTP request: {first[:200]}")
        else:
            error = exc or RuntimeError(message or "unknown")
        kind = type(error if exc is None else exc).__name__  # its text would show the line that cannot be read
        if not isinstance(exc, ConnectionError):  # a client that left in the middle of its body has a line already
            log.warning("request.unreadable", request_id=request_id, status=status, error=kind)
        response = problems.to_response(error, request_id)
        response.headers["X-Request-Id"] = request_id
        response.force_close()
        return response


def _message(error: LedgerError, request_id: str) -> bytes:
    """Return a whole HTTP answer that tells of an error, for a connection without a request to answer."""
    response = problems.to_response(error, request_id)
    body = cast(bytes, response.body)
    response.headers.update({"Content-Length": str(len(body)), "Connection": "close"})
    if request_id:
        response.headers["X-Request-Id"] = request_id
    lines = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
    return f"HTTP/1.1 {response.status} {response.reason}\r\n{lines}\r\n".encode() + body


class AppServer(web.Server):
    """Serves one app: ``web.ServerRunner(AppServer(app))``."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._options: dict[str, Any] = {
            "access_log": None,
            "auto_decompress": False,
            "keepalive_timeout": app.config.keepalive_s,
            "lingering_time": LINGER_S,
            "max_line_size": LINE_SIZE_MAX,
            "max_field_size": LINE_SIZE_MAX,
            "max_headers": HEADERS_MAX,
        }
        super().__init__(app.handle, request_factory=self._request, **self._options)

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        return self._make_request(_UNREADABLE if message is ERROR else message, payload, protocol, writer, task)

    def request_id(self) -> str:
        """Return a new request id."""
        return self._app.request_id()

    def __call__(self) -> Connection:
        """Return the protocol of a new connection."""
        return Connection(self, self._app.connections, **self._options)
