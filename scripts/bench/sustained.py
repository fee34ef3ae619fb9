"""Latencies under open-loop load: the highest rate that is sustained, and percentiles at shares of it.

Ours: ``jobledger serve`` on a generated log. Baseline: a bare aiohttp handler that answers with the same bytes, each
server at shares of its own highest rate, one after the other in the same run. Reads: ``GET /v1/runs/{id}`` of ids in
random order; writes: ``POST /v1/jobs``, each durable before it is answered, which the baseline's are not; the mix: four
reads, then a write. A rate is sustained where the last answer comes soon after the last request, and nothing fails.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec

from scripts.bench.contest import Lap, Row, row
from scripts.bench.openloop import Request, Told
from scripts.bench.served import Served, bare, ours
from scripts.bench.workplace import Log, Workplace

SHARES = (0.3, 0.5, 0.7, 0.9)
"""Of the highest sustained rate."""
JUDGED = 0.7
TAIL_MAX = 5.0
"""By how many times the median p99 may be at most, at 70 % of the highest sustained rate."""
FIRST_RATE = 1000.0
STEP = 2.0
"""From one rate to the next on the way up; then the gap to the first that was too much is halved."""
LATE_SHARE = 0.02
"""Of the time that a rate lasts, how long after it the last answer may come: a backlog grows by more than that."""
LATE_S = 0.02
"""How long it may take in any case: one request's own time, and that of a commit."""
WRITTEN = '{"status":"running","metadata":{"task":"nightly","model":"openai/gpt-4.1-mini"}}'
READS_OF_A_WRITE = 4


class Findings(NamedTuple):
    """What one server did: the highest sustained rate, and what was told at each share of it, round by round."""

    rate: float
    at: dict[float, list[Told]]

    def middle(self, share: float) -> Told:
        """Return the round whose p99 is the median one."""
        rounds = sorted(self.at[share], key=lambda told: told.p99_ms)
        return rounds[len(rounds) // 2]

    def text(self) -> str:
        """Return the percentiles in words."""
        return "; ".join(f"{share:.0%} {self.middle(share)}" for share in self.at)


def run(place: Workplace) -> Iterator[Row]:
    """Measure, and yield the rows."""
    source = place.log(place.scale.served)
    for kind in place.scale.open_kinds:
        log = _copy(place, source)
        requests = _requests(kind, log)
        file = place.fresh(".requests")
        file.write_bytes(msgspec.json.encode(requests))
        with ours(place, log, "--no-callbacks") as server:
            body = server.get(requests[0].path) if kind != "writes" else server.post("/v1/jobs", WRITTEN.encode())
            found = _findings(place, server, file)
        with bare(place, log, "application", "/v1/{rest:.*}", body) as baseline:
            expected = _findings(place, baseline, file)
        place.remove(log.path)
        yield from _rows(kind, found, expected)


def _rows(kind: str, found: Findings, expected: Findings) -> Iterator[Row]:
    note = "open loop; p50 / p90 / p99 / p99.9 in ms from the intended start, at shares of the own highest rate: "
    note += f"ours {found.text()}; bare {expected.text()}"
    pair = (Lap(found.rate), Lap(expected.rate))
    yield row("load", f"{kind}, highest sustained rate", [pair], unit="requests/s", target=None, note=note)
    tails = [(Lap(told.p99_ms, None, told.faults), Lap(told.p50_ms)) for told in found.at[JUDGED]]
    name = f"{kind}, p99 against the median at {JUDGED:.0%}"
    note = f"ours: p99 in ms against its own median (p50), which may be {TAIL_MAX:g} times less; of {len(tails)} rounds"
    yield row("load", name, tails, unit="ms", target=1 / TAIL_MAX, note=note, is_less_better=True)
    bare_tail = median(told.p99_ms / told.p50_ms for told in expected.at[JUDGED])
    pairs = [(Lap(a.p99_ms), Lap(b.p99_ms)) for a, b in zip(found.at[JUDGED], expected.at[JUDGED], strict=True)]
    note = f"p99 of ours against that of the bare handler, whose own p99 is {bare_tail:.1f} times its median"
    yield row("load", f"{kind}, p99 at {JUDGED:.0%}", pairs, unit="ms", target=None, note=note, is_less_better=True)


def _copy(place: Workplace, source: Log) -> Log:
    """Return the log in a file of its own, with a token that may write."""
    from scripts.bench.commands import JOBLEDGER

    path = place.fresh()
    shutil.copy(source.path, path)
    command = (*JOBLEDGER, "token", "create", "--db", str(path), "--scopes", "read,write,admin")
    token = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return msgspec.structs.replace(source, path=path, token=token)


def _requests(kind: str, log: Log) -> list[Request]:
    ids = random.Random(20261126).choices(log.runs, k=4_000)
    reads = [Request(f"/v1/runs/{id}") for id in ids]
    if kind == "reads":
        return reads
    write = Request("/v1/jobs", WRITTEN)
    if kind == "writes":
        return [write]
    return [each for n in range(0, len(reads), READS_OF_A_WRITE) for each in (*reads[n : n + READS_OF_A_WRITE], write)]


def _findings(place: Workplace, server: Served, file: Path) -> Findings:
    rate = _highest(place, server, file)
    rounds = place.scale.open_rounds
    at: dict[float, list[Told]] = {share: [] for share in SHARES}
    for _ in range(rounds):
        for share in SHARES:
            at[share].append(_load(server, file, rate * share, place.scale.open_s))
    return Findings(rate, at)


def _highest(place: Workplace, server: Served, file: Path) -> float:
    """Return the highest rate that is sustained: up by steps, then by halves of the last one."""
    seconds = place.scale.open_probe_s
    good, rate = FIRST_RATE / STEP, FIRST_RATE
    while _is_sustained(_load(server, file, rate, seconds), seconds):
        good, rate = rate, rate * STEP
    for _ in range(place.scale.open_halvings):
        middle = (good + rate) / 2
        if _is_sustained(_load(server, file, middle, seconds), seconds):
            good = middle
        else:
            rate = middle
    return good


def _is_sustained(told: Told, seconds: float) -> bool:
    return not told.faults and told.late_s <= max(LATE_SHARE * seconds, LATE_S)


def _load(server: Served, file: Path, rate: float, seconds: float) -> Told:
    headers: Sequence[str] = [f"{name}: {value}" for name, value in server.headers.items()]
    command = [sys.executable, "-m", "scripts.bench.openloop", str(server.port), str(rate), str(seconds), str(file)]
    done = subprocess.run([*command, *headers], capture_output=True, check=True)
    return msgspec.json.decode(done.stdout, type=Told)
