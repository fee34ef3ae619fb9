"""CSV that a spreadsheet cannot take for formulas, by RFC 4180: lines end in CRLF, what needs it is quoted.

A text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a line's end (OWASP, CSV Injection), or with an apostrophe,
gets one apostrophe more in front; take one away to undo it. Numbers stay numbers, negative ones too. A NUL, which CSV
cannot hold, becomes ``\\ufffd``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from typing import TextIO

_FORMULA = re.compile(r"[=+\-@\t\r\n'＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def cell(value: str | float | None) -> str | float | None:
    """Return a value as a cell holds it."""
    if not isinstance(value, str):
        return value
    text = value.replace("\0", "\ufffd")
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def original(text: str) -> str:
    """Return the text that a cell stands for."""
    return text.removeprefix("'")


def write(file: TextIO, rows: Iterable[Sequence[str | float | None]]) -> None:
    """Write rows; None is an empty cell."""
    csv.writer(file).writerows([cell(value) for value in row] for row in rows)
