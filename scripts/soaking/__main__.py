"""Soak a server: mixed load at a fixed rate, a sample every few seconds, and a verdict at the end.

python -m scripts.soaking --minutes 10 --rate 150
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import click
import msgspec
import uvloop
from aiohttp import web
from rich.console import Console
from rich.table import Table

from ledger import Ledger
from scripts.bench.commands import JOBLEDGER
from scripts.soaking.mix import Mix
from scripts.soaking.samples import MIB, Sample, problems, sample, slope

WARM_UP = 40
"""Things that clients do before the server is measured for the first time."""
SMALL = """
import ledger.database, ledger.engine, ledger.ledger, ledger.session
import projections.callbacks, projections.failures, projections.file, projections.resources
import projections.steps, projections.views, server.hub
from server.cli import main
ledger.session.STATES_MAX = projections.resources.STATES_MAX = projections.failures.OPEN_MAX = 500
ledger.ledger.TAIL_MAX = 1_000
projections.callbacks.STATES_MAX = projections.steps.STATES_MAX = 500
ledger.database.CACHE_MIB = projections.views.CACHE_MIB = 4
ledger.engine.connect.__kwdefaults__["cache_mib"] = 4
projections.file.CACHE_SIZE = 4 * 1024 * 1024
projections.views.ROWS_MAX = 1_000
projections.views.PAGES_SIZE_MAX = projections.views.ROWS_SIZE_MAX = 4 * 1024 * 1024
server.hub.CHUNKS_SIZE_MAX = 1024 * 1024
main()
"""
"""``jobledger`` with small caches, which are full within the warm-up: what grows after it is none of them. With the
usual ones they would fill for half an hour of this load, up to some 350 MiB, and hide what does not end."""
SAMPLES = 40
"""Samples in one soak, at least a second apart."""
QUIET_S = 60.0
"""Patience with the server until it is as it was, after the load has ended: slow bodies have 30 s."""
MEMORY_MINUTES_MIN = 5.0
"""Shorter soaks say nothing of memory: what is kept has not settled by then."""


class Result(msgspec.Struct):
    """What came of a soak. ``memory_slope``: MiB a minute, after the warm-up."""

    seconds: float
    rate: float
    asked: int
    told: dict[str, int]
    delivered: int
    events: int
    memory_slope: float
    problems: list[str]
    samples: list[Sample]


@contextmanager
def serving(folder: Path, allow: str) -> Iterator[tuple[int, str, str]]:
    """Run ``jobledger serve`` on a new ledger; give its process id, address and admin token."""
    options = ("--db", str(folder / "ledger.db"), "--port", "0", "--callback-allow", allow)
    with (folder / "ledger.server.log").open("wb") as log:
        process = subprocess.Popen(
            (sys.executable, "-c", SMALL, "serve", *options), stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert process.stdout is not None
    try:
        token = process.stdout.readline().split()[-1]
        address = re.search(r"http://\S+", process.stdout.readline())
        assert address is not None
        yield process.pid, address[0], token
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


@asynccontextmanager
async def receiver() -> AsyncIterator[tuple[str, set[str]]]:
    """Receive callbacks; give the URL and the ids that came."""
    came: set[str] = set()

    async def take(request: web.Request) -> web.Response:
        came.add((await request.json())["job_id"])
        return web.Response()

    app = web.Application()
    app.router.add_post("/", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/", came
    finally:
        await runner.cleanup()


async def soak(seconds: float, rate: float, seed: int, folder: Path) -> Result:
    """Soak one server in a folder of its own."""
    async with receiver() as (callback_url, came):
        with serving(folder, "127.0.0.0/8") as (pid, url, token):
            headers = {"Authorization": f"Bearer {token}"}
            connector = aiohttp.TCPConnector(limit=200)
            async with aiohttp.ClientSession(url, headers=headers) as watching:
                mix = Mix(url, token, callback_url, seed)
                async with aiohttp.ClientSession(
                    url, headers=headers
                ) as session:  # so that all that opens once is open
                    await mix.begin(session)
                    await asyncio.gather(*(mix.act() for _ in range(WARM_UP)))
                    await mix.close()
                before = await _quiet(watching, folder, pid, 0)
                async with aiohttp.ClientSession(url, headers=headers, connector=connector) as session:
                    mix.session = session
                    samples = await _load(mix, watching, folder, pid, seconds, rate)
                    await mix.close()
                after = await _quiet(watching, folder, pid, seconds, before.tasks)
        found = problems(samples, before, after, judges_memory=seconds >= 60 * MEMORY_MINUTES_MIN)
        found += [f"{count} × {name}" for name, count in mix.faults.items()]
        found += await _lost(folder / "ledger.db", mix.created)
        found += await _verified(folder / "ledger.db")
    steady = samples[len(samples) // 2 :]
    return Result(
        seconds=seconds,
        rate=rate,
        asked=sum(mix.told.values()),
        told=dict(sorted(mix.told.items())),
        delivered=len(came),
        events=after.events,
        memory_slope=round(slope(steady) / MIB, 2),
        problems=found,
        samples=[before, *samples, after],
    )


async def _load(
    mix: Mix, watching: aiohttp.ClientSession, folder: Path, pid: int, seconds: float, rate: float
) -> list[Sample]:
    """Act at the rate, whether or not what was begun before is done; return the samples."""
    began = time.monotonic()
    interval_s = max(1.0, seconds / SAMPLES)
    samples: list[Sample] = []
    tasks: set[asyncio.Task[None]] = set()
    for number in range(int(seconds * rate)):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        task = asyncio.create_task(mix.act())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if time.monotonic() - began >= interval_s * (len(samples) + 1):
            samples.append(await sample(watching, folder, pid, time.monotonic() - began))
    await asyncio.gather(*tasks)
    samples.append(await sample(watching, folder, pid, time.monotonic() - began))
    return samples


async def _quiet(
    watching: aiohttp.ClientSession, folder: Path, pid: int, at_s: float, tasks: int | None = None
) -> Sample:
    """Wait until the server is as it was without load, or for as long as patience lasts; return how it is then."""
    until = time.monotonic() + QUIET_S
    while True:
        now = await sample(watching, folder, pid, at_s)
        is_quiet = now.connections <= 1 and (tasks is None or now.tasks <= tasks)
        if is_quiet or time.monotonic() > until:
            return now
        await asyncio.sleep(0.5)


async def _lost(db: Path, created: list[str]) -> list[str]:
    """Tell which resources that were answered for are not in the log."""
    async with Ledger.open(db, read_only=True) as ledger:
        lost = [id for id in created if not await ledger.read(id)]
    return [f"{len(lost)} of {len(created)} answered writes are lost, such as {lost[0]}"] if lost else []


async def _verified(db: Path) -> list[str]:
    """Tell what ``jobledger verify --views`` finds."""
    command = (*JOBLEDGER, "verify", "--views", "--db", str(db))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate()
    return [] if process.returncode == 0 else [f"verify: {told.decode().strip()[:300]}"]


def show(result: Result, console: Console) -> None:
    """Print the samples and the verdict."""
    table = Table(box=None, pad_edge=False)
    for name in ("s", "memory MiB", "descriptors", "tasks", "threads", "connections", "events", "WAL MiB", "files MiB"):
        table.add_column(name, justify="right")
    for each in result.samples:
        numbers = (each.descriptors, each.tasks, each.threads, each.connections, each.events)
        table.add_row(
            f"{each.at_s:.0f}",
            f"{each.memory / MIB:.1f}",
            *(f"{number:,}" for number in numbers),
            f"{each.wal / MIB:.1f}",
            f"{each.kept / MIB:.1f}",
        )
    console.print(table)
    console.print(f"memory after the warm-up: {result.memory_slope:+.2f} MiB a minute")
    console.print(
        "\n".join(f"not ok: {problem}" for problem in result.problems) or "ok: flat, nothing leaked, all there"
    )


@click.command()
@click.option("--minutes", default=10.0, show_default=True, type=click.FloatRange(0.05))
@click.option("--rate", default=150.0, show_default=True, type=click.FloatRange(1), help="Requests a second.")
@click.option("--seed", default=1, show_default=True)
def main(minutes: float, rate: float, seed: int) -> None:
    """Soak a server with mixed load, slow and rude clients among it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="jobledger-soak-", dir=os.environ.get("TMPDIR")) as name:
        result = uvloop.run(soak(minutes * 60, rate, seed, Path(name)))
    show(result, Console(stderr=True, highlight=False, width=140))
    answer: dict[str, Any] = msgspec.to_builtins(result)
    sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
    sys.exit(1 if result.problems else 0)


if __name__ == "__main__":
    main(prog_name="scripts/soak")
