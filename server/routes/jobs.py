"""Jobs: list, retrieve, create, change, cancel, delete, history. Runs and batches can be read here in a job's shape."""

from __future__ import annotations

from aiohttp import web

from projections.jobs import Job, render
from server.exchange import Exchange
from server.listing import Listing, active_job_filters, answer, job_filters
from server.routes import resources
from server.routes.bodies import ChangeJob, CreateJob, change
from server.routes.resources import Nothing, Resource
from server.routing import Route

JOB = Resource(name="job", path="/v1/jobs", kinds=("job", "batch", "run"), id_kinds=("job", "run"), render=render)
_LIST = Listing(table="jobs", kind="job", filters=job_filters, job_types=True)
_ACTIVE = Listing(table="jobs", kind="job", filters=active_job_filters, active=True)


async def list_jobs(exchange: Exchange) -> web.Response:
    """List jobs."""
    return await answer(exchange, _LIST)


async def list_active(exchange: Exchange) -> web.Response:
    """List active jobs (deprecated: use ``active=true``)."""
    return await answer(exchange, _ACTIVE)


async def create(exchange: Exchange) -> web.Response:
    """Create a job; a later status walks the whole chain in one append."""
    body = await exchange.body(CreateJob)
    return await resources.execute(exchange, JOB, body.command(exchange), body.time)


async def retrieve(exchange: Exchange, job_id: str) -> web.Response:
    """Retrieve a job."""
    return await resources.retrieve(exchange, JOB, job_id)


async def update(exchange: Exchange, job_id: str) -> web.Response:
    """Advance a job by one legal step, or update it."""
    JOB.check(job_id)
    body = await exchange.body(ChangeJob)
    return await resources.execute(exchange, JOB, change(body, job_id, exchange), body.time)


async def cancel(exchange: Exchange, job_id: str) -> web.Response:
    """Cancel a running job."""
    return await resources.cancel(exchange, JOB, job_id)


async def delete(exchange: Exchange, job_id: str) -> web.Response:
    """Delete a job: hide it from reads, keep its history."""
    return await resources.delete(exchange, JOB, job_id)


async def events(exchange: Exchange, job_id: str) -> web.Response:
    """List a job's history as CloudEvents."""
    return await resources.events(exchange, JOB, job_id)


ROUTES = [
    Route("GET", "/v1/jobs", list_jobs, "read", "List jobs", query=_LIST.read, answer=list[Job]),
    Route(
        "GET",
        "/v1/jobs/active",
        list_active,
        "read",
        "List active jobs",
        query=_ACTIVE.read,
        answer=list[Job],
        deprecated=True,
    ),
    Route("POST", "/v1/jobs", create, "write", "Create a job", body=CreateJob, answer=Job, status=201, etag=True),
    Route(
        "GET",
        "/v1/jobs/{job_id}",
        retrieve,
        "read",
        "Retrieve a job",
        query=resources.read_as_of,
        answer=Job,
        etag=True,
    ),
    Route(
        "PATCH", "/v1/jobs/{job_id}", update, "write", "Advance or update a job", body=ChangeJob, answer=Job, etag=True
    ),
    Route("DELETE", "/v1/jobs/{job_id}", delete, "write", "Delete a job", body=Nothing, answer=Job, etag=True),
    Route("PATCH", "/v1/jobs/{job_id}/cancel", cancel, "write", "Cancel a job", body=Nothing, answer=Job, etag=True),
    resources.history("/v1/jobs/{job_id}/events", events, "List a job's history"),
]
