"""What jobs, runs and batches came to: counts, rates, percentiles, tokens, by time, agent and model.

One question for views over HTTP and on the files alone. Answered from sums that are kept (``tally``, ``tokensums``), so
that it takes about as long on a million runs as on a thousand.
"""

from __future__ import annotations

import asyncio
from bisect import bisect
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ledger.scalars import DURATION_MAX_NS, Nanoseconds, Time
from ledger.times import TIME_MIN_US, to_text
from ledger.transitions import TERMINAL, statuses
from projections import histogram as classes
from projections.batches import BATCHES
from projections.jobs import JOBS
from projections.period import AUTO, BucketSize, Period, chosen, start_of
from projections.projection import Projection
from projections.reader import Reader
from projections.runs import RUNS
from projections.spending import TOLD_RUNS, Spent, spent
from projections.steps import STEPS
from projections.tallied import Hours, Whose, busiest, series, total
from projections.tally import DURATION, HOUR_US, QUEUE, REASONS, STATUSES, TTFT, Histogram, add
from projections.tokensums import COUNTS

TOP: Final = 10
"""Agents and models that are told of unless asked for otherwise."""
READS: Final[tuple[Projection, ...]] = (JOBS, RUNS, BATCHES, STEPS)
"""The views that are read."""
KINDS: Final = {"job": "jobs", "run": "runs", "batch": "batches"}
_PERCENTILES: Final = (50, 90, 95, 99, 100)
_MS: Final = 10**6
_MINUTE: Final = 60_000 * _MS
_DAY: Final = 1440 * _MINUTE
LIMITS_NS: Final = (
    *(_MS * limit for limit in (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)),
    *(_MINUTE * limit for limit in (1, 3, 10, 30, 60, 180, 600)),
    *(_DAY * limit for limit in (1, 3, 10, 30, 100, 300)),
    DURATION_MAX_NS,
)
"""Where durations are told apart."""


class Percentiles(msgspec.Struct, frozen=True):
    """Percentiles of a time, in nanoseconds, each at most 1 % off; null where nothing has that time."""

    count: int
    p50: Nanoseconds | None = None
    p90: Nanoseconds | None = None
    p95: Nanoseconds | None = None
    p99: Nanoseconds | None = None
    max: Nanoseconds | None = None


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """What was created in a stretch of time, as it is now. ``total_tokens``: those of the steps that began in it."""

    start: Time
    created: int
    statuses: dict[str, int]
    duration_p50_ns: Nanoseconds | None
    duration_p95_ns: Nanoseconds | None
    total_tokens: int | None = None


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """What the resources of an agent came to. ``failure_rate``: failed and expired ones, of those that ended."""

    agent_id: str
    total: int
    ended: int
    failed: int
    failure_rate: float | None
    duration_p95_ns: Nanoseconds | None


class Took(msgspec.Struct, frozen=True):
    """How many took less than a time, and no less than the limit before; as exact as percentiles are."""

    below_ns: Nanoseconds
    count: int


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What the resources of one kind came to. ``rates``: shares of those that ended, null where none did."""

    total: int
    statuses: dict[str, int]
    stop_reasons: dict[str, int]
    rates: dict[str, float | None]
    duration_ns: Percentiles
    queue_ns: Percentiles
    ttft_ns: Percentiles
    buckets: list[Bucket]
    agents: list[Agent]
    took: list[Took]


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """What the steps of one model spent; null: steps that name none. Tokens that no provider reported count as 0.

    ``told_runs``: runs whose tokens were told of the whole run, and not by the step.
    """

    model: str | None
    steps: int
    failed_steps: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_input_tokens: int
    reasoning_tokens: int
    told_runs: int


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """What jobs, runs and batches came to; null: a kind that was not asked for. ``bucket``: the size of buckets.

    ``models`` are those that spent the most tokens; ``tokens`` is the sum over all.
    """

    bucket: BucketSize
    jobs: Figures | None = None
    runs: Figures | None = None
    batches: Figures | None = None
    tokens: Model | None = None
    models: list[Model] = []


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for. ``kinds``: of ``KINDS``; ``bucket``: a size, or ``auto``; ``top``: how many agents, models."""

    kinds: tuple[str, ...] = tuple(KINDS)
    whose: Whose = Whose()
    period: Period = Period()
    bucket: str = AUTO
    top: int = TOP


async def statistics(reader: Reader, asked: Asked) -> Statistics:
    """Return what is asked for. Raises ``InvalidInput`` where there are too many hours."""
    tokens = await _spent(reader, asked, hourly=False)
    days = {kind: await _series(reader, kind, asked) for kind in asked.kinds}
    hours = sorted({hour for found in days.values() for hour in found} | {hour for hour, _ in tokens})
    size = chosen(asked.bucket, 1 + (hours[-1] // 24 - hours[0] // 24) if hours else 1)
    if size == "hour":
        tokens = await _spent(reader, asked, hourly=True)
    kinds: dict[str, Any] = {}
    for kind in asked.kinds:
        units = await _series(reader, kind, asked, hourly=True) if size == "hour" else days[kind]
        whole = await total(reader, KINDS[kind], asked.whose, asked.period)
        agents = await busiest(reader, KINDS[kind], asked.whose, asked.period, asked.top)
        buckets = await asyncio.to_thread(_buckets, kind, units, size, tokens if kind == "run" else None)
        kinds[KINDS[kind]] = _figures(kind, whole, buckets, agents)
    models = _models(tokens)
    summed = _model(None, sum(models.values(), Counter())) if "run" in asked.kinds else None
    ranked = sorted(models.items(), key=lambda each: (-each[1]["total_tokens"], -each[1]["steps"], each[0]))
    told = [_model(model, counts) for model, counts in ranked[: asked.top]]
    return Statistics(bucket=size, tokens=summed, models=told, **kinds)


async def _spent(reader: Reader, asked: Asked, *, hourly: bool) -> Spent:
    return await spent(reader, asked.whose, asked.period, hourly=hourly) if "run" in asked.kinds else {}


async def _series(reader: Reader, kind: str, asked: Asked, *, hourly: bool = False) -> Hours:
    return await series(reader, KINDS[kind], asked.whose, asked.period, hourly=hourly)


def _figures(kind: str, whole: Histogram, buckets: list[Bucket], agents: Mapping[str, Histogram]) -> Figures:
    by_status = _statuses(kind, whole)
    ended = _ended(by_status)
    return Figures(
        total=sum(by_status.values()),
        statuses=by_status,
        stop_reasons={reason: whole[code] for reason, code in REASONS.items() if whole.get(code)},
        rates={name: _share(count, ended) for name, count in by_status.items() if name in TERMINAL},
        duration_ns=_percentiles(whole, DURATION),
        queue_ns=_percentiles(whole, QUEUE),
        ttft_ns=_percentiles(whole, TTFT),
        buckets=buckets,
        agents=[_agent(kind, name, counts) for name, counts in agents.items()],
        took=_spread(_measure(whole, DURATION)),
    )


def _buckets(kind: str, units: Hours, size: BucketSize, tokens: Spent | None) -> list[Bucket]:
    starts: Hours = {}
    for hour, counts in units.items():
        add(starts.setdefault(start_of(hour, size), {}), counts)
    spent_by: Counter[int] = Counter()
    for (hour, _), spent_there in (tokens or {}).items():
        spent_by[start_of(hour, size)] += spent_there["total_tokens"]
    return [
        _bucket(kind, start, starts.get(start, {}), None if tokens is None else spent_by[start])
        for start in sorted({*starts, *(start for start, count in spent_by.items() if count)})
    ]


def _statuses(kind: str, counts: Histogram) -> dict[str, int]:
    return {status: counts.get(STATUSES[status], 0) for status in statuses(kind)}


def _ended(by_status: Mapping[str, int]) -> int:
    return sum(count for status, count in by_status.items() if status in TERMINAL)


def _share(count: int, whole: int) -> float | None:
    return round(count / whole, 6) if whole else None


def _measure(counts: Histogram, base: int) -> dict[int, int]:
    """Return how many values of one measure each class has."""
    return {code - base: count for code, count in counts.items() if count and base <= code < base + classes.CLASSES}


def _percentiles(counts: Histogram, base: int) -> Percentiles:
    mine = _measure(counts, base)
    return Percentiles(sum(mine.values()), *classes.percentiles(mine, _PERCENTILES))


def _bucket(kind: str, start: int, counts: Histogram, tokens: int | None) -> Bucket:
    middle, slow = classes.percentiles(_measure(counts, DURATION), (50, 95))
    by_status = _statuses(kind, counts)
    return Bucket(
        start=to_text(max(start * HOUR_US, TIME_MIN_US)),
        created=sum(by_status.values()),
        statuses=by_status,
        duration_p50_ns=middle,
        duration_p95_ns=slow,
        total_tokens=tokens,
    )


def _agent(kind: str, name: str, counts: Histogram) -> Agent:
    by_status = _statuses(kind, counts)
    ended, failed = _ended(by_status), by_status["failed"] + by_status.get("expired", 0)
    (slow,) = classes.percentiles(_measure(counts, DURATION), (95,))
    return Agent(
        agent_id=name,
        total=sum(by_status.values()),
        ended=ended,
        failed=failed,
        failure_rate=_share(failed, ended),
        duration_p95_ns=slow,
    )


def _spread(counts: Mapping[int, int]) -> list[Took]:
    """Return counts by limits, from the first to the last that holds any."""
    found: Counter[int] = Counter()
    for number, count in counts.items():  # by the end of a class: round times stand at the limits themselves
        found[bisect(LIMITS_NS[:-1], classes.bounds(number)[1])] += count
    if not found:
        return []
    return [Took(LIMITS_NS[place], found[place]) for place in range(min(found), max(found) + 1)]


def _models(tokens: Spent) -> dict[str, Counter[str]]:
    models: dict[str, Counter[str]] = {}
    for (_, model), counts in tokens.items():
        models.setdefault(model, Counter()).update(counts)
    return models


def _model(model: str | None, counts: Mapping[str, int]) -> Model:
    told = {name: counts.get(name, 0) for name in COUNTS if name != "failed"}
    return Model(model=model or None, failed_steps=counts.get("failed", 0), told_runs=counts.get(TOLD_RUNS, 0), **told)
