"""Reading all events of a file that may be damaged: as far as it can be read, and a bounded part at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ledger import engine
from ledger.queries import COLUMNS
from ledger.store import BATCH_SIZE

BATCH = 10_000
BATCH_FIRST = 100
"""Rows that are read at once; as long as it is not known how large they are, a few."""
_DATA = 10
_ROWS = f"SELECT {COLUMNS}, leaf FROM events ORDER BY position"  # noqa: S608 - of constants


def batches(connection: Any) -> Iterator[list[tuple[Any, ...]]]:
    """Yield all rows. Where some cannot be read, yield those before them, so that the first of them is named.

    Once text is met that is no Unicode, it is read leniently, so that its event is found to be changed.
    """
    count, many = 0, BATCH_FIRST
    try:
        cursor = connection.execute(_ROWS)
        while rows := cursor.fetchmany(many):
            yield rows
            count += len(rows)
            many = _many(rows)
    except engine.Error:
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    else:
        return
    while rows := _readable(connection, count, many):
        yield rows
        count += len(rows)
        many = _many(rows)


def _many(rows: Sequence[tuple[Any, ...]]) -> int:
    """Return how many rows like these may be held at once."""
    size = sum(len(row[_DATA]) for row in rows if isinstance(row[_DATA], bytes | str))
    return max(1, min(BATCH, BATCH_SIZE * len(rows) // (size + 1)))


def _readable(connection: Any, count: int, many: int) -> list[tuple[Any, ...]]:
    """Return the rows behind the first ``count``, as many of a batch as can be read; raise where the next cannot.

    They are counted off from the beginning: a search for a position could be led astray by one that is damaged.
    """

    def read(limit: int) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = connection.execute(f"{_ROWS} LIMIT ? OFFSET ?", (limit, count)).fetchall()
        return found

    good, bad = 0, many
    try:
        return read(bad)
    except engine.Error as error:
        reason = error
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            read(middle)
        except engine.Error as error:
            reason, bad = error, middle
        else:
            good = middle
    if not good:
        raise reason
    return read(good)
