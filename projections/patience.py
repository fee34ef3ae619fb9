"""Reads of the views on threads: how long one may take, and several of one moment."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any, Final

from ledger import engine as sqlite
from ledger.errors import BadRequest, Unavailable
from projections.reader import HERE, Place

DEADLINE_S: Final = 20.0
"""How long a read on the thread may take: no request waits longer, and no snapshot pins the WAL longer."""
SIZE_MAX: Final = 128 * 2**20
"""Bytes that a read may find: a hundred of the largest resources or messages, with room to spare."""
PART: Final = 128
"""Rows between two looks at how many bytes they have."""
LOOKS_MAX: Final = 20
"""Looks for a full-text index that was moved; swaps are far apart, a damaged one is never found."""
LOOK: Final = 40_000
"""SQLite VM steps between two looks at the clock, about 2 ms."""


class TooMuch(Exception):
    """A read has more bytes than it may have."""


def fetched(cursor: Any, size_max: int) -> list[Any]:
    """Return the rows of a query. Raises ``TooMuch`` once their last columns have more than ``size_max`` bytes.

    What is large stands in the last one: the wire bytes of a resource, a step or a message.
    """
    rows: list[Any] = []
    size = 0
    while part := cursor.fetchmany(PART):
        rows += part
        size += sum([len(row[-1]) for row in part if type(row[-1]) is bytes])
        if size > size_max:
            cursor.close()  # it is not at its end, and would hold its snapshot
            raise TooMuch
    return rows


async def read_patiently(connection: sqlite.Connection, text: str, parameters: dict[str, Any]) -> list[Any]:
    """Run a query on a connection's thread.

    Raises ``Unavailable`` where it takes longer than ``DEADLINE_S``, ``BadRequest`` for more than ``SIZE_MAX`` bytes.
    """
    patience = _Patience(DEADLINE_S)
    try:
        return await connection.run(lambda db: patience.read(db, text, parameters))
    except TooMuch:
        reason = (
            f"What is asked for has more than {SIZE_MAX >> 20} MiB; ask for less at once, as with a smaller `limit`."
        )
        raise BadRequest(reason=reason) from None
    except (sqlite.OperationalError, _OutOfTime) as error:
        if not patience.is_over():
            raise
        reason = f"the query took longer than {DEADLINE_S:g} s; ask for less"
        raise Unavailable(reason=reason) from error
    finally:
        patience.end()  # a caller who went away is not read for any longer


class Moment:
    """Reads views as they are at one moment; see ``Reader``."""

    def __init__(self, connection: sqlite.Connection) -> None:
        self._connection = connection

    async def read(self, text: str, parameters: dict[str, Any], *, is_long: bool = False) -> list[Any]:
        """See ``Reader.read``."""
        return await read_patiently(self._connection, text, parameters)

    def places(self, name: str) -> Sequence[Place]:
        """See ``Reader.places``."""
        return HERE


def begin(db: Any) -> None:
    """Begin a moment, and end the one that somebody who went away may have left."""
    end(db)
    db.execute("BEGIN")


def end(db: Any) -> None:
    """End a moment."""
    sqlite.roll_back(db)


class _OutOfTime(Exception):
    """A read's time was over before it began."""


class _Patience:
    """How long a read on the thread goes on: until its deadline, or until nobody waits for it."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def is_over(self) -> bool:
        return time.monotonic() >= self._until

    def end(self) -> None:
        self._until = 0.0

    def read(self, db: Any, text: str, parameters: dict[str, Any]) -> list[Any]:
        if self.is_over():  # others were before it on the thread, or nobody waits for it any more
            raise _OutOfTime
        db.set_progress_handler(self.is_over, LOOK)
        try:
            return rows_of(db, text, parameters)
        finally:
            db.set_progress_handler(None, 0)


def rows_of(db: Any, text: str, parameters: dict[str, Any]) -> list[Any]:
    """Return the rows that a query finds.

    Where a rebuild puts another full-text index in the place of one, SQLite sees that only by another look at the file,
    and fails until then; it may happen again meanwhile.
    """
    for _ in range(LOOKS_MAX):
        with contextlib.suppress(_Moved):
            return _rows(db, text, parameters)
        db.execute("SELECT name FROM projections").fetchall()
    return fetched(db.execute(text, parameters), SIZE_MAX)


class _Moved(Exception):
    """A full-text index is not where it was."""


def _rows(db: Any, text: str, parameters: dict[str, Any]) -> list[Any]:
    try:
        return fetched(db.execute(text, parameters), SIZE_MAX)
    except sqlite.OperationalError as error:
        if str(error).startswith("vtable constructor failed"):
            raise _Moved from error
        raise
