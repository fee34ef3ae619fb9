"""Runs: list, retrieve, create, change, cancel, delete, history."""

from __future__ import annotations

from aiohttp import web

from projections.runs import Run, render
from server.exchange import Exchange
from server.listing import Listing, answer, run_filters
from server.routes import resources
from server.routes.bodies import ChangeRun, CreateRun, change
from server.routes.resources import Nothing, Resource
from server.routing import Route

RUN = Resource(name="run", path="/v1/runs", kinds=("run",), id_kinds=("run",), render=render)
_LIST = Listing(table="runs", kind="run", filters=run_filters, by_duration=True)
_ACTIVE = Listing(table="runs", kind="run", filters=run_filters, by_duration=True, active=True)


async def list_runs(exchange: Exchange) -> web.Response:
    """List runs."""
    return await answer(exchange, _LIST)


async def list_active(exchange: Exchange) -> web.Response:
    """List active runs (deprecated: use ``active=true``)."""
    return await answer(exchange, _ACTIVE)


async def create(exchange: Exchange) -> web.Response:
    """Create a run; a later status walks the whole chain in one append."""
    body = await exchange.body(CreateRun)
    return await resources.execute(exchange, RUN, body.command(exchange), body.time)


async def retrieve(exchange: Exchange, run_id: str) -> web.Response:
    """Retrieve a run."""
    return await resources.retrieve(exchange, RUN, run_id)


async def update(exchange: Exchange, run_id: str) -> web.Response:
    """Advance a run by one legal step, or update it."""
    RUN.check(run_id)
    body = await exchange.body(ChangeRun)
    return await resources.execute(exchange, RUN, change(body, run_id, exchange), body.time)


async def cancel(exchange: Exchange, run_id: str) -> web.Response:
    """Cancel a created or running run."""
    return await resources.cancel(exchange, RUN, run_id)


async def delete(exchange: Exchange, run_id: str) -> web.Response:
    """Delete a run: hide it from reads, keep its history."""
    return await resources.delete(exchange, RUN, run_id)


async def events(exchange: Exchange, run_id: str) -> web.Response:
    """List a run's history as CloudEvents."""
    return await resources.events(exchange, RUN, run_id)


ROUTES = [
    Route("GET", "/v1/runs", list_runs, "read", "List runs", query=_LIST.read, answer=list[Run]),
    Route(
        "GET",
        "/v1/_internal_runs",
        list_runs,
        "read",
        "List runs, as the old server named it",
        query=_LIST.read,
        answer=list[Run],
        deprecated=True,
    ),
    Route(
        "GET",
        "/v1/runs/active",
        list_active,
        "read",
        "List active runs",
        query=_ACTIVE.read,
        answer=list[Run],
        deprecated=True,
    ),
    Route("POST", "/v1/runs", create, "write", "Create a run", body=CreateRun, answer=Run, status=201, etag=True),
    Route(
        "GET",
        "/v1/runs/{run_id}",
        retrieve,
        "read",
        "Retrieve a run",
        query=resources.read_as_of,
        answer=Run,
        etag=True,
    ),
    Route(
        "PATCH", "/v1/runs/{run_id}", update, "write", "Advance or update a run", body=ChangeRun, answer=Run, etag=True
    ),
    Route("DELETE", "/v1/runs/{run_id}", delete, "write", "Delete a run", body=Nothing, answer=Run, etag=True),
    Route("PATCH", "/v1/runs/{run_id}/cancel", cancel, "write", "Cancel a run", body=Nothing, answer=Run, etag=True),
    resources.history("/v1/runs/{run_id}/events", events, "List a run's history"),
]
