"""Standard Workload Format: batch accounting logs of the Parallel Workloads Archive, one finished job a line.

https://www.cs.huji.ac.il/labs/parallel/workload/swf.html. Mapping: created and pending at submit; running at
submit + wait when it ran; the end at submit + wait + run: status 1 completed, 0 failed, 5 cancelled, or expired where
the run reached its requested time. Status -1 stays open. The header's UnixStartTime is second 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ledger import ids
from ledger.events import NOTHING, Changed, Created
from ledger.formats import Move, Reject, Row, reject

FIELDS = 18
SECOND_US = 1_000_000
_START = re.compile(rb"[; ]*UnixStartTime\s*:\s*([0-9]{1,12})\s*")
"""The header that says when second 0 was; with 12 digits a time in seconds is past every calendar."""
_COMPLETED = Changed(stop_reason="end_turn")
_FAILED = Changed(stop_reason="error")
_CANCELLED = Changed(stop_reason="cancelled")


def parse(lines: Iterable[bytes], source: str) -> Iterator[Row | Reject]:
    """Yield a row for each job of the file called ``source``."""
    start_s = 0
    for number, line in enumerate(lines, 1):
        if line.startswith(b";"):
            if start := _START.fullmatch(line):
                start_s = int(start[1])
            continue
        fields = line.split()
        if not fields:
            continue
        try:
            if len(fields) != FIELDS:
                raise ValueError(f"has {len(fields)} fields; a job has {FIELDS}")
            yield _row(number, line, fields, start_s, source)
        except (ValueError, OverflowError) as error:
            yield reject(number, error, line)


def _row(number: int, line: bytes, fields: list[bytes], start_s: int, source: str) -> Row:
    job = int(fields[0])
    submit, wait, run, requested = (int(float(fields[index])) for index in (1, 2, 3, 8))
    submitted_us = (start_s + submit) * SECOND_US
    started_us = submitted_us + max(wait, 0) * SECOND_US
    ended_us = started_us + max(run, 0) * SECOND_US
    metadata = {
        "job_number": job,
        "user": int(fields[11]),
        "group": int(fields[12]),
        "queue": int(fields[14]),
        "processors": int(fields[4]),
        "requested_time_s": requested,
        "source": source,
    }
    created = Created(user_id=ids.SYSTEM_USER, metadata=metadata)
    moves = [Move("created", submitted_us, created), Move("pending", submitted_us, NOTHING)]
    if run > 0:
        moves.append(Move("running", started_us, NOTHING))
    end = _end(int(fields[10]), run, requested)
    if end is not None:
        moves.append(Move(end[0], ended_us, end[1]))
    return Row(number, ids.derive("job", source, str(job)), "job", f"swf:{source}:{job:09d}", tuple(moves), line)


def _end(status: int, run: int, requested: int) -> tuple[str, Changed] | None:
    if status == 1:
        return "completed", _COMPLETED
    if status == 0:
        return "failed", _FAILED
    if status == 5:
        return ("expired", NOTHING) if 0 < requested <= run else ("cancelled", _CANCELLED)
    if status == -1:
        return None
    raise ValueError(f"has status {status}; known are 1, 0, 5 and -1")
