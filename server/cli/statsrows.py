"""Statistics as one flat table for spreadsheets: every number in a line of its own, with what it is of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from projections.statistics import KINDS, Figures, Model, Statistics

HEADER: Final = ("kind", "by", "name", "measure", "value")
"""``by``: what is told apart, such as status; ``name``: which of them."""
_TIMES: Final = ("duration_ns", "queue_ns", "ttft_ns")

Row = tuple[str, str, str | None, str, Any]


def rows_of(found: Statistics) -> Iterator[Row]:
    """Yield the rows. What is not known has no row."""
    for kind in KINDS.values():
        figures = getattr(found, kind)
        if figures is not None:
            yield from (row for row in _figures(kind, found.bucket, figures) if row[-1] is not None)
    if found.tokens is not None:
        yield from _model(found.tokens, "all", "")
    for model in found.models:
        yield from _model(model, "model", model.model or "")


def _figures(kind: str, bucket: str, figures: Figures) -> Iterator[Row]:
    yield kind, "all", "", "count", figures.total
    yield from ((kind, "status", name, "count", count) for name, count in figures.statuses.items())
    yield from ((kind, "stop_reason", name, "count", count) for name, count in figures.stop_reasons.items())
    yield from ((kind, "status", name, "share_of_ended", rate) for name, rate in figures.rates.items())
    for time in _TIMES:
        for name, value in msgspec.to_builtins(getattr(figures, time)).items():
            measure = f"{time.removesuffix('_ns')}_count" if name == "count" else f"{time.removesuffix('ns')}{name}_ns"
            yield kind, "all", "", measure, value
    for there in figures.buckets:
        yield kind, bucket, there.start, "count", there.created
        yield from ((kind, bucket, there.start, status, count) for status, count in there.statuses.items())
        for name in ("duration_p50_ns", "duration_p95_ns", "total_tokens"):
            yield kind, bucket, there.start, name, getattr(there, name)
    for each in figures.took:
        yield kind, "duration_below_ns", str(each.below_ns), "count", each.count
    for agent in figures.agents:
        yield from _fields(kind, "agent", agent.agent_id, msgspec.to_builtins(agent), "agent_id")


def _model(model: Model, by: str, name: str) -> Iterator[Row]:
    return _fields("steps", by, name, msgspec.to_builtins(model), "model")


def _fields(kind: str, by: str, name: str, fields: dict[str, Any], key: str) -> Iterator[Row]:
    yield from ((kind, by, name, measure, value) for measure, value in fields.items() if measure != key)
