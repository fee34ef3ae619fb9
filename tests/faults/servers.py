"""Faults under a running server, each with what its clients see: during it, and when it is over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from ledger import engine
from tests.end_to_end.server_process import Server, client, serve
from tests.faults import shim
from tests.faults.points import Bench
from tests.faults.shim import ALL, Control, Fault

PATIENCE_S = 30.0
RECOVERED = "201 and all that was answered is there"


class Client:
    """Somebody who creates jobs and keeps the ids of those that were answered."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self.answered: list[str] = []

    async def create(self) -> str:
        """Create a job; return the status and type of the answer."""
        async with self._session.post("/v1/jobs/", json={"status": "running"}) as response:
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

    async def after(self) -> str:
        """Create once more, and look for all that was answered."""
        seen = await self.until("201")
        missing = 0
        for id in self.answered:
            async with self._session.get(f"/v1/jobs/{id}") as response:
                missing += response.status != 200
        return f"{seen} and {missing} lost" if missing else f"{seen} and all that was answered is there"


@asynccontextmanager
async def _running(bench: Bench, fault: Fault | None = None) -> AsyncIterator[tuple[Server, Client, Control]]:
    db = bench.starts.copy("empty", bench.place)
    with Control(bench.folder / "control") as control:
        asked = shim.environment(bench.place, fault, control=control.path)
        async with serve(db, environment=asked) as server, client(server, server.token) as session:
            yield server, Client(session), control


async def _failing(bench: Bench, fault: Fault) -> str:
    """Switch a fault on under a running server, see what a write is answered, and switch it off."""
    async with _running(bench, fault) as (_, writer, control):
        await writer.create()
        control.set(is_on=1)
        during = await writer.until("503")
        control.set(is_on=0)
        return f"{during}, then {await writer.after()}"


async def _locked(bench: Bench, kind: str) -> str:
    """Hold the lock of the log for longer than a server waits for it."""
    async with _running(bench) as (_, writer, _control):
        await writer.create()
        with contextlib.closing(engine.connect(bench.place / "ledger.db", read_only=False)) as other:
            other.execute(f"BEGIN {kind}")
            during = await writer.create()
            other.execute("ROLLBACK")
        return f"{during}, then {await writer.after()}"


async def _no_descriptors(bench: Bench) -> str:
    """Open more connections than the server has descriptors for, then close them."""
    import resource

    async with _running(bench) as (server, writer, _control):
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


async def _clock(bench: Bench, **values: int) -> str:
    async with _running(bench) as (_, writer, control):
        await writer.create()
        control.set(**values)
        during = await writer.create()
        control.set(shift_ns=0, stop_ns=0)
        return f"{during}, then {await writer.after()}"


async def _stopped(bench: Bench) -> str:
    """Stop a server (SIGSTOP) while another on the same file goes on; then let it go on, too."""
    async with _running(bench) as (server, writer, _control):
        await writer.create()
        async with serve(bench.place / "ledger.db") as second, client(second, server.token) as session:
            other = Client(session)
            os.kill(server.process.pid, signal.SIGSTOP)
            during = await other.create()
            os.kill(server.process.pid, signal.SIGCONT)
            writer.answered += other.answered
            return f"{during} by the other, then {await writer.after()}"


async def _one_of_two(bench: Bench) -> str:
    """Kill one of two servers on a file."""
    async with _running(bench) as (server, writer, _control):
        await writer.create()
        async with serve(bench.place / "ledger.db") as second, client(second, server.token) as session:
            other = Client(session)
            other.answered = writer.answered
            await server.kill()
            bench.kills += 1
            return await other.after()


async def _views(bench: Bench, damage: Callable[[Path], object]) -> str:
    """Damage the views under a running server; then start it anew."""
    async with _running(bench) as (server, writer, _control):
        await writer.create()
        token = server.token
        damage(bench.place / "ledger.views.db")
        during = await _status(writer)
        await server.stop()
    async with serve(bench.place / "ledger.db") as server, client(server, token) as session:
        other = Client(session)
        other.answered = writer.answered
        return f"{during}, and started anew {await other.after()}"


async def _status(writer: Client) -> str:
    seen = await writer.create()
    return "an answer" if seen.partition(" ")[0] in ("201", "500", "503") else seen


def _garble(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"garbage " * 4096)


def _once(case: Callable[[Bench], Awaitable[str]]) -> Callable[[Bench], Iterator[str]]:
    def how(bench: Bench) -> Iterator[str]:
        async def run() -> str:
            return await case(bench)

        yield asyncio.run(run())

    return how


REFUSED = f"503 unavailable with Retry-After, then {RECOVERED}"
FULL = Fault(do="ENOSPC", more=ALL, kinds=("write",), name="ledger.db*")
LYING = Fault(do="lie", more=ALL, kinds=("fsync",), name="ledger.db*")
READ_ONLY = Fault(do="EROFS", more=ALL, name="ledger.db*")
ANEW = f"an answer, and started anew {RECOVERED}"
JUMP_NS = 3600 * 10**9
ROWS = (
    ("a server whose disk is full for a while", _once(partial(_failing, fault=FULL)), REFUSED),
    ("a server whose fsync fails for a while, and loses data", _once(partial(_failing, fault=LYING)), REFUSED),
    ("a server whose disk is read-only for a while", _once(partial(_failing, fault=READ_ONLY)), REFUSED),
    ("another process holds the log's lock too long", _once(partial(_locked, kind="IMMEDIATE")), REFUSED),
    ("a server without descriptors", _once(_no_descriptors), f"201 on what was open, then {RECOVERED}"),
    ("a clock that stands still", _once(partial(_clock, stop_ns=JUMP_NS)), f"201, then {RECOVERED}"),
    ("a clock that jumps back by an hour", _once(partial(_clock, shift_ns=-JUMP_NS)), f"201, then {RECOVERED}"),
    ("a clock that jumps forth by an hour", _once(partial(_clock, shift_ns=JUMP_NS)), f"201, then {RECOVERED}"),
    ("one of two servers stops for a while", _once(_stopped), f"201 by the other, then {RECOVERED}"),
    ("one of two servers is killed", _once(_one_of_two), RECOVERED),
    (
        "views garbled under a server",
        _once(partial(_views, damage=_garble)),
        ANEW,
    ),
    (
        "views deleted under a server",
        _once(partial(_views, damage=Path.unlink)),
        ANEW,
    ),
)
