"""The SQL of the log: what a store asks of an open connection, and the one write."""

from __future__ import annotations

from collections.abc import Collection
from hashlib import sha256
from itertools import starmap
from typing import Any

from msgspec.structs import astuple

from ledger import engine
from ledger.errors import Damaged
from ledger.events import QUIET, Recorded
from ledger.merkle import Frontier
from ledger.session import Head, Sealed
from ledger.store import up_to

IN_MAX = 500
"""Parameters of one IN list; SQLite compiles a list this long in well under a millisecond."""

_NAMES = "position, stream, version, type, schema, time, recorded, actor, key, correlation, data, salt, digest"
_IS_KEPT = "salt > zeroblob(16)"
"""The condition that an event's data is there: a salt is random, and that of erased data zero bytes, or null."""
_KEPT_DIGEST = "ifnull(digest, (SELECT digest FROM erasures WHERE erasures.position = events.position))"
COLUMNS = (
    "position, stream, version, type, schema, time, recorded, actor, key, correlation, "
    f"iif({_IS_KEPT}, data, NULL), nullif(salt, zeroblob(16)), iif({_IS_KEPT}, digest, {_KEPT_DIGEST})"
)
"""What a query of events asks for to make each row a ``Recorded``."""
_EVENTS = f"events ({_NAMES}, leaf)"
_HEAD = "SELECT size, recorded, frontier FROM head"
STREAM = f"SELECT {COLUMNS} FROM events WHERE stream = ? AND version > ? ORDER BY version LIMIT ?"
_AT = f"SELECT {COLUMNS} FROM events WHERE stream = ? AND version = ?"
_BY_KEY = f"SELECT {COLUMNS} FROM events WHERE key = ?"
SCAN = f"SELECT {COLUMNS} FROM events WHERE position > ? ORDER BY position LIMIT ?"

_FACTS = "position, stream, version, type, schema, time, 0, actor, NULL, NULL"
FACTS = f"SELECT {_FACTS}, iif({_IS_KEPT}, data, NULL), NULL FROM events WHERE position > ? ORDER BY position LIMIT ?"
_QUIET = ", ".join(f"'{name}'" for name in sorted(QUIET))
_BARE = (
    "position, stream, version, type, schema, time, recorded, actor, NULL, NULL, "
    f"iif(type IN ({_QUIET}), NULL, iif({_IS_KEPT}, data, NULL)), NULL, NULL"
)


class SqlSource:
    """What a session asks of the engine, answered inside the transaction of a connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def head(self) -> Head:
        """See ``Source.head``."""
        return read_head(self._connection)

    def stream(self, stream: str) -> list[Recorded]:
        """See ``Source.stream``."""
        return [Recorded(*row) for row in self._connection.execute(STREAM, (stream, 0, -1))]

    def at(self, stream: str, version: int) -> Recorded | None:
        """See ``Source.at``."""
        row = self._connection.execute(_AT, (stream, version)).fetchone()
        return Recorded(*row) if row else None

    def by_key(self, key: str) -> Recorded | None:
        """See ``Source.by_key``."""
        row = self._connection.execute(_BY_KEY, (key,)).fetchone()
        return Recorded(*row) if row else None

    def known(self, streams: Collection[str], keys: Collection[str]) -> tuple[set[str], set[str]]:
        """See ``Source.known``."""
        by_stream = "SELECT stream FROM events WHERE version = 1 AND stream IN"
        return self._which(by_stream, streams), self._which("SELECT key FROM events WHERE key IN", keys)

    def _which(self, question: str, values: Collection[str]) -> set[str]:
        found: set[str] = set()
        wanted = list(values)
        for start in range(0, len(wanted), IN_MAX):
            part = wanted[start : start + IN_MAX]
            rows = self._connection.execute(f"{question} ({','.join('?' * len(part))})", part)
            found.update(row[0] for row in rows.fetchall())
        return found


def read_head(connection: Any) -> Head:
    """Return the end of the log as a connection sees it. Raises ``Damaged``."""
    row = connection.execute(_HEAD).fetchone()
    if row is None:
        raise Damaged(reason="its head is gone, which says where it ends")
    size, recorded_us, frontier = row
    try:
        return Head(size, recorded_us, Frontier.from_bytes(size, frontier))
    except ValueError as error:
        raise Damaged(reason=f"its head says what cannot be: {error}") from error


def streams_of(
    connection: Any, ids: list[str], without: Collection[str] = (), *, bare: bool = False
) -> dict[str, list[Recorded]]:
    """Return all events of several streams, in order, but those of the types ``without``; ``bare`` as in the store."""
    columns = _BARE if bare else COLUMNS
    other = f"AND type NOT IN ({','.join('?' * len(without))}) " if without else ""
    found: dict[str, list[Recorded]] = {}
    for start in range(0, len(ids), IN_MAX):
        part = ids[start : start + IN_MAX]
        marks = ",".join("?" * len(part))
        sql = f"SELECT {columns} FROM events WHERE stream IN ({marks}) {other}ORDER BY stream, version"
        for row in connection.execute(sql, [*part, *without]):
            found.setdefault(row[1], []).append(Recorded(*row))
    return found


def imported_of(connection: Any, positions: Collection[int]) -> set[int]:
    """Return those positions whose events came by an import."""
    known = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'imports'").fetchone()[0]
    if not known:  # a file of format 1 that nobody wrote to since
        return set()
    sql = "SELECT last FROM imports WHERE first <= ? ORDER BY first DESC LIMIT 1"
    lasts = {position: connection.execute(sql, (position,)).fetchone() for position in positions}
    return {position for position, last in lasts.items() if last is not None and position <= last[0]}


def births_of(connection: Any, ids: list[str]) -> dict[str, int]:
    """Return the position of the first event of each stream that exists."""
    found: dict[str, int] = {}
    for start in range(0, len(ids), IN_MAX):
        part = ids[start : start + IN_MAX]
        marks = ",".join("?" * len(part))
        sql = f"SELECT stream, position FROM events WHERE version = 1 AND stream IN ({marks})"
        found.update(connection.execute(sql, part).fetchall())
    return found


def rows_of(connection: Any, sql: str, parameters: tuple[Any, ...], size_max: int | None = None) -> list[Recorded]:
    """Return the events that a query of all ``COLUMNS`` finds; ``size_max`` as in ``Store.stream``."""
    cursor = connection.execute(sql, parameters)
    if size_max is None:
        return list(starmap(Recorded, cursor.fetchall()))
    try:
        return list(up_to(size_max, starmap(Recorded, cursor)))
    finally:
        cursor.close()  # it may not be at its end, and would hold its snapshot


def write(connection: Any, sealed: Sealed) -> None:
    """Write what a session staged: events, completed tree nodes, what is erased, and the new end of the log."""
    rows = [(*astuple(event), leaf) for event, leaf in zip(sealed.events, sealed.leaves, strict=True)]
    engine.insert(connection, _EVENTS, 14, rows)
    if sealed.nodes:
        connection.executemany("INSERT INTO tree (level, idx, hash) VALUES (?, ?, ?)", sealed.nodes)
    if sealed.imports:
        connection.executemany("INSERT INTO imports (first, last) VALUES (?, ?)", sealed.imports)
    for event in sealed.erased:
        _blank(connection, event.stream, event.version)
        connection.execute("UPDATE scrub SET wanted = ?", (event.position,))
    head = sealed.head
    connection.execute(
        "UPDATE head SET size = ?, recorded = ?, frontier = ?", (head.size, head.recorded_us, head.frontier.to_bytes())
    )


def _blank(connection: Any, stream: str, version: int) -> None:
    """Overwrite data and salt of a stream's events before a version in place, and keep their digests."""
    sql = f"SELECT position, salt, data FROM events WHERE stream = ? AND version < ? AND {_IS_KEPT}"
    digests = [
        (position, sha256(salt + data).hexdigest())
        for position, salt, data in connection.execute(sql, (stream, version))
    ]
    connection.executemany("INSERT INTO erasures (position, digest) VALUES (?, ?)", digests)
    connection.executemany(
        "UPDATE events SET data = zeroblob(length(data)), salt = zeroblob(length(salt)) WHERE position = ?",
        [(position,) for position, _ in digests],
    )


def erased_last(connection: Any) -> tuple[int, int]:
    """Return the positions of the last erased event, and of the last one whose data left the write-ahead log, too."""
    known = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'scrub'").fetchone()[0]
    if not known:  # a file of an older format that nobody wrote to since
        return 0, 0
    wanted, done = connection.execute("SELECT wanted, done FROM scrub").fetchone()
    return wanted, done
