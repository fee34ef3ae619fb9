"""Statistics as tables and small charts in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from ledger.times import from_text
from ledger.transitions import STOP_REASONS, statuses
from projections.period import BucketSize, next_start
from projections.statistics import KINDS, LIMITS_NS, Bucket, Figures, Model, Statistics
from projections.stats import Counts, Stats
from projections.tally import HOUR_US
from server.cli.charts import bar, limit_text, sparkline, time_text
from server.cli.options import clean, table

NO_REASON: Final = "none"
"""In the table, the row of those that have no stop reason."""
WIDTH: Final = 100
"""Columns for what is no terminal."""
BARS_MAX: Final = 40
"""Buckets that get a line each; where there are more, these are the last ones."""
BAR: Final = (8, 48)
"""Columns that a bar has at least and at most."""
_TIMES: Final = {"duration": "duration_ns", "in the queue": "queue_ns", "to first token": "ttft_ns"}
_PERCENTILES: Final = ("p50", "p90", "p95", "p99", "max")

Kinds = dict[str, Any]
"""Counts or figures by the name of their kind."""


def show_counts(console: Console, found: Stats) -> None:
    """Show the tables of statuses and stop reasons."""
    _show_counts(console, {kind: getattr(found, kind) for kind in KINDS.values()})


def show_statistics(console: Console, found: Statistics) -> None:
    """Show all tables and charts of what there is."""
    kinds = {kind: figures for kind in KINDS.values() if (figures := getattr(found, kind)) is not None}
    _show_counts(console, kinds)
    some = {kind: figures for kind, figures in kinds.items() if figures.total or figures.buckets}
    _print(console, _rates(some), _times(some))
    for kind, figures in some.items():
        _show_buckets(console, kind, found.bucket, figures.buckets)
        _print(console, _durations(console, kind, figures))
    for kind, figures in some.items():
        _print(console, _agents(kind, figures))
    _print(console, _models(found))


def _print(console: Console, *tables: Table | None) -> None:
    for each in tables:
        if each is not None and each.row_count:
            console.print()
            console.print(each)


def _numbers(*names: str) -> Table:
    """Return a table whose columns after the first are numbers."""
    made = table(*names)
    for column in made.columns[1:]:
        column.justify = "right"
    return made


def _show_counts(console: Console, kinds: Kinds) -> None:
    console.print(_counts("status", [*statuses("job")], kinds, lambda counts, name: counts.statuses.get(name)))
    reasons = [each for each in STOP_REASONS if any(each in counts.stop_reasons for counts in kinds.values())]
    if reasons:
        console.print()
        console.print(_counts("stop reason", [*reasons, NO_REASON], kinds, _by_reason))


def _by_reason(counts: Counts | Figures, name: str) -> int:
    if name == NO_REASON:
        return counts.total - sum(counts.stop_reasons.values())
    return counts.stop_reasons.get(name, 0)


def _counts(what: str, names: list[str], kinds: Kinds, count: Callable[[Any, str], int | None]) -> Table:
    """Return a row for each name and one for all; empty where a kind cannot have it."""
    rows = _numbers(what, *kinds)
    for name in names:
        cells = [count(counts, name) for counts in kinds.values()]
        rows.add_row(name, *("" if cell is None else f"{cell:,}" for cell in cells))
    rows.add_row("total", *(f"{counts.total:,}" for counts in kinds.values()))
    return rows


def _rates(kinds: Kinds) -> Table:
    rows = _numbers("of those that ended", *kinds)
    for status in statuses("job"):
        rates = [figures.rates.get(status) for figures in kinds.values()]
        if any(rates):
            rows.add_row(status, *(_share(rate) for rate in rates))
    return rows


def _share(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.1%}"


def _times(kinds: Kinds) -> Table:
    rows = _numbers("time", "count", *_PERCENTILES)
    for kind, figures in kinds.items():
        for name, field in _TIMES.items():
            times = getattr(figures, field)
            if times.count:
                told = [time_text(getattr(times, percentile)) for percentile in _PERCENTILES]
                rows.add_row(f"{kind}: {name}", f"{times.count:,}", *told)
    return rows


def _width(console: Console) -> int:
    return min(console.width, WIDTH) if not console.is_terminal else console.width


def _bar_width(console: Console, others: int) -> int:
    """Return the columns of bars beside so many of other things."""
    least, most = BAR
    return max(least, min(most, _width(console) - others))


def _show_buckets(console: Console, kind: str, size: BucketSize, buckets: Sequence[Bucket]) -> None:
    if not buckets:
        return
    shown = buckets[-BARS_MAX:]
    most = max(bucket.created for bucket in shown)
    has_tokens = any(bucket.total_tokens for bucket in shown)
    names = [f"{kind} by {size}", "", "created", "failed", "p50", "p95", *(["tokens"] if has_tokens else [])]
    rows = _numbers(*names)
    rows.columns[1].justify = "left"
    width = _bar_width(console, 64 if has_tokens else 54)
    last: str | None = None
    for bucket in shown:
        if last is not None and next_start(_hour(last), size) < _hour(bucket.start):
            rows.add_row("⋮")
        last = bucket.start
        failed = _failed(bucket)
        times = (time_text(bucket.duration_p50_ns), time_text(bucket.duration_p95_ns))
        tokens = [f"{bucket.total_tokens or 0:,}"] if has_tokens else []
        shape = bar(bucket.created, failed, most, width)
        rows.add_row(_start(bucket.start, size), shape, f"{bucket.created:,}", f"{failed:,}", *times, *tokens)
    console.print()
    if len(buckets) > len(shown):
        _show_lines(console, kind, size, buckets)
        console.print(f"the last {len(shown)} of {len(buckets):,}; --csv and --json have all:")
    console.print(rows)


def _show_lines(console: Console, kind: str, size: BucketSize, buckets: Sequence[Bucket]) -> None:
    """Show all of the time in two lines, with its gaps."""
    first, last = _hour(buckets[0].start), _hour(buckets[-1].start)
    console.print(f"{kind} by {size}, {_start(buckets[0].start, size)} to {_start(buckets[-1].start, size)}")
    columns = min(_width(console) - 10, 200)
    for name, count in (("created", lambda bucket: bucket.created), ("failed", _failed)):
        counts = [0] * columns
        for bucket in buckets:
            counts[(_hour(bucket.start) - first) * (columns - 1) // max(last - first, 1)] += count(bucket)
        console.print(f"{name:8} {sparkline(counts, columns)}")


def _hour(start: str) -> int:
    return from_text(start) // HOUR_US


def _start(start: str, size: BucketSize) -> str:
    return {"hour": f"{start[:10]} {start[11:16]}", "month": start[:7]}.get(size, start[:10])


def _failed(bucket: Bucket) -> int:
    return bucket.statuses["failed"] + bucket.statuses.get("expired", 0)


def _durations(console: Console, kind: str, figures: Figures) -> Table:
    rows = _numbers(f"{kind} that took", "", "count")
    rows.columns[1].justify = "left"
    most = max((each.count for each in figures.took), default=0)
    width = _bar_width(console, 36)
    for each in figures.took:
        rows.add_row(_limits(each.below_ns), bar(each.count, 0, most, width), f"{each.count:,}")
    return rows


def _limits(below_ns: int) -> str:
    place = LIMITS_NS.index(below_ns)
    if place == 0:
        return f"under {limit_text(below_ns)}"
    least = limit_text(LIMITS_NS[place - 1])
    return f"{least} – {limit_text(below_ns)}" if place < len(LIMITS_NS) - 1 else f"{least} and more"


def _agents(kind: str, figures: Figures) -> Table:
    rows = _numbers(f"agent ({kind})", "total", "failed", "rate", "p95")
    for agent in figures.agents:
        numbers = (f"{agent.total:,}", f"{agent.failed:,}", _share(agent.failure_rate))
        rows.add_row(clean(agent.agent_id), *numbers, time_text(agent.duration_p95_ns))
    return rows


def _models(found: Statistics) -> Table | None:
    if found.tokens is None:
        return None
    rows = _numbers("model", "steps", "failed", "prompt", "completion", "tokens")
    models: Iterable[Model] = found.models
    for model in models:
        rows.add_row(clean(model.model or "(no model named)"), *_tokens(model))
    if found.models:
        rows.add_row("all models", *_tokens(found.tokens))
    return rows


def _tokens(model: Model) -> list[str]:
    counts = (model.steps, model.failed_steps, model.prompt_tokens, model.completion_tokens, model.total_tokens)
    return [f"{count:,}" for count in counts]
