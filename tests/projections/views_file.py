"""A views file seen from outside: its rows and checkpoints, and damage done to it."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ledger import engine as sqlite
from projections.engine import PROJECTIONS
from projections.projection import tables_of

TABLES = tuple(projection.name for projection in PROJECTIONS)
ALL_TABLES = tuple(table for projection in PROJECTIONS for table in tables_of(projection))
"""Those and their parts."""
PLACES = {projection.name: projection.place for projection in PROJECTIONS}


@contextmanager
def connected(path: Path, *, read_only: bool = True) -> Any:
    connection = sqlite.connect(path, read_only=read_only)
    try:
        yield connection
    finally:
        connection.close()


def ask(path: Path, question: str, *values: Any) -> list[Any]:
    with connected(path) as connection:
        return connection.execute(question, values).fetchall()


def change(path: Path, statement: str, *values: Any) -> None:
    with connected(path, read_only=False) as connection:
        connection.execute(statement, values)


def tamper(path: Path) -> None:
    """Make every row of every view wrong, in a way that ``tampered`` sees."""
    for table, place in PLACES.items():
        change(path, f"UPDATE {table} SET {place} = -{place}")


def tampered(path: Path) -> dict[str, bool]:
    """Which views hold no row that is right; a view whose rows are all right is none of them."""
    found = {table: ask(path, f"SELECT min({place}), max({place}) FROM {table}")[0] for table, place in PLACES.items()}
    assert all(lowest * highest > 0 for lowest, highest in found.values())
    return {table: highest < 0 for table, (_, highest) in found.items()}


def contents(path: Path) -> dict[str, list[Any]]:
    """Every row of every view, and the checkpoints, in one snapshot."""
    with connected(path) as connection:
        connection.execute("BEGIN")
        found = {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in TABLES}
        return found | {"checkpoints": connection.execute("SELECT * FROM projections ORDER BY 1").fetchall()}


def positions(path: Path) -> dict[str, int]:
    return dict(ask(path, "SELECT name, position FROM projections"))
