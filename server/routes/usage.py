"""What a run used: tokens, time, tools."""

from __future__ import annotations

from aiohttp import web

from projections.usage import RunMetrics, UsageStatistics, metrics_of, usage_of
from server.exchange import Exchange, json_answer
from server.routes.resources import find
from server.routes.runs import RUN
from server.routing import Route


async def usage(exchange: Exchange, run_id: str) -> web.Response:
    """Retrieve the tokens of a run, summed over its steps."""
    await _prepare(exchange, run_id)
    return json_answer(await usage_of(exchange.app.views, run_id))


async def metrics(exchange: Exchange, run_id: str) -> web.Response:
    """Retrieve the time, steps and tools of a run."""
    await _prepare(exchange, run_id)
    return json_answer(await metrics_of(exchange.app.views, run_id))


async def _prepare(exchange: Exchange, run_id: str) -> None:
    await exchange.wait_for_position()
    find(exchange, RUN, run_id)


ROUTES = [
    Route("GET", "/v1/runs/{run_id}/usage", usage, "read", "Retrieve a run's usage", answer=UsageStatistics),
    Route("GET", "/v1/runs/{run_id}/metrics", metrics, "read", "Retrieve a run's metrics", answer=RunMetrics),
]
