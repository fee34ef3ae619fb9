"""How a server is at the moment of a scrape, for ``/metrics``: read from the views and the ledger, not counted along.

Counters of what happened are in ``App.metrics``; they begin anew with the process, as Prometheus expects.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

from ledger import engine as sqlite
from server.beats import BROKEN
from server.fellows import Snapshot
from server.routes.health import VERSION, wal_size

if TYPE_CHECKING:
    from server.app import App

OWED = """
SELECT (SELECT count(*) FROM callbacks WHERE status = 'owed'),
       (SELECT count(*) FROM callbacks WHERE due_us <= :now),
       (SELECT min(due_us) FROM callbacks WHERE due_us > 0 AND due_us <= :now),
       (SELECT min(owed_position) FROM callbacks WHERE due_us = 0)
"""
"""How many callbacks are owed, how many are due, and since when: a few milliseconds with 10,000 of them."""


async def of_ledger(app: App) -> bytes:
    """Return how the ledger and what it owes are now: the same whichever worker tells."""
    now_us = app.ledger.clock()
    (owed, due, oldest_us, oldest_position) = (await app.views.read(OWED, {"now": now_us}))[0]
    waits_us = [0] if oldest_us is None else [now_us - oldest_us]
    if oldest_position is not None:  # due since the ledger learned of it, whatever its producer's clock said
        (owing,) = await app.ledger.store.scan(oldest_position - 1, 1)
        waits_us.append(now_us - owing.recorded)
    gauges = [
        _gauge("callbacks_owed", "Callbacks to be sent, now or later; imported ones until they are given up.", owed),
        _gauge("callbacks_due", "Callbacks to be sent now.", due),
        _gauge("callbacks_oldest_due_seconds", "For how long a callback has been due, at most.", max(waits_us) / 1e6),
        _gauge("ledger_size", "Events in the log, which is its last position.", app.ledger.size),
        _gauge("wal_bytes", "Size of the log's write-ahead file.", wal_size(app)),
    ]
    about = {"version": VERSION, "sqlite": sqlite.library.sqlite_version}
    versions = InfoMetricFamily("jobledger", "Versions of Job Ledger and of its SQLite.", about)
    return generate_latest(Snapshot([versions, *gauges]))


def of_process(app: App) -> bytes:
    """Return how this process is now, and what it has counted."""
    gauges = [
        _gauge("views_lag_events", "Events by which the views are behind the log.", _lag(app)),
        _gauge("writers_waiting", "Writes that wait for a transaction.", app.ledger.writer.waiting),
        _gauge("writes_failing", "1 from a write that the disk refused until one succeeds, else 0.", _is_failing(app)),
        _gauge("streams_open", "Server-sent event streams that are open.", app.hub.subscribers),
        _gauge("connections_open", "Connections that are open, streams among them.", len(app.connections)),
        _gauge("requests_under_way", "Requests that are not answered yet, without streams.", app.requests),
        _gauge("bodies_bytes", "Bytes of the bodies that requests under way hold.", app.bodies.size),
        _gauge("long_reads", "Long reads of the views that are under way or wait.", app.views.line.length),
        _gauge("tasks", "Tasks of the event loop.", len(asyncio.all_tasks())),
    ]
    return generate_latest(Snapshot([*gauges, *BROKEN.collect()])) + generate_latest(app.metrics)


def _gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"jobledger_{name}", about, value)


def _is_failing(app: App) -> int:
    return int(app.ledger.writer.trouble is not None)


def _lag(app: App) -> int:
    return max(app.ledger.size - app.engine.position, 0)
