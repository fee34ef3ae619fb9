"""Ending jobs over HTTP: one after the other at a steady rate, or all of them in one request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import aiohttp
import msgspec
import uvloop

from scripts.bench.served import Served

END = b'{"status":"completed"}'


async def at_rate(calls: Sequence[Callable[[], Awaitable[None]]], rate: float) -> None:
    """Make calls, so many a second, whether or not those before are done; return when all are."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    tasks = []
    for number, call in enumerate(calls):
        await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
        tasks.append(asyncio.ensure_future(call()))
    await asyncio.gather(*tasks)


def steadily(served: Served, jobs: Sequence[str], rate: float) -> dict[str, int]:
    """End jobs with one PATCH each, so many a second; return when each was answered, by ``time.monotonic_ns``."""
    return uvloop.run(_steadily(served, jobs, rate))


async def _steadily(served: Served, jobs: Sequence[str], rate: float) -> dict[str, int]:
    answered: dict[str, int] = {}
    headers = {**served.headers, "Content-Type": "application/json"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{served.port}", headers=headers) as session:

        async def end(id: str) -> None:
            async with session.patch(f"/v1/jobs/{id}", data=END) as response:
                body = await response.read()
                answered[id] = time.monotonic_ns()
            if response.status != 200:
                raise RuntimeError(f"the server answered {response.status}: {body[:500]!r}")

        await at_rate([partial(end, job) for job in jobs], rate)
    return answered


def at_once(served: Served, jobs: Sequence[str]) -> dict[str, int]:
    """End jobs with one request; return when it was answered, as ``steadily`` does."""
    events = ({"specversion": "1.0", "type": "job.completed", "subject": id, "data": {}} for id in jobs)
    served.post("/v1/events", b"\n".join(msgspec.json.encode(event) for event in events))
    return dict.fromkeys(jobs, time.monotonic_ns())
