"""The messages view: what was said in runs, in the order of arrival, as it came in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ledger import upcast
from ledger.events import Message, Recorded
from ledger.times import to_text
from projections.projection import Memory, Within


class Header(msgspec.Struct):
    """What the views look at in a message."""

    id: str
    message_type: str
    step_id: str | None = None
    date: str | msgspec.UnsetType | None = msgspec.UNSET
    run_id: str | msgspec.UnsetType | None = msgspec.UNSET


header_of = msgspec.json.Decoder(Header).decode
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def wire(raw: bytes, header: Header, event: Recorded) -> bytes:
    """Return a message as clients read it: as it came in, with the date and the run where it did not say them."""
    if header.date is None or header.run_id is None:
        said = {"date": header.date or to_text(event.time), "run_id": header.run_id or event.stream}
        return _encode({**_decode(raw), **said})
    added = b""
    if header.date is msgspec.UNSET:
        added += b',"date":"' + to_text(event.time).encode() + b'"'
    if header.run_id is msgspec.UNSET:
        added += b',"run_id":"' + event.stream.encode() + b'"'
    return raw[:-1] + added + b"}" if added else raw


class MessagesProjection(Within):
    """Folds ``run.message`` into one row each; a row stands at its event's position."""

    name = "messages"
    version = 2
    types = frozenset({"run.message", "run.erased"})
    place, subject = "position", "run_id"

    def create(self, db: Any, table: str) -> None:
        """See ``Projection.create``."""
        db.execute(
            f"CREATE TABLE {table} (position INTEGER PRIMARY KEY, run_id TEXT NOT NULL, version INTEGER NOT NULL, "
            "id TEXT NOT NULL, step_id TEXT, type TEXT NOT NULL, wire BLOB NOT NULL) STRICT"
        )

    def index(self, db: Any, table: str, generation: str) -> None:
        """See ``Projection.index``."""
        db.execute(f"CREATE INDEX messages_run_{generation} ON {table} (run_id)")
        db.execute(f"CREATE INDEX messages_id_{generation} ON {table} (id, run_id)")
        db.execute(f"CREATE INDEX messages_step_{generation} ON {table} (step_id) WHERE step_id IS NOT NULL")

    def apply(
        self,
        db: Any,
        table: str,
        events: Sequence[Recorded],
        memory: Memory,
        births: Mapping[str, int] | None = None,
    ) -> list[str]:
        """See ``Projection.apply``."""
        rows = [row for event in events if (row := _row(event)) is not None]
        if rows:
            db.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        if births is None:  # in a log that is read from its beginning, what was erased is gone already
            erased = [(event.stream,) for event in events if event.type == "run.erased"]
            db.executemany(f"DELETE FROM {table} WHERE run_id = ?", erased)
        return list({event.stream: None for event in events})


def _row(event: Recorded) -> tuple[Any, ...] | None:
    fact = upcast.fact(event) if event.type == "run.message" else None
    if not isinstance(fact, Message):
        return None
    raw = bytes(fact.message)
    header = header_of(raw)
    shown = wire(raw, header, event)
    return event.position, event.stream, event.version, header.id, header.step_id, header.message_type, shown


MESSAGES = MessagesProjection()
