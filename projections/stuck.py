"""What is stuck: begun, not ended, and for long without a sign of life; the longest silent first, with the last sign.

A sign of life is any event that tells of a run, job or batch, in its own time: a change, a step, a message, and for a
batch those of its runs. A slow run that goes on telling of steps is not stuck.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ledger.events import Recorded
from ledger.store import Store
from projections.batches import BATCHES
from projections.jobs import JOBS
from projections.query import OF_BATCH, Query, conditions, last_sign_us
from projections.reader import Reader
from projections.runs import RUNS

PROJECTIONS = (JOBS, RUNS, BATCHES)
"""The views that are asked."""


class Silent(NamedTuple):
    """A resource that is stuck. Times are microseconds: since when it has its status, and when it last was heard of.

    ``last``: the newest event of the stream that was heard last, which of a batch may be a run of it.
    """

    id: str
    kind: str
    status: str
    agent_id: str | None
    since_us: int
    last_us: int
    last: Recorded | None


async def stuck(reader: Reader, store: Store, query: Query) -> list[Silent]:
    """Return the first ``limit`` of all kinds that the query's filters let through, the longest silent first."""
    found: list[tuple[Any, ...]] = []
    for projection in PROJECTIONS:
        table = projection.name
        last_us, where = last_sign_us(table), conditions(_of(query, table))
        text = (
            f"SELECT {last_us} AS last_us, id, kind, status, agent_id, "
            "CASE status WHEN 'running' THEN running_us WHEN 'pending' THEN pending_us ELSE created_us END, version "
            f"FROM {table} WHERE {where} ORDER BY last_us, id LIMIT :limit"
        )
        found += await reader.read(text, {**where.parameters, "limit": query.limit})
    found.sort(key=lambda row: row[:2])
    return [await _silent(reader, store, row) for row in found[: query.limit]]


def _of(query: Query, table: str) -> Query:
    return Query(table=table, filters=query.filters, now_us=query.now_us)


async def _silent(reader: Reader, store: Store, row: tuple[Any, ...]) -> Silent:
    last_us, id, kind, status, agent_id, since_us, version = row
    stream = id
    if kind == "batch":
        newest = await reader.read(_NEWEST, {"id": id, "last_us": last_us})
        stream, version = newest[0] if newest else (id, version)
    events = await store.stream(stream, version - 1, 1)
    return Silent(id, kind, status, agent_id, since_us, last_us, events[0] if events else None)


_NEWEST = (
    f"SELECT runs.id, runs.version FROM batches JOIN runs ON {OF_BATCH} WHERE batches.id = :id "
    "AND runs.deleted_us IS NULL AND runs.effective_us = :last_us AND batches.effective_us < :last_us LIMIT 1"
)
"""The run of a batch that was heard of last, where that was after the batch itself."""
