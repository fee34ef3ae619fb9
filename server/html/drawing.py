"""The drawn timeline: what a report's run did when, as bars in lanes, no more of them than a screen can show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from ledger.times import from_text
from projections.durations import in_words
from projections.report import Report
from projections.spans import short
from projections.worked import CallTold, StepTold

BUCKETS: Final = 500
"""Places along the line: what is smaller than one of them is drawn together with its neighbours."""
LABEL_MIN: Final = 3.0
"""Per cent of the width that a bar needs to hold a number."""
TICKS_MAX: Final = 5
NAME_MAX: Final = 60
_NICE_S: Final = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200,
    14_400, 21_600, 43_200, 86_400, 172_800, 604_800,
)  # fmt: skip
"""Distances between ticks, in seconds; beyond them whole multiples of the last."""


class Bar(NamedTuple):
    """A bar: ``x`` and ``width`` in per cent of the line; ``kind`` is its class in the style sheet."""

    x: float
    width: float
    kind: str
    title: str
    label: str = ""


class Lane(NamedTuple):
    """A row of bars with its name."""

    name: str
    bars: list[Bar]


class Tick(NamedTuple):
    """A mark of time under the lanes; ``anchor``: which end of its text stands there."""

    x: float
    text: str
    anchor: str


class Drawing(NamedTuple):
    """All that is drawn, and what it tells to those who cannot see it."""

    lanes: list[Lane]
    ticks: list[Tick]
    told: str


class _Piece(NamedTuple):
    start_us: int
    end_us: int
    kind: str
    title: str
    label: str = ""


class _Line:
    """The line of time: from the creation to the end, or to the last event."""

    def __init__(self, report: Report) -> None:
        self.start_us = from_text(report.header.created_at)
        last_us = from_text(report.header.last_event_at)
        ended = report.header.ended_at
        self.end_us = last_us if ended is None else max(last_us, from_text(ended))
        self.size_us = max(self.end_us - self.start_us, 1)

    def x(self, time_us: int) -> float:
        return round(min(max((time_us - self.start_us) / self.size_us, 0.0), 1.0) * 100, 3)

    def bars(self, pieces: Iterable[_Piece]) -> list[Bar]:
        """Return a bar for each piece, the tiny ones of one place and kind as one."""
        found: list[Bar] = []
        counts: dict[tuple[int, str], tuple[int, int]] = {}
        least = 100 / BUCKETS
        for piece in sorted(pieces, key=lambda each: each.start_us):
            x = min(self.x(piece.start_us), 100 - least)
            width = max(self.x(piece.end_us) - x, least)
            label = piece.label if width >= LABEL_MIN else ""
            place = (int(x / least), piece.kind)
            if width <= 2 * least and place in counts:
                at, count = counts[place]
                counts[place] = (at, count + 1)
                end = max(found[at].x + found[at].width, x + width)
                found[at] = found[at]._replace(width=round(end - found[at].x, 3), title=f"{count + 1:,} here")
                continue
            if width <= 2 * least:
                counts[place] = (len(found), 1)
            found.append(Bar(x, round(width, 3), piece.kind, piece.title, label))
        return found


def drawing(report: Report) -> Drawing:
    """Return the drawing of a report."""
    line = _Line(report)
    steps = [_of_step(step, line) for step in report.steps]
    calls = [_of_call(call, line) for call in _calls(report)]
    lanes = [Lane("Run", line.bars(_run(report, line, [*steps, *calls])))]
    if steps:
        lanes.append(Lane("Steps", line.bars(steps)))
    if calls:
        lanes.append(Lane("Tool calls", line.bars(calls)))
    events = [_moment(entry.time, "event", f"{entry.position} {entry.type}") for entry in report.timeline]
    lanes.append(Lane("Events", line.bars(events)))
    errors = [_moment(error.time, "error", f"{error.kind}, position {error.position}") for error in report.errors]
    if errors:
        lanes.append(Lane("Errors", line.bars(errors)))
    return Drawing(lanes, _ticks(line), _told(report))


def _moment(time: str, kind: str, title: str) -> _Piece:
    time_us = from_text(time)
    return _Piece(time_us, time_us, kind, title)


def _told(report: Report) -> str:
    times = report.header.durations
    parts = [("queue", times.queue_s), ("working", times.working_s), ("idle", times.idle_s)]
    told = ", ".join(f"{in_words(value)} {name}" for name, value in parts if value is not None)
    return f"{in_words(times.total_s)}: {told}; {len(report.errors):,} errors"


def _calls(report: Report) -> list[CallTold]:
    return [*(call for step in report.steps for call in step.calls), *report.outside]


def _of_step(step: StepTold, line: _Line) -> _Piece:
    kind = "failed" if step.status == "failed" else "odd" if step.number % 2 else "even"
    mark = "✕ " if kind == "failed" else ""
    return _piece(step, line, kind, f"step {step.number}: {step.status}", f"{mark}{step.number}")


def _of_call(call: CallTold, line: _Line) -> _Piece:
    kind, mark = ("failed", "✕") if call.status == "error" else ("call", "")
    return _piece(call, line, kind, f"{short(call.tool or '?', NAME_MAX)}: {call.status or 'open'}", mark)


def _piece(of: StepTold | CallTold, line: _Line, kind: str, title: str, label: str = "") -> _Piece:
    """Return the piece of what was done; what was never ended goes on to the end of the line."""
    start_us = from_text(of.started_at)
    if of.ended_at is None:
        return _Piece(start_us, line.end_us, f"{kind} open", f"{title}, never ended", label)
    took = "" if of.duration_s is None else f", {in_words(of.duration_s)}"
    return _Piece(start_us, from_text(of.ended_at), kind, f"{title}{took}", label)


def _run(report: Report, line: _Line, pieces: Sequence[_Piece]) -> list[_Piece]:
    """Return the run itself: its time in the queue, at work, idle, and after its end."""
    header = report.header
    ended_us = line.end_us if header.ended_at is None else from_text(header.ended_at)
    begun_us = ended_us if header.running_at is None else from_text(header.running_at)
    found = [_named(line.start_us, begun_us, "queue")]
    if not pieces:
        found.append(_named(begun_us, ended_us, "running"))
    reached_us = begun_us
    for piece in sorted(pieces, key=lambda each: each.start_us) if pieces else ():
        start_us, end_us = max(piece.start_us, reached_us), min(piece.end_us, ended_us)
        if end_us > start_us:
            found += [_named(reached_us, start_us, "idle"), _named(start_us, end_us, "working")]
            reached_us = end_us
    if pieces:
        found.append(_named(reached_us, ended_us, "idle"))
    found.append(_named(ended_us, line.end_us, "after"))
    return [piece for piece in _joined(found) if piece.end_us > piece.start_us]


def _joined(pieces: Sequence[_Piece]) -> list[_Piece]:
    """Return pieces where those of one kind that touch are one."""
    found: list[_Piece] = []
    for piece in pieces:
        if piece.end_us <= piece.start_us:
            continue
        last = found[-1] if found else None
        if last is not None and last.kind == piece.kind and last.end_us == piece.start_us:
            found[-1] = _named(last.start_us, piece.end_us, piece.kind)
        else:
            found.append(piece)
    return found


def _named(start_us: int, end_us: int, kind: str) -> _Piece:
    return _Piece(start_us, end_us, kind, f"{kind} {in_words(max(end_us - start_us, 0) / 1e6)}")


def _ticks(line: _Line) -> list[Tick]:
    size_s = line.size_us / 1e6
    step_s = next((nice for nice in _NICE_S if size_s / nice <= TICKS_MAX), None)
    if step_s is None:
        step_s = _NICE_S[-1] * -(-size_s // (_NICE_S[-1] * TICKS_MAX))
    count = int(size_s / step_s + 1e-9)
    return [
        Tick(x := round(index * step_s / size_s * 100, 3), _tick(index * step_s), _anchor(x))
        for index in range(count + 1)
    ]


def _anchor(x: float) -> str:
    return "start" if x < 4 else "end" if x > 94 else "middle"


def _tick(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g} s"
    whole = round(seconds)
    for size, small, name in ((3600, 60, "min"), (86_400, 3600, "h")):
        if whole < size:
            rest = whole % small * 60 // small
            return f"{whole // small}:{rest:02d} {name}" if rest else f"{whole // small} {name}"
    return f"{whole / 86_400:g} d"
