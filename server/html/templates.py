"""Templates of pages, and the one way in which text gets into them: made visible, then escaped."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

FOLDER = Path(__file__).parent
_KEPT = "\n\t"
"""What is no printable character and still is nothing but text."""


def visible(value: Any) -> Any:
    """Return a value as a page shows it: characters that control a reader's eye become their escapes.

    Jinja calls it for every value that goes into a page, and escapes what it returns, unless it is markup of ours.
    """
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(char if char.isprintable() or char in _KEPT else repr(char)[1:-1] for char in value)


@cache
def environment() -> Environment:
    """Return where templates come from; what they do not know is an error, and all that they show is escaped."""
    return Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def style(name: str) -> Markup:
    """Return a style sheet of ours, as it stands in its file."""
    return Markup((FOLDER / name).read_text(encoding="utf-8"))  # noqa: S704 - a file of ours, not of a user


def digest(text: str) -> str:
    """Return what a Content-Security-Policy calls a text that may stand in the page."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
