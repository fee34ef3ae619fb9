"""Counts of jobs, runs and batches by status and stop reason, as of any point, from the files alone (``overlay``).

Status columns tell the status then. A stop reason comes with the end; where another event told one, which few do, what
it was then is folded from the log. What was deleted by then or erased at any time is not counted, as lists do not show
it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from ledger.state import TWICE
from ledger.store import Store
from ledger.transitions import STOP_REASONS, statuses
from projections import overlay
from projections.batches import BATCHES
from projections.history import AsOf, existed, status_at
from projections.jobs import JOBS
from projections.overlay import Overlay
from projections.past import fold_as_of
from projections.resources import ResourceProjection
from projections.runs import RUNS

FOLDED_AT_ONCE: Final = 200
"""Histories that are read at once: those of runs may hold megabytes of messages."""


class Counts(msgspec.Struct, frozen=True):
    """How many resources of one kind there are: by each status that the kind can have, by each stop reason found."""

    total: int
    statuses: dict[str, int]
    stop_reasons: dict[str, int]


class Stats(msgspec.Struct, frozen=True):
    """What a ledger holds."""

    jobs: Counts
    runs: Counts
    batches: Counts


async def stats(store: Store, views: Path, at: AsOf) -> Stats:
    """Return what a ledger held at a point in history. ``views``: where the views file is, if there is one.

    Raises ``Unreadable`` where there is no room to fold what the views do not have.
    """

    async def question(at_end: Overlay) -> Stats:
        jobs, runs, batches = [await _count(at_end, each, at) for each in (JOBS, RUNS, BATCHES)]
        return Stats(jobs, runs, batches)

    return await overlay.ask(store, views, "jobs, runs and batches", question)


async def _count(at_end: Overlay, projection: ResourceProjection, at: AsOf) -> Counts:
    source = await at_end.fold(projection)
    shown = f"FROM ({source}) WHERE {existed(at)} AND erased_position IS NULL"
    moved = f"marks & {TWICE} AND changed_{at.suffix} > :as_of"
    reason = f"CASE WHEN ended_{at.suffix} > :as_of THEN NULL ELSE stop_reason END"
    bound = {"as_of": at.value}
    told = f"SELECT {status_at(at)}, {reason}, count(*) {shown} AND NOT ({moved}) GROUP BY 1, 2"
    found: Counter[tuple[str, str | None]] = Counter()
    for status, stop_reason, count in at_end.db.execute(told, bound):
        found[status, stop_reason] += count
    rows = at_end.db.execute(f"SELECT id {shown} AND {moved}", bound)
    while part := rows.fetchmany(FOLDED_AT_ONCE):
        found.update(await _folded(at_end.store, part, at))
    return _counts(projection.kind, found)


async def _folded(store: Store, rows: Sequence[Any], at: AsOf) -> list[tuple[str, str | None]]:
    streams = await store.streams([row[0] for row in rows], bare=True)
    states = (fold_as_of(events, at) for events in streams.values())
    return [(state.status, state.stop_reason) for state in states if state is not None]


def _counts(kind: str, found: Counter[tuple[str, str | None]]) -> Counts:
    by_status: Counter[str] = Counter()
    by_reason: Counter[str | None] = Counter()
    for (status, stop_reason), count in found.items():
        by_status[status] += count
        by_reason[stop_reason] += count
    return Counts(
        total=found.total(),
        statuses={status: by_status[status] for status in statuses(kind)},
        stop_reasons={reason: by_reason[reason] for reason in STOP_REASONS if by_reason[reason]},
    )
