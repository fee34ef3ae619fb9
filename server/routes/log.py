"""The whole log: a feed of CloudEvents, and the bulk append."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from aiohttp import web

from ledger import cloudevents, ids
from ledger.bulk import Entry, LineError, Tally, append_all
from ledger.cloudevents import BATCH_MEDIA_TYPE, CloudEvent
from ledger.errors import BadRequest, LedgerError, invalid
from ledger.events import CALLBACK_TYPES, TYPES, Created, Recorded
from ledger.jsontext import DEPTH_MAX
from ledger.scalars import NOT_EMPTY
from ledger.store import BATCH_SIZE
from server.audit import positions
from server.auth import check_admin
from server.exchange import Exchange, json_answer
from server.feed import SCAN, follow, read_part, visible, wants_stream
from server.problems import Forbidden
from server.routes.eventpage import PAGE_SIZE_MAX, event_page
from server.routing import Route

YIELD_EVERY = 500
"""Lines parsed before other requests get their turn, about 5 ms."""
LINE_SIZE_MAX = 8 * 1024 * 1024
"""One event's line."""
NDJSON = "application/x-ndjson"
"""What a bulk append is taken for unless it says that it is a batch: one event a line."""
ADMIN_VERBS = frozenset({"refused", "erased", "granted", "revoked"})
"""Events that only the ledger itself records, or an admin brings."""


async def feed(exchange: Exchange) -> web.StreamResponse:
    """List the log above ``after`` as CloudEvents, or follow it live; own rows unless admin."""
    exchange.reads_rows()
    part = exchange.asked(read_part)
    if part.subject is not None:
        exchange.resource = part.subject
    await exchange.wait_for_position()
    if wants_stream(exchange):
        return await follow(exchange, part)
    after, types, subject, limit = part
    found: list[Recorded] = []
    size = 0
    async for event in _matching(exchange, after, types, subject):
        found.append(event)
        size += len(event.data or b"")
        if len(found) > limit or size >= PAGE_SIZE_MAX:
            break
    same = [f"limit={limit}", *(f"types={name}" for name in types or ()), *([f"subject={subject}"] if subject else [])]
    return event_page(exchange, found, limit, lambda last: "&".join([f"after={last.position}", *same]))


async def _matching(
    exchange: Exchange, after: int, types: tuple[str, ...] | None, subject: str | None
) -> AsyncIterator[Recorded]:
    store = exchange.app.ledger.store
    owns, end = visible(exchange)
    if subject is not None:
        version = 0
        while batch := await store.stream(subject, version, SCAN, BATCH_SIZE):
            version = batch[-1].version
            for event in batch:
                if after < event.position <= end and (types is None or event.type in types) and owns(event):
                    yield event
        return
    while batch := await store.scan(after, SCAN, types, BATCH_SIZE):
        for event in batch:
            if event.position > end:
                return
            if owns(event):
                yield event
        after = batch[-1].position


async def append(exchange: Exchange) -> web.Response:
    """Append events in bulk, all or none: NDJSON, or ``application/cloudevents-batch+json``."""
    if exchange.idempotency_key() is not None:
        raise invalid("header Idempotency-Key", "is not for bulk appends: each event has its own idempotencykey")
    is_batch = exchange.request.content_type == BATCH_MEDIA_TYPE
    lines = _batch_items(exchange) if is_batch else _lines(exchange)
    entries = []
    async for number, line in lines:
        entries.append(_entry(exchange, number, line))
        if len(entries) % YIELD_EVERY == 0:
            await asyncio.sleep(0)
    if not entries:
        raise invalid("body", "holds no event", "NDJSON: one CloudEvent a line")
    tally: Tally = await exchange.app.ledger.submit(append_all(entries, exchange.sees))
    exchange.resource = positions(tally.position - tally.appended + 1, tally.position)
    await exchange.wait_for_own(tally.position)
    return json_answer(tally, headers={"Ledger-Position": str(tally.position)})


async def _lines(exchange: Exchange) -> AsyncIterator[tuple[int, bytes]]:
    pending, number = b"", 0
    async for chunk in exchange.body_chunks(exchange.app.config.bulk_size_max):
        *whole, pending = (pending + chunk).split(b"\n")
        for line in whole:
            number += 1
            if line.strip():
                yield number, line
        if len(pending) > LINE_SIZE_MAX:
            raise _at(number + 1, invalid("event", f"is longer than {LINE_SIZE_MAX} bytes"))
    if pending.strip():
        yield number + 1, pending


async def _batch_items(exchange: Exchange) -> AsyncIterator[tuple[int, bytes]]:
    raw = await exchange.raw_body(exchange.app.config.bulk_size_max)
    try:
        items = msgspec.json.decode(raw, type=list[msgspec.Raw])
    except RecursionError as error:
        raise invalid("body", f"is nested deeper than {DEPTH_MAX} levels", f"at most {DEPTH_MAX}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRequest(reason=f"The body is not a JSON array of events: {error}.") from error
    for number, item in enumerate(items, 1):
        yield number, bytes(item)


def _entry(exchange: Exchange, number: int, line: bytes) -> Entry:
    try:
        event = cloudevents.decode(line)
        draft = cloudevents.to_draft(event, actor=exchange.caller.user_id, now_us=exchange.app.ledger.clock())
        kinds = ("job", "run", "token")
        ids.parse(draft.stream, *kinds, where="subject")
        _check_right(exchange, draft.type, draft.actor, draft.fact)
        if isinstance(draft.fact, Created) and draft.fact.callback_url is not None:
            exchange.app.config.callback_rules.check_url(draft.fact.callback_url)
    except Forbidden:
        raise
    except LedgerError as error:
        raise _at(number, error) from error
    expected = None if event.streamversion is None else event.streamversion - 1
    return Entry(draft, expected, number, event.time is not None)


def _check_right(exchange: Exchange, type: str, actor: str, fact: object) -> None:
    caller = exchange.caller
    ids.parse(actor, "user", where="actor")
    if "admin" in caller.scopes and caller.sees_all:
        return
    if TYPES[type].verb in ADMIN_VERBS or type in CALLBACK_TYPES:
        check_admin(caller, f"An event of type {type}")
    if actor != caller.user_id:
        raise Forbidden(reason="The event names another actor; only an admin may bring events of others.")
    if isinstance(fact, Created) and (fact.user_id != caller.user_id or fact.project_id != caller.project_id):
        raise Forbidden(reason="The event creates a resource of another user or project.")


def _at(number: int, error: LedgerError) -> LineError:
    return LineError(line=number, reason=str(error), cause=error)


ROUTES = [
    Route(
        "GET",
        "/v1/events",
        feed,
        "read",
        "List the log",
        query=read_part,
        answer=list[CloudEvent],
        media=BATCH_MEDIA_TYPE,
        stream=CloudEvent,
    ),
    Route(
        "POST",
        "/v1/events",
        append,
        "write",
        "Append events in bulk",
        body=Annotated[list[CloudEvent], NOT_EMPTY],
        body_media=(NDJSON, BATCH_MEDIA_TYPE),
        answer=Tally,
        keyed=False,
    ),
]
