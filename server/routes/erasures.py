"""Erasure: the data of a resource's events is removed from all files for good; that it was, by whom and why stays."""

from __future__ import annotations

import msgspec
from aiohttp import web

from ledger.commands import single
from ledger.decider import Erase
from ledger.events import Erased
from ledger.scalars import Reason, Time
from ledger.times import to_text
from ledger.upcast import fact
from server.exchange import Exchange
from server.routes import resources
from server.routes.jobs import JOB
from server.routes.resources import Resource
from server.routes.runs import RUN
from server.routing import Handler, Route


class Erasing(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Why the data has to go; that is all that the log keeps of it, so it must hold nothing of what is erased."""

    reason: Reason


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased, who did it and why.

    ``position``: of the ``….erased`` event; ``events``: how many lost their data. ``scrubbed``: whether it is gone from
    every file of the ledger; where somebody still reads an older state of one it is not, and the server goes on.
    """

    id: str
    position: int
    erased_at: Time
    erased_by: str
    reason: str
    events: int
    scrubbed: bool


async def erase_job(exchange: Exchange, job_id: str) -> web.Response:
    """Remove the data of a job or batch for good, in whatever status it is, also a deleted one."""
    return await _erase(exchange, JOB, job_id)


async def erase_run(exchange: Exchange, run_id: str) -> web.Response:
    """Remove the data of a run, its steps and messages too, for good, in whatever status it is, also a deleted one."""
    return await _erase(exchange, RUN, run_id)


async def _erase(exchange: Exchange, resource: Resource, id: str) -> web.Response:
    resource.check(id)
    body = await exchange.body(Erasing)
    context = msgspec.structs.replace(exchange.context(), sees=resources.sees(exchange, resource))
    command = Erase(id=id, reason=body.reason, by=exchange.caller.by)
    receipt = await exchange.app.ledger.execute_plan(single(command), context, streams=(id,))
    event = receipt.events[-1]
    said = fact(event)
    await exchange.wait_for_own(receipt.position)
    erasure = Erasure(
        id=id,
        position=event.position,
        erased_at=to_text(event.time),
        erased_by=event.actor,
        reason=said.reason if isinstance(said, Erased) else body.reason,
        events=event.version - 1,
        scrubbed=await exchange.app.scrubber.scrub(),
    )
    return await exchange.command_answer(receipt, msgspec.json.encode(erasure))


def _route(pattern: str, handler: Handler, summary: str) -> Route:
    return Route("POST", pattern, handler, "admin", summary, body=Erasing, answer=Erasure)


ROUTES = [
    _route("/v1/jobs/{job_id}/erase", erase_job, "Erase a job's data"),
    _route("/v1/runs/{run_id}/erase", erase_run, "Erase a run's data"),
]
