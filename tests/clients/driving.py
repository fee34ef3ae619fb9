"""Runs a driver in its client's environment, and keeps what the client saw."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

DRIVERS = Path(__file__).with_name("drivers")
PATIENCE_S = 120.0
"""With a whole driver, for a machine under load; nothing is measured by it."""


class Client(NamedTuple):
    """A client that is driven: a version, and which of its two faces."""

    version: str
    asynchronous: bool

    @property
    def name(self) -> str:
        return f"{self.version} {'async' if self.asynchronous else 'sync'}"

    @property
    def is_lenient(self) -> bool:
        """Whether the client checks nothing, as 0.1.x; the others are told to be strict."""
        return self.version.startswith("0.")

    @property
    def driver(self) -> Path:
        return DRIVERS / ("fern.py" if self.is_lenient else "stainless.py")


@dataclass
class Seen:
    """What a client saw of one call: each request as method, path and status; then its value, its rows, or an error.

    ``pages``: the sizes of a list's pages. ``faults``: rows that are not what the client declares, with what is wrong.
    """

    name: str
    requests: list[tuple[str, str, int]]
    value: Any = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)
    faults: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    error: dict[str, Any] | None = None


@dataclass
class Session:
    """Everything that one client saw: its version, its methods with their parameters, and each call by its name."""

    version: str
    surface: dict[str, list[str]]
    seen: dict[str, Seen]


Reaction = Callable[[], Awaitable[None]]


async def drive(
    client: Client, python: Path, hello: Mapping[str, Any], calls: Iterable[Any], reactions: Mapping[str, Reaction]
) -> Session:
    """Make the calls in their order. ``reactions``: what is to happen when the first chunk of a stream is there."""
    lines = [msgspec.json.encode({**hello, "asynchronous": client.asynchronous}), *map(msgspec.json.encode, calls), b""]
    with tempfile.TemporaryFile() as errors:
        process = await asyncio.create_subprocess_exec(
            python,
            client.driver,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env={"PYTHONDONTWRITEBYTECODE": "1"},  # nothing else: no proxy, no address and no key of a real server
            limit=2**24,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(b"\n".join(lines))
            process.stdin.close()
            async with asyncio.timeout(PATIENCE_S):
                session = await _listen(process.stdout, dict(reactions))
                code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        errors.seek(0)
        assert code == 0, f"the driver of {client.name} ended with {code}: {errors.read().decode()[-4000:]}"
    assert session is not None
    return session


async def _listen(lines: asyncio.StreamReader, reactions: dict[str, Reaction]) -> Session | None:
    session, chunks = None, []
    async for line in lines:
        words = msgspec.json.decode(line)
        if session is None:
            session = Session(words["version"], words["surface"], {})
        elif "chunk" in words:
            chunks.append(words["chunk"])
            if react := reactions.pop(words["name"], None):
                await react()
        else:
            words["requests"] = [tuple(request) for request in words["requests"]]
            session.seen[words["name"]] = Seen(**{"rows": chunks, **words})
            chunks = []
    return session
