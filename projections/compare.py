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
from projections.projection import Projection, part_of

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
                for part in projection.sums:
                    found += _missing_sums(connection, part_of(projection.name, part), kept, made, what)
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


def _missing_sums(connection: Any, table: str, one: str, other: str, what: str) -> list[tuple[int, str]]:
    """Return what differs of rows that add up, which stand at no position."""
    rows = connection.execute(
        f"SELECT count(*) FROM (SELECT * FROM {one}.{table} EXCEPT SELECT * FROM {other}.{table})"
    )
    count = rows.fetchone()[0]
    return [(0, f"{count} rows of {table} as they stand {what}")] if count else []
