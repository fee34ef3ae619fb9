"""The stored tree and the kept checkpoints of a log in SQLite."""

from __future__ import annotations

from typing import Any

from ledger import engine, queries
from ledger.checkpoint import Kept
from ledger.proofs import Tree

_LEAVES = "SELECT leaf FROM events WHERE position > ? ORDER BY position LIMIT ?"
_NODES = "SELECT hash FROM tree WHERE level = ? AND idx >= ? AND idx < ? ORDER BY idx"


def tree_of(connection: Any) -> Tree:
    """Return the tree as a connection sees it; to be used within one snapshot."""
    head = queries.read_head(connection)

    def row(level: int, first: int, count: int) -> list[bytes]:
        if level == 0:
            rows = connection.execute(_LEAVES, (first, count))
        else:
            rows = connection.execute(_NODES, (level, first, first + count))
        return [hash for (hash,) in rows]

    return Tree(head.size, head.frontier.root(), row)


def last_checkpoint_of(connection: Any) -> Kept | None:
    """Return the kept checkpoint of the most events."""
    row = connection.execute("SELECT size, made, note FROM checkpoints ORDER BY size DESC LIMIT 1").fetchone()
    return None if row is None else Kept(*row)


def keep(connection: Any, kept: Kept) -> bool:
    """Keep a checkpoint, unless there is one of that size; tell whether it was kept."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        known = connection.execute("SELECT 1 FROM checkpoints WHERE size = ?", (kept.size,)).fetchone()
        if known is None:
            sql = "INSERT INTO checkpoints (size, made, note) VALUES (?, ?, ?)"
            connection.execute(sql, (kept.size, kept.made_us, kept.note))
        connection.execute("COMMIT")
    except BaseException:
        engine.roll_back(connection)
        raise
    return known is None
