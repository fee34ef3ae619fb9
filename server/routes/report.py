"""The report of a run: what was wrong, its steps and its timeline, derived from its events."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from ledger.events import Recorded
from projections.report import Report, report
from server.exchange import JSON, Exchange
from server.params import Params
from server.routes.resources import find
from server.routes.runs import RUN
from server.routing import Route

AT_ONCE = 100
"""Events up to which a report is derived on the event loop, about 5 ms; more are left to a thread."""


def read_full(params: Params) -> bool:
    """Return whether texts are asked for whole."""
    return params.boolean("full") or False


async def report_of(exchange: Exchange, run_id: str) -> web.Response:
    """Report on a run: how it ended and why, its steps, its timeline."""
    full = exchange.asked(read_full)
    await exchange.wait_for_position()
    find(exchange, RUN, run_id)
    events = await exchange.history(run_id)
    body = _body(events, full) if len(events) <= AT_ONCE else await asyncio.to_thread(_body, events, full)
    return web.Response(body=body, headers={"Content-Type": JSON})


def _body(events: list[Recorded], full: bool) -> bytes:
    return msgspec.json.encode(report(events, full=full))


ROUTES = [
    Route(
        "GET",
        "/v1/runs/{run_id}/report",
        report_of,
        "read",
        "Retrieve a run's report",
        query=read_full,
        answer=Report,
    ),
]
