"""Health: is it up, is it ready, and how the ledger is."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import msgspec
import structlog
from aiohttp import web

from ledger import engine as sqlite
from ledger import keys, verdicts
from ledger.errors import StoreFailed, Unreadable
from ledger.ledger import wall_clock_us
from ledger.scalars import Time
from ledger.times import to_text
from server.auth import check_admin
from server.exchange import Exchange, json_answer
from server.problems import RETRY_AFTER_S, UNAVAILABLE
from server.routing import Route

if TYPE_CHECKING:
    from server.app import App

LAG_MAX = 10_000
"""Events that the views may be behind before the server says that it is not ready: about a second of folding."""
VERSION = version("jobledger")

log = structlog.get_logger("server")


class Health(msgspec.Struct, frozen=True):
    """That the server is up, and which it is."""

    version: str
    status: str


class Readiness(msgspec.Struct, frozen=True):
    """Whether the server can answer: ``lag`` is by how many events the views are behind the log."""

    status: str
    lag: int
    problems: list[str]


class ViewsState(msgspec.Struct, frozen=True, kw_only=True):
    """How far the views are, and when that was measured."""

    position: int
    lag: int
    measured_at: Time
    fault: str | None


class WritesState(msgspec.Struct, frozen=True, kw_only=True):
    """Why the last write failed, and since when writes do; both null unless they do."""

    fault: str | None
    failing_since: Time | None


class EngineState(msgspec.Struct, frozen=True, kw_only=True):
    """Which database keeps the log, and what is known to be wrong with it."""

    name: str
    version: str
    known_bugs: list[str]


class CheckpointState(msgspec.Struct, frozen=True, kw_only=True):
    """The last checkpoint that is kept, and the verifier key of those to come."""

    size: int
    made_at: Time
    key: str | None


class VerifyState(msgspec.Struct, frozen=True, kw_only=True):
    """What the last `jobledger verify` of this ledger found, and how far it went."""

    verified_at: Time
    ok: bool
    size: int
    root: str
    problem: str | None


class LedgerState(msgspec.Struct, frozen=True, kw_only=True):
    """How the ledger is. ``head`` is its last position, ``root`` its tree's (hex); ``wal_size`` in bytes."""

    name: str
    head: int
    root: str
    recorded_at: Time | None
    views: ViewsState
    writes: WritesState
    writers_waiting: int
    engine: EngineState
    synchronous: str
    wal_size: int
    checkpoint: CheckpointState | None
    verified: VerifyState | None


async def health(exchange: Exchange) -> web.Response:
    """Say that the server is up."""
    return json_answer(Health(VERSION, "ok"))


async def ready(exchange: Exchange) -> web.Response:
    """Say whether the server can answer: the log can be read and written, the views follow it, no limit is reached."""
    app = exchange.app
    problems = [app.engine.fault] if app.engine.fault else []
    try:
        await app.ledger.refresh()
    except StoreFailed as error:
        problems.append(str(error))
    if trouble := app.ledger.writer.trouble:
        problems.append(f"writes fail: {trouble.reason}")
    lag = app.ledger.size - app.engine.position
    if lag > LAG_MAX:
        problems.append(f"the views are {lag} events behind the log")
    problems += app.full()
    if problems:
        exchange.outcome = UNAVAILABLE
    status = Readiness("not ready" if problems else "ok", lag, problems)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if problems else {}
    return json_answer(status, status=503 if problems else 200, headers=headers)


async def ledger(exchange: Exchange) -> web.Response:
    """Tell the ledger's name, head, the views' lag and when it was measured, and the engine with its known bugs,
    the last checkpoint and the last verification.
    """
    check_admin(exchange.caller, "The state of the whole ledger")
    app = exchange.app
    head = await app.ledger.store.head()
    return json_answer(
        LedgerState(
            name=app.ledger.name,
            head=head.size,
            root=head.frontier.root().hex(),
            recorded_at=to_text(head.recorded_us) if head.size else None,
            views=ViewsState(
                position=app.engine.position,
                lag=head.size - app.engine.position,
                measured_at=to_text(wall_clock_us()),
                fault=app.engine.fault,
            ),
            writes=_writes(app),
            writers_waiting=app.ledger.writer.waiting,
            engine=EngineState(name="sqlite", version=sqlite.library.sqlite_version, known_bugs=sqlite.known_bugs()),
            synchronous="FULL",
            wal_size=wal_size(app),
            checkpoint=await _checkpoint(app),
            verified=_verified(app),
        )
    )


def wal_size(app: App) -> int:
    """Return the bytes of the log's write-ahead file."""
    wal = app.config.db.with_name(f"{app.config.db.name}-wal")
    return wal.stat().st_size if wal.exists() else 0


async def _checkpoint(app: App) -> CheckpointState | None:
    kept = await app.ledger.store.last_checkpoint()
    if kept is None:
        return None
    try:
        published = keys.published(app.config.db)
    except Unreadable as error:  # of no matter for the rest of what is asked
        log.warning("ledger.keys_unreadable", error=str(error))
        published = []
    key = str(published[-1]) if published else None
    return CheckpointState(size=kept.size, made_at=to_text(kept.made_us), key=key)


def _writes(app: App) -> WritesState:
    trouble = app.ledger.writer.trouble
    if trouble is None:
        return WritesState(fault=None, failing_since=None)
    return WritesState(fault=trouble.reason, failing_since=to_text(trouble.since_us))


def _verified(app: App) -> VerifyState | None:
    last = verdicts.last_of(app.config.db)
    if last is None:
        return None
    return VerifyState(
        verified_at=to_text(last.verified_us), ok=last.ok, size=last.size, root=last.root, problem=last.problem
    )


ROUTES = [
    Route("GET", "/v1/health", health, None, "Is the server up?", answer=Health, always=True),
    Route(
        "GET", "/readyz", ready, None, "Can the server answer?", answer=Readiness, also={503: Readiness}, always=True
    ),
    Route("GET", "/v1/ledger", ledger, "read", "How the ledger is", answer=LedgerState, positioned=False),
]
