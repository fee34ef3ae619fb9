"""What went wrong in a run, as a terminal shows it: errors, loops, retries, who did what, gaps, the callback."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from projections.attempts import Owed
from projections.durations import in_words
from projections.excerpts import line
from projections.faults import Fault, Retry, after_others
from projections.gaps import Gap
from projections.report import Act, Report
from projections.spans import short

Pairs = Iterator[tuple[str, str]]
"""Names and what is told of them."""
NAMED_MAX: Final = 3
"""Loops, retries, gaps and the like that are named one by one; the others are counted."""


def wrong(report: Report, full: bool) -> Pairs:
    """Yield what went wrong in a run, each thing with its name; the worst comes first."""
    if report.first_error is not None:
        yield from _fault("first error", report.first_error, full)
    if len(report.errors) > 1:
        last = report.errors[-1]
        yield "ended by" if last.kind == "end" else "last error", _of_fault(last, full)
        yield "errors", f"{len(report.errors):,} in all: {_kinds(report.errors)}"
    if not report.errors:
        yield "errors", "none"
    good = report.last_good_step
    if good is not None:
        yield "last good step", f"step {good.number}{tags(good.tags)}, which ended at position {good.position}"
    elif report.steps:
        yield "last good step", "none"
    yield from _named("loop", [_loop(each.name, each.same_answer) for each in report.loops], full)
    yield from _named("retry", [_retry(each) for each in report.retries], full)
    for refusal in report.refused:
        asked = f"{refusal.asked}, as it was {refusal.found}, position {refusal.position}"
        yield "refused", f"{asked}, {who(refusal.actor, refusal.by)}"
    for name, act in (("cancelled", report.cancelled), ("deleted", report.deleted), ("erased", report.erased)):
        if act is not None:
            yield name, _act(act)
    yield from _named("gap", [_gap(each) for each in report.gaps], full)
    if report.callback is not None:
        yield from _callback(report.callback)


def _fault(name: str, fault: Fault, full: bool) -> Pairs:
    where = "" if fault.step is None else f"step {fault.step}, "
    what = "none before the end itself" if fault.kind == "end" else f"{_KINDS[fault.kind]}{_of_tool(fault)}"
    yield name, f"{where}{what}, position {fault.position}, {in_words(fault.after_s)} after the start"
    if fault.message.text:
        yield "", fault.message.text if full else line(fault.message.text, 300)


def _of_fault(fault: Fault, full: bool) -> str:
    where = f"position {fault.position}" if fault.step is None else f"step {fault.step}, position {fault.position}"
    said = fault.message.text if full else line(fault.message.text, 200)
    return f"{fault.type or _KINDS[fault.kind]}{_of_tool(fault)}, {where}{': ' if said else ''}{said}"


_KINDS: Final = {"format": "format error", "tool": "tool error", "step": "failed step", "end": "end"}


def _of_tool(fault: Fault) -> str:
    return "" if fault.tool is None else f" of {short(fault.tool, 40)}"


def _kinds(errors: Sequence[Fault]) -> str:
    counts = {kind: sum(error.kind == kind for error in errors) for kind in _KINDS}
    return ", ".join(f"{count:,} × {_KINDS[kind]}" for kind, count in counts.items() if count)


def _named(name: str, told: Sequence[str], full: bool) -> Pairs:
    shown = told if full else told[:NAMED_MAX]
    for each in shown:
        yield name, each
    if len(told) > len(shown):
        yield "", f"and {len(told) - len(shown):,} more"


def _loop(name: str, same_answer: bool) -> str:
    return f"{name}, answered the same every time" if same_answer else name


def _retry(retry: Retry) -> str:
    where = "" if retry.step is None else f"step {retry.step}: "
    outcome = {True: "and succeeded", False: "and failed again", None: "outcome unknown"}[retry.succeeded]
    if retry.kind == "model":
        return f"{where}the model was asked again {'once' if retry.times == 1 else f'{retry.times} times'}"
    if retry.kind == "step":
        return f"{where}went on after the step that failed at position {retry.failed_position}, {outcome}"
    arguments = "" if retry.arguments is None else line(retry.arguments.text, 60)
    return f"{where}{short(retry.tool or '?', 40)}({arguments}) again {after_others(retry.later - 1)}, {outcome}"


def _act(act: Act) -> str:
    reason = f": {act.reason}" if act.reason else ""
    return f"at {act.time}, position {act.position}, {who(act.actor, act.by)}{reason}"


def who(actor: str, by: str | None) -> str:
    """Return who did something, and for whom."""
    return f"by {actor}" if by is None else f"by {by} for {actor}"


def _gap(gap: Gap) -> str:
    what = f" ({gap.what})" if gap.what else ""
    after, before = f"{gap.after_type} {gap.after_position}", f"{gap.before_type} {gap.before_position}"
    return f"{in_words(gap.gap_s)} between {after} and {before}: {gap.meanwhile}{what}"


def _callback(owed: Owed) -> Pairs:
    reason = f", {owed.reason}" if owed.reason else ""
    yield "callback", f"to {owed.receiver or '?'}: {owed.status or 'not owed yet'}{reason}"
    for attempt in owed.attempts:
        code = "" if attempt.status_code is None else f" {attempt.status_code}"
        outcome = f"{attempt.error or 'delivered'}{code}"
        yield "", f"attempt {attempt.number} at {attempt.time}: {outcome} after {in_words(attempt.duration_s)}"


def tags(named: Sequence[str]) -> str:
    """Return the tags of a step in brackets."""
    return f" ({', '.join(line(tag, 40) for tag in named)})" if named else ""
