"""A bare aiohttp server that answers every request for one path with the same bytes: what HTTP itself costs here.

``application``: a ``web.Application`` with one route, whose handler reads the body, if there is one, and returns
``web.Response(body=…, content_type="application/json")``. ``server``: a low-level ``web.Server`` with such a handler,
without any routing. ``stream``: a ``web.Application`` where a POST of the path opens a stream of server-sent events,
and a POST of an array of objects to ``/push`` writes each of them to each stream with ``StreamResponse.write``. All run
as ours does: a process of its own, uvloop, no access log of aiohttp, the same runner and collector settings.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from aiohttp import web

from server.serve import GC_THRESHOLD

SETTINGS: dict[str, Any] = {"access_log": None, "keepalive_timeout": 75.0, "lingering_time": 2.0}
"""What our server gives its own (``web.ServerRunner``)."""


async def serve(kind: str, path: str, body: bytes) -> None:
    """Serve until SIGTERM, on a port that is printed on stdout."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    runner = _stream(path) if kind == "stream" else _application(path, body) if kind == "application" else _server(body)
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


def _stream(path: str) -> web.AppRunner:
    streams: list[web.StreamResponse] = []

    async def follow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b":\n\n")
        streams.append(response)
        await asyncio.Event().wait()
        return response

    async def push(request: web.Request) -> web.Response:
        for item in msgspec.json.decode(await request.read(), type=list[msgspec.Raw]):
            chunk = b"data: %b\n\n" % bytes(item)
            for response in streams:
                await response.write(chunk)
        return web.Response(status=201)

    app = web.Application()
    app.router.add_post(path, follow)
    app.router.add_post("/push", push)
    return web.AppRunner(app, **SETTINGS, shutdown_timeout=0.1)


def _server(body: bytes) -> web.ServerRunner:
    async def handle(_request: web.BaseRequest) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    return web.ServerRunner(web.Server(handle, **SETTINGS))


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_bytes()))
