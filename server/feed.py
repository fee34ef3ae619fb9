"""The feed of the whole log: which part of it is asked for, whose events it shows, and following it live."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from aiohttp import web

from ledger import cloudevents, ids
from ledger.events import TYPES, Recorded
from ledger.jsontext import INT_MAX
from server import sse, streaming
from server.exchange import Exchange
from server.hub import Feed
from server.listing import LIMIT_DEFAULT, LIMIT_MAX
from server.params import Params

SCAN = 2000
"""Events looked at in one step of a feed that shows only some of them."""
_TABLES = {"job": "jobs", "run": "runs", "batch": "batches"}


class Part(NamedTuple):
    """Which part of the log is asked for: above position ``after``, of ``types``, of one ``subject``."""

    after: int
    types: tuple[str, ...] | None
    subject: str | None
    limit: int

    def names(self, event: Recorded) -> bool:
        """Tell whether an event is of the types and the subject asked for."""
        return (self.types is None or event.type in self.types) and self.subject in (None, event.stream)


def read_part(params: Params) -> Part:
    """Return which part of the log is asked for."""
    return Part(
        after=params.integer("after", 0, 2**62, 0) or 0,
        types=params.many(("types",), sorted(TYPES)),
        subject=params.id("subject", lambda text: ids.parse(text, "job", "run", "token", where="subject")),
        limit=params.integer("limit", 1, LIMIT_MAX, LIMIT_DEFAULT) or 1,
    )


def visible(exchange: Exchange) -> tuple[Callable[[Recorded], bool], int]:
    """Return which events the caller may see, and up to which position the views can tell whose they are."""
    caller, views = exchange.caller, exchange.app.views
    if caller.sees_all and caller.project_id is None:
        return lambda event: True, INT_MAX

    def owns(event: Recorded) -> bool:
        table = _TABLES.get(event.type.partition(".")[0])
        row = views.row(table, event.stream) if table else None
        return row is not None and (not row.deleted or caller.sees_all) and caller.may_see(row.user_id, row.project_id)

    return owns, exchange.app.engine.position


def wants_stream(exchange: Exchange) -> bool:
    """Tell whether the client asks for server-sent events."""
    return sse.MEDIA_TYPE in exchange.request.headers.get("Accept", "")


class LogSource:
    """What a client reads of the log; marks are positions. It never ends by itself."""

    def __init__(self, exchange: Exchange, part: Part, feed: Feed) -> None:
        self._app = exchange.app
        self._part = part
        self._feed = feed

    async def read(self, after: int) -> streaming.Part:
        """See ``Source.read``. What the views do not have yet is left for later: whose it is cannot be told."""
        end = self._app.hub.position
        store, part = self._app.ledger.store, self._part
        if part.subject is not None:
            events, is_all = await store.stream(part.subject), True
        else:
            events = await store.scan(after, SCAN, part.types)
            is_all = len(events) < SCAN or events[-1].position >= end
        mark = max(after, end) if is_all else events[-1].position
        return streaming.Part(self._feed.frames(e for e in events if after < e.position <= end), mark, is_all)

    async def is_over(self) -> bool:
        """See ``Source.is_over``."""
        return False

    async def final(self) -> bytes:
        """See ``Source.final``."""
        return b""


async def follow(exchange: Exchange, part: Part) -> web.StreamResponse:
    """Answer with the log above ``after`` (or ``Last-Event-ID``) as server-sent events, then with what comes."""
    caller, app = exchange.caller, exchange.app
    owns, _ = visible(exchange)
    after = exchange.last_event_id()

    def make() -> Feed:
        name = app.ledger.name
        return Feed(
            lambda event: part.names(event) and owns(event),
            lambda event: sse.event(cloudevents.encode(event, name), event.position),
        )

    key = (caller.owner_filter, caller.project_id, part.types, part.subject)
    feed = app.hub.feed(key, make)
    return await streaming.serve(
        exchange, feed, LogSource(exchange, part, feed), part.after if after is None else after
    )
