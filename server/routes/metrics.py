"""Metrics in the text format of Prometheus."""

from __future__ import annotations

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from server.exchange import Exchange
from server.metrics import measure
from server.routing import Route


async def metrics(exchange: Exchange) -> web.Response:
    """Show how the ledger, its views and its callbacks are, in the text format of Prometheus."""
    snapshot = await measure(exchange.app)
    body = generate_latest(snapshot) + generate_latest(exchange.app.metrics)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


ROUTES = [
    Route(
        "GET", "/metrics", metrics, "read", "Metrics for Prometheus", media="text/plain", positioned=False, always=True
    )
]
