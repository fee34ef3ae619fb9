"""The page that shows the document: one answer with its style and script inside, which the browser runs alone."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

STATIC = Path(__file__).parent.parent / "static"
COMMON_HEADERS = {
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Page(NamedTuple):
    """A page and the headers that it is sent with."""

    body: bytes
    headers: dict[str, str]


@cache
def docs() -> Page:
    """Return the page of ``/docs``: put together from ``static`` once.

    Only this style and this script run, by their digests; the script may fetch from this server alone.
    """
    style, script = (_text(name) for name in ("docs.css", "docs.js"))
    html = _text("docs.html").replace("{{style}}", style).replace("{{script}}", script)
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src {_digest(style)}",
            f"script-src {_digest(script)}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
    headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy, **COMMON_HEADERS}
    return Page(html.encode(), headers)


def _text(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
