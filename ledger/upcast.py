"""Upcasts: event data of an older schema into today's, one step at a time, on plain dicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ledger.errors import Unreadable
from ledger.events import NOTHING, TYPES, Fact, Recorded

Upcast = Callable[[dict[str, Any]], dict[str, Any]]


def _as_it_is(data: dict[str, Any]) -> dict[str, Any]:
    """Where a later shape only has more that may be said."""
    return data


UPCASTS: dict[tuple[str, int], Upcast] = {("run.updated", 1): _as_it_is}
"""(type, schema) -> the step to schema + 1."""

SHORT = 64
"""Bytes of data up to which decoded facts are shared: most events say nothing, or only their stop reason."""
_SHARED_MAX = 1024
_shared: dict[str, dict[bytes, Fact]] = {name: {} for name in TYPES}


def fact(event: Recorded) -> Fact | None:
    """Return the data of a recorded event in today's shape; None when it was erased.

    Raises ``Unreadable`` for a type or schema that this program does not know, and for data that does not fit.
    """
    data, info = event.data, TYPES.get(event.type)
    if info is None or event.schema != info.schema or data is None or len(data) > SHORT:
        return _decode(event)
    shared = _shared[event.type]
    known = shared.get(data)
    if known is None:
        known = _decode(event)
        if known is not None:
            if len(shared) >= _SHARED_MAX:
                shared.clear()
            known = NOTHING if known == NOTHING else known
            shared[data] = known
    return known


def _decode(event: Recorded) -> Fact | None:
    info = TYPES.get(event.type)
    if info is None or event.schema > info.schema:
        raise Unreadable(
            path=f"event {event.position}",
            reason=f"type '{event.type}' schema {event.schema} is newer than this program",
        )
    if event.schema < 1:
        raise Unreadable(path=f"event {event.position}", reason=f"schema {event.schema} is none; they begin at 1")
    if event.data is None:
        return None
    try:
        if event.schema == info.schema:
            return info.decode(event.data)  # type: ignore[no-any-return]
        return _lift(event, info.shape, info.schema)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        where = str(error).partition(" - at ")[2] or "its beginning"  # the rest would quote what it holds
        raise Unreadable(
            path=f"event {event.position}", reason=f"its data does not fit {event.type}, at {where}"
        ) from None


def _lift(event: Recorded, shape: type[Fact], target: int) -> Fact:
    data: dict[str, Any] = msgspec.json.decode(event.data or b"{}")
    for schema in range(event.schema, target):
        data = UPCASTS[event.type, schema](data)
    return msgspec.convert(data, shape)
