"""The route table: paths with ``{placeholders}``, matched segment by segment in constant time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import unquote

import msgspec
from aiohttp import web

from server.problems import MethodNotAllowed, NoSuchRoute

Handler = Callable[..., Awaitable[web.StreamResponse]]


class Route(msgspec.Struct, frozen=True):
    """One route. ``scope``: what a token needs for it; None: open to all. ``pattern``: without a trailing slash."""

    method: str
    pattern: str
    handler: Handler
    scope: str | None
    summary: str


class _Node:
    __slots__ = ("children", "placeholder", "routes")

    def __init__(self) -> None:
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
                node.placeholder = node.placeholder or _Node()
                node = node.placeholder
            else:
                node = node.children.setdefault(segment, _Node())
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


def _allowed(node: _Node) -> list[str]:
    return sorted({*node.routes, *(("HEAD",) if "GET" in node.routes else ())})


def routes_of(*modules: Any) -> list[Route]:
    """Return the routes that modules declare in ``ROUTES``, and seed 002's ``/api/jobs…`` spelling."""
    routes = [route for module in modules for route in module.ROUTES]
    jobs = [route for route in routes if route.pattern.startswith("/v1/jobs")]
    aliases = [msgspec.structs.replace(route, pattern=f"/api{route.pattern.removeprefix('/v1')}") for route in jobs]
    return routes + aliases
