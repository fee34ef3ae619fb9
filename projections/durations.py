"""How long a run waited, worked and idled: its time, taken apart by what happened within it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from ledger.state import State
from projections.spans import Span

_NS = 1_000_000_000
_US = 1_000_000


class Durations(msgspec.Struct, frozen=True, kw_only=True):
    """The time of a job or run in seconds; up to its last event where it has not ended.

    ``queue_s``: from its creation until it ran (or ended). ``working_s``: of the rest, what lies within a step or tool
    call; one that was never ended counts up to the end. ``idle_s``: what is left of the rest. Both are null where
    nothing is known from within. ``total_s`` is their sum; ``told_s``: how long it ran as its producer or its status
    events tell.
    """

    queue_s: float
    working_s: float | None
    idle_s: float | None
    total_s: float
    told_s: float | None


def durations(run: State, spans: Sequence[Span]) -> Durations:
    """Return the times of a run. ``spans``: of its steps and tool calls."""
    until_us = end_us(run)
    begun_us = until_us if run.running_us is None else run.running_us
    working_s = _covered_s(spans, begun_us, until_us) if spans else None
    return Durations(
        queue_s=(begun_us - run.created_us) / _US,
        working_s=working_s,
        idle_s=None if working_s is None else round((until_us - begun_us) / _US - working_s, 6),
        total_s=(until_us - run.created_us) / _US,
        told_s=None if run.duration_ns is None else run.duration_ns / _NS,
    )


def end_us(run: State) -> int:
    """Return when a run ended, or the time of its last event; microseconds."""
    return run.effective_us if run.ended_us is None else run.ended_us


def _covered_s(spans: Iterable[Span], begun_us: int, until_us: int) -> float:
    """Return how much of the time lies within any of the spans."""
    covered_ns, reached_ns, until_ns = 0, begun_us * 1000, until_us * 1000
    for span in sorted(spans, key=lambda each: each.start_time_unix_nano):
        start_ns = max(span.start_time_unix_nano, reached_ns)
        end_ns = until_ns if span.end_time_unix_nano is None else min(span.end_time_unix_nano, until_ns)
        if end_ns > start_ns:
            covered_ns += end_ns - start_ns
            reached_ns = end_ns
    return round(covered_ns / _NS, 6)


def gap_in_words(seconds: float) -> str:
    """Return how long after the one before something came; nothing where that is no time."""
    if seconds == 0:
        return ""
    words = in_words(seconds)
    return words if words.startswith("<") else f"+{words}"


def in_words(seconds: float) -> str:
    """Return a duration as people say it: ``<1 ms``, ``12 ms``, ``41.2 s``, ``3 min 12 s``, ``2 h 05 min``."""
    if 0 < seconds < 0.0005:
        return "<1 ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400:,} d {whole % 86_400 // 3600} h"
