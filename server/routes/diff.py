"""The diff of two runs: where they first part, and how their messages, calls and steps differ."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from aiohttp import web

from ledger import ids
from ledger.errors import NotFound
from projections.diff import Diff, diff, limited
from server.exchange import Exchange, json_answer
from server.params import Params
from server.routes.resources import find
from server.routes.runs import RUN
from server.routing import Route

ENTRIES_DEFAULT = 1000
ENTRIES_MAX = 10_000


class Asked(NamedTuple):
    """Which runs are compared, and how much of it is shown: ``limit`` entries of each list."""

    a: str
    b: str
    full: bool
    limit: int


def read_runs(params: Params) -> Asked:
    """Return which runs are to be compared."""

    def run(name: str) -> str:
        return params.required_id(name, lambda text: ids.parse(text, "run", where=name))

    return Asked(
        a=run("a"),
        b=run("b"),
        full=params.boolean("full") or False,
        limit=params.integer("limit", 1, ENTRIES_MAX, ENTRIES_DEFAULT) or 1,
    )


async def compare(exchange: Exchange) -> web.Response:
    """Compare two runs, both of which the caller must see."""
    asked = exchange.asked(read_runs)
    exchange.resource = f"{asked.a} {asked.b}"
    await exchange.wait_for_position()
    for id in (asked.a, asked.b):
        find(exchange, RUN, id)
    a, b = [await exchange.history(id) for id in (asked.a, asked.b)]
    found = await asyncio.to_thread(diff, a, b, full=asked.full)
    if found is None:
        raise NotFound(what="run", id=asked.a)
    return json_answer(limited(found, asked.limit))


ROUTES = [
    Route("GET", "/v1/runs/diff", compare, "read", "Compare two runs", query=read_runs, answer=Diff),
]
