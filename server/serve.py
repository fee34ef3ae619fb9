"""Running the server: listen, print the address and the first token, stop cleanly."""

from __future__ import annotations

import asyncio
import gc
import shutil
import signal
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import structlog
from aiohttp import web

from ledger.ids import SYSTEM_USER
from ledger.ledger import Ledger
from projections.rebuild import Progress
from server import connections, sockets, workers
from server.app import App
from server.config import Config
from server.grants import grant
from server.protocol import AppServer
from server.sockets import BACKLOG
from server.workers import SIGN_S, Place

GC_THRESHOLD = 20_000
"""New containers between two collections of the youngest: one request makes about thirty that end with it."""

CUT_S = 1.0
"""Wait for requests that are cut off, twice at most; the time that they had for an answer was over by then."""

Show = Callable[[], AbstractContextManager[Progress | None]]

log = structlog.get_logger("server")


async def serve(
    config: Config, say: Callable[[str], None], progress: Progress | None = None, place: Place | None = None
) -> None:
    """Serve until SIGTERM or SIGINT; then answer what was taken on and stop.

    ``say`` prints a line for the user: the first token, then the address once connections are accepted. ``place``: of
    one of several workers, which also stops when its parent has ended.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if place is not None:
        loop.add_reader(place.parent, _orphaned, loop, place.parent, stop)
    connections.allow_files()
    app = App(config)
    if not await _open(app, progress, stop):
        return
    fatal: list[BaseException] = []

    def give_up(error: BaseException) -> None:
        fatal.append(error)
        stop.set()

    app.on_fatal = give_up
    runner = web.ServerRunner(AppServer(app), shutdown_timeout=CUT_S)
    await runner.setup()
    try:
        sites = await _listen(runner, config, place)
        await say_first_token(app.ledger, say)
        app.start_beats()
        gc.freeze()  # what is there now stays: no collection needs to look at it again
        gc.set_threshold(GC_THRESHOLD)
        if place is None:
            say(f"Listening on {url(*runner.addresses[0][:2])}")
        else:
            place.ready()
            _show_life(loop, place)
        await stop.wait()
        log.info("server.stopping")
        for site in sites:
            await site.stop()
        await app.drain(config.stop_timeout_s)
    finally:
        await runner.cleanup()
        await app.close()
    if fatal:
        raise fatal[0]


async def _open(app: App, progress: Progress | None, stop: asyncio.Event) -> bool:
    """Open the app; False where a stop was asked for meanwhile: nobody waits for views that take minutes to fold."""
    opening = asyncio.create_task(app.open(progress), name="opening")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait((opening, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not opening.done():
        log.info("server.stopping")
        opening.cancel()
        await asyncio.wait((opening,))
    if opening.cancelled():
        return False
    await opening
    return True


def url(host: str, port: int) -> str:
    """Return the address of a server."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _orphaned(loop: asyncio.AbstractEventLoop, parent: int, stop: asyncio.Event) -> None:
    loop.remove_reader(parent)
    stop.set()


def _show_life(loop: asyncio.AbstractEventLoop, place: Place) -> None:
    """Show the parent that the event loop goes round, as long as it does: also while the server stops."""
    place.show_life()
    loop.call_later(SIGN_S, _show_life, loop, place)


async def _listen(runner: web.ServerRunner, config: Config, place: Place | None) -> list[web.BaseSite]:
    sites: list[web.BaseSite] = []
    if place is None:
        sites.append(web.TCPSite(runner, config.host, config.port, reuse_address=True, backlog=BACKLOG))
    else:
        sites.extend(web.SockSite(runner, each, backlog=BACKLOG) for each in place.sockets)
    for site in sites:
        await site.start()
    return sites


async def say_first_token(ledger: Ledger, say: Callable[[str], None]) -> None:
    """On an empty ledger make an admin token and print it, once."""
    if ledger.size:
        return
    token, _ = await grant(
        ledger, user_id=SYSTEM_USER, scopes=["read", "write", "admin"], actor=SYSTEM_USER, only_first=True
    )
    if token:
        say(f"Admin token (shown this once): {token}")


def run(config: Config, say: Callable[[str], None], show: Show = nullcontext) -> int:
    """Serve in this process, or in the workers of this process; return the exit code.

    ``show``: a context that shows how far the views are while they are brought up to the log.
    """
    if config.workers == 1:
        with show() as progress:
            _run(serve(config, say, progress))
        return 0
    workers.check(config.workers)
    shares = sockets.bind(config.host, config.port, config.workers)
    address = url(*shares[0][0].getsockname()[:2])

    shared = Path(tempfile.mkdtemp(prefix="jobledger-workers-"))

    def work(place: Place) -> None:
        structlog.contextvars.bind_contextvars(worker=place.number)
        mine = msgspec.structs.replace(config, worker=place.number, shared=shared)
        with show() if place.is_first else nullcontext() as progress:
            _run(serve(mine, say, progress, place))

    parent = workers.Parent(
        shares, work, lambda: say(f"Listening on {address}"), config.stop_timeout_s, config.hung_after_s
    )
    try:
        return parent.run()
    finally:
        if not parent.is_alive:  # this is the parent, which ends, or a worker that has lost it
            shutil.rmtree(shared, ignore_errors=True)


def _run(serving: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(serving)
    else:
        uvloop.run(serving)
