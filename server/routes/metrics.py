"""Metrics in the text format of Prometheus."""

from __future__ import annotations

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from server.exchange import Exchange
from server.metrics import of_ledger, of_process
from server.routing import Route


async def metrics(exchange: Exchange) -> web.Response:
    """Show how the ledger, its views and its callbacks are, in the text format of Prometheus.

    Of several workers each sample that is of one of them has its number as the label `worker`.
    """
    app = exchange.app
    body = await of_ledger(app) + (of_process(app) if app.fellows is None else app.fellows.told())
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


ROUTES = [
    Route(
        "GET", "/metrics", metrics, "read", "Metrics for Prometheus", media="text/plain", positioned=False, always=True
    )
]
