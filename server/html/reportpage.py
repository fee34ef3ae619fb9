"""A report as one HTML file: it needs no network, runs no script, and shows whatever was said as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from projections.durations import gap_in_words, in_words
from projections.excerpts import line
from projections.faults import after_others
from projections.report import Report
from projections.spans import short
from server.html.drawing import drawing
from server.html.templates import digest, environment, style

STEPS_ENDS: Final = (100, 150)
"""How many steps of a long run a page has, from its beginning and from its end, unless all is asked for."""
TIMELINE_ENDS: Final = (300, 700)
"""Likewise of its events: with both, a page stays below 1.5 MB."""
LIST_MAX: Final = 20
"""Loops, retries, refusals, attempts and errors that are named one by one."""


def page(report: Report, ledger: str, *, full: bool = False) -> str:
    """Return the page. ``ledger``: the name of the ledger that it is from; ``full``: every step and event."""
    css = style("report.css")
    policy = f"default-src 'none'; style-src {digest(css)}; base-uri 'none'; form-action 'none'"
    return (
        environment()
        .get_template("report.html")
        .render(
            report=report,
            header=report.header,
            ledger=ledger,
            style=css,
            policy=policy,
            drawing=drawing(report),
            steps=_ends(report.steps, STEPS_ENDS, full),
            entries=_ends(report.timeline, TIMELINE_ENDS, full),
            list_max=len(report.timeline) if full else LIST_MAX,
            after_others=after_others,
            gap_in_words=gap_in_words,
            in_words=in_words,
            line=line,
            short=short,
        )
    )


def _ends(of: Sequence[Any], ends: tuple[int, int], full: bool) -> tuple[Sequence[Any], Sequence[Any], int]:
    """Return the beginning and the end of a long list, and how many are left out between them."""
    first, last = ends
    left_out = len(of) - first - last
    return (of, (), 0) if full or left_out <= 0 else (of[:first], of[-last:], left_out)
