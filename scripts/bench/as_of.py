"""Lists as of a point in history, requests a second: each against the same list as of now.

Both sides: ``jobledger serve`` on a log of many runs (1,000,000 in a full run), one a second, whose lives last between
a tenth of a second and an hour, so that some hundred are alive at any time; one in five fails and says why with its
end, one in twenty is told something in between, one in two hundred is deleted. 100 rows are asked for, with a
token that sees all. Points are near the end, in the middle and near the beginning, each by position and by time;
thousands around each place are asked for in turn, so that nothing is kept of a point. No page is kept on either
side: a ``start_date`` before all rows makes every URL of a list as of now another one.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ledger.events import Changed, Created, Deleted, Draft, ErrorInfo, Fact, RunUpdated, draft
from ledger.ids import SYSTEM_USER
from ledger.ledger import Ledger
from ledger.times import to_text
from scripts.bench.contest import Lap, Row, row
from scripts.bench.load import Asking, measure
from scripts.bench.served import Served, ours
from scripts.bench.workplace import APPEND, START_US, Log, Workplace, append
from server.grants import grant

TARGET = 0.33
SECOND_US = 1_000_000
LIFE_US = (100_000, 3600 * SECOND_US)
"""The shortest and the longest life."""
LISTS = {
    "unfiltered": "",
    "running": "&statuses=running",
    "completed": "&statuses=completed",
    "active": "&active=true",
    "one agent": "&agent_id=agent-00000001",
}
PLACES = {"near the end": 0.99, "in the middle": 0.5, "near the beginning": 0.03}
NEIGHBOURS = 5_000
"""Points that are asked for in turn around each place, more than it is kept of how many were alive."""
RUNS_OF_AGENT = 5_000
"""Runs of one agent, so that the list near the beginning has 100 of them, too."""
URLS = 20_000
"""URLs of a list as of now, more than pages are kept of."""
FRESH_STEP = 4001

_Told = tuple[int, int, str, str, Fact]
"""Time, a number that breaks ties, stream, type and fact of an event to come."""


def run(place: Workplace) -> Iterator[Row]:
    """Measure, and yield the rows."""
    log, size = asyncio.run(_generate(place.folder / "as-of.db", place.scale.as_of_runs))
    with ours(place, log) as server:
        for name, filters in list(LISTS.items())[: place.scale.as_of_lists]:
            yield from _list(place, server, name, filters, size)
    place.remove(log.path)


def _list(place: Workplace, server: Served, name: str, filters: str, size: int) -> Iterator[Row]:
    """Measure a list as of now and as of all points in turns, so that what else the machine does strikes all alike."""
    scale = place.scale
    now = Asking(
        server, [f"/v1/runs/?limit=100{filters}&start_date={_start(each)}" for each in range(URLS)], FRESH_STEP
    )
    points = {
        f"{name}, {where}, by {kind}": Asking(server, [_as_of(filters, point) for point in found])
        for where, share in PLACES.items()
        for kind, found in _points(share, scale.as_of_runs, size).items()
    }
    sides = {"now": now, **points}
    _check(server, [asking.next_paths()[0] for asking in sides.values()])
    laps: dict[str, list[Lap]] = {side: [] for side in sides}
    warming = int(scale.as_of_rounds > 1)
    for number in range(warming + scale.as_of_rounds):
        for side in sorted(sides, reverse=bool(number % 2)):
            lap = measure(place, sides[side], scale.load_s)
            if number >= warming:
                laps[side].append(lap)
    note = "100 rows; against the same list as of now, no page kept on either side"
    for side in points:
        pairs = list(zip(laps[side], laps["now"], strict=True))
        yield row("as-of", side, pairs, unit="requests/s", target=TARGET, note=note)


def _check(server: Served, paths: list[str]) -> None:
    for path in paths:
        found = server.get(path).count(b'"created_at"')
        if found != 100:
            raise RuntimeError(f"{path} has {found} rows, so that it is no list of 100")


def _start(number: int) -> str:
    return to_text(START_US - 10**9 + number)


def _as_of(filters: str, point: str) -> str:
    return f"/v1/runs/?limit=100{filters}&start_date={_start(0)}&as_of={point}"


def _points(share: float, runs: int, size: int) -> dict[str, list[str]]:
    """Return points around a share of the history: log positions, and times."""
    position, time_us = int(size * share), START_US + int(runs * SECOND_US * share)
    return {
        "position": [str(position + each) for each in range(NEIGHBOURS)],
        "time": [to_text(time_us + each * SECOND_US) for each in range(NEIGHBOURS)],
    }


async def _generate(path: Path, runs: int) -> tuple[Log, int]:
    """Make a ledger of so many runs, in the order of time; return it and how many events it has."""
    log = Log(path, "", [], [])
    async with Ledger.open(path, name="bench.example/log") as ledger:
        drafts: list[Draft] = []
        for event in _interleaved(runs):
            drafts.append(event)
            if len(drafts) >= APPEND:
                await ledger.submit(append(drafts))
                drafts = []
        await ledger.submit(append(drafts))
        size = ledger.size
        token, _ = await grant(ledger, user_id=SYSTEM_USER, scopes=["read"], actor=SYSTEM_USER)
    return msgspec.structs.replace(log, token=token), size


def _interleaved(runs: int) -> Iterator[Draft]:
    """Yield the events of all lives in the order of time, up to the creation of the last run."""
    chance = random.Random(20260102)
    ahead: list[_Told] = []
    told = 0
    for number in range(runs):
        now_us = START_US + number * SECOND_US
        while ahead and ahead[0][0] <= now_us:
            time_us, _, stream, name, fact = heapq.heappop(ahead)
            yield draft(stream, name, fact, time=time_us, actor=SYSTEM_USER)
        stream = f"run-{uuid.UUID(int=chance.getrandbits(128), version=4)}"
        for time_us, name, fact in _life(chance, number, number % (runs // RUNS_OF_AGENT), now_us):
            told += 1
            heapq.heappush(ahead, (time_us, told, stream, f"run.{name}", fact))
    while ahead and ahead[0][0] <= now_us:
        time_us, _, stream, name, fact = heapq.heappop(ahead)
        yield draft(stream, name, fact, time=time_us, actor=SYSTEM_USER)


def _life(chance: random.Random, number: int, agent: int, created_us: int) -> list[tuple[int, str, Fact]]:
    shortest, longest = LIFE_US
    ended_us = created_us + int(shortest * (longest / shortest) ** chance.random())
    span_us = ended_us - created_us
    metadata = {"task": "nightly", "number": number, "model": "openai/gpt-4.1-mini", "origin": "bench"}
    created = Created(
        user_id=SYSTEM_USER, agent_id=f"agent-{agent:08d}", background=True, metadata=metadata
    )  # fmt: skip
    events: list[tuple[int, str, Fact]] = [
        (created_us, "created", created),
        (created_us + span_us // 20, "running", Changed()),
    ]
    if chance.random() < 0.05:
        events.append((created_us + span_us // 2, "updated", RunUpdated(metadata={"progress": 0.5})))
    if chance.random() < 0.2:
        error = ErrorInfo(type="TimeoutError", message="the model did not answer within 60 s")
        events.append((ended_us, "failed", Changed(stop_reason="error", error=error)))
    else:
        events.append((ended_us, "completed", Changed(stop_reason="end_turn")))
    if chance.random() < 0.005:
        events.append((ended_us + 24 * 3600 * SECOND_US, "deleted", Deleted(reason="tidy")))
    return events
