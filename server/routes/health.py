"""Health: is it up, is it ready, and how the ledger is."""

from __future__ import annotations

from importlib.metadata import version

from aiohttp import web

from ledger import engine as sqlite
from ledger.ledger import wall_clock_us
from ledger.times import to_text
from server.auth import check_admin
from server.exchange import Exchange, json_answer
from server.problems import RETRY_AFTER_S
from server.routing import Route

LAG_MAX = 10_000
"""Events that the views may be behind before the server says that it is not ready: about a second of folding."""
VERSION = version("jobledger")


async def health(exchange: Exchange) -> web.Response:
    """Say that the server is up."""
    return json_answer({"version": VERSION, "status": "ok"})


async def ready(exchange: Exchange) -> web.Response:
    """Say whether the server can answer: the log takes writes and the views follow it."""
    app = exchange.app
    lag = app.ledger.size - app.engine.position
    problems = [app.engine.fault] if app.engine.fault else []
    if lag > LAG_MAX:
        problems.append(f"the views are {lag} events behind the log")
    status = {"status": "not ready" if problems else "ok", "lag": lag, "problems": problems}
    headers = {"Retry-After": str(RETRY_AFTER_S)} if problems else {}
    return json_answer(status, status=503 if problems else 200, headers=headers)


async def ledger(exchange: Exchange) -> web.Response:
    """Tell the ledger's name, head, the views' lag and when it was measured, and the engine with its known bugs."""
    exchange.no_params()
    check_admin(exchange.caller, "The state of the whole ledger")
    app = exchange.app
    head = await app.ledger.store.head()
    wal = app.config.db.with_name(f"{app.config.db.name}-wal")
    return json_answer(
        {
            "name": app.ledger.name,
            "head": head.size,
            "root": head.frontier.root().hex(),
            "recorded_at": to_text(head.recorded_us) if head.size else None,
            "views": {
                "position": app.engine.position,
                "lag": head.size - app.engine.position,
                "measured_at": to_text(wall_clock_us()),
                "fault": app.engine.fault,
            },
            "writers_waiting": app.ledger.waiting,
            "engine": {"name": "sqlite", "version": sqlite.library.sqlite_version, "known_bugs": sqlite.known_bugs()},
            "synchronous": "FULL",
            "wal_size": wal.stat().st_size if wal.exists() else 0,
        }
    )


ROUTES = [
    Route("GET", "/v1/health", health, None, "Is the server up?"),
    Route("GET", "/readyz", ready, None, "Can the server answer?"),
    Route("GET", "/v1/ledger", ledger, "read", "How the ledger is"),
]
