"""The aiohttp server that an app runs on, with answers in our one shape also for what is no HTTP request at all."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from ledger.errors import BadRequest
from server import problems
from server.app import App

KEEPALIVE_S = 75.0
"""Idle keep-alive: longer than the usual proxy's 60 s, so that the proxy is the one to close."""
LINGER_S = 2.0
"""How long to read on after an answer to a body that was refused, so that the client sees the answer."""

log = structlog.get_logger("server")


class _Protocol(RequestHandler):
    """A connection; what cannot be parsed is answered as JSON and logged in one line."""

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what never became a request, then close the connection."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun; another cannot be sent")
        request_id = self._manager.request_id() if isinstance(self._manager, AppServer) else ""
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


class AppServer(web.Server):
    """Serves one app: ``web.ServerRunner(AppServer(app))``."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._options: dict[str, Any] = {
            "access_log": None,
            "keepalive_timeout": KEEPALIVE_S,
            "lingering_time": LINGER_S,
        }
        super().__init__(app.handle, **self._options)

    def request_id(self) -> str:
        """Return a new request id."""
        return self._app.request_id()

    def __call__(self) -> _Protocol:
        """Return the protocol of a new connection."""
        return _Protocol(self, loop=asyncio.get_running_loop(), **self._options)
