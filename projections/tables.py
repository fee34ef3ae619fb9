"""Tables of jobs, runs, batches and steps with plain columns, for those who go on in DuckDB, pandas or a spreadsheet.

Rows are read from the files alone (``overlay``), in the order of creation, a part at a time, so that memory is bounded.
What lists do not show, because it was deleted or erased, is in no table.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec

from ledger import events as facts
from ledger.times import from_text
from projections.batches import BATCHES
from projections.errors import error_of
from projections.jobs import JOBS
from projections.overlay import Overlay
from projections.projection import Projection
from projections.reader import Reader
from projections.runs import RUNS
from projections.stepmetrics import within_64_bits
from projections.steps import STEPS
from projections.tools import TOOLS
from projections.usage import SUMS_OF, usage

ROWS_AT_ONCE: Final = 2_000
"""Rows of one part."""
SIZE_AT_ONCE: Final = 16 * 2**20
"""Bytes of one part: a row may bring 1 MiB of metadata."""
_SHOWN: Final = "deleted_us IS NULL AND erased_position IS NULL"

Kind = Literal["text", "json", "int", "float", "bool", "time"]
"""What a column holds: JSON as text; times are microseconds since 1970 UTC. Every cell may be None."""
Row = tuple[Any, ...]
Finish = Callable[[Reader, list[Row]], Awaitable[list[Row]]]


class Table(NamedTuple):
    """A table: its columns in order, the views that it is read from, and how their rows become its own."""

    name: str
    projection: Projection
    needs: Sequence[Projection]
    columns: dict[str, Kind]
    read: str
    shown: str
    finish: Finish


async def count(at_end: Overlay, table: Table) -> tuple[Reader, int]:
    """Return what reads the views of a table, and how many rows it has."""
    reader = await at_end.reader(table.needs)
    rows = await reader.read(f"SELECT count(*) FROM {table.name} WHERE {table.shown}", {})
    return reader, rows[0][0]


async def parts(at_end: Overlay, reader: Reader, table: Table) -> AsyncIterator[list[Row]]:
    """Yield the rows of a table."""
    places = reader.places(table.name)
    order = "position" if table.projection is STEPS else "created_position"
    selects = (
        f"SELECT {order}, {table.read} FROM {place.schema}.{table.name} AS {table.name} "
        f"WHERE {place.condition} AND {table.shown}"
        for place in places
    )
    cursor = at_end.db.execute(f"{' UNION ALL '.join(selects)} ORDER BY {order}")
    for part in _parted(cursor):
        yield await table.finish(reader, part)


def _parted(cursor: Any) -> Iterator[list[Row]]:
    part: list[Row] = []
    size = 0
    for _, *row in cursor:
        part.append(tuple(row))
        size += len(row[-1])
        if len(part) >= ROWS_AT_ONCE or size >= SIZE_AT_ONCE:
            yield part
            part, size = [], 0
    if part:
        yield part


# --- jobs, batches and runs -------------------------------------------------------------------------------------------


class _Wire(msgspec.Struct):
    """What of a resource only its wire bytes hold."""

    ttft_ns: int | None = None
    callback_url: str | None = None
    callback_sent_at: str | None = None
    callback_status_code: int | None = None
    callback_error: str | None = None
    metadata: msgspec.Raw = msgspec.Raw(b"null")
    request_config: msgspec.Raw = msgspec.Raw(b"null")


class _Failure(msgspec.Struct):
    error: Any = None


_wire = msgspec.json.Decoder(_Wire).decode
_failure = msgspec.json.Decoder(_Failure).decode
_encode = msgspec.json.Encoder().encode

_HEAD: Final[dict[str, Kind]] = {
    "id": "text", "status": "text", "user_id": "text", "project_id": "text", "agent_id": "text", "background": "bool",
}  # fmt: skip
_LIFE: Final[dict[str, Kind]] = {
    "created_at": "time", "pending_at": "time", "running_at": "time", "completed_at": "time", "last_event_at": "time",
    "stop_reason": "text", "total_duration_ns": "int", "timeout_s": "float",
}  # fmt: skip
_REST: Final[dict[str, Kind]] = {
    "queue_ns": "int", "ttft_ns": "int", "error_type": "text", "error_message": "text", "callback_url": "text",
    "callback_sent_at": "time", "callback_status_code": "int", "callback_error": "text", "metadata": "json",
}  # fmt: skip
_LIFE_READ: Final = "created_us, pending_us, running_us, ended_us, effective_us, stop_reason, duration_ns, timeout_s"
_CREATED, _RUNNING = len(_HEAD), len(_HEAD) + 2
"""Places in what is read of jobs and batches, and of runs."""


def _rest(row: Row, wire: _Wire) -> Row:
    """Return the columns of ``_REST`` of a row whose times stand where jobs have them."""
    created_us, running_us = row[_CREATED], row[_RUNNING]
    raw = bytes(wire.metadata)
    error = error_of({"error": _failure(raw).error} if b'"error"' in raw else None)
    return (
        None if running_us is None else within_64_bits((running_us - created_us) * 1000),
        wire.ttft_ns,
        error.type,
        error.message,
        wire.callback_url,
        None if wire.callback_sent_at is None else from_text(wire.callback_sent_at),
        wire.callback_status_code,
        wire.callback_error,
        _json(wire.metadata),
    )


def _json(raw: msgspec.Raw) -> str | None:
    text = bytes(raw).decode()
    return None if text == "null" else text


async def _jobs(reader: Reader, rows: list[Row]) -> list[Row]:
    return [(*_told(row[:-1]), *_rest(row, _wire(row[-1]))) for row in rows]


def _told(row: Row) -> Row:
    """Return a row with its one truth value as such."""
    place = len(_HEAD) - 1
    return row if row[place] is None else (*row[:place], bool(row[place]), *row[place + 1 :])


_RUN_READ: Final = "conversation_id, base_template_id, batch_id, usage"
_RUN: Final[dict[str, Kind]] = {
    "conversation_id": "text", "base_template_id": "text", "batch_id": "text", "step_count": "int",
    "prompt_tokens": "int", "completion_tokens": "int", "total_tokens": "int", "cached_input_tokens": "int",
    "cache_write_tokens": "int", "reasoning_tokens": "int", "models": "json", "tools": "json",
    "request_config": "json",
}  # fmt: skip
_COUNTED: Final = tuple(name for name, kind in _RUN.items() if kind == "int")
_CHOSEN: Final = "WHERE run_id IN (SELECT value FROM json_each(:ids)) GROUP BY run_id"
_MODELS: Final = (
    f"SELECT run_id, json_group_array(DISTINCT model) FILTER (WHERE model IS NOT NULL) FROM steps {_CHOSEN}"
)
_TOOLS: Final = f"SELECT run_id, json_group_array(DISTINCT tool) FROM tools {_CHOSEN}"


async def _runs(reader: Reader, rows: list[Row]) -> list[Row]:
    ids = {"ids": _encode([row[0] for row in rows]).decode()}
    sums = {run_id: tuple(counts) for run_id, *counts in await reader.read(SUMS_OF, ids)}
    models, tools = [dict(await reader.read(text, ids)) for text in (_MODELS, _TOOLS)]
    nothing = (0, *(None,) * 8)
    found = []
    for row in rows:
        *base, conversation, template, batch, told, raw = row
        wire, id = _wire(raw), row[0]
        used = usage(sums.get(id, nothing), told)
        counts = [getattr(used, name) for name in _COUNTED]
        of_run = (conversation, template, batch, *counts, models.get(id, "[]"), tools.get(id, "[]"))
        found.append((*_told(tuple(base)), *_rest(row, wire), *of_run, _json(wire.request_config)))
    return found


# --- steps ------------------------------------------------------------------------------------------------------------

_STEP: Final[dict[str, Kind]] = {
    "id": "text", "run_id": "text", "status": "text", "agent_id": "text", "project_id": "text", "model": "text",
    "began_at": "time", "ended_at": "time", "step_start_ns": "int", "step_ns": "int", "llm_request_ns": "int",
    "tool_execution_ns": "int", "prompt_tokens": "int", "completion_tokens": "int", "total_tokens": "int",
    "cached_input_tokens": "int", "cache_write_tokens": "int", "reasoning_tokens": "int", "feedback": "text",
    "trace_id": "text", "provider_name": "text", "stop_reason": "text", "error_type": "text", "error_message": "text",
    "tags": "json",
}  # fmt: skip
_STEP_READ: Final = ", ".join(
    {"began_at": "began_us", "ended_at": "ended_us"}.get(name, name) for name in list(_STEP)[:20]
)
_AGENT, _PROJECT = 3, 4
_step = msgspec.json.Decoder(facts.Step).decode


async def _steps(reader: Reader, rows: list[Row]) -> list[Row]:
    ids = {"ids": _encode(sorted({row[1] for row in rows})).decode()}
    text = "SELECT id, agent_id, project_id FROM runs WHERE id IN (SELECT value FROM json_each(:ids))"
    owners = {id: (agent_id, project_id) for id, agent_id, project_id in await reader.read(text, ids)}
    found = []
    for *base, raw in rows:
        said = _step(raw)
        agent_id, project_id = owners.get(base[1], (None, None))
        base[_AGENT], base[_PROJECT] = base[_AGENT] or agent_id, base[_PROJECT] or project_id
        message = (said.error_data or {}).get("message")
        tags = _encode(said.tags or []).decode()
        told = (said.provider_name, said.stop_reason, said.error_type, message if isinstance(message, str) else None)
        found.append((*base, *told, tags))
    return found


def _resource(name: str, projection: Projection) -> Table:
    columns = {**_HEAD, **_LIFE, **_REST}
    return Table(name, projection, (projection,), columns, f"{', '.join(_HEAD)}, {_LIFE_READ}, wire", _SHOWN, _jobs)


TABLES: Final = {
    table.name: table
    for table in (
        _resource("jobs", JOBS),
        Table(
            "runs",
            RUNS,
            (RUNS, STEPS, TOOLS),
            {**_HEAD, **_LIFE, **_REST, **_RUN},
            f"{', '.join(_HEAD)}, {_LIFE_READ}, {_RUN_READ}, wire",
            _SHOWN,
            _runs,
        ),
        Table(
            "steps",
            STEPS,
            (RUNS, STEPS),
            _STEP,
            f"{_STEP_READ}, said",
            f"run_id IN (SELECT id FROM runs WHERE {_SHOWN})",
            _steps,
        ),
        _resource("batches", BATCHES),
    )
}
"""All tables by name."""
