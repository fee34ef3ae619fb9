"""Full-text search over what jobs, runs and batches say."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from ledger import ids
from ledger.errors import Unavailable
from ledger.jsontext import INT_MAX
from ledger.transitions import KINDS, STOP_REASONS, statuses
from projections.documents import WHATS, What
from projections.finds import Asked, Find, find
from projections.patience import DEADLINE_S
from projections.query import Filters
from server.exchange import Exchange
from server.listing import Made, kept, made, own
from server.params import Params
from server.routing import Route

LIMIT_DEFAULT = 50
LIMIT_MAX = 200
"""Finds of a page: a snippet is cut out of the text of each, which takes up to 1 ms."""


def read_search(params: Params) -> Asked:
    """Return what is looked for."""
    since = params.point("since")
    agent = params.text("agent_id")
    named = params.many(("what",), WHATS)
    whats: tuple[What, ...] = tuple(each for each in WHATS if named is None or each in named)
    return Asked(
        query=params.required_text("query"),
        whats=whats,
        kinds=params.many(("kind",), KINDS) or KINDS,
        filters=Filters(
            id=params.id("subject", lambda text: ids.parse(text, "job", "run", where="subject")),
            project_id=params.text("project_id"),
            agent_ids=None if agent is None else (agent,),
            statuses=params.many(("status", "statuses"), statuses("job")),
            stop_reason=params.choice("stop_reason", STOP_REASONS),
            tools=params.many(("tools_used",)),
        ),
        since_us=None if since is None else since.time_us,
        after=None if since is None else since.position,
        until_us=params.time_us("until"),
        before=params.integer("before", 1, INT_MAX),
        limit=params.integer("limit", 1, LIMIT_MAX, LIMIT_DEFAULT) or 1,
    )


async def search(exchange: Exchange) -> web.Response:
    """Find events that say some words, newest first: in messages, errors, names of tools and metadata."""
    exchange.reads_rows()
    await exchange.wait_for_position()
    return kept(exchange) or await made(exchange, lambda: _make(exchange))


async def _make(exchange: Exchange) -> Made:
    asked = exchange.asked(read_search)
    asked = msgspec.structs.replace(asked, filters=own(exchange, asked.filters))
    try:
        async with asyncio.timeout(DEADLINE_S):
            finds = await find(exchange.app.views, asked)
    except TimeoutError:
        raise Unavailable(reason=f"the search took longer than {DEADLINE_S:g} s; ask for less") from None
    link = None
    if finds.next_before is not None:
        pairs = [(name, value) for name, value in exchange.request.query.items() if name != "before"]
        link = f'<{exchange.path}?{urlencode([*pairs, ("before", finds.next_before)])}>; rel="next"'
    return Made(msgspec.json.encode(finds.found), link)


ROUTES = [
    Route("GET", "/v1/search", search, "read", "Search texts", query=read_search, answer=list[Find]),
]
