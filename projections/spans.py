"""Spans: the shape of OpenTelemetry's trace data (the proto's field names), and what keeps a tree of them sound."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Literal

import msgspec

NAME_SIZE_MAX = 128
"""Characters of a span's name: models make up tool names of thousands. The whole name is in an attribute."""
DESCRIPTION_SIZE_MAX = 1024
"""Characters of the description of an error; the whole text is where it was said: in the run, step or message."""
TIME_MAX_NS = 2**63 - 1
"""The year 2262: a time beyond is no 64-bit integer, which is what clients and trace stores hold."""

Attributes = dict[str, Any]


class Status(msgspec.Struct, frozen=True):
    """How what a span stands for ended. ``message`` is there for errors only, as OpenTelemetry wants it."""

    code: Literal["UNSET", "OK", "ERROR"] = "UNSET"
    message: str = ""


class SpanEvent(msgspec.Struct, frozen=True):
    """Something at one moment of a span."""

    name: str
    time_unix_nano: int
    attributes: Attributes


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Something that took time. Times are nanoseconds since 1970 UTC; the end is null where none is known.

    ``trace_id`` has 32 hex digits, ``span_id`` and ``parent_span_id`` 16; the root has no parent.
    """

    trace_id: str
    span_id: str
    parent_span_id: str | None = None
    name: str
    kind: Literal["INTERNAL", "CLIENT"]
    start_time_unix_nano: int
    end_time_unix_nano: int | None
    attributes: Attributes
    status: Status = Status()
    events: list[SpanEvent] = []


def trace_id(run_id: str) -> str:
    """Return the trace of a run: its uuid without dashes."""
    return run_id.partition("-")[2].replace("-", "")


def span_id(*names: str | int | None) -> str:
    """Return the one span id of these names: the first 16 hex digits of the SHA-256 of their JSON."""
    return sha256(msgspec.json.encode(names)).hexdigest()[:16]


def short(text: str, size_max: int = NAME_SIZE_MAX) -> str:
    """Return the text, or its beginning and an ellipsis where it is longer."""
    return text if len(text) <= size_max else text[: size_max - 1] + "…"


def failure(message: str) -> Status:
    """Return the status of what went wrong."""
    return Status("ERROR", short(message, DESCRIPTION_SIZE_MAX))


def known(attributes: Mapping[str, object]) -> Attributes:
    """Return the attributes that have a value: OpenTelemetry knows no null."""
    return {name: value for name, value in attributes.items() if value is not None}


def bounded(time_ns: int) -> int:
    """Return the time, or the nearest that a span can have: from 1970 to 2262."""
    return min(max(time_ns, 0), TIME_MAX_NS)


def child(parent: Span, *, start_ns: int, end_ns: int | None, **fields: Any) -> Span:
    """Return a span within its parent, which it can neither begin before nor outlast, nor end before it began.

    Clocks of several makers meet in one trace, some of whole seconds, so what was told may not fit: it is moved to the
    nearest moment that does, and ``jobledger.clamped.*`` keeps the time that was told.
    """
    first = parent.start_time_unix_nano
    last = TIME_MAX_NS if parent.end_time_unix_nano is None else parent.end_time_unix_nano
    start = min(max(start_ns, first), last)
    end = None if end_ns is None else min(max(end_ns, start), last)
    attributes = known(fields.pop("attributes"))
    for name, told_ns, time_ns in (("start", start_ns, start), ("end", end_ns, end)):
        if told_ns is not None and told_ns != time_ns:
            attributes[f"jobledger.clamped.{name}_time_unix_nano"] = bounded(told_ns)
    return Span(
        trace_id=parent.trace_id,
        parent_span_id=parent.span_id,
        start_time_unix_nano=start,
        end_time_unix_nano=end,
        attributes=attributes,
        **fields,
    )
