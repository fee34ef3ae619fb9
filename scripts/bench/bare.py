"""A bare aiohttp server that answers every request for one path with the same bytes: what HTTP itself costs here.

``application``: a ``web.Application`` with one route, whose handler reads the body, if there is one, and returns
``web.Response(body=…, content_type="application/json")``. ``server``: a low-level ``web.Server`` with such a handler,
without any routing. Both run as ours does: a process of its own, uvloop, no access log of aiohttp, the same runner and
collector settings.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

from server.serve import GC_THRESHOLD

SETTINGS: dict[str, Any] = {"access_log": None, "keepalive_timeout": 75.0, "lingering_time": 2.0}
"""What our server gives its own (``web.ServerRunner``)."""


async def serve(kind: str, path: str, body: bytes) -> None:
    """Serve until SIGTERM, on a port that is printed on stdout."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    runner = _application(path, body) if kind == "application" else _server(body)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, reuse_address=True).start()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    print(f"Listening on http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await stop.wait()
    await runner.cleanup()


def _application(path: str, body: bytes) -> web.AppRunner:
    async def handle(request: web.Request) -> web.Response:
        if request.can_read_body:
            await request.read()
        return web.Response(body=body, content_type="application/json")

    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", path, handle)
    return web.AppRunner(app, **SETTINGS)


def _server(body: bytes) -> web.ServerRunner:
    async def handle(_request: web.BaseRequest) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    return web.ServerRunner(web.Server(handle, **SETTINGS))


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_bytes()))
