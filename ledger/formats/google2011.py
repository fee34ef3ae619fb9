"""Google clusterdata-2011-2, ``job_events``: one scheduler event a line, in time order over all parts.

Mapping: SUBMIT is created and pending; SCHEDULE running; FINISH completed; FAIL failed; KILL cancelled; EVICT failed
with metadata reason evicted; LOST expired (the terminal record is missing). UPDATE events change no status. A job that
was submitted again under its old id after its end is refused by the rules, so those lines are rejects: an id has one
life. Time 0 means before the trace; the trace begins 600 s after its time 0, 2011-05-01T23:00:00Z.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ledger import ids
from ledger.events import NOTHING, Changed, Created
from ledger.formats import Move, Reject, Row, reject

COLUMNS = 8
START_US = 1_304_290_800_000_000 - 600_000_000
"""2011-05-01T23:00:00Z less the 600 s by which trace times are shifted."""
SOURCE = "google-2011"
_MOVES = {
    1: ("running", NOTHING),
    2: ("failed", Changed(stop_reason="error", metadata={"reason": "evicted"})),
    3: ("failed", Changed(stop_reason="error")),
    4: ("completed", Changed(stop_reason="end_turn")),
    5: ("cancelled", Changed(stop_reason="cancelled")),
    6: ("expired", Changed(metadata={"reason": "lost"})),
}


def parse(lines: Iterable[bytes], source: str) -> Iterator[Row | Reject]:
    """Yield a row for each event of the file called ``source``."""
    for number, line in enumerate(lines, 1):
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if not text:
            continue
        try:
            fields = text.split(",")
            if len(fields) != COLUMNS:
                raise ValueError(f"has {len(fields)} columns; a job event has {COLUMNS}")
            yield _row(number, line, fields, source)
        except ValueError as error:
            yield reject(number, error, line)


def _row(number: int, line: bytes, fields: list[str], source: str) -> Row:
    time_us = START_US + int(fields[0])
    job, event = fields[2], int(fields[3])
    if not job.isdigit():
        raise ValueError(f"has '{job[:40]}' for a job id")
    moves = (_submit(fields, time_us), Move("pending", time_us, NOTHING)) if event == 0 else (_move(event, time_us),)
    return Row(number, ids.derive("job", SOURCE, job), "job", f"{SOURCE}:{source}:{number:07d}", moves, line)


def _submit(fields: list[str], time_us: int) -> Move:
    metadata = {
        "job_id": fields[2],
        "user": fields[4],
        "scheduling_class": int(fields[5]) if fields[5] else None,
        "name": fields[6],
        "logical_name": fields[7],
    }
    if fields[1]:
        metadata["missing_info"] = int(fields[1])
    return Move("created", time_us, Created(user_id=ids.SYSTEM_USER, metadata=metadata))


def _move(event: int, time_us: int) -> Move:
    if event in (7, 8):
        raise ValueError("is an UPDATE event, which changes no status")
    if event not in _MOVES:
        raise ValueError(f"has event type {event}; known are 0 to 8")
    status, fact = _MOVES[event]
    return Move(status, time_us, fact)
