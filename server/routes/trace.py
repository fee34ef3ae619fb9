"""The trace of a run: OpenTelemetry spans derived from its events."""

from __future__ import annotations

import asyncio

from aiohttp import web

from projections.spans import Span
from projections.trace import spans
from server.exchange import Exchange, json_answer
from server.params import Params
from server.routes.resources import find
from server.routes.runs import RUN
from server.routing import Route

SPANS_DEFAULT = 1000
SPANS_MAX = 10_000
AT_ONCE = 500
"""Events up to which spans are derived on the event loop, about 10 ms; more are left to a thread."""


def read_limit(params: Params) -> int:
    """Return how many spans are asked for."""
    return params.integer("limit", 1, SPANS_MAX, SPANS_DEFAULT) or 1


async def trace(exchange: Exchange, run_id: str) -> web.Response:
    """Retrieve the spans of a run: the run, its steps and tool calls, the first token."""
    limit = exchange.asked(read_limit)
    await exchange.wait_for_position()
    find(exchange, RUN, run_id)
    events = await exchange.history(run_id)
    found = spans(events) if len(events) <= AT_ONCE else await asyncio.to_thread(spans, events)
    return json_answer(found[:limit])


ROUTES = [
    Route(
        "GET",
        "/v1/runs/{run_id}/trace",
        trace,
        "read",
        "Retrieve a run's trace",
        query=read_limit,
        answer=list[Span],
    ),
]
