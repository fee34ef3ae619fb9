"""The texts view: what events say in words, in the order of the log, with an index of the words (SQLite's FTS5).

The index stands in a table beside, without a copy of the texts, so that each text is kept once. Its rows have the
positions of the events, so that the newest finds are read first without sorting, however many there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ledger.events import ERASURES, Recorded
from projections.documents import SPEAKING, WHATS, Document, document
from projections.projection import Memory, Within, part_of

WORDS: Final = "words"
_TEXTS: Final = ", ".join(WHATS)
_NULLABLE: Final = ", ".join(f"{name} TEXT" for name in ("message_id", "step_id", "message_type", *WHATS))
_TOKENS: Final = "tokenize = 'unicode61 remove_diacritics 2'"


class TextsProjection(Within):
    """Folds every event that says something into one row, with a column for each kind of text."""

    name = "texts"
    version = 1
    types = SPEAKING | ERASURES
    place, subject, stream = "position", "stream", "stream"
    parts: tuple[str, ...] = (WORDS,)

    def create(self, db: Any, table: str) -> None:
        """See ``Projection.create``; the index of words is filled at once when all texts are there (``index``)."""
        db.execute(
            f"CREATE TABLE {table} (position INTEGER PRIMARY KEY, stream TEXT NOT NULL, version INTEGER NOT NULL, "
            f"time_us INTEGER NOT NULL, {_NULLABLE}) STRICT"
        )

    def index(self, db: Any, table: str, generation: str) -> None:
        """See ``Projection.index``.

        Erased words stay in the index until it is written anew (``scrub``). Its option ``secure-delete`` would take
        them out at once, but then no SQLite before 3.42 could read the file.
        """
        db.execute(f"CREATE INDEX texts_stream_{generation} ON {table} (stream)")
        db.execute(f"CREATE INDEX texts_time_{generation} ON {table} (time_us)")
        words = part_of(table, WORDS)
        db.execute(f"CREATE VIRTUAL TABLE {words} USING fts5({_TEXTS}, content = '', columnsize = 0, {_TOKENS})")
        db.execute(f"INSERT INTO {words} (rowid, {_TEXTS}) SELECT position, {_TEXTS} FROM {table}")

    def apply(
        self,
        db: Any,
        table: str,
        events: Sequence[Recorded],
        memory: Memory,
        births: Mapping[str, int] | None = None,
    ) -> list[str]:
        """See ``Projection.apply``."""
        told = [(event, found) for event in events if (found := document(event)) is not None]
        _insert(db, table, told)
        erased = [event.stream for event in events if event.type in ERASURES]
        if births is None:
            words = part_of(table, WORDS)
            said = [(event.position, each.message, each.error, each.tool, each.metadata) for event, each in told]
            db.executemany(f"INSERT INTO {words} (rowid, {_TEXTS}) VALUES (?, ?, ?, ?, ?)", said)
            for stream in erased:  # in a log that is read from its beginning, what was erased is gone already
                _forget(db, table, words, stream)
        return list(dict.fromkeys([event.stream for event, _ in told] + erased))


def _insert(db: Any, table: str, told: Sequence[tuple[Recorded, Document]]) -> None:
    """Write rows; of most changes, which there are many of, only what they have: a null costs as much as a text."""
    changes = [
        (event.position, event.stream, event.version, event.time, each.metadata)
        for event, each in told
        if each.message_type is None and each.error is None
    ]
    db.executemany(
        f"INSERT INTO {table} (position, stream, version, time_us, metadata) VALUES (?, ?, ?, ?, ?)", changes
    )
    others = [
        (
            *(event.position, event.stream, event.version, event.time),
            *(each.message_id, each.step_id, each.message_type, each.message, each.error, each.tool, each.metadata),
        )
        for event, each in told
        if each.message_type is not None or each.error is not None
    ]
    db.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", others)


def _forget(db: Any, table: str, words: str, stream: str) -> None:
    """Delete the texts of a stream; the index, which has no copy of them, is told what it had."""
    where = f"FROM {table} WHERE stream = ?"
    db.execute(f"INSERT INTO {words} ({words}, rowid, {_TEXTS}) SELECT 'delete', position, {_TEXTS} {where}", (stream,))
    db.execute(f"DELETE {where}", (stream,))


TEXTS = TextsProjection()
