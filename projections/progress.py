"""How far a batch is: its runs counted by status, as of now or of any point, shown as ``metadata.progress``.

It is derived on reading from the runs' own rows, so it needs no event; a ``progress`` of the producer's own stays what
it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ledger.transitions import statuses
from projections.history import AsOf, existed, status_at
from projections.query import IN_MAX, OF_BATCH, Where
from projections.views import Views

MEMBERS = f"runs JOIN batches ON {OF_BATCH}"
"""The runs of batches."""
STATUSES = statuses("run")

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


async def with_progress(views: Views, wires: Sequence[bytes], at: AsOf | None = None) -> list[bytes]:
    """Return the wires of batches with ``metadata.progress`` where they have runs: total, and one count a status."""
    shown = [_decode(wire) for wire in wires]
    counts = await progress(views, [batch["id"] for batch in shown], at)
    for batch in shown:
        if (counted := counts[batch["id"]])["total"]:
            batch["metadata"] = {"progress": counted, **(batch["metadata"] or {})}
    return [_encode(batch) for batch in shown]


async def progress(views: Views, ids: Sequence[str], at: AsOf | None = None) -> dict[str, dict[str, int]]:
    """Return how many runs of each batch have which status, as of now or of a point."""
    found = {id: {"total": 0, **dict.fromkeys(STATUSES, 0)} for id in ids}
    status, alive, bound = "runs.status", "runs.deleted_us IS NULL", {}
    if at is not None:
        status, alive, bound = status_at(at, "runs."), existed(at, "runs."), {"as_of": at.value}
    for start in range(0, len(ids), IN_MAX):
        where = Where()
        where.one_of("runs.batch_id", tuple(ids[start : start + IN_MAX]), "batch")
        text = f"SELECT runs.batch_id, {status}, count(*) FROM {MEMBERS} WHERE {where} AND {alive} GROUP BY 1, 2"
        for id, reached, count in await views.read(text, {**where.parameters, **bound}):
            found[id][reached] += count
            found[id]["total"] += count
    return found
