"""What jobs, runs and batches have in common: retrieve, create, change, cancel, delete, events."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec
from aiohttp import web

from ledger import ids
from ledger.cloudevents import BATCH_MEDIA_TYPE, CloudEvent
from ledger.commands import Receipt, cancel_with_members, single
from ledger.decider import Command, Create, Delete
from ledger.errors import Erased, NotFound
from ledger.events import ERASURES
from ledger.state import State
from projections.history import AsOf
from projections.past import fold_as_of
from projections.progress import with_progress
from projections.resources import Render
from projections.views import Row
from server.exchange import JSON, Exchange, state_of
from server.listing import check_as_of
from server.params import LIMIT_DEFAULT, LIMIT_MAX, Params
from server.routes.eventpage import PAGE_SIZE_MAX, event_page
from server.routing import Handler, Route


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing: no body, or an empty object."""


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """A resource as a family of routes shows it: its name, where it lives, and its shape on the wire."""

    name: str
    path: str
    kinds: tuple[str, ...]
    id_kinds: tuple[str, ...]
    render: Render

    def check(self, id: str) -> None:
        """Raise ``InvalidInput`` for a malformed id."""
        ids.parse(id, *self.id_kinds, where=f"{self.name} id")


_TABLES = {"job": "jobs", "run": "runs", "batch": "batches"}


def find(exchange: Exchange, resource: Resource, id: str) -> Row:
    """Return the row of a resource that exists for the caller. Raises ``NotFound``, ``Erased``, ``InvalidInput``."""
    row = None
    for kind in resource.kinds:
        row = exchange.app.views.row(_TABLES[kind], id)
        if row is not None:
            break
    else:
        resource.check(id)
    if row is None or row.deleted or not exchange.caller.may_see(row.user_id, row.project_id):
        raise NotFound(what=resource.name, id=id)
    if row.erased_position is not None:
        raise Erased(id=id, position=row.erased_position)
    return row


def check_not_erased(exchange: Exchange, resource: Resource, id: str) -> None:
    """Raise ``Erased`` where a resource was erased, whatever point in history is asked for: nothing of it is left."""
    for kind in resource.kinds:
        row = exchange.app.views.row(_TABLES[kind], id)
        if row is None:
            continue
        if row.erased_position is not None and exchange.caller.may_see(row.user_id, row.project_id):
            raise Erased(id=id, position=row.erased_position)


def read_as_of(params: Params) -> AsOf | None:
    """Return the point in history that a read asks for."""
    return params.point("as_of")


async def retrieve(exchange: Exchange, resource: Resource, id: str) -> web.Response:
    """Answer with one resource, as of now or of any point in history."""
    if exchange.query_string:
        resource.check(id)
        at = exchange.asked(read_as_of)
        if at is not None:
            return await _retrieve_as_of(exchange, resource, id, at)
    if "Ledger-Position" in exchange.request.headers:
        await exchange.wait_for_position()
    row = find(exchange, resource, id)
    if row.kind == "batch":
        return await _batch_answer(exchange, row.wire, row.version)
    if (row.kind == "run") == (resource.name == "run"):
        return exchange.resource_answer(row.wire, row.version)
    state = await exchange.app.views.state(_TABLES[row.kind], id)
    return exchange.resource_answer(resource.render(state) if state else row.wire, row.version)


async def _batch_answer(exchange: Exchange, wire: bytes, version: int, at: AsOf | None = None) -> web.Response:
    """Answer with a batch and how far its runs are; that moves without the batch, so no 304 stands for it."""
    wire = (await with_progress(exchange.app.views, [wire], at))[0]
    return web.Response(body=wire, headers={"Content-Type": JSON, "ETag": f'"{version}"'})


async def _retrieve_as_of(exchange: Exchange, resource: Resource, id: str, at: AsOf) -> web.Response:
    await exchange.wait_for_position()
    await check_as_of(exchange, at)
    check_not_erased(exchange, resource, id)
    events = (await exchange.app.ledger.store.streams([id], bare=True)).get(id, [])
    state = fold_as_of(events, at)
    if state is None or state.kind not in resource.kinds or not exchange.sees(state):
        raise NotFound(what=resource.name, id=id)
    erased = next((event.position for event in events if event.type in ERASURES), None)
    if erased is not None:  # since the views were asked
        raise Erased(id=id, position=erased)
    if state.kind == "batch":
        return await _batch_answer(exchange, resource.render(state), state.etag, at)
    return exchange.resource_answer(resource.render(state), state.etag)


async def execute(exchange: Exchange, resource: Resource, command: Command, time: str | None = None) -> web.Response:
    """Run a command and answer with the resource as it is after it."""
    id = command.id
    exchange.resource = id
    context = exchange.context(time)
    context = msgspec.structs.replace(context, sees=sees(exchange, resource))
    receipt = await exchange.app.ledger.execute_plan(single(command), context, streams=(id,))
    return await answer_command(exchange, resource, receipt, id, is_new=isinstance(command, Create))


async def answer_command(
    exchange: Exchange, resource: Resource, receipt: Receipt, id: str, *, is_new: bool = False
) -> web.Response:
    """Answer with the resource as it is after a command, once this node's views have it."""
    state = state_of(receipt, id)
    exchange.resource = state.id  # with a key that is sent again, that of the first time
    wire = resource.render(state)
    if state.kind == "batch":
        await exchange.wait_for_own(receipt.position)
        at = None if state.deleted_us is not None else AsOf(position=receipt.position)
        wire = (await with_progress(exchange.app.views, [wire], at))[0]
    location = f"{resource.path}/{state.id}" if is_new else ""
    return await exchange.command_answer(receipt, wire, status=201 if is_new else 200, location=location)


async def cancel(exchange: Exchange, resource: Resource, id: str) -> web.Response:
    """Cancel by the rules; a batch takes its active runs with it."""
    resource.check(id)
    await exchange.body(Nothing)
    plan = cancel_with_members(id, exchange.if_match(), exchange.caller.by)
    context = msgspec.structs.replace(exchange.context(), sees=sees(exchange, resource))
    receipt = await exchange.app.ledger.execute_plan(plan, context)
    return await answer_command(exchange, resource, receipt, id)


async def delete(exchange: Exchange, resource: Resource, id: str) -> web.Response:
    """Hide a resource from reads; its history stays."""
    resource.check(id)
    await exchange.body(Nothing)
    return await execute(exchange, resource, Delete(id=id, etags=exchange.if_match()))


class Versions(NamedTuple):
    """Which part of a history is asked for: ``after`` and ``before`` versions, ``limit`` events at most."""

    after: int
    before: int | None
    limit: int


def read_versions(params: Params) -> Versions:
    """Return which part of a history is asked for."""
    return Versions(
        after=params.integer("after", 0, 2**62, 0) or 0,
        before=params.integer("before", 0, 2**62),
        limit=params.integer("limit", 1, LIMIT_MAX, LIMIT_DEFAULT) or 1,
    )


async def events(exchange: Exchange, resource: Resource, id: str) -> web.Response:
    """Answer with the history as CloudEvents, oldest first, ``after`` and ``before`` versions."""
    resource.check(id)
    after, before, limit = exchange.asked(read_versions)
    await exchange.wait_for_position()
    if not exchange.caller.sees_all or exchange.caller.project_id is not None:
        find(exchange, resource, id)
    found = await exchange.app.ledger.store.stream(id, after, limit + 1, PAGE_SIZE_MAX)
    if not found and not await exchange.app.ledger.store.stream(id, 0, 1):
        raise NotFound(what=resource.name, id=id)
    found = [event for event in found if before is None or event.version < before]
    tail = "" if before is None else f"&before={before}"
    return event_page(exchange, found, limit, lambda last: f"after={last.version}{tail}&limit={limit}")


def history(pattern: str, handler: Handler, summary: str) -> Route:
    """Return the route of a history, which is the same for all resources."""
    answer = list[CloudEvent]
    return Route("GET", pattern, handler, "read", summary, query=read_versions, answer=answer, media=BATCH_MEDIA_TYPE)


def sees(exchange: Exchange, resource: Resource) -> Callable[[State], bool]:
    """Return whether whoever asks may see a resource of the family."""
    return lambda state: state.kind in resource.kinds and exchange.sees(state)
