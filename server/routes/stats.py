"""What jobs, runs and batches came to, in numbers."""

from __future__ import annotations

import msgspec
from aiohttp import web

from projections.period import AUTO, BUCKETS, up_to
from projections.statistics import KINDS, TOP, Asked, Statistics, statistics
from projections.tallied import Whose
from server.exchange import Exchange, json_answer
from server.params import Params
from server.routing import Route

ALL_KINDS = "all"
TOP_MAX = 100
"""Agents that are told of at most: each is looked up by itself."""


def read_asked(params: Params) -> Asked:
    """Return what is asked for, before it is limited to what the caller may see."""
    kind = params.choice("kind", (*KINDS, ALL_KINDS))
    return Asked(
        kinds=tuple(KINDS) if kind in (None, ALL_KINDS) else (str(kind),),
        whose=Whose(project_id=params.text("project_id"), agent_id=params.text("agent_id")),
        period=up_to(params.time_us("since"), params.time_us("until")),
        bucket=params.choice("bucket", (*BUCKETS, AUTO)) or AUTO,
        top=params.integer("top", 0, TOP_MAX, TOP) or 0,
    )


async def stats(exchange: Exchange) -> web.Response:
    """Count what the caller may see: by status, stop reason, time, agent and model, with percentiles of times."""
    exchange.reads_rows()
    asked = exchange.asked(read_asked)
    user_id, project_id = exchange.limits(asked.whose.project_id)
    whose = asked.whose._replace(user_id=user_id, project_id=project_id)
    await exchange.wait_for_position()
    async with exchange.app.views.moment() as reader:  # so that totals, buckets and agents are of one and the same
        return json_answer(await statistics(reader, msgspec.structs.replace(asked, whose=whose)))


ROUTES = [Route("GET", "/v1/stats", stats, "read", "Count and measure", query=read_asked, answer=Statistics)]
