"""Limits of the product, turned down by chance, so that a short run comes to what takes a busy day otherwise."""

from __future__ import annotations

import random
from types import ModuleType

from ledger import database, ledger, queries, session, writer
from projections import engine, rebuild, views
from server import checkpoints, expiry, feed, hub, scrubber, streaming
from server.callbacks import dispatcher

Knob = tuple[ModuleType, str, object]

KNOBS: tuple[tuple[ModuleType, str, tuple[object, ...]], ...] = (
    (database, "WAL_PAGES", (4, 64)),
    (ledger, "TAIL_MAX", (1, 20)),
    (queries, "IN_MAX", (2,)),
    (session, "STATES_MAX", (1, 8)),
    (session, "BOOKS_MAX", (1,)),
    (writer, "BATCH_MAX", (1, 3)),
    (writer, "WORTH_EXPECTING", (1,)),
    (engine, "BATCH", (1, 7)),
    (engine, "MADE_IN_PLACE_MAX", (-1,)),
    (rebuild, "BATCH", (3, 20)),
    (views, "ROWS_MAX", (2,)),
    (views, "STEPS_MAX", (2_000,)),
    (checkpoints, "INTERVAL_S", (0.3, 2.0)),
    (expiry, "BATCH", (1, 3)),
    (scrubber, "INTERVAL_S", (0.5,)),
    (hub, "BUFFER_SIZE_MAX", (300, 3_000)),
    (hub, "CHUNKS_SIZE_MAX", (1, 1_000)),
    (streaming, "PIECE_SIZE", (1,)),
    (streaming, "READ_SIZE", (1, 500)),
    (feed, "SCAN", (2, 10)),
    (dispatcher, "NEWS_MAX", (1,)),
    (dispatcher, "EACH_MAX", (1, 3)),
    (dispatcher, "READY_MAX", (4,)),
)
TURNED = 0.25
"""The share of knobs that a seed turns."""


def turned(chance: random.Random) -> list[Knob]:
    """Return the knobs that a seed turns, and to what."""
    return [(module, name, chance.choice(values)) for module, name, values in KNOBS if chance.random() < TURNED]
