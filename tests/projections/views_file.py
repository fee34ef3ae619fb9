"""A views file seen from outside: its rows and checkpoints, and damage done to it."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ledger import engine as sqlite
from projections.engine import PROJECTIONS

TABLES = tuple(projection.name for projection in PROJECTIONS)


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


def contents(path: Path) -> dict[str, list[Any]]:
    """Every row of every view, and the checkpoints, in one snapshot."""
    with connected(path) as connection:
        connection.execute("BEGIN")
        found = {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in TABLES}
        return found | {"checkpoints": connection.execute("SELECT * FROM projections ORDER BY 1").fetchall()}


def positions(path: Path) -> dict[str, int]:
    return dict(ask(path, "SELECT name, position FROM projections"))
