"""``serve --workers N`` against one process of ours, requests a second, on the same ledger file and the same cores.

Rows: one run all the time; any run, so that the views file is read; lists of 100 from other cursors each time; and
creating jobs, on new ledgers, which are recorded one after the other whoever takes them. N is how many cores there
are, from 2 to 4. The load generator takes its share of the same cores, so the ratio stays below N.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

from scripts.bench.contest import Row, row
from scripts.bench.load import Asking, compare
from scripts.bench.served import Served, ours
from scripts.bench.workplace import Log, Workplace

COUNT = min(max(os.cpu_count() or 1, 2), 4)
TARGET = 1.0
"""Several processes read faster than one."""
FRESH_STEP = 12_011
"""Paths further on where each measurement begins, so that it asks for what was not asked for before."""
CONNECTIONS = 64
"""Enough that the kernel, which shares connections out by chance, gives each worker its part."""


def run(place: Workplace) -> Iterator[Row]:
    """Measure, and yield the rows."""
    log = place.log(place.scale.served)
    anywhere = [f"/v1/runs/{id_}" for id_ in random.Random(1).sample(log.runs, len(log.runs))]
    pages = [f"/v1/runs/?limit=100&after={id_}" for id_ in log.runs[::-1][: place.scale.cursors]]
    with _workers(place, log) as many, _one(place, log) as one:
        yield _against(place, many, one, "run, one id", anywhere[:1])
        yield _against(place, many, one, "run, any id", anywhere)
        yield _against(place, many, one, "list of 100, cold", pages)
    with _workers(place, place.writable()) as many, _one(place, place.writable()) as one:
        yield _against(place, many, one, "create a job", ["/v1/jobs/"], is_read=False)


def _workers(place: Workplace, log: Log) -> Served:
    return ours(place, log, "--workers", str(COUNT), "--no-callbacks")


def _one(place: Workplace, log: Log) -> Served:
    return ours(place, log, "--no-callbacks")


def _against(place: Workplace, many: Served, one: Served, name: str, paths: list[str], *, is_read: bool = True) -> Row:
    body = None
    if not is_read:
        body = place.fresh(".json")
        body.write_bytes(b'{"metadata": {"source": "bench"}}')
    pairs = compare(place, *(Asking(server, paths, FRESH_STEP, body, CONNECTIONS) for server in (many, one)))
    note = f"requests/s with a token, {COUNT} workers against one process; {CONNECTIONS} connections"
    return row("workers", name, pairs, unit="requests/s", target=TARGET if is_read else None, note=note)
