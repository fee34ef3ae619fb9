"""One page of a history or of the log: an answer of CloudEvents, with a Link to the next one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web

from ledger import cloudevents
from ledger.cloudevents import BATCH_MEDIA_TYPE
from ledger.events import Recorded
from server.exchange import Exchange

PAGE_SIZE_MAX: Final = 32 * 1024 * 1024
"""Bytes of data from which on a page ends, however many events were asked for: one event may have 1 MiB."""


def event_page(
    exchange: Exchange, found: Sequence[Recorded], limit: int, onward: Callable[[Recorded], str]
) -> web.Response:
    """Return a page: at most ``limit`` of the events found, and no more once they have ``PAGE_SIZE_MAX`` bytes.

    Where there may be others behind it, ``onward`` makes of the last one on the page the query of the next.
    """
    page: list[bytes] = []
    size = 0
    for event in found[:limit]:
        page.append(cloudevents.encode(event, exchange.app.ledger.name))
        size += len(event.data or b"")
        if size >= PAGE_SIZE_MAX:
            break
    headers = {"Content-Type": BATCH_MEDIA_TYPE}
    if page and (len(page) < len(found) or size >= PAGE_SIZE_MAX):
        headers["Link"] = f'<{exchange.path}?{onward(found[len(page) - 1])}>; rel="next"'
    return web.Response(body=b"[" + b",".join(page) + b"]", headers=headers)
