"""The feed of the whole log: which part of it is asked for, whose events it shows, and following it live."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from aiohttp import web

from ledger import cloudevents, ids
from ledger.events import TYPES, Recorded
from ledger.jsontext import INT_MAX
from server import hub, sse, streaming
from server.exchange import Exchange
from server.hub import Feed
from server.params import LIMIT_DEFAULT, LIMIT_MAX, Params
from server.streaming import is_all

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
        self._version = self._mark = 0
        """Up to which version the one subject has been read, and the mark that stands for it."""

    async def read(self, after: int, known: int) -> hub.Part:
        """See ``Source.read``. What the views do not have yet is left for later: whose it is cannot be told."""
        end = self._app.hub.position
        store, part, size_max = self._app.ledger.store, self._part, streaming.READ_SIZE
        if part.subject is not None:
            begun = self._version if after >= self._mark else 0  # what was read and not written is read again
            found = await store.stream(part.subject, begun, SCAN, size_max)
        else:
            found = await store.scan(after, SCAN, part.types, size_max)
        events = [event for event in found if event.position <= end]
        if events:
            self._version = events[-1].version
        reaches_end = len(events) < len(found) or is_all(found, SCAN)
        mark = self._mark = max(after, end if reaches_end else events[-1].position)
        fresh = [event for event in events if event.position > after]
        return hub.Part(self._feed.frames(fresh), mark, mark >= end)

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

    def shows(event: Recorded) -> bool:
        return part.names(event) and owns(event)

    def render(event: Recorded) -> bytes:
        return sse.event(cloudevents.encode(event, app.ledger.name), event.position)

    feed = app.hub.feed((caller.owner_filter, caller.project_id, part.types, part.subject), shows, render)
    return await streaming.serve(
        exchange, feed, LogSource(exchange, part, feed), part.after if after is None else after
    )
