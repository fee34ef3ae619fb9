"""Running the server: listen, print the address and the first token, stop cleanly."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable

import structlog
from aiohttp import web

from ledger.ids import SYSTEM_USER
from ledger.ledger import Ledger
from projections.rebuild import Progress
from server import connections
from server.app import App
from server.config import Config
from server.grants import grant
from server.protocol import AppServer

GC_THRESHOLD = 20_000
"""New containers between two collections of the youngest: one request makes about thirty that end with it."""
BACKLOG = 1024
"""Connections that may wait to be accepted: a burst of some hundred clients must not run into SYN retries."""

log = structlog.get_logger("server")


async def serve(config: Config, say: Callable[[str], None], progress: Progress | None = None) -> None:
    """Serve until SIGTERM or SIGINT; then answer what was taken on and stop.

    ``say`` prints a line for the user: the first token, then the address once connections are accepted.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    connections.allow_files()
    app = App(config)
    await app.open(progress)
    fatal: list[BaseException] = []

    def give_up(error: BaseException) -> None:
        fatal.append(error)
        stop.set()

    app.on_fatal = give_up
    runner = web.ServerRunner(AppServer(app), shutdown_timeout=config.stop_timeout_s)
    await runner.setup()
    try:
        site = web.TCPSite(runner, config.host, config.port, reuse_address=True, backlog=BACKLOG)
        await site.start()
        await say_first_token(app.ledger, say)
        app.start_beats()
        host, port = runner.addresses[0][:2]
        gc.freeze()  # what is there now stays: no collection needs to look at it again
        gc.set_threshold(GC_THRESHOLD)
        say(f"Listening on http://{f'[{host}]' if ':' in host else host}:{port}")
        await stop.wait()
        log.info("server.stopping")
        await site.stop()
        await app.drain(config.stop_timeout_s)
    finally:
        await runner.cleanup()
        await app.close()
    if fatal:
        raise fatal[0]


async def say_first_token(ledger: Ledger, say: Callable[[str], None]) -> None:
    """On an empty ledger make an admin token and print it, once."""
    if ledger.size:
        return
    token, _ = await grant(
        ledger, user_id=SYSTEM_USER, scopes=["read", "write", "admin"], actor=SYSTEM_USER, only_first=True
    )
    if token:
        say(f"Admin token (shown this once): {token}")


def run(config: Config, say: Callable[[str], None], progress: Progress | None = None) -> None:
    """Run ``serve`` on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(config, say, progress))
    else:
        uvloop.run(serve(config, say, progress))
