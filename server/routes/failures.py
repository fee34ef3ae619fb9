"""Failures grouped by their causes."""

from __future__ import annotations

import re
from typing import Final

import msgspec
from aiohttp import web

from ledger.errors import NotFound
from ledger.transitions import STOP_REASONS
from projections.causes import Asked, Cause, Failure, cause, causes
from projections.failures import KINDS_OF_FAILURE
from projections.signature import PATTERN
from server.exchange import Exchange, json_answer
from server.params import LIMIT_DEFAULT, LIMIT_MAX, Params
from server.routing import Route

_SIGNATURE: Final = re.compile(PATTERN)


def read_asked(params: Params) -> Asked:
    """Return which failures are asked for, before that is limited to what the caller may see."""
    since = params.point("since")
    only_new = params.boolean("new") or False
    if only_new and since is None and "since" not in params:
        params.fault("new", "needs `since`: new since when?", "since")
    return Asked(
        since=since,
        only_new=only_new,
        kinds=params.many(("kind",), KINDS_OF_FAILURE),
        stop_reason=params.choice("stop_reason", STOP_REASONS),
        error_type=params.text("error_type"),
        tools=params.many(("tool",)),
        agent_ids=params.many(("agent_id",)),
        project_id=params.text("project_id"),
        limit=params.integer("limit", 1, LIMIT_MAX, LIMIT_DEFAULT) or 1,
    )


def read_which(params: Params) -> Asked:
    """Return which failures of one cause are asked for."""
    return Asked(
        since=params.point("since"), agent_ids=params.many(("agent_id",)), project_id=params.text("project_id")
    )


async def list_failures(exchange: Exchange) -> web.Response:
    """List failures by their causes, the most frequent first."""
    exchange.reads_rows()
    asked = await _limited(exchange, exchange.asked(read_asked))
    async with exchange.app.views.moment() as reader:  # a cause that goes meanwhile would be looked for in vain
        return json_answer(await causes(reader, asked))


async def retrieve(exchange: Exchange, signature: str) -> web.Response:
    """Retrieve one cause with its agents, models, times and examples."""
    exchange.reads_rows()
    asked = await _limited(exchange, exchange.asked(read_which))
    found = None
    if _SIGNATURE.match(signature):
        async with exchange.app.views.moment() as reader:
            found = await cause(reader, signature, asked)
    if found is None:
        raise NotFound(what="failure", id=signature[:80])
    return json_answer(found)


async def _limited(exchange: Exchange, asked: Asked) -> Asked:
    """Return what is asked for, limited to what the caller may see, once the views are where the caller wants them."""
    await exchange.wait_for_position()
    user_id, project_id = exchange.limits(asked.project_id)
    return msgspec.structs.replace(asked, user_id=user_id, project_id=project_id)


ROUTES = [
    Route(
        "GET", "/v1/failures", list_failures, "read", "List failures by cause", query=read_asked, answer=list[Failure]
    ),
    Route(
        "GET",
        "/v1/failures/{signature}",
        retrieve,
        "read",
        "Retrieve a cause of failures",
        query=read_which,
        answer=Cause,
    ),
]
