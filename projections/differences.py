"""Differences between two JSON values, each with its path, and what of long values is shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice, zip_longest
from typing import Any, Final

import msgspec

from ledger import jsontext
from ledger.errors import LedgerError

PATHS_MAX: Final = 100
"""Differences told of one pair of values: more are no help to whoever reads them."""
TEXT_SIZE_MAX: Final = 400
"""Characters of a text that is shown shortened."""
LEAD: Final = 60
"""Characters shown before the place where two long texts begin to differ."""
LEAP: Final = 4096
"""Characters compared at once."""
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_encode = msgspec.json.Encoder(order="deterministic").encode


class Difference(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What differs between two sides: ``what`` of them, ``path`` within it. A side that lacks it has no value."""

    what: str
    path: str = ""
    a: Any = msgspec.UNSET
    b: Any = msgspec.UNSET


def between(what: str, a: Any, b: Any, *, full: bool = False) -> list[Difference]:
    """Return what differs between two JSON values, the first so many; long texts are shortened unless ``full``."""
    found = []
    for path, one, other in islice(_paths(a, b, ""), PATHS_MAX):
        shown = (one, other) if full else excerpts(one, other)
        found.append(Difference(what=what, path=path, a=shown[0], b=shown[1]))
    return found


def _paths(a: Any, b: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(a, dict) and isinstance(b, dict):
        for name in dict.fromkeys((*a, *b)):
            yield from _paths(a.get(name, msgspec.UNSET), b.get(name, msgspec.UNSET), _member(path, name))
    elif isinstance(a, list) and isinstance(b, list):
        for number, (one, other) in enumerate(zip_longest(a, b, fillvalue=msgspec.UNSET)):
            yield from _paths(one, other, f"{path}[{number}]")
    elif msgspec.UNSET in (a, b) or canonical(a) != canonical(b):
        yield path, a, b


def _member(path: str, name: str) -> str:
    if _PLAIN_NAME.fullmatch(name):
        return f"{path}.{name}" if path else name
    return f"{path}[{_encode(name).decode()}]"


def canonical(value: Any) -> bytes:
    """Return the one JSON of a value: whatever the order of keys was, and whether 5 was written as 5.0."""
    return _encode(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def parsed(text: str) -> Any:
    """Return the JSON value of a text; the text itself where it is no JSON within bounds."""
    try:
        return jsontext.decode(text.encode())
    except LedgerError:
        return text


def excerpts(a: Any, b: Any) -> tuple[Any, Any]:
    """Return two values as they are shown, long ones from shortly before the place where they begin to differ."""
    one, other = _text(a), _text(b)
    start = 0
    if isinstance(one, str) and isinstance(other, str) and max(len(one), len(other)) > TEXT_SIZE_MAX:
        start = max(0, _shared(one, other) - LEAD)
    return shortened(one, start), shortened(other, start)


def _shared(one: str, other: str) -> int:
    """Return how many characters two texts have in common from their beginning."""
    start, size = 0, min(len(one), len(other))
    while start < size and one[start : start + LEAP] == other[start : start + LEAP]:
        start += LEAP
    while start < size and one[start] == other[start]:
        start += 1
    return min(start, size)


def shortened(value: Any, start: int = 0) -> Any:
    """Return a value as it is shown: a long text from ``start``, with an ellipsis for what is left out."""
    shown = _text(value)
    if not isinstance(shown, str):
        return shown
    head = "…" if start else ""
    tail = "…" if len(shown) > start + TEXT_SIZE_MAX else ""
    return f"{head}{shown[start : start + TEXT_SIZE_MAX]}{tail}"


def _text(value: Any) -> Any:
    """Return the value, as JSON text where that is long."""
    if isinstance(value, dict | list) and len(encoded := _encode(value)) > TEXT_SIZE_MAX:
        return encoded.decode()
    return value
