"""The verdict on a run: how it stands or how it ended, where and why, in one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ledger.state import State
from ledger.times import to_text
from projections.durations import Durations, in_words
from projections.errors import error_of
from projections.excerpts import both_ends
from projections.faults import Fault
from projections.loops import Loop
from projections.worked import StepTold

REASON_MAX: Final = 160
"""Characters of the error's message in the line."""


def verdict(
    run: State,
    times: Durations,
    steps: Sequence[StepTold],
    errors: Sequence[Fault],
    loops: Sequence[Loop],
    cancelled: Any,
) -> str:
    """Return the line. ``cancelled``: who cancelled it, if somebody did."""
    parts = [_ended(run, times, steps)]
    if run.status == "failed" or (run.status == "expired" and (run.stop_reason or error_of(run.metadata).message)):
        parts.append(f": {_why(run)}")
    elif run.status == "cancelled" and cancelled is not None:
        parts.append(f"{',' if run.running_us is None else ''} by {cancelled.by or cancelled.actor}")
    elif run.status == "completed" and run.stop_reason not in (None, "end_turn"):
        parts.append(f": {run.stop_reason}")
    parts.append(_on_the_way(run, errors, loops))
    if run.erased_position is not None:
        parts.append("; its data was erased")
    elif run.deleted_position is not None:
        parts.append("; it was deleted")
    return " ".join("".join(parts).split())


def _ended(run: State, times: Durations, steps: Sequence[StepTold]) -> str:
    if run.ended_us is None:
        what = f"{run.status}, with no end recorded; the last event was at {to_text(run.effective_us)}"
        return f"{what}, {in_words(times.total_s)} after its creation"
    if run.running_us is None:
        return f"{run.status} {in_words(times.queue_s)} after its creation, before it ran"
    told_s = times.total_s - times.queue_s if times.told_s is None else times.told_s
    return f"{run.status} after {in_words(told_s)}{_where(run, steps)}"


def _where(run: State, steps: Sequence[StepTold]) -> str:
    if not steps:
        return ""
    if run.status == "completed":
        return f" in {len(steps):,} {'step' if len(steps) == 1 else 'steps'}"
    end = run.ended_position or 0
    last = max((step.number for step in steps if step.position < end), default=None)
    return "" if last is None else f" in step {last:,} of {len(steps):,}"


def _why(run: State) -> str:
    error = error_of(run.metadata)
    named = run.stop_reason or error.type or "no reason was recorded"
    if error.type and run.stop_reason and error.type != run.stop_reason:
        named = f"{run.stop_reason} ({error.type})"
    said = " ".join(both_ends(error.message or "", REASON_MAX).split())
    return f"{named} – {said}" if said else named


def _on_the_way(run: State, errors: Sequence[Fault], loops: Sequence[Loop]) -> str:
    before = [error for error in errors if error.kind != "end"]
    told = []
    if before and run.status not in ("failed", "expired"):
        first = "" if before[0].step is None else f", the first in step {before[0].step}"
        told.append(f"{len(before):,} {'error' if len(before) == 1 else 'errors'} on the way{first}")
    if loops:
        worst = max(loops, key=lambda loop: len(loop.positions))
        told.append(f"looped: {worst.name}")
    return "".join(f"; {each}" for each in told)
