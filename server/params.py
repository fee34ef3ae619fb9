"""Query parameters and bodies: parsed by what a route allows, every fault named with where, what and allowed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar, get_args, get_origin

import msgspec

from ledger import jsontext, times
from ledger.errors import InvalidInput
from projections.history import AsOf

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)
LIMIT_MAX, LIMIT_DEFAULT = 1000, 100
"""Rows of one page, at most and unless said."""
TEXT_SIZE_MAX = 256
"""Characters of one text parameter."""
_NUMBER = re.compile(r"(?:[0-9]{1,20}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,4})?")


class MultiMapping(Protocol):
    """A query string: names to one or more values."""

    def getall(self, key: str) -> Sequence[str]:
        """Return all values of a name."""

    def keys(self) -> Any:
        """Return the names."""

    def __contains__(self, key: object) -> bool: ...


class Params:
    """The query parameters of one request. Ask for each that the route knows, then ``done``."""

    def __init__(self, query: MultiMapping) -> None:
        self._query = query
        self._known: set[str] = set()
        self._faults: list[dict[str, Any]] = []

    def __contains__(self, name: str) -> bool:
        return name in self._query

    def fault(self, where: str, what: str, allowed: Any = None) -> None:
        """Note a fault; ``done`` raises for all of them together."""
        self._faults.append({"where": where, "what": what, "allowed": allowed})

    def text(self, name: str) -> str | None:
        """Return a text of 1 to 256 characters."""
        value = self._one(name)
        if value is not None and (not value or len(value) > TEXT_SIZE_MAX or "\0" in value):
            self.fault(name, f"must have 1 to {TEXT_SIZE_MAX} characters", f"1 to {TEXT_SIZE_MAX} characters")
            return None
        return value

    def required_text(self, name: str) -> str:
        """Return a text of 1 to 256 characters that must be given."""
        if name not in self._query:
            self._known.add(name)
            self.fault(name, "is missing", f"1 to {TEXT_SIZE_MAX} characters")
        return self.text(name) or ""

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int | None:
        """Return an integer within bounds."""
        value = self._one(name)
        if value is None:
            return default
        digits = value.removeprefix("-")
        if digits.isascii() and digits.isdigit() and len(digits) < 20 and low <= int(value) <= high:
            return int(value)
        self.fault(name, f"'{value[:40]}' is not an integer from {low} to {high}", f"{low} to {high}")
        return default

    def duration_us(self, name: str, high_s: int) -> int | None:
        """Return a positive number of seconds as microseconds, rounded up."""
        value = self._one(name)
        if value is None:
            return None
        seconds = float(value) if _NUMBER.fullmatch(value) else 0.0
        if 0 < seconds <= high_s:
            return math.ceil(seconds * 1e6)
        allowed = f"more than 0, at most {high_s}"
        self.fault(name, f"'{value[:40]}' is not a number of seconds, {allowed}", allowed)
        return None

    def required_integer(self, name: str, low: int, high: int) -> int:
        """Return an integer within bounds that must be given."""
        if name not in self._query:
            self._known.add(name)
            self.fault(name, "is missing", f"{low} to {high}")
            return low
        found = self.integer(name, low, high, low)
        return low if found is None else found

    def boolean(self, name: str) -> bool | None:
        """Return true or false."""
        value = self._one(name)
        if value is None:
            return None
        if value.lower() in ("true", "1"):
            return True
        if value.lower() in ("false", "0"):
            return False
        self.fault(name, f"'{value[:40]}' is neither true nor false", ["true", "false"])
        return None

    def choice(self, name: str, allowed: Sequence[str]) -> str | None:
        """Return one of the allowed words."""
        value = self._one(name)
        if value is None or value in allowed:
            return value
        self.fault(name, f"'{value[:40]}' is not allowed", list(allowed))
        return None

    def many(self, names: Sequence[str], allowed: Sequence[str] | None = None) -> tuple[str, ...] | None:
        """Return the values of repeated parameters or comma lists, under any of the names; None when there is none."""
        values: dict[str, None] = {}
        present = False
        for name in names:
            for text in self._all(name):
                present = True
                parts = [part.strip() for part in text.split(",")]
                if not any(parts):
                    self.fault(name, "names no value", None if allowed is None else list(allowed))
                for value in filter(None, parts):
                    if allowed is not None and value not in allowed:
                        self.fault(name, f"'{value[:40]}' is not allowed", list(allowed))
                    values[value] = None
        return tuple(values) if present else None

    def time_us(self, name: str) -> int | None:
        """Return a time as microseconds since 1970 UTC."""
        value = self._one(name)
        return None if value is None else self._attempt(lambda: times.from_text(_zone(value), name))

    def point(self, name: str) -> AsOf | None:
        """Return the point in history that a parameter names: a position or a time."""
        value = self._one(name)
        if value is None:
            return None
        if value.isascii() and value.isdigit():
            position = self.integer(name, 0, jsontext.INT_MAX)
            return None if position is None else AsOf(position=position)
        time_us = self.time_us(name)
        return None if time_us is None else AsOf(time_us=time_us)

    def id(self, name: str, parse: Callable[[str], str]) -> str | None:
        """Return an id that ``parse`` accepts."""
        value = self._one(name)
        return None if value is None else self._attempt(lambda: parse(value))

    def required_id(self, name: str, parse: Callable[[str], str]) -> str:
        """Return an id that ``parse`` accepts and that must be given."""
        if name not in self._query:
            self._known.add(name)
            self.fault(name, "is missing")
        return self.id(name, parse) or ""

    def done(self) -> None:
        """Raise ``InvalidInput`` with all faults and every parameter that the route does not know."""
        for name in dict.fromkeys(self._query.keys()):
            if name not in self._known:
                self.fault(name[:80], "is not a parameter of this route", sorted(self._known))
        if self._faults:
            raise InvalidInput(self._faults)

    def _attempt(self, parse: Callable[[], T]) -> T | None:
        try:
            return parse()
        except InvalidInput as error:
            self._faults += error.facts["faults"]
            return None

    def _all(self, name: str) -> Sequence[str]:
        self._known.add(name)
        return self._query.getall(name) if name in self._query else ()

    def _one(self, name: str) -> str | None:
        values = self._all(name)
        if len(values) > 1:
            self.fault(name, "is given more than once", "one value")
        return values[0] if values else None


def _zone(text: str) -> str:
    """Return a time in which a zone's plus sign, sent unescaped and so decoded as a blank, is a plus again."""
    head, blank, zone = text.rpartition(" ")
    return f"{head}+{zone}" if blank and "T" in head else text


def parse_body(raw: bytes, shape: type[S]) -> S:
    """Return a body in the shape. Raises ``BadRequest`` when it is no JSON, else ``InvalidInput`` with every fault.

    An empty body is an empty object.
    """
    return convert(jsontext.decode(raw) if raw.strip() else {}, shape)


def convert(value: Any, shape: type[S], where: str = "") -> S:
    """Return a decoded value in the shape. ``where``: what goes before the names of faults, such as ``[3].``."""
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        faults = _faults(value, shape) or [_fault("body", error, None)]
        raise InvalidInput([{**fault, "where": where + fault["where"]} for fault in faults]) from error


def _faults(value: Any, shape: type[msgspec.Struct]) -> list[dict[str, Any]]:
    if not isinstance(value, Mapping):
        return [{"where": "body", "what": "must be a JSON object", "allowed": "object"}]
    fields = {field.encode_name: field for field in msgspec.structs.fields(shape)}
    found = [
        {"where": name[:80], "what": "is not a field of this request", "allowed": sorted(fields)}
        for name in value
        if name not in fields
    ]
    for name, field in fields.items():
        if name not in value:
            if field.required:
                found.append({"where": name, "what": "is missing", "allowed": None})
            continue
        try:
            msgspec.convert(value[name], field.type)
        except msgspec.ValidationError as error:
            found.append(_fault(name, error, field.type))
    return found


def _fault(name: str, error: msgspec.ValidationError, type: Any) -> dict[str, Any]:
    what, _, inner = str(error).partition(" - at `$")
    where = name + inner.rstrip("`")
    return {"where": where[:200], "what": what, "allowed": _literals(type) or None}


def _literals(type: Any) -> list[Any]:
    if get_origin(type) is Literal:
        return list(get_args(type))
    return [value for inner in get_args(type) for value in _literals(inner)]
