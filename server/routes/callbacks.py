"""Callbacks: what became of one, and sending it again."""

from __future__ import annotations

import msgspec
from aiohttp import web

from ledger.errors import NotFound
from ledger.scalars import Reason
from projections.history import AsOf
from server.callbacks import history
from server.callbacks.history import Callback, Told
from server.callbacks.redelivery import redeliver
from server.exchange import Exchange
from server.listing import check_as_of
from server.routes.jobs import JOB
from server.routes.resources import Resource, check_not_erased, find, read_as_of
from server.routes.runs import RUN
from server.routing import Handler, Route


class Redelivery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Why a callback is to be sent again; the log keeps it."""

    reason: Reason | None = None


async def callback_job(exchange: Exchange, job_id: str) -> web.Response:
    """Tell what became of the callback of a job: whether it is owed or delivered, and each attempt at it."""
    return await _retrieve(exchange, JOB, job_id)


async def callback_run(exchange: Exchange, run_id: str) -> web.Response:
    """Tell what became of the callback of a run: whether it is owed or delivered, and each attempt at it."""
    return await _retrieve(exchange, RUN, run_id)


async def redeliver_job(exchange: Exchange, job_id: str) -> web.Response:
    """Owe the callback of a job that has ended anew, at once, whatever became of it."""
    return await _redeliver(exchange, JOB, job_id)


async def redeliver_run(exchange: Exchange, run_id: str) -> web.Response:
    """Owe the callback of a run that has ended anew, at once, whatever became of it."""
    return await _redeliver(exchange, RUN, run_id)


async def _retrieve(exchange: Exchange, resource: Resource, id: str) -> web.Response:
    resource.check(id)
    at = exchange.asked(read_as_of)
    await exchange.wait_for_position()
    if at is None:
        find(exchange, resource, id)
    else:
        await check_as_of(exchange, at)
        check_not_erased(exchange, resource, id)
    told = await history.read(exchange.app.ledger.store, id, at)
    if told is None or told.state.kind not in resource.kinds or not exchange.sees(told.state):
        raise NotFound(what=resource.name, id=id)
    return exchange.resource_answer(_wire(resource, told), told.state.etag)


async def _redeliver(exchange: Exchange, resource: Resource, id: str) -> web.Response:
    resource.check(id)
    body = await exchange.body(Redelivery)
    ledger = exchange.app.ledger
    receipt = await redeliver(ledger, [id], exchange.context(), by=exchange.caller.by, reason=body.reason)
    told = await history.read(ledger.store, id, AsOf(position=receipt.position))
    if told is None:
        raise NotFound(what=resource.name, id=id)
    return await exchange.command_answer(receipt, _wire(resource, told))


def _wire(resource: Resource, told: Told) -> bytes:
    if told.callback is None:
        raise NotFound(what=f"callback of {resource.name}", id=told.state.id)
    return msgspec.json.encode(told.callback)


def _show(pattern: str, handler: Handler, summary: str) -> Route:
    return Route("GET", pattern, handler, "read", summary, query=read_as_of, answer=Callback, etag=True)


def _again(pattern: str, handler: Handler, summary: str) -> Route:
    return Route("POST", pattern, handler, "write", summary, body=Redelivery, answer=Callback, etag=True)


ROUTES = [
    _show("/v1/jobs/{job_id}/callback", callback_job, "What became of a job's callback"),
    _again("/v1/jobs/{job_id}/callback/redeliver", redeliver_job, "Send a job's callback again"),
    _show("/v1/runs/{run_id}/callback", callback_run, "What became of a run's callback"),
    _again("/v1/runs/{run_id}/callback/redeliver", redeliver_run, "Send a run's callback again"),
]
