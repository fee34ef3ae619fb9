"""The route table: paths with ``{placeholders}``, matched segment by segment in constant time.

A route declares all that can be told of it, and ``/openapi.json`` is made from nothing else::

    def read_things(params: Params) -> Asked: ...  # every query parameter of the route, and no other


    async def list_things(exchange: Exchange) -> web.Response:
        asked = exchange.asked(read_things)  # the same function: document and parser cannot differ
        ...


    ROUTES = [
        Route("GET", "/v1/things", list_things, "read", "List things", query=read_things, answer=list[Thing]),
        Route("POST", "/v1/things", create, "write", "Create a thing", body=CreateThing, answer=Thing, status=201),
        Route("POST", "/v1/things/{run_id}/stream", stream, "read", "Follow it", body=Follow, stream=LettaMessage),
    ]

The function of ``query`` is also run on a double of ``Params`` that takes notes, where every method answers None or its
default and ``in`` answers True; so it must not need a value, nor look at anything but its ``params``. A route without
``query`` takes no parameters: ``App`` refuses any. What a parameter means is said in ``server.openapi.about``, by its
name. Statuses of errors, security and headers follow by rule from these fields (``server.openapi.answers``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

import msgspec
from aiohttp import web

from server.exchange import JSON
from server.params import Params
from server.problems import MethodNotAllowed, NoSuchRoute

Handler = Callable[..., Awaitable[web.StreamResponse]]


class Route(msgspec.Struct, frozen=True):
    """One route. ``scope``: what a token needs for it; None: open to all. ``pattern``: without a trailing slash.

    A shape is a Struct or any typing construct that msgspec knows, such as ``Thing | list[Thing]``.
    """

    method: str
    pattern: str
    handler: Handler
    scope: str | None
    summary: str
    query: Callable[[Params], Any] | None = None
    """Reads the query parameters; None: the route has none."""
    body: Any = None
    """The shape of the body; None: the route has none."""
    body_media: tuple[str, ...] = (JSON,)
    """Media types that the body may have."""
    answer: Any = None
    """The shape of the answer's body; None: it is no JSON, or (with ``stream``) there is only the stream."""
    status: int = 200
    """The status of the good answer."""
    media: str = JSON
    """The media type of ``answer``."""
    stream: Any = None
    """The shape of the data of each server-sent event, where the route can answer with ``text/event-stream``."""
    also: Mapping[int, Any] = MappingProxyType({})
    """Shapes of answers with other statuses that are no errors in the one shape."""
    etag: bool = False
    """Whether it shows one resource with its version: GET knows ``If-None-Match``, changes know ``If-Match``."""
    keyed: bool = True
    """Whether a POST or PATCH that writes takes an ``Idempotency-Key``."""
    positioned: bool = True
    """Whether a write answers with ``Ledger-Position``, and a read waits for the one that it is sent."""
    always: bool = False
    """Whether it is answered also where the server is at its limits: how it is must be known then above all."""
    deprecated: bool = False
    alias_of: str = ""
    """The pattern that this is another spelling of; the document leaves it out."""


class _Node:
    __slots__ = ("children", "pattern", "placeholder", "routes")

    def __init__(self, pattern: str = "") -> None:
        self.pattern = pattern
        self.children: dict[str, _Node] = {}
        self.placeholder: _Node | None = None
        self.routes: dict[str, Route] = {}


class Router:
    """Finds routes. A literal segment wins over a placeholder; a trailing slash makes no difference."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._root = _Node()
        for route in routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node = self._root
        for segment in route.pattern.strip("/").split("/"):
            if segment.startswith("{"):
                node.placeholder = node.placeholder or _Node(f"{node.pattern}/{segment}")
                node = node.placeholder
            else:
                node = node.children.setdefault(segment, _Node(f"{node.pattern}/{segment}"))
        if route.method in node.routes:
            raise AssertionError(f"two routes for {route.method} {route.pattern}")
        node.routes[route.method] = route

    def find(self, method: str, path: str) -> tuple[Route, list[str]]:
        """Return the route and the values of its placeholders. Raises ``NoSuchRoute`` or ``MethodNotAllowed``."""
        node: _Node | None = self._root
        values: list[str] = []
        for segment in path.strip("/").split("/"):
            if node is None:
                break
            child = node.children.get(segment)
            if child is None and node.placeholder is not None and segment:
                values.append(unquote(segment) if "%" in segment else segment)
                child = node.placeholder
            node = child
        if node is None or not node.routes:
            raise NoSuchRoute(path=path[:200])
        route = node.routes.get("GET" if method == "HEAD" else method)
        if route is None:
            raise MethodNotAllowed(method=method[:20], allowed=", ".join(_allowed(node)))
        return route, values

    def known_part(self, path: str) -> str:
        """Return as much of a path as the table knows, with ``/*`` for the rest: nothing that only the client wrote."""
        node = self._root
        for segment in path.strip("/").split("/"):
            child = node.children.get(segment) or (node.placeholder if segment else None)
            if child is None:
                return f"{node.pattern}/*"
            node = child
        return node.pattern


def _allowed(node: _Node) -> list[str]:
    return sorted({*node.routes, *(("HEAD",) if "GET" in node.routes else ())})


def routes_of(*modules: Any) -> list[Route]:
    """Return the routes that modules declare in ``ROUTES``, and seed 002's ``/api/jobs…`` spelling."""
    routes = [route for module in modules for route in module.ROUTES]
    jobs = [route for route in routes if route.pattern.startswith("/v1/jobs")]
    aliases = [
        msgspec.structs.replace(route, pattern=f"/api{route.pattern.removeprefix('/v1')}", alias_of=route.pattern)
        for route in jobs
    ]
    return routes + aliases
