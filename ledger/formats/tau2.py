"""Results of tau2-bench: one experiment a file, a JSON document; each of its simulations is one run.

https://github.com/sierra-research/tau2-bench. Mapping: the file is a job, from the first start to the last end. A run
is created at ``start_time``, running at its first message, ended at ``end_time`` (times without a zone, which are UTC).
Each message becomes one of the LettaMessage union, with the source's own whole and unchanged in ``original``. Each
message of the agent is a step, and each of the user that a model wrote (tag ``user_simulator``); the tools' answers
belong to the step that called them. A step is failed with ``format_error`` where the model had to be asked again, else
with ``tool_error`` where a tool gave an error back; where both happened its data names both. The reward says how well
the task was done, not how the run ended: it is metadata.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from ledger import ids, jsontext
from ledger.errors import LedgerError, invalid
from ledger.events import NOTHING, Changed, Created
from ledger.formats import Move, Reject, Row, decode, reject, simulation
from ledger.formats.simulation import SOURCE, Experiment, Setup

DOCUMENT_SIZE_MAX = 2**30
"""Bytes of a file, which is held in memory whole; the largest of the real data has 3 MB."""
DEPTH_MAX = 4 * jsontext.DEPTH_MAX
"""Levels up to which a document is taken apart: one simulation that is nested too deep does not cost the others."""


class _Document(msgspec.Struct, frozen=True):
    simulations: list[msgspec.Raw]
    info: Setup
    timestamp: str | None = None


_decode = msgspec.json.Decoder(_Document).decode
_encode = msgspec.json.Encoder().encode


def parse(lines: Iterable[bytes], source: str) -> Iterator[Row | Reject]:
    """Yield a row for each simulation of the file called ``source``, then one for the experiment."""
    raw = b""
    try:
        raw = _join(lines)
        document = _open(raw)
        experiment = Experiment(source, ids.derive("job", SOURCE, source), document.info)
    except (LedgerError, ValueError) as error:
        yield reject(1, error, raw)
        return
    known: dict[str, int] = {}
    rows: list[tuple[int, int, str]] = []
    for line, part in _places(raw, document.simulations):
        try:
            row = _row(line, part, experiment)
            if row.stream in known:
                raise invalid("id", f"is that of the simulation in line {known[row.stream]} too; a run has one record")
            known[row.stream] = line
            rows.append(_extent(row))
            yield row
        except (LedgerError, ValueError, OverflowError) as error:
            yield reject(line, error, part)
    if rows:
        yield _job(raw, document, experiment, rows)


def _join(lines: Iterable[bytes]) -> bytes:
    parts: list[bytes] = []
    size = 0
    for line in lines:
        size += len(line)
        if size > DOCUMENT_SIZE_MAX:
            raise invalid("file", f"has more than {DOCUMENT_SIZE_MAX >> 20} MiB")
        parts.append(line)
    return b"".join(parts)


def _open(raw: bytes) -> _Document:
    """Return the document, its simulations not yet decoded."""
    jsontext.check_bounds(raw, "file", DEPTH_MAX)
    document = _decode(raw)
    if not document.simulations:
        raise invalid("simulations", "has no elements; each is a run")
    return document


def _places(raw: bytes, simulations: list[msgspec.Raw]) -> Iterator[tuple[int, bytes]]:
    """Yield each simulation with the line where it begins: between them there is nothing but commas and blanks."""
    line, seen = 1, 0
    at = max(raw.find(b'"simulations"'), 0)
    for each in simulations:
        part = bytes(each)
        at = raw.index(part, at)
        line += raw.count(b"\n", seen, at)
        seen = at
        yield line, part
        at += len(part)


def _row(line: int, part: bytes, experiment: Experiment) -> Row:
    value = decode(part, "simulation")
    run_id, moves = simulation.moves(value, experiment)
    # Encoded anew, so that a file that was indented in another way still tells the same.
    return Row(line, run_id, "run", f"{SOURCE}:{run_id}", moves, _encode(value))


def _extent(row: Row) -> tuple[int, int, str]:
    """Return when a run began and ended, and its status."""
    return row.moves[0].time_us, row.moves[-1].time_us, row.moves[-1].verb


def _job(raw: bytes, document: _Document, experiment: Experiment, rows: list[tuple[int, int, str]]) -> Row:
    """Return the experiment, which began with its first run and ended with its last."""
    began_us, ended_us = min(row[0] for row in rows), max(row[1] for row in rows)
    metadata = {"file": experiment.source, "timestamp": document.timestamp, "info": document.info.told()}
    counts = {"simulations": len(document.simulations), "runs": dict(sorted(Counter(row[2] for row in rows).items()))}
    moves = (
        Move("created", began_us, Created(user_id=ids.SYSTEM_USER, metadata=metadata)),
        Move("running", began_us, NOTHING),
        Move("completed", ended_us, Changed(stop_reason="end_turn", metadata=counts)),
    )
    return Row(1, experiment.job_id, "job", f"{SOURCE}:{experiment.job_id}", moves, raw[: 2**13])
