"""``GET /v1/runs/?limit=100``, requests a second, with a token that is limited to its user's rows.

Ours: ``jobledger serve`` on a generated log (about 290,000 runs in a full run). Baseline: a ``web.Application`` with
that one route and a handler that returns the same bytes. ``hot`` asks for one URL all the time; ``cold`` goes through
thousands of different cursors (``after``), more than ours keeps pages of, and begins elsewhere each time.
The other rows compare ours with itself: a page deep in the list (after row 200,000 in a full run) with the first, hot,
and cold pages there with cold pages near the top. The baseline of these two is the page near the top.
"""

from __future__ import annotations

from collections.abc import Iterator

from scripts.bench.contest import Row, row
from scripts.bench.load import Asking, compare
from scripts.bench.served import Served, bare, ours
from scripts.bench.workplace import Workplace

TARGET = 0.60
TARGET_DEEP = 0.90
FIRST = "/v1/runs/?limit=100"
FRESH_STEP = 4001
"""Cursors further on where each cold measurement begins: about as many as one measurement asks for."""


def run(place: Workplace) -> Iterator[Row]:
    """Measure, and yield the rows."""
    log = place.log(place.scale.served)
    newest = log.runs[::-1]
    depth, cursors = place.scale.depth, place.scale.cursors
    near, far = (_after(newest[start : start + cursors]) for start in (0, depth))
    with ours(place, log) as server:
        body = server.get(FIRST)
        assert body.count(b'"created_at"') == 100
        with bare(place, log, "application", "/v1/runs/", body) as baseline:
            assert baseline.get(FIRST) == body
            yield from _against_bare(place, server, baseline, near)
        yield from _deep(place, server, near, far)


def _against_bare(place: Workplace, server: Served, baseline: Served, near: list[str]) -> Iterator[Row]:
    against = "a bare web.Application with this one route that returns the same bytes"
    pairs = compare(place, Asking(server, [FIRST]), Asking(baseline, [FIRST]))
    note = f"one URL all the time; against {against}"
    yield row("lists", "list of 100, hot", pairs, unit="requests/s", target=TARGET, note=note)
    pairs = compare(place, Asking(server, near, FRESH_STEP), Asking(baseline, near, FRESH_STEP))
    note = f"{len(near):,} different cursors, so no page is kept; against {against}"
    yield row("lists", "list of 100, cold", pairs, unit="requests/s", target=None, note=note)


def _deep(place: Workplace, server: Served, near: list[str], far: list[str]) -> Iterator[Row]:
    depth = place.scale.depth
    pairs = compare(place, Asking(server, far[:1]), Asking(server, [FIRST]))
    note = f"the page after row {depth:,} against the first page, each one URL all the time"
    yield row("lists", "deep page, hot", pairs, unit="requests/s", target=TARGET_DEEP, note=note)
    pairs = compare(place, Asking(server, far, FRESH_STEP), Asking(server, near, FRESH_STEP))
    note = f"{len(far):,} cursors from row {depth:,} on against as many from the first on; no page is kept"
    yield row("lists", "deep page, cold", pairs, unit="requests/s", target=TARGET_DEEP, note=note)


def _after(ids: list[str]) -> list[str]:
    return [f"{FIRST}&after={id_}" for id_ in ids]
