"""JSON that comes from outside: decoded within bounds of depth and number size, or refused with a clear error."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ledger.errors import BadRequest, invalid

DEPTH_MAX = 64
"""Levels of arrays and objects (contract 3); msgspec itself recurses and can crash a small stack near 1,000."""
INT_MIN, INT_MAX = -(2**63), 2**63 - 1

_BRACKET_OR_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\Z|\\)|[\[\]{}]', re.DOTALL)
_LONG_DIGITS = re.compile(rb"[0-9]{19}")
_decode = msgspec.json.Decoder().decode


def check_bounds(raw: bytes, where: str = "body", depth_max: int = DEPTH_MAX) -> None:
    """Raise ``InvalidInput`` when JSON text is nested deeper than ``depth_max`` levels. Cheap for ordinary text."""
    if raw.count(b"[") + raw.count(b"{") <= depth_max:
        return
    depth = 0
    for match in _BRACKET_OR_STRING.finditer(raw):
        first = match.group()[0]
        if first in b"[{":
            depth += 1
            if depth > depth_max:
                raise invalid(where, f"is nested deeper than {depth_max} levels", f"at most {depth_max}")
        elif first in b"]}":
            depth -= 1


def decode(raw: bytes, where: str = "body") -> Any:
    """Decode JSON text within bounds. Raises ``BadRequest`` when it is no JSON, ``InvalidInput`` beyond the bounds."""
    check_bounds(raw, where)
    try:
        value = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        if "out of range" in str(error):
            raise invalid(where, "holds a number out of range", "a 64-bit integer or a double") from error
        raise BadRequest(reason=f"The {where} is not JSON: {error}.") from error
    check_long_integers(raw, where, value)
    return value


def check_long_integers(raw: bytes, where: str, value: Any = None) -> None:
    """Raise ``InvalidInput`` when JSON text (or ``value``, it decoded) holds an integer beyond 64 bits."""
    if _LONG_DIGITS.search(raw):
        check_integers(_decode(raw) if value is None else value, where)


def check_integers(value: Any, where: str) -> None:
    """Raise ``InvalidInput`` when the value holds an integer that does not fit in 64 bits."""
    if isinstance(value, dict):
        for name, inner in value.items():
            check_integers(inner, f"{where}.{name}" if where != "body" else name)
    elif isinstance(value, list):
        for inner in value:
            check_integers(inner, where)
    elif isinstance(value, int) and not INT_MIN <= value <= INT_MAX:
        raise invalid(where[:200], "is an integer beyond 64 bits", f"{INT_MIN} to {INT_MAX}")
