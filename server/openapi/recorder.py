"""A double of ``Params`` that takes notes: what a route's query function asks for is what its document says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from multidict import MultiDict

from ledger import ids
from ledger.errors import InvalidInput
from projections.history import AsOf
from server.openapi import about
from server.params import TEXT_SIZE_MAX, Params

TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
TEXT: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": TEXT_SIZE_MAX, "pattern": "^[^\\x00]*$"}
_SAMPLE = "00000000-0000-4000-8000-000000000000"


class Recorder(Params):
    """Answers like a request without parameters, and notes each that it is asked for in ``schemas``.

    Every public method of ``Params`` is overridden (a test sees to it), and ``in`` answers True, so that parameters
    which are read only where they are present are noted too.
    """

    def __init__(self) -> None:
        super().__init__(MultiDict())
        self.schemas: dict[str, dict[str, Any]] = {}
        self.required: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return True

    def fault(self, where: str, what: str, allowed: Any = None) -> None:
        """Note nothing: a fault is of a value, and there are no values."""

    def text(self, name: str) -> str | None:
        """Note a text."""
        self._note(name, TEXT)
        return None

    def required_text(self, name: str) -> str:
        """Note a text that must be given."""
        self.text(name)
        self.required.add(name)
        return ""

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int | None:
        """Note an integer with its bounds."""
        schema: dict[str, Any] = {"type": "integer", "minimum": low, "maximum": high}
        self._note(name, schema if default is None else {**schema, "default": default})
        return default

    def duration_us(self, name: str, high_s: int) -> int | None:
        """Note a number of seconds."""
        self._note(name, {"type": "number", "exclusiveMinimum": 0, "maximum": high_s})
        return None

    def required_integer(self, name: str, low: int, high: int) -> int:
        """Note an integer that must be given."""
        self.integer(name, low, high)
        self.required.add(name)
        return low

    def boolean(self, name: str) -> bool | None:
        """Note a truth value."""
        self._note(name, {"type": "boolean"})
        return None

    def choice(self, name: str, allowed: Sequence[str]) -> str | None:
        """Note a choice of words."""
        self._note(name, {"type": "string", "enum": list(allowed)})
        return None

    def many(self, names: Sequence[str], allowed: Sequence[str] | None = None) -> tuple[str, ...] | None:
        """Note a list under each of its names; repeated parameters, though commas serve as well."""
        item = (
            {"type": "string", "pattern": r"[^,\s]"} if allowed is None else {"type": "string", "enum": list(allowed)}
        )
        for name in names:
            self._note(name, {"type": "array", "items": item})
        return None

    def time_us(self, name: str) -> int | None:
        """Note a time."""
        self._note(name, TIME)
        return None

    def point(self, name: str) -> AsOf | None:
        """Note a point in history."""
        self._note(name, {"anyOf": [{"type": "integer", "minimum": 0}, TIME]})
        return None

    def id(self, name: str, parse: Callable[[str], str]) -> str | None:
        """Note an id of the kinds that ``parse`` accepts."""
        kinds = [kind for kind in ids.KINDS if _accepts(parse, f"{kind}-{_SAMPLE}")]
        self._note(name, {"type": "string", "pattern": ids.pattern(*kinds)})
        return None

    def required_id(self, name: str, parse: Callable[[str], str]) -> str:
        """Note an id that must be given."""
        self.id(name, parse)
        self.required.add(name)
        return ""

    def done(self) -> None:
        """Refuse nothing."""

    def _note(self, name: str, schema: dict[str, Any]) -> None:
        self.schemas[name] = schema


def _accepts(parse: Callable[[str], str], text: str) -> bool:
    try:
        parse(text)
    except InvalidInput:
        return False
    return True


def parameters(query: Callable[[Params], Any] | None) -> list[dict[str, Any]]:
    """Return the OpenAPI parameter objects of a route's query function, by name."""
    if query is None:
        return []
    recorder = Recorder()
    query(recorder)
    return [
        {"name": name, "in": "query", "description": about.parameter(name, schema), "schema": schema}
        | ({"required": True} if name in recorder.required else {})
        for name, schema in sorted(recorder.schemas.items())
    ]
