"""Gaps: the longest times in which a history tells nothing, and what was going on meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from ledger.state import State
from ledger.times import from_text
from projections.spans import Span
from projections.timeline import Entry

GAPS_MAX: Final = 5
"""Gaps that a report names; the timeline has the gap before every event."""
Meanwhile = Literal["queue", "tool call", "step", "idle", "running", "after the end"]


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """A time without events, between two of them. ``meanwhile``: what it is part of, the innermost that is known."""

    gap_s: float
    after_position: int
    after_type: str
    before_position: int
    before_type: str
    meanwhile: Meanwhile
    what: str


def gaps(entries: Sequence[Entry], run: State, spans: Sequence[Span]) -> list[Gap]:
    """Return the longest gaps, the longest first. ``spans``: of steps and tool calls."""
    longest = sorted(range(1, len(entries)), key=lambda index: -entries[index].gap_s)[:GAPS_MAX]
    found = []
    for index in longest:
        before, after = entries[index - 1], entries[index]
        if after.gap_s <= 0:
            break
        meanwhile, what = _meanwhile(run, spans, after)
        found.append(
            Gap(
                gap_s=after.gap_s,
                after_position=before.position,
                after_type=before.type,
                before_position=after.position,
                before_type=after.type,
                meanwhile=meanwhile,
                what=what,
            )
        )
    return found


def _meanwhile(run: State, spans: Sequence[Span], after: Entry) -> tuple[Meanwhile, str]:
    if run.ended_position is not None and after.position > run.ended_position:
        return "after the end", ""
    if run.running_position is None or after.position <= run.running_position:
        return "queue", ""
    if not spans:  # nothing is known from within, so that it was idle would be a guess
        return "running", ""
    middle_ns = from_text(after.time) * 1000 - round(after.gap_s * 1e9 / 2)
    inside = [span for span in spans if _covers(span, middle_ns)]
    if not inside:
        return "idle", ""
    tools = [span for span in inside if span.kind == "INTERNAL"]
    return ("tool call", tools[-1].name) if tools else ("step", inside[-1].name)


def _covers(span: Span, time_ns: int) -> bool:
    end_ns = span.end_time_unix_nano
    return span.start_time_unix_nano <= time_ns and (end_ns is None or time_ns < end_ns)
