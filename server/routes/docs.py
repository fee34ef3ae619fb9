"""The documentation: the OpenAPI document, and a page that shows it without the internet."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from server.exchange import JSON, Exchange
from server.openapi import page
from server.routing import Route


async def openapi(exchange: Exchange) -> web.Response:
    """Answer with the OpenAPI document, made from the route table."""
    return web.Response(body=exchange.app.openapi, headers={"Content-Type": JSON, **page.COMMON_HEADERS})


async def docs(exchange: Exchange) -> web.Response:
    """Answer with a page that shows the document; it asks nobody but this server."""
    shown = page.docs()
    return web.Response(body=shown.body, headers=shown.headers)


ROUTES = [
    Route("GET", "/openapi.json", openapi, None, "This document", answer=dict[str, Any]),
    Route("GET", "/docs", docs, None, "This document as a page", media="text/html"),
]
