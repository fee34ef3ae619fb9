"""A bare aiohttp client that posts callbacks: what HTTP itself costs who sends them. Prints JSON.

As ours it uses uvloop, one session without cookies, and no more connections than ours has to one host; the headers are
made beforehand. It keeps nothing and looks at nothing but the status.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import aiohttp
import msgspec
import uvloop

from scripts.bench.endings import at_rate


class Post(msgspec.Struct):
    """A request as ours would send it."""

    id: str
    headers: dict[str, str]
    body: str


class Posted(msgspec.Struct):
    """What came of it. ``began_ns``: by job, when its request was begun, by ``time.monotonic_ns``."""

    began_ns: dict[str, int]
    cpu_s: float
    faults: int


async def post(url: str, posts: list[Post], connections: int, rate: float) -> Posted:
    """Send all posts: as fast as it goes, or so many a second (0: as fast as it goes)."""
    began: dict[str, int] = {}
    faults = 0
    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def send(each: Post) -> None:
            nonlocal faults
            began[each.id] = time.monotonic_ns()
            async with session.post(url, data=each.body, headers=each.headers) as response:
                faults += response.status != 200
                await response.read()

        async def caller(turns: Iterator[Post]) -> None:
            for each in turns:
                await send(each)

        cpu_s = time.process_time()
        if rate:
            await at_rate([partial(send, each) for each in posts], rate)
        else:
            turns = iter(posts)
            await asyncio.gather(*(caller(turns) for _ in range(connections)))
        cpu_s = time.process_time() - cpu_s
    return Posted(began, cpu_s, faults)


def main() -> None:
    """Run with: URL, a file of posts, connections, posts a second."""
    url, file, connections, rate = sys.argv[1:]
    posts = msgspec.json.decode(Path(file).read_bytes(), type=list[Post])
    posted = uvloop.run(post(url, posts, int(connections), float(rate)))
    sys.stdout.write(msgspec.json.encode(posted).decode())


if __name__ == "__main__":
    main()
