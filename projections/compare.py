"""Do the views equal a fresh fold of the log? Folds into a file of its own and compares every row."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from ledger import engine as sqlite
from ledger.ledger import Ledger
from projections.engine import PROJECTIONS, Engine
from projections.file import views_path
from projections.projection import Projection

DIFFERENCES_MAX = 100


def differences(db: Path) -> list[tuple[int, str]]:
    """Return (position of the last change, what differs) for rows that are not as a fresh fold makes them."""
    with tempfile.TemporaryDirectory(prefix="jobledger-") as folder:
        fresh = Path(folder) / "fresh.db"
        asyncio.run(_fold(db, fresh))
        return _compare(views_path(db), fresh)


async def _fold(db: Path, fresh: Path) -> None:
    async with Ledger.open(db, read_only=True) as ledger:
        kept = Engine(ledger, views_path(db))
        await kept.open()
        await kept.close()
        engine = Engine(ledger, fresh)
        await engine.open()
        await engine.close()


def _compare(views: Path, fresh: Path) -> list[tuple[int, str]]:
    connection = sqlite.connect(views, read_only=True)
    try:
        connection.execute("ATTACH ? AS fresh", (f"{fresh.resolve().as_uri()}?mode=ro",))
        found: list[tuple[int, str]] = []
        for projection in PROJECTIONS:
            for kept, made, what in (
                ("main", "fresh", "is not in a fresh fold"),
                ("fresh", "main", "is not in the views"),
            ):
                found += _missing(connection, projection, kept, made, what)
            found += _other_sums(connection, projection)
        return sorted(found)[:DIFFERENCES_MAX]
    finally:
        connection.close()


def _missing(connection: Any, projection: Projection, one: str, other: str, what: str) -> list[tuple[int, str]]:
    table = projection.name
    rows = connection.execute(
        f"SELECT {projection.place}, {projection.subject} "
        f"FROM (SELECT * FROM {one}.{table} EXCEPT SELECT * FROM {other}.{table}) LIMIT {DIFFERENCES_MAX}"
    )
    return [(position or 0, f"the row of {id} as it stands {what}") for position, id in rows]


def _other_sums(connection: Any, projection: Projection) -> list[tuple[int, str]]:
    """Return whether what adds up is another sum, which stands at no position."""
    kept, made = projection.totals(connection), projection.totals(connection, "fresh")
    others = sum(1 for key in kept.keys() | made.keys() if kept.get(key) != made.get(key))
    return [(0, f"{others} sums of {projection.name} are not those of a fresh fold")] if others else []
