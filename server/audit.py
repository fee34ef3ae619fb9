"""What the line of a request may tell: how it ended, what it was about, and no secret (README, Who did what).

``resource`` is an id of ours as it stands, or says what it is: ``agent:…`` and ``conversation:…`` whose runs were
cancelled, ``events:17-42`` for the positions of a bulk append, ``owner:user-…`` or ``owner:any`` for the rows that a
list was limited to, with ``project:…`` to the end where one limited it further.
"""

from __future__ import annotations

import re
from typing import Final

OK: Final = "ok"
DISCONNECTED: Final = "disconnected"
"""The client left: before it had an answer, or while a stream went on."""
STALLED: Final = "stalled"
"""A client of a stream took nothing for too long and was cut off."""
STOPPED: Final = "stopped"
"""The server stopped while the request or stream was under way."""

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PATCH", "DELETE", "PUT", "OPTIONS", "TRACE", "CONNECT"})
OTHER_METHOD: Final = "other"
"""In the place of a method that does not exist: a client may have written anything there."""
ANYONE: Final = "owner:any"
"""The rows of all users."""
HIDDEN: Final = "[hidden]"
_SECRET: Final = re.compile(r"jl_|whsec_|whsk_|[A-Za-z0-9_-]{43}_[0-9a-z]{7}")


def told(text: str) -> str:
    """Return a text for a log line: hidden where it looks like a token or a secret, and printable on one line.

    Ids of ours have no ``_`` and pass at once. Others name agents, conversations and projects, and by mistake anything.
    """
    if "_" in text and _SECRET.search(text):
        return HIDDEN
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in text)


def rows_of(owner: str | None, project_id: str | None) -> str:
    """Return what a list is limited to: an owner (None: any) and a project (None: any)."""
    rows = ANYONE if owner is None else f"owner:{owner}"
    return rows if project_id is None else f"{rows} project:{project_id}"


def positions(first: int, last: int) -> str:
    """Return what an append wrote: ``events:17-42``; ``events:none`` where all of it was there before."""
    return f"events:{first}-{last}" if first <= last else "events:none"
