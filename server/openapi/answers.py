"""Which answers a route can give, by rule from what it declares: statuses, headers, and the parameters in headers."""

from __future__ import annotations

import re
from typing import Any, Final

from ledger import ids
from ledger.scalars import LABEL
from server.exchange import KEY_SIZE_MAX
from server.openapi import about
from server.problems import ERROR_TYPES
from server.routing import Route

SSE: Final = "text/event-stream"
TYPED: Final[dict[str, tuple[str, ...]]] = {
    "batch_id": ("job",),
    "job_id": ("job", "run"),
    "message_id": ("message",),
    "run_id": ("run",),
    "step_id": ("step",),
    "token_id": ("token",),
}
"""Placeholders that stand for ids of ours, and their kinds; others stand for labels of other systems."""
_OWN_HEADERS: Final = {401: ("WWW-Authenticate",), 405: ("Allow",), 503: ("Retry-After",)}
_RESOURCES: Final = {"batch_id", "job_id", "run_id"}
_NAMED: Final = {"a", "b"}
"""Query parameters that name resources without which there is no answer."""

Schema = dict[str, Any]


def placeholders(route: Route) -> list[str]:
    """Return the names of the placeholders in a route's pattern."""
    return re.findall(r"\{(\w+)\}", route.pattern)


def is_write(route: Route) -> bool:
    """Tell whether the route appends to the log of resources."""
    return route.scope == "write"


def takes_key(route: Route) -> bool:
    """Tell whether the route takes an Idempotency-Key."""
    return is_write(route) and route.keyed and route.method in ("POST", "PATCH")


def refusals(route: Route, query: list[str]) -> list[int]:
    """Return the statuses of errors that the route can give; ``query``: the names of its query parameters.

    400 and 503 come before any route is found: a target that is no ASCII, a log that cannot be read.
    """
    names = set(placeholders(route))
    rules = {
        400: True,
        401: route.scope is not None,
        403: route.scope is not None,
        404: bool(names & TYPED.keys() or {"project_id", *_NAMED} & set(query)),
        408: route.body is not None,
        409: takes_key(route),
        410: bool(names & _RESOURCES or _NAMED & set(query)),
        412: route.etag and route.method in ("PATCH", "DELETE"),
        413: route.body is not None,
        422: route.scope is not None,
        500: True,
        503: True,
    }
    return [status for status, can in rules.items() if can]


def header_parameters(route: Route) -> list[str]:
    """Return the names of the headers that the route reads."""
    rules = {
        "If-Match": route.etag and route.method in ("PATCH", "DELETE"),
        "If-None-Match": route.etag and route.method == "GET",
        "Idempotency-Key": takes_key(route),
        "Ledger-Position": route.scope == "read" and route.method == "GET" and route.positioned,
        "X-Project-Id": route.scope is not None,
        "user_id": route.scope is not None,
    }
    return [name for name, does in rules.items() if does]


def answer_headers(route: Route, query: list[str]) -> list[str]:
    """Return the names of the headers that the good answer can have, beside those of every answer."""
    rules = {
        "ETag": route.etag,
        "Idempotency-Replayed": takes_key(route),
        "Ledger-Position": is_write(route) and route.positioned,
        "Link": "limit" in query and route.method == "GET",
        "Location": route.status == 201 and is_write(route),
    }
    return [name for name, does in rules.items() if does]


def header_components() -> dict[str, Schema]:
    """Return the headers of answers, as components."""
    integer = {"Ledger-Position": {"type": "integer", "minimum": 0}, "Retry-After": {"type": "integer", "minimum": 0}}
    return {
        name: {"description": text, "schema": integer.get(name, {"type": "string"})}
        for name, text in about.ANSWER_HEADERS.items()
    }


def parameter_components() -> dict[str, Schema]:
    """Return the headers of requests, as components."""
    schemas: dict[str, Schema] = {
        "Idempotency-Key": {"minLength": 1, "maxLength": KEY_SIZE_MAX, "pattern": r"^[!-~]([ -~]*[!-~])?$"},
        "If-Match": {"pattern": r'^(\*|"[^"]*"(, *"[^"]*")*)$'},
        "Ledger-Position": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
        "X-Project-Id": LABEL,
        "user_id": {"pattern": ids.pattern("user")},
    }
    return {
        name: {"name": name, "in": "header", "description": text, "schema": {"type": "string", **schemas.get(name, {})}}
        for name, text in about.REQUEST_HEADERS.items()
    }


def refusal_components() -> dict[str, Schema]:
    """Return the answers that are errors, as components named by their status."""
    found = {}
    for status, types in ERROR_TYPES.items():
        narrowed = {"properties": {"error": {"properties": {"type": {"enum": list(types)}}}}}
        schema = {"allOf": [{"$ref": "#/components/schemas/Error"}, narrowed]}
        headers = ["X-Request-Id", *_OWN_HEADERS.get(status, ())]
        found[str(status)] = {
            "description": about.STATUSES[status],
            "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers},
            "content": {"application/json": {"schema": schema}},
        }
    return found
