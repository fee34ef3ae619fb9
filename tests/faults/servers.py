"""Faults under a running server, each with what its clients see: during it, and when it is over."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from ledger import engine
from tests.end_to_end.server_process import Server, client, serve
from tests.faults import shim
from tests.faults.points import Bench
from tests.faults.shim import ALL, Control, Fault

PATIENCE_S = 30.0
CLIENTS = 8
WRITES_MAX = 400
"""Calls of a server that write, of which one is its last: some dozen transactions, views included."""
KILLS_UNDER_LOAD = 8
RECOVERED = "201 and all that was answered is there"


class Client:
    """Somebody who creates jobs and keeps the ids of those that were answered."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self.answered: list[str] = []

    async def create(self, **body: Any) -> str:
        """Create a job; return the status and type of the answer."""
        async with self._session.post("/v1/jobs/", json={"status": "running", **body}) as response:
            body = await response.json()
            if response.status == 201:
                self.answered.append(body["id"])
                return "201"
            retry = " with Retry-After" if "Retry-After" in response.headers else ""
            return f"{response.status} {body['error']['type']}{retry}"

    async def until(self, wanted: str) -> str:
        """Create until an answer is what is wanted; return it, or the last one when patience ends."""
        seen = ""
        with contextlib.suppress(TimeoutError):  # then what was seen is not what was wanted, and says so
            async with asyncio.timeout(PATIENCE_S):
                while not seen.startswith(wanted):
                    seen = await self.create()
        return seen

    async def until_it_dies(self) -> None:
        """Create until the server is no more."""
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(aiohttp.ClientError):
                while True:
                    await self.create()

    async def get(self, path: str) -> Any:
        """Return what a path holds; while the server says to come again, ask again."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                async with self._session.get(path) as response:
                    if response.status != 503:
                        return await response.json() if response.status == 200 else None

    async def status_of(self, path: str) -> int:
        """Return the status of one answer."""
        async with self._session.get(path) as response:
            return response.status

    async def until_ready(self) -> str:
        """Ask whether the server is ready until it is; return the last answer when patience ends."""
        seen = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while seen != 200:
                    seen = await self.status_of("/readyz")
        return str(seen)

    async def after(self) -> str:
        """Create once more, and look for all that was answered."""
        seen = await self.until("201")
        missing = 0
        for id in self.answered:
            missing += await self.get(f"/v1/jobs/{id}") is None
        return f"{seen} and {missing} lost" if missing else f"{seen} and all that was answered is there"


@asynccontextmanager
async def running(bench: Bench, fault: Fault | None = None) -> AsyncIterator[tuple[Server, Client, Control]]:
    db = bench.starts.copy("empty", bench.place)
    with Control(bench.folder / "control") as control:
        asked = shim.environment(bench.place, fault, control=control.path)
        async with serve(db, environment=asked) as server, client(server, server.token) as session:
            yield server, Client(session), control


def said(bench: Bench) -> str:
    """Return what the servers logged."""
    return (bench.place / "ledger.server.log").read_text()


async def _failing(bench: Bench, fault: Fault) -> str:
    """Switch a fault on under a running server, see what a write is answered, and switch it off.

    Nothing is written after that before the server says that it is ready.
    """
    async with running(bench, fault) as (_, writer, control):
        await writer.create()
        control.set(is_on=1)
        during = await writer.until("503")
        ready = await writer.status_of("/readyz")
        control.set(is_on=0)
        return f"{during}, readyz {ready}, {await writer.until_ready()}, then {await writer.after()}"


async def _locked(bench: Bench, kind: str) -> str:
    """Hold the lock of the log for longer than a server waits for it."""
    async with running(bench) as (_, writer, _control):
        await writer.create()
        with contextlib.closing(engine.connect(bench.place / "ledger.db", read_only=False)) as other:
            other.execute(f"BEGIN {kind}")
            during = await writer.create()
            other.execute("ROLLBACK")
        return f"{during}, then {await writer.after()}"


async def _no_descriptors(bench: Bench) -> str:
    """Open more connections than the server has descriptors for, then close them."""
    import resource

    async with running(bench) as (server, writer, _control):
        await writer.create()
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (64, 64))
        where = urlsplit(server.url)
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(socket.create_connection((where.hostname, where.port), timeout=PATIENCE_S))
            during = await writer.create()
        return f"{during} on what was open, then {await _anew(server, writer)}"


async def _anew(server: Server, writer: Client) -> str:
    async with client(server, server.token) as session:
        other = Client(session)
        other.answered = writer.answered
        return await other.after()


async def _one_of_two(bench: Bench) -> str:
    """Kill one of two servers on a file."""
    async with running(bench) as (server, writer, _control):
        await writer.create()
        async with serve(bench.place / "ledger.db") as second, client(second, server.token) as session:
            other = Client(session)
            other.answered = writer.answered
            await server.kill()
            bench.kills += 1
            return await other.after()


async def _views(bench: Bench, damage: Callable[[Path], object]) -> str:
    """Damage the views under a running server, and leave it alone."""
    async with running(bench) as (_, writer, _control):
        for _ in range(20):
            await writer.create()
        views = bench.place / "ledger.views.db"
        with contextlib.closing(engine.connect(views, read_only=False)) as connection:
            engine.empty_wal(connection)  # else all that is read may be in there, and no damage be met
        damage(views)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while "views.made_anew" not in said(bench):
                    await writer.create()
                    await writer.status_of("/v1/jobs/?limit=50")
                return f"made anew, then {await writer.after()}"
        return "never made anew"


async def _killed_under_load(bench: Bench) -> str:
    """Kill a server at one of its writes, whichever chance takes, while clients write; start another."""
    fault = Fault(do=bench.chance.choice(("kill", "torn", "after")), at=bench.chance.randint(1, WRITES_MAX))
    async with running(bench, fault) as (server, writer, control):
        control.set(is_on=1)
        await asyncio.gather(*(writer.until_it_dies() for _ in range(CLIENTS)))
        code, token = await server.process.wait(), server.token
    bench.kills += 1
    async with serve(bench.place / "ledger.db") as server, client(server, token) as session:
        other = Client(session)
        other.answered = writer.answered
        return f"killed by {-code} while {CLIENTS} wrote, then {await other.after()}"


def _garble(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"garbage " * (path.stat().st_size // 8))


def times(case: Callable[[Bench], Awaitable[str]], count: int = 1) -> Callable[[Bench], Iterator[str]]:
    """Return what does a case so many times."""

    def how(bench: Bench) -> Iterator[str]:
        async def run() -> str:
            return await case(bench)

        for _ in range(count):
            yield asyncio.run(run())

    return how


REFUSED = f"503 unavailable with Retry-After, then {RECOVERED}"
NOT_READY = f"503 unavailable with Retry-After, readyz 503, 200, then {RECOVERED}"
FULL = Fault(do="ENOSPC", more=ALL, kinds=("write",), name="ledger.db*")
LYING = Fault(do="lie", more=ALL, kinds=("fsync",), name="ledger.db*")
READ_ONLY = Fault(do="EROFS", more=ALL, name="ledger.db*")
ANEW = f"made anew, then {RECOVERED}"
ROWS = (
    ("a server whose disk is full for a while", times(partial(_failing, fault=FULL)), NOT_READY),
    ("a server whose fsync fails for a while, and loses data", times(partial(_failing, fault=LYING)), NOT_READY),
    ("a server whose disk is read-only for a while", times(partial(_failing, fault=READ_ONLY)), NOT_READY),
    ("another process holds the log's lock too long", times(partial(_locked, kind="IMMEDIATE")), REFUSED),
    ("another process holds an exclusive lock too long", times(partial(_locked, kind="EXCLUSIVE")), REFUSED),
    ("a server without descriptors", times(_no_descriptors), f"201 on what was open, then {RECOVERED}"),
    ("one of two servers is killed", times(_one_of_two), RECOVERED),
    (
        "kill -9 in a server under load",
        times(_killed_under_load, KILLS_UNDER_LOAD),
        f"killed by 9 while {CLIENTS} wrote, then {RECOVERED}",
    ),
    ("views garbled under a server", times(partial(_views, damage=_garble)), ANEW),
    ("views deleted under a server", times(partial(_views, damage=Path.unlink)), ANEW),
)
