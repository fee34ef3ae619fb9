"""A whole server on a file, in this process and on 127.0.0.1, with users who send it requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import aiohttp
import msgspec
import structlog
from aiohttp import web
from yarl import URL

from ledger import ids
from ledger.ids import SYSTEM_USER
from server import logs
from server.app import App
from server.auth import check_scopes
from server.config import Config
from server.grants import grant
from server.protocol import AppServer

MIDNIGHT_US = 1_795_305_600_000_000
"""Where the clocks of tests stand: 2026-11-22T00:00:00Z."""


class Clock:
    """Time as data: it stands still, moves when told, or by ``step_us`` after each look."""

    def __init__(self, now_us: int = MIDNIGHT_US, step_us: int = 0) -> None:
        self.now_us = now_us
        self.step_us = step_us

    def __call__(self) -> int:
        now_us, self.now_us = self.now_us, self.now_us + self.step_us
        return now_us

    def advance(self, seconds: float) -> None:
        self.now_us += round(seconds * 1_000_000)


@dataclass
class Answer:
    """What the server said."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]

    @property
    def ids(self) -> list[str]:
        return [row["id"] for row in self.json]

    @property
    def etag(self) -> str:
        return self.headers["ETag"]

    @property
    def position(self) -> int:
        return int(self.headers["Ledger-Position"])

    @property
    def next_path(self) -> str | None:
        """The address that ``Link: <…>; rel="next"`` names."""
        link = self.headers.get("Link")
        if link is None:
            return None
        assert link.startswith("<")
        assert link.endswith('>; rel="next"')
        return link[1:].partition(">")[0]


@dataclass
class User:
    """Somebody with a token. Each method sends one request and returns the whole answer."""

    service: Service
    id: str
    token: str
    token_id: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    async def request(self, method: str, path: str, *, headers: dict[str, str] | None = None, **more: Any) -> Answer:
        sent = {"Authorization": f"Bearer {self.token}", **self.headers, **(headers or {})}
        return await self.service.request(method, path, headers=sent, **more)

    async def get(self, path: str, **more: Any) -> Answer:
        return await self.request("GET", path, **more)

    async def post(self, path: str, **more: Any) -> Answer:
        return await self.request("POST", path, **more)

    async def patch(self, path: str, **more: Any) -> Answer:
        return await self.request("PATCH", path, **more)

    async def delete(self, path: str, **more: Any) -> Answer:
        return await self.request("DELETE", path, **more)

    async def create(self, kind: str = "job", **body: Any) -> str:
        """Create a job, run or batch as this user; return its id."""
        if kind == "run":
            body.setdefault("agent_id", "agent-1")
        if kind == "batch":
            body.setdefault("requests", [{"agent_id": "agent-1"}])
        answer = await self.post(HOME[kind], json=body)
        assert answer.status == 201, answer.body
        return answer.json["id"]

    async def log(self, id: str) -> list[dict[str, Any]]:
        """The events of a resource."""
        answer = await self.get(f"/v1/{'runs' if id.startswith('run') else 'jobs'}/{id}/events?limit=1000")
        assert answer.status == 200, answer.body
        return answer.json

    async def types(self, id: str) -> list[str]:
        return [event["type"] for event in await self.log(id)]


HOME = {"job": "/v1/jobs/", "run": "/v1/runs/", "batch": "/v1/messages/batches"}


class Service:
    """A running server: its app, where it listens, and one HTTP session for all its users."""

    def __init__(self, app: App, clock: Clock, port: int, session: aiohttp.ClientSession) -> None:
        self.app = app
        self.clock = clock
        self.port = port
        self.session = session

    async def request(self, method: str, path: str, **more: Any) -> Answer:
        url = URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)  # as it is: tests send odd paths on purpose
        async with self.session.request(method, url, allow_redirects=False, **more) as response:
            return Answer(response.status, response.headers, await response.read())

    async def user(
        self,
        *scopes: str,
        id: str | None = None,
        project: str | None = None,
        days: float | None = None,
    ) -> User:
        """Put a token in force for a new user (or the one named) and return who holds it."""
        user_id = id or ids.make("user")
        token, token_id = await grant(
            self.app.ledger,
            user_id=user_id,
            scopes=check_scopes(list(scopes) or ["read", "write"]),
            project_id=project,
            expires_days=days,
            actor=SYSTEM_USER,
        )
        return User(self, user_id, token, token_id)

    async def admin(self, **more: Any) -> User:
        return await self.user("read", "write", "admin", **more)


@contextmanager
def logging_to(stream: TextIO) -> Iterator[None]:
    """Send what the server and its libraries log to a stream meanwhile."""
    before = structlog.get_config()
    logs.configure(stream)
    try:
        yield
    finally:
        structlog.configure(**before)
        root = logging.getLogger()
        for handler in [each for each in root.handlers if isinstance(each, logs.Foreign)]:
            root.removeHandler(handler)


async def until(is_so: Callable[[], Any]) -> None:
    """Let others run until something is so."""
    while not is_so():  # noqa: ASYNC110 - what is waited for has no event to wait on
        await asyncio.sleep(0)


@asynccontextmanager
async def serving(path: Path, clock: Clock | None = None, **limits: Any) -> AsyncIterator[Service]:
    """Run a server on the ledger file at ``path``, as ``server.serve`` does, on a free port.

    It sends no callbacks unless told to: tests have receivers on loopback only.
    """
    clock = clock or Clock()
    app = App(Config(db=path, **{"callbacks": False, **limits}), clock=clock)
    await app.open()
    runner = web.ServerRunner(AppServer(app), shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=512).start()
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Service(app, clock, runner.addresses[0][1], session)
    finally:
        app.hub.stop()  # who follows would otherwise be waited for
        await runner.cleanup()
        await app.close()
