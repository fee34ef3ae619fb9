"""``jobledger serve`` in a process of its own on 127.0.0.1, and a client of it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.cli.commandline import COMMAND

START_S = 60.0
"""Patience with a start, for a machine under load; nothing is measured by it."""

_LIMITED = """
import ast, functools, pathlib, sys
from server.config import Config
from server.serve import run
from server import logs
logs.configure(sys.stderr)
config = Config(db=pathlib.Path(sys.argv[1]), port=0, **ast.literal_eval(sys.argv[2]))
run(config, functools.partial(print, flush=True))
"""
"""``jobledger serve`` with limits of our own."""


class Server:
    """A server process. ``said`` is what it printed before it listened: the first token, where it made one."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, said: list[str]) -> None:
        self.process = process
        self.url = url
        self.said = said

    @property
    def token(self) -> str:
        """The token that the first start on an empty ledger prints."""
        (line,) = self.said
        return line.rpartition(" ")[2]

    async def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        self.process.terminate()
        return await self.process.wait()

    async def kill(self) -> None:
        """End it as a power cut would, as far as the process goes."""
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def serve(
    db: Path, *options: str, limits: dict[str, float] | None = None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Server]:
    """Run a server on the ledger until the block ends; its log goes to a file beside the ledger.

    ``limits``: others than the usual ones, for what would take too long otherwise. It sends no callbacks unless
    ``--callback-allow`` says where to: tests have receivers on loopback only. ``environment``: variables that it has
    beside ours.
    """
    if "--callback-allow" not in options:
        options = (*options, "--no-callbacks")
    log_path = db.with_suffix(".server.log")
    with log_path.open("ab") as log:
        command = (COMMAND, "serve", "--db", str(db), "--port", "0", *options)
        if limits is not None:
            command = (sys.executable, "-c", _LIMITED, str(db), repr({"callbacks": False, **limits}))
        variables = {**os.environ, **(environment or {})}
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=log, env=variables)
    assert process.stdout is not None
    try:
        said = []
        async with asyncio.timeout(START_S):
            while not (line := (await process.stdout.readline()).decode()).startswith("Listening on http://"):
                assert line, f"the server ended before it listened: {log_path.read_text()[-2000:]}"
                said.append(line.rstrip("\n"))
        yield Server(process, line.split()[-1], said)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def client(server: Server, token: str) -> aiohttp.ClientSession:
    """Return a session whose paths are the server's and which sends the token."""
    headers = {"Authorization": f"Bearer {token}"}
    return aiohttp.ClientSession(server.url, headers=headers, connector=aiohttp.TCPConnector(limit=0))


async def pages(session: aiohttp.ClientSession, path: str, **query: Any) -> AsyncIterator[list[dict[str, Any]]]:
    """Page through a list by ``after`` as old clients do: until a page is empty."""
    while True:
        async with session.get(path, params=query) as response:
            assert response.status == 200, await response.text()
            page = await response.json()
        if not page:
            return
        yield page
        query["after"] = page[-1]["id"]
