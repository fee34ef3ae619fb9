"""Latencies under open-loop load: the highest rate that is sustained, and percentiles at shares of it.

Ours: ``jobledger serve`` on a generated log. Baseline: a bare aiohttp handler that answers with the same bytes, each
server at shares of its own highest rate, one after the other in the same run. Reads: ``GET /v1/runs/{id}`` of ids in
random order; writes: ``POST /v1/jobs``, each durable before it is answered, which the baseline's are not; the mix: four
reads, then a write. A rate is sustained where nothing fails, the last answer comes soon after the last request, and p99
stays within a bound: in two of three tries, so that a hiccup of the machine decides nothing. What the generator itself
added is told: its lag is part of the latencies, and where it was always busy, it is the limit, not a server.
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

SHARES = (0.5, 0.7, 0.9)
"""Of the highest sustained rate."""
JUDGED = 0.7
"""The share whose tail is judged, in as many rounds as the size has; the others are there to be read."""
TAIL_MAX = 5.0
"""By how many times the median p99 may be at most, at 70 % of the highest sustained rate."""
FIRST_RATE = 2000.0
RATE_MIN = 1.0
STEP = 2.0
"""From one rate to the next on the way up or down; then the gap between the two is halved."""
P99_MAX_MS = 100.0
"""Slower than that for one in a hundred, a rate is not sustained: somebody waits, though the queue may not grow."""
BUSY_MAX = 0.9
"""Share of a core from which on the generator may be what limits a rate."""
LATE_SHARE = 0.02
"""Of the time that a rate lasts, how long after it the last answer may come: a backlog grows by more than that."""
LATE_S = 0.02
"""How long it may take in any case: one request's own time, and that of a commit."""
WRITTEN = '{"status":"running","metadata":{"task":"nightly","model":"openai/gpt-4.1-mini"}}'
READS_OF_A_WRITE = 4


class Findings(NamedTuple):
    """What one server did: the highest sustained rate, and what was told at it and at shares of it, round by round."""

    rate: float
    highest: Told
    at: dict[float, list[Told]]

    def middle(self, share: float) -> Told:
        """Return the round whose p99 is the median one."""
        rounds = sorted(self.at[share], key=lambda told: told.all.p99_ms)
        return rounds[len(rounds) // 2]

    def text(self) -> str:
        """Return the percentiles in words."""
        told = [f"{share:.0%} {self.middle(share)}" for share in self.at]
        limit = ", so the generator may be the limit" if self.highest.busy > BUSY_MAX else ""
        return "; ".join([*told, f"highest {self.highest}{limit}"])


def run(place: Workplace) -> Iterator[Row]:
    """Measure, and yield the rows."""
    log = _copy(place, place.log(place.scale.served))
    for kind in place.scale.open_kinds:
        requests = _requests(kind, log)
        file = place.fresh(".requests")
        file.write_bytes(msgspec.json.encode(requests))
        with ours(place, log, "--no-callbacks") as server:
            body = server.get(requests[0].path) if kind != "writes" else server.post("/v1/jobs", WRITTEN.encode())
            found = _findings(place, server, file)
        with bare(place, log, "application", "/v1/{rest:.*}", body) as baseline:
            expected = _findings(place, baseline, file)
        yield from _rows(kind, found, expected)
    place.remove(log.path)


def _rows(kind: str, found: Findings, expected: Findings) -> Iterator[Row]:
    note = (
        f"open loop; sustained: all answered, p99 within {P99_MAX_MS:g} ms, in two of three tries; p50 / p90 / p99 / "
    )
    note += "p99.9 in ms from the intended start (p99 of the generator's lag, its share of a core), at shares of that: "
    note += f"ours {found.text()}; bare {expected.text()}"
    pair = (Lap(found.rate), Lap(expected.rate))
    yield row("load", f"{kind}, highest sustained rate", [pair], unit="requests/s", target=None, note=note)
    judged = found.at[JUDGED]
    apart = sorted(judged[0].kinds)
    for part in apart:
        tails = [(Lap(told.kinds[part].p99_ms, None, told.faults), Lap(told.kinds[part].p50_ms)) for told in judged]
        name = kind if len(apart) == 1 else f"{kind}, its {part}"
        note = f"ours: p99 in ms against its own median (p50), {TAIL_MAX:g} times less at most; {len(tails)} rounds"
        name += f": p99 against the median at {JUDGED:.0%}"
        yield row("load", name, tails, unit="ms", target=1 / TAIL_MAX, note=note, is_less_better=True)
    bare_tail = median(told.all.p99_ms / told.all.p50_ms for told in expected.at[JUDGED])
    pairs = [(Lap(a.all.p99_ms), Lap(b.all.p99_ms)) for a, b in zip(judged, expected.at[JUDGED], strict=True)]
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
    rate, highest = _highest(place, server, file)
    at: dict[float, list[Told]] = {share: [] for share in SHARES}
    for number in range(place.scale.open_rounds):
        for share in SHARES if number == 0 else (JUDGED,):
            at[share].append(_load(server, file, rate * share, place.scale.open_s))
    return Findings(rate, highest, at)


def _highest(place: Workplace, server: Served, file: Path) -> tuple[float, Told]:
    """Return the highest rate that is sustained, and how it was: by steps up or down, then by halves of the last."""
    tried: dict[float, Told | None] = {}

    def sustained(rate: float) -> Told | None:
        if rate not in tried:
            tried[rate] = _sustained(place, server, file, rate)
        return tried[rate]

    good = bad = FIRST_RATE
    while sustained(bad):
        good, bad = bad, bad * STEP
    while not sustained(good):
        good, bad = good / STEP, good
        if good < RATE_MIN:
            raise RuntimeError("the server sustains no rate at all")
    for _ in range(place.scale.open_halvings):
        middle = (good + bad) / 2
        if sustained(middle):
            good = middle
        else:
            bad = middle
    told = sustained(good)
    assert told is not None
    return good, told


def _sustained(place: Workplace, server: Served, file: Path, rate: float) -> Told | None:
    """Return how it was at a rate that is sustained in most tries, two of three at full size; else None."""
    seconds, agreed = place.scale.open_probe_s, place.scale.open_agreed
    good: list[Told] = []
    bad = 0
    while len(good) < agreed and bad < agreed:
        told = _load(server, file, rate, seconds)
        if _is_good(told, seconds):
            good.append(told)
        else:
            bad += 1
    return good[-1] if bad < agreed else None


def _is_good(told: Told, seconds: float) -> bool:
    """Tell whether the server kept up; what the generator itself was late is no fault of it."""
    late_s = told.late_s - told.lag_ms / 1000
    is_prompt = late_s <= max(LATE_SHARE * seconds, LATE_S) and told.all.p99_ms - told.lag_ms <= P99_MAX_MS
    return is_prompt and not told.faults


def _load(server: Served, file: Path, rate: float, seconds: float) -> Told:
    headers: Sequence[str] = [f"{name}: {value}" for name, value in server.headers.items()]
    command = [sys.executable, "-m", "scripts.bench.openloop", str(server.port), str(rate), str(seconds), str(file)]
    done = subprocess.run([*command, *headers], capture_output=True, check=True)
    return msgspec.json.decode(done.stdout, type=Told)
