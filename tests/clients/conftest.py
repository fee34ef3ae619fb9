"""One server that is told the story, and every client's session with it: made once for all tests."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import msgspec
import pytest

from tests.clients.calls import LIVE, calls
from tests.clients.driving import Client, Session, drive
from tests.clients.environments import environments
from tests.clients.story import READER, Teller
from tests.clients.surface import CLIENTS, METHODS
from tests.end_to_end.server_process import serve


async def play(db: Path, pythons: dict[str, Path]) -> dict[Client, Session]:
    """Run a server, tell it the story, and let all clients look at the same time."""
    async with serve(db) as server:
        teller = Teller(server)
        try:
            await teller.tell()
            sessions = await asyncio.gather(*(look(teller, client, pythons[client.version]) for client in CLIENTS))
        finally:
            await teller.close()
        assert await server.stop() == 0
    return dict(zip(CLIENTS, sessions, strict=True))


async def look(teller: Teller, client: Client, python: Path) -> Session:
    """Let one client make all its calls."""
    hello = {"url": teller.server.url, "token": teller.tokens[READER]}
    asked = [
        {**msgspec.to_builtins(call._replace(check=None)._asdict()), "token": teller.tokens[call.token]}
        for call in calls(client)
    ]
    return await drive(client, python, hello, asked, {LIVE: partial(teller.go_on, client)})


@pytest.fixture(scope="session")
def sessions(tmp_path_factory):
    """What every client saw."""
    pythons = environments(METHODS)
    return asyncio.run(play(tmp_path_factory.mktemp("clients") / "ledger.db", pythons))
