"""Appending and reading beside 10,000 callbacks that are owed to a dead host (in a full run), requests a second.

Ours: ``jobledger serve`` on a ledger of jobs that have ended and owe a callback. Baseline: the same server on the same
jobs without a ``callback_url``, so that nothing but the owing differs; ours stands still while it is measured.
The states: *waiting*: the first attempt of each has failed, the next one is an hour off, as after a night with a dead
receiver; *refused*: all are due and tried over and over (a schedule of seconds), and the port refuses each connection;
*silent*: likewise, but connections are accepted and nothing is ever said (``--callback-timeout 5``).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

import msgspec

from ledger import engine
from scripts.bench import debts
from scripts.bench.contest import Lap, Row, row, take_turns
from scripts.bench.load import CONNECTIONS, Asking, measure
from scripts.bench.served import Served, ours
from scripts.bench.workplace import Log, Workplace

TARGET = 0.90
ALLOW = ("--callback-allow", "127.0.0.0/8")
OVER_AND_OVER = ("--callback-schedule", ",".join(["1"] * 20))
"""Retries as soon as the rate of failing receivers lets them."""
LIST = "/v1/jobs?limit=100"
_ATTEMPTS = "SELECT count(*) FROM events WHERE type = 'callback.attempted'"


class State(NamedTuple):
    """How the dead host is dead, and what ours is told about it."""

    name: str
    backlog: int | None
    """Connections that the system accepts for a host that never answers; None: it refuses them."""
    options: tuple[str, ...]
    tried: bool = False


STATES = (
    State("waiting", None, (), tried=True),
    State("refused", None, OVER_AND_OVER),
    State("silent", 4096, (*OVER_AND_OVER, "--callback-timeout", "5")),
)


class Side(NamedTuple):
    """A server and its ledger."""

    served: Served
    log: Log

    def attempts(self) -> int:
        """Return how many attempts the log has."""
        with closing(engine.connect(self.log.path, read_only=True)) as db:
            return int(db.execute(_ATTEMPTS).fetchone()[0])


def run(place: Workplace) -> Iterator[Row]:
    """Measure, and yield the rows."""
    count = place.scale.owed
    for state in STATES:
        with socket.socket() as dead:
            dead.bind(("127.0.0.1", 0))  # which keeps the port from others; without ``listen`` it refuses
            if state.backlog is not None:
                dead.listen(state.backlog)
            url = f"http://127.0.0.1:{dead.getsockname()[1]}/hook"
            owing = debts.jobs(place, count, lambda _, url=url: url, tried=state.tried)  # type: ignore[misc]
            free = debts.jobs(place, count, lambda _: None)
            with ours(place, owing, *ALLOW, *state.options) as mine, ours(place, free, *ALLOW) as theirs:
                mine.get(LIST), theirs.get(LIST)  # so that none is still starting
                yield from _rows(place, state, Side(mine, owing), Side(theirs, free))
                mine.kill()


def _rows(place: Workplace, state: State, mine: Side, theirs: Side) -> Iterator[Row]:
    body = place.fresh(".json")
    body.write_bytes(msgspec.json.encode({"status": "running", "metadata": {"task": "nightly", "origin": "bench"}}))
    posted = (["/v1/jobs"], ["/v1/jobs"])
    jobs = tuple([f"/v1/jobs/{id}" for id in side.log.jobs] for side in (mine, theirs))
    count = place.scale.owed
    for name, paths, sent, connections in (
        (f"append, {CONNECTIONS} callers", posted, body, CONNECTIONS),
        ("append, one caller", posted, body, 1),
        (f"job, {count:,} ids", jobs, None, CONNECTIONS),
        ("list of 100", ([LIST], [LIST]), None, CONNECTIONS),
    ):
        asking, baseline = (
            Asking(side.served, asked, body=sent, connections=connections)
            for side, asked in zip((mine, theirs), paths, strict=True)
        )
        yield _row(place, state, name, mine, asking, baseline)


def _row(place: Workplace, state: State, name: str, mine: Side, asking: Asking, baseline: Asking) -> Row:
    seconds = place.scale.load_s
    attempts: list[float] = []

    def counted() -> Lap:
        before, began = mine.attempts(), time.perf_counter()
        lap = measure(place, asking, seconds)
        attempts.append((mine.attempts() - before) / (time.perf_counter() - began))
        return lap

    def halted() -> Lap:
        with mine.served.halted():
            return measure(place, baseline, seconds)

    if place.scale.load_rounds > 1:
        counted(), halted(), attempts.clear()
    pairs = take_turns(counted, halted, place.scale.load_rounds)
    tried = f"{sum(attempts) / len(attempts):.0f} attempts/s meanwhile"
    note = f"{place.scale.owed:,} callbacks owed to a dead host ({state.name}), {tried}; against the same without them"
    return row("owed", f"{state.name}: {name}", pairs, unit="requests/s", target=TARGET, note=note)
