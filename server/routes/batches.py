"""Batches: list, retrieve, create with one run per request, cancel with the runs."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta

from ledger import ids
from ledger.commands import create_batch
from ledger.decider import Create
from ledger.errors import invalid
from ledger.events import Created
from ledger.scalars import LABEL, JobId, Time, Timeout, Url
from projections.jobs import Job, render
from server.exchange import Exchange
from server.listing import Listing, answer, batch_filters
from server.routes import resources
from server.routes.bodies import CreateJob
from server.routes.bodies import create as create_command
from server.routes.resources import Nothing, Resource, read_as_of
from server.routing import Route

_PATH = "/v1/messages/batches"
_ONE = f"{_PATH}/{{batch_id}}"
BATCH = Resource(name="batch", path=_PATH, kinds=("batch",), id_kinds=("job",), render=render)
_LIST = Listing(table="batches", kind="batch", filters=batch_filters)


_REQUEST = {"properties": {"agent_id": {"type": "string", **LABEL}}, "required": ["agent_id"]}
Requests = Annotated[
    list[Annotated[dict[str, Any], Meta(extra_json_schema=_REQUEST)]], Meta(extra_json_schema={"minItems": 1})
]
"""What a batch is made of: each names its agent."""


class CreateBatch(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A new batch: each request becomes a run of its agent; all its fields are kept."""

    requests: Requests
    id: JobId | None = None
    callback_url: Url | None = None
    metadata: dict[str, Any] | None = None
    timeout_s: Timeout | None = None
    time: Time | None = None


async def list_batches(exchange: Exchange) -> web.Response:
    """List batches of every status."""
    return await answer(exchange, _LIST)


async def retrieve(exchange: Exchange, batch_id: str) -> web.Response:
    """Retrieve a batch."""
    return await resources.retrieve(exchange, BATCH, batch_id)


async def create(exchange: Exchange) -> web.Response:
    """Record a batch as running, and one run per request."""
    body = await exchange.body(CreateBatch)
    like = CreateJob(id=body.id, callback_url=body.callback_url, metadata=body.metadata, timeout_s=body.timeout_s)
    batch = create_command(like, "batch", exchange)
    runs = [_run(request, number, batch) for number, request in enumerate(body.requests)]
    if not runs:
        raise invalid("requests", "must hold at least one request")
    facts = msgspec.structs.replace(batch.facts, runs=[run.id for run in runs])
    batch = msgspec.structs.replace(batch, facts=facts)
    exchange.resource = batch.id
    receipt = await exchange.app.ledger.execute_plan(create_batch(batch, runs), exchange.context(body.time))
    return await resources.answer_command(exchange, BATCH, receipt, batch.id, is_new=True)


async def cancel(exchange: Exchange, batch_id: str) -> web.Response:
    """Cancel a running batch and its active runs."""
    return await resources.cancel(exchange, BATCH, batch_id)


def _run(request: dict[str, Any], number: int, batch: Create) -> Create:
    agent = request.get("agent_id")
    where = f"requests[{number}].agent_id"
    if not isinstance(agent, str):
        raise invalid(where, "is missing or no text")
    facts = Created(
        by=batch.facts.by,
        user_id=batch.facts.user_id,
        project_id=batch.facts.project_id,
        agent_id=ids.label(agent, where),
        background=True,
        batch_id=batch.id,
        metadata={"batch_id": batch.id, "request": request},
    )
    return Create(id=ids.make("run"), kind="run", facts=facts)


ROUTES = [
    Route("GET", _PATH, list_batches, "read", "List batches", query=_LIST.read, answer=list[Job]),
    Route("POST", _PATH, create, "write", "Create a batch", body=CreateBatch, answer=Job, status=201, etag=True),
    Route("GET", _ONE, retrieve, "read", "Retrieve a batch", query=read_as_of, answer=Job, etag=True),
    Route("PATCH", f"{_ONE}/cancel", cancel, "write", "Cancel a batch", body=Nothing, answer=Job, etag=True),
]
