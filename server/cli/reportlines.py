"""A report on a terminal: first what a tired person must know, then the rest, in lines of any width."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.console import Console
from rich.text import Text

from projections.durations import gap_in_words, in_words
from projections.excerpts import Excerpt, line
from projections.report import Header, Report
from projections.spans import short
from projections.timeline import Entry
from projections.worked import CallTold, StepTold
from server.cli.options import clean
from server.cli.wronglines import Pairs, tags, who, wrong

T = TypeVar("T")
STEPS_ENDS: Final = (8, 12)
"""How many steps of a long run are shown, from its beginning and from its end."""
TIMELINE_ENDS: Final = (20, 40)
"""Likewise of its events."""
FOLDED_MAX: Final = 10_000
"""Characters of a text that is broken at its blanks."""


def show(console: Console, report: Report, full: bool) -> None:
    """Print a report. ``full``: every step and event, and what it has of each text."""
    console.print(clean(report.verdict), style="bold")
    header = report.header
    models = f", {', '.join(header.models)}" if header.models else ""
    agent = f", agent {header.agent_id}" if header.agent_id else ""
    console.print(clean(f"{header.id}{agent}{models}"))
    _section(console, "What went wrong", wrong(report, full))
    _section(console, "About", _about(report, full))
    if report.steps or report.outside:
        _head(console, "Steps")
        _print(console, _steps(report, full), full)
    _head(console, "Timeline")
    _print(console, _timeline(report.timeline, full), full)


def _section(console: Console, name: str, pairs: Iterable[tuple[str, str]]) -> None:
    _head(console, name)
    told = list(pairs)
    indent = 4 + max((len(label) for label, _ in told), default=0)
    for label, text in told:
        lines = _folded(console, clean(text), max(console.width - indent, 20))
        for index, each in enumerate(lines):
            console.print(f"  {'' if index else label:{indent - 2}}{each}".rstrip(), soft_wrap=True)


def _folded(console: Console, text: str, width: int) -> list[str]:
    """Return a text in lines that fit; one that no screen holds is not broken at its blanks, which would take long."""
    if len(text) > FOLDED_MAX:
        return chop_cells(text, width)
    return [each.plain for each in Text(text).wrap(console, width)]


def _head(console: Console, name: str) -> None:
    console.print()
    console.print(name, style="bold")


def _print(console: Console, lines: Iterable[str], full: bool) -> None:
    """Print lines, each cut off at the width of the terminal unless all is asked for."""
    for each in lines:
        cut = not full and cell_len(each) > console.width
        console.print(f"{set_cell_size(each, console.width - 1)}…" if cut else each, soft_wrap=True)


def _ends(of: Sequence[T], ends: tuple[int, int], full: bool) -> tuple[Sequence[T], Sequence[T], int]:
    """Return the beginning and the end of a long list, and how many are left out between them."""
    first, last = ends
    left_out = len(of) - first - last
    if full or left_out <= 1:
        return of, (), 0
    return of[:first], of[-last:], left_out


# --- about ------------------------------------------------------------------------------------------------------------


def _about(report: Report, full: bool) -> Pairs:
    header = report.header
    yield "status", f"{header.status}{f' ({header.stop_reason})' if header.stop_reason else ''}"
    yield "time", _time(header)
    for name, time in (("created", header.created_at), ("running", header.running_at), ("ended", header.ended_at)):
        yield name, time or "never"
    if header.usage.total_tokens:
        used = header.usage
        parts = f"{used.prompt_tokens or 0:,} prompt + {used.completion_tokens or 0:,} completion"
        yield "tokens", f"{used.total_tokens:,} = {parts}"
    if header.costs:
        yield "cost", ", ".join(f"{name} {value:g}" for name, value in header.costs.items())
    for name in ("conversation_id", "batch_id", "project_id"):
        if (id := getattr(header, name)) is not None:
            yield name.removesuffix("_id"), id
    parts = f"{header.messages:,} messages, {header.steps:,} steps, {header.tool_calls:,} tool calls"
    yield "events", f"{header.events:,}" if header.kind != "run" else f"{header.events:,}: {parts}"
    if header.error is not None and header.error.traceback is not None and full:
        yield "traceback", header.error.traceback.text
    if header.metadata:
        yield "metadata", _metadata(header, full)


def _time(header: Header) -> str:
    times = header.durations
    parts = [("queue", times.queue_s), ("working", times.working_s), ("idle", times.idle_s)]
    known = " + ".join(f"{in_words(value)} {name}" for name, value in parts if value is not None)
    ttft = "" if header.ttft_s is None else f", first token after {in_words(header.ttft_s)}"
    return (
        f"{in_words(times.total_s)} = {known}{ttft}"
        if times.working_s is not None
        else (f"{in_words(times.total_s)}, of which {known}{ttft}")
    )


def _metadata(header: Header, full: bool) -> str:
    if full:
        return ", ".join(f"{name}: {value.text}" for name, value in header.metadata.items())
    shown = ", ".join(f"{name}: {line(value.text, 40)}" for name, value in header.metadata.items())
    more = header.metadata_size - len(header.metadata)
    return line(shown, 400) + (f", and {more:,} more" if more > 0 and header.error is None else "")


# --- steps ------------------------------------------------------------------------------------------------------------


def _steps(report: Report, full: bool) -> Iterator[str]:
    first, last, left_out = _ends(report.steps, STEPS_ENDS, full)
    for step in first:
        yield from _step(step, full)
    if left_out:
        yield f"  … {left_out:,} steps left out; --full shows all …"
    for step in last:
        yield from _step(step, full)
    if report.outside:
        yield "  outside of any known step:"
        calls, ends, left_out = _ends(report.outside, STEPS_ENDS, full)
        for call in (*calls, *ends):
            yield from _call(call, full)
        if left_out:
            yield f"  … {left_out:,} calls left out; --full shows all …"


def _step(step: StepTold, full: bool) -> Iterator[str]:
    took = "…" if step.duration_s is None else in_words(step.duration_s)
    tokens = "" if step.total_tokens is None else f"{step.total_tokens:,} tokens"
    mark = "!" if step.status == "failed" else " "
    what = step.error_type or step.stop_reason or ""
    said = f"{what}{tags(step.tags)} {'' if step.model is None else short(step.model, 40)}"
    yield clean(f"{mark} {step.number:>4}  {step.status:9}  {took:>11}  {tokens:>14}  {said}").rstrip()
    if step.error is not None and step.error.text and step.error_type != "tool_error":
        yield from _text(step.error, full)
    for call in step.calls:
        yield from _call(call, full)


def _call(call: CallTold, full: bool) -> Iterator[str]:
    mark = "!" if call.status == "error" else " "
    took = "" if call.duration_s is None else f" in {in_words(call.duration_s)}"
    name = call.tool or "?" if full else short(call.tool or "?", 40)
    arguments = call.arguments.text if full else line(call.arguments.text, 60)
    answer = "no answer" if call.answer is None else call.answer.text if full else line(call.answer.text, 200)
    yield clean(f"{mark}        → {name}({arguments})")
    yield clean(f"          {call.status or 'open'}{took}: {answer}")


def _text(text: Excerpt, full: bool) -> Iterator[str]:
    if not full:
        yield clean(f"          {line(text.text, 300)}")
        return
    for each in text.text.splitlines():
        yield clean(f"          {each}")


# --- timeline ---------------------------------------------------------------------------------------------------------


def _timeline(entries: Sequence[Entry], full: bool) -> Iterator[str]:
    first, last, left_out = _ends(entries, TIMELINE_ENDS, full)
    yield f"  {'position':>8}  {'gap':>11}  {'time (UTC)':15}  event"
    known = _Known()
    for entry in first:
        yield from _entry(entry, known, full)
    if left_out:
        yield f"  … {left_out:,} events left out; --full shows all …"
    for entry in last:
        yield from _entry(entry, known, full)


class _Known:
    """What the lines above have told already: the day, and who acted."""

    def __init__(self) -> None:
        self.day = self.who = ""


def _entry(entry: Entry, known: _Known, full: bool) -> Iterator[str]:
    day, _, time = entry.time.partition("T")
    if day != known.day:
        yield f"  {'':8}  {'':11}  {day}"
        known.day = day
    actor = who(entry.actor, entry.by)
    told = f" ({actor})" if actor != known.who else ""
    known.who = actor
    gap = gap_in_words(entry.gap_s)
    mark = "!" if entry.is_error else " "
    yield clean(f"{mark} {entry.position:>8}  {gap:>11}  {time[:-1]}  {entry.line}{told}")
    if full and entry.text is not None:
        yield from _text(entry.text, full)
