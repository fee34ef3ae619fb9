"""Excerpts: the beginning of a text that may be megabytes, with the size of the whole."""

from __future__ import annotations

from typing import Any, Final

import msgspec

EXCERPT_MAX: Final = 300
"""Characters of a message, argument or return that a report shows unless all of it is asked for."""
LINE_MAX: Final = 120
"""Characters of a summary that stands on one line."""
TAIL: Final = 120
"""Of an excerpt of an error, the characters of its end: errors begin with where, and end with why."""
_encode = msgspec.json.Encoder().encode


class Excerpt(msgspec.Struct, frozen=True, gc=False):
    """A text, or as much of it as was asked for; ``size``: characters of the whole."""

    text: str
    size: int

    @property
    def is_cut(self) -> bool:
        """Whether there is more of it than ``text``."""
        return self.size > len(self.text)


def excerpt(text: str, full: bool = False) -> Excerpt:
    """Return the beginning of a text, or with ``full`` all of it."""
    return Excerpt(text if full or len(text) <= EXCERPT_MAX else text[:EXCERPT_MAX], len(text))


def of_error(text: str, full: bool = False) -> Excerpt:
    """Return the beginning and the end of what was said of an error, or with ``full`` all of it."""
    return Excerpt(text if full else both_ends(text, EXCERPT_MAX - 1), len(text))


def both_ends(text: str, size_max: int) -> str:
    """Return a text, or its beginning and its end where it is longer."""
    if len(text) <= size_max:
        return text
    tail = min(TAIL, size_max // 2)
    return f"{text[: size_max - tail - 1]}…{text[-tail:]}"


def line(text: str, size_max: int = LINE_MAX) -> str:
    """Return the beginning of a text on one line, its blanks and line ends as single blanks."""
    flat = " ".join(text[: 4 * size_max].split())
    return flat if len(flat) <= size_max and len(text) <= 4 * size_max else f"{flat[: size_max - 1]}…"


def as_text(value: Any) -> str:
    """Return a JSON value as text: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else _encode(value).decode()
