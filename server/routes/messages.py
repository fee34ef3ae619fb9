"""Messages of runs, steps and batches: list them by id, record them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, NamedTuple

from aiohttp import web

from ledger import messages
from ledger.commands import Note
from ledger.events import Message, Recorded
from ledger.scalars import NOT_EMPTY
from ledger.upcast import fact
from projections import transcript
from projections.internal import BatchMessages, InternalMessage, merge
from projections.messages import header_of, wire
from projections.transcript import Pages, Part, Scope
from projections.views import Page
from server import notes
from server.exchange import Exchange, json_answer
from server.listing import Made, kept, made, next_link, pages
from server.params import Params
from server.routes.batches import BATCH
from server.routes.resources import find
from server.routes.runs import RUN
from server.routes.steps import visible_step
from server.routing import Route


class BatchPages(NamedTuple):
    """Which page of a batch's messages, and of which agent."""

    pages: Pages
    agent_id: str | None


def run_pages(params: Params) -> Pages:
    """Return the page of ``GET /v1/runs/{run_id}/messages`` and of a step's messages: oldest first."""
    return pages(params, "message", "asc")


def batch_pages(params: Params) -> BatchPages:
    """Return the page of ``GET /v1/messages/batches/{batch_id}/messages``: newest first."""
    return BatchPages(pages(params, "message", "desc"), params.text("agent_id"))


async def list_messages(exchange: Exchange, run_id: str) -> web.Response:
    """List the messages of a run in the order of arrival; parts of one message stay together."""

    async def scope() -> Scope:
        find(exchange, RUN, run_id)
        return transcript.of_run(run_id)

    return await _list(exchange, scope)


async def list_step_messages(exchange: Exchange, step_id: str) -> web.Response:
    """List the messages of a step in the order of arrival."""

    async def scope() -> Scope:
        run_id = (await visible_step(exchange, step_id, "steps.run_id"))[0]
        return transcript.of_step(run_id, step_id)

    return await _list(exchange, scope)


async def _list(exchange: Exchange, scope: Callable[[], Awaitable[Scope]]) -> web.Response:
    """Answer with a page. ``scope`` raises where the caller may see nothing: what is kept was seen since a change."""
    await exchange.wait_for_position()

    async def make() -> Made:
        asked = exchange.asked(run_pages)
        parts, more = await transcript.messages(exchange.app.views, await scope(), asked)
        return Made(b"[" + b",".join(part.wire for part in parts) + b"]", _link(exchange, asked, parts, more))

    return kept(exchange) or await made(exchange, make)


def _link(exchange: Exchange, asked: Pages, rows: Sequence[Part | InternalMessage], more: bool) -> str | None:
    page = Page([], rows[0].id if rows else None, rows[-1].id if rows else None, more)
    return next_link(exchange, page, backwards=asked.backwards)


async def list_batch_messages(exchange: Exchange, batch_id: str) -> web.Response:
    """List the messages of a batch's runs, each with all its parts, in the shape that batches always had."""
    asked, agent_id = exchange.asked(batch_pages)
    await exchange.wait_for_position()
    find(exchange, BATCH, batch_id)
    scope = transcript.of_batch(batch_id, agent_id)
    parts, more = await transcript.spoken(exchange.app.views, scope, asked)
    said = merge(parts, await transcript.agents_of(exchange.app.views, [part.run_id for part in parts]))
    if asked.descending:
        said.reverse()
    link = _link(exchange, asked, said, more)
    return json_answer(BatchMessages(said), headers={"Link": link} if link else {})


async def record_messages(exchange: Exchange, run_id: str) -> web.Response:
    """Record what was said in a run: one message or an array of them, all or none."""
    RUN.check(run_id)
    items, is_array = await exchange.items()
    noted = []
    for number, item in enumerate(items):
        prefix = f"[{number}]." if is_array else ""
        said, message = messages.record(item, prefix, run_id=run_id, by=exchange.caller.by)
        noted.append(Note(said, messages.time_us(message)))
        await notes.pause(number)
    receipt = await notes.record(exchange, run_id, noted)
    return notes.answer(receipt, [_shown(event) for event in receipt.events], is_array=is_array)


def _shown(event: Recorded) -> bytes:
    """Return a recorded message as lists show it; nothing of one that was erased since its key was first used."""
    said = fact(event)
    if not isinstance(said, Message):
        return b"null"
    raw = bytes(said.message)
    return wire(raw, header_of(raw), event)


ROUTES = [
    Route(
        "GET",
        "/v1/runs/{run_id}/messages",
        list_messages,
        "read",
        "List a run's messages",
        query=run_pages,
        answer=list[messages.LettaMessage],
    ),
    Route(
        "POST",
        "/v1/runs/{run_id}/messages",
        record_messages,
        "write",
        "Record a run's messages",
        body=messages.LettaMessage | Annotated[list[messages.LettaMessage], NOT_EMPTY],
        answer=messages.LettaMessage | list[messages.LettaMessage],
        status=201,
    ),
    Route(
        "GET",
        "/v1/steps/{step_id}/messages",
        list_step_messages,
        "read",
        "List a step's messages",
        query=run_pages,
        answer=list[messages.LettaMessage],
    ),
    Route(
        "GET",
        "/v1/messages/batches/{batch_id}/messages",
        list_batch_messages,
        "read",
        "List a batch's messages",
        query=batch_pages,
        answer=BatchMessages,
    ),
]
