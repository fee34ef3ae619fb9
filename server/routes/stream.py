"""The stream of a run: what was said so far, then live, then how it ended (contract 4)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web

from ledger.errors import BadRequest, invalid
from ledger.jsontext import INT_MAX
from ledger.messages import LettaMessage
from ledger.scalars import RunId
from projections.usage import usage_of
from server import sse, streaming
from server.exchange import Exchange
from server.hub import Channel, Part
from server.routes.resources import find
from server.routes.runs import RUN
from server.routing import Route
from server.streaming import is_all

BATCH_SIZE_MAX = 1000
"""Entries that are read at a time unless the client asks for fewer; bytes are bounded apart (``READ_SIZE``)."""
POLL_INTERVAL_MAX_S = 3600.0


def _within(low: float, high: float) -> msgspec.Meta:
    return msgspec.Meta(extra_json_schema={"minimum": low, "maximum": high})


class Follow(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The optional body of ``POST /v1/runs/{run_id}/stream``.

    ``starting_after``: the ``seq_id`` behind which to begin. ``batch_size``: how much history is read at a time.
    ``poll_interval`` is taken and not needed: news are pushed. So are ``agent_id``, ``otid`` and ``run_id``, which
    newer clients may send to find a run.
    """

    starting_after: Annotated[int, _within(0, INT_MAX)] | None = None
    include_pings: bool | None = None
    poll_interval: Annotated[float, _within(0, POLL_INTERVAL_MAX_S)] | None = None
    batch_size: Annotated[int, _within(1, BATCH_SIZE_MAX)] | None = None
    agent_id: str | None = None
    otid: str | None = None
    run_id: RunId | None = None


class StopReason(msgspec.Struct, frozen=True, tag_field="message_type", tag="stop_reason"):
    """Why a run ended."""

    stop_reason: str


class Usage(msgspec.Struct, frozen=True, kw_only=True, tag_field="message_type", tag="usage_statistics"):
    """What a run used; null where no provider reported it."""

    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    step_count: int
    cached_input_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    run_ids: list[str]


class Ping(msgspec.Struct, frozen=True, kw_only=True, tag_field="message_type", tag="ping"):
    """That the stream is there."""

    id: str
    date: str
    run_id: str


_STOPS = {"completed": "end_turn", "failed": "error", "cancelled": "cancelled"}
"""What a stream says of a run that ended without a stop reason: V1 clients need one."""
_STATUS = "SELECT status, stop_reason, deleted_us IS NOT NULL OR erased_position IS NOT NULL FROM runs WHERE id = :id"
_encode = msgspec.json.Encoder().encode


class RunSource:
    """What a client reads of one run's events."""

    def __init__(self, exchange: Exchange, channel: Channel, run_id: str, batch_size: int) -> None:
        self._app = exchange.app
        self._hub = exchange.app.hub
        self._channel = channel
        self._run_id = run_id
        self._batch_size = batch_size

    async def read(self, after: int, known: int) -> Part:
        """See ``Source.read``; marks are versions, which clients know as ``seq_id``.

        Clients who fell behind together read together. A read that was begun when as much was announced as now has all
        of that; where the end was not announced to this channel, only a new read is sure to have it.
        """
        if known == streaming.NOTHING_KNOWN:
            return await self._read(after)
        return await self._hub.reads.get((self._channel, after, self._batch_size, known), self._read(after))

    async def _read(self, after: int) -> Part:
        size_max = streaming.READ_SIZE
        events = await self._app.ledger.store.stream(self._run_id, after, self._batch_size, size_max)
        mark = events[-1].version if events else after
        return Part(self._hub.frames(events), mark, is_all(events, self._batch_size))

    async def is_over(self) -> bool:
        """See ``Source.is_over``."""
        status, _, is_gone = await self._status()
        return is_gone or status in _STOPS

    async def final(self) -> bytes:
        """See ``Source.final``: the stop reason, the usage, and the mark of the end; of a deleted run only that."""
        status, stop_reason, is_gone = await self._status()
        if is_gone:
            return sse.DONE
        used = await usage_of(self._app.views, self._run_id)
        usage = Usage(
            prompt_tokens=used.prompt_tokens,
            completion_tokens=used.completion_tokens,
            total_tokens=used.total_tokens,
            step_count=used.step_count,
            cached_input_tokens=used.cached_input_tokens,
            cache_write_tokens=used.cache_write_tokens,
            reasoning_tokens=used.reasoning_tokens,
            run_ids=[self._run_id],
        )
        stopped = StopReason(stop_reason or _STOPS[status])
        return sse.event(_encode(stopped)) + sse.event(_encode(usage)) + sse.DONE

    async def _status(self) -> tuple[str, str | None, bool]:
        rows = await self._app.views.read(_STATUS, {"id": self._run_id})
        status, stop_reason, is_gone = rows[0] if rows else ("", None, True)
        return status, stop_reason, bool(is_gone)


async def stream(exchange: Exchange, run_id: str) -> web.StreamResponse:
    """Follow a run: its messages so far, then each further one, then how it ended."""
    RUN.check(run_id)
    body = await exchange.body(Follow)
    after, batch_size = _bounds(exchange, body)
    if body.run_id not in (None, run_id):
        raise BadRequest(reason="run_id names another run than the path.")
    await exchange.wait_for_position()
    find(exchange, RUN, run_id)
    channel = exchange.app.hub.run(run_id)
    source = RunSource(exchange, channel, run_id, batch_size)
    return await streaming.serve(exchange, channel, source, after, pings=body.include_pings is not False)


def _bounds(exchange: Exchange, body: Follow) -> tuple[int, int]:
    after = body.starting_after
    if after is None:
        after = exchange.last_event_id() or 0
    if not 0 <= after <= INT_MAX:
        raise invalid("starting_after", "must be a seq_id", f"0 to {INT_MAX}")
    size = BATCH_SIZE_MAX if body.batch_size is None else body.batch_size
    if not 1 <= size <= BATCH_SIZE_MAX:
        raise invalid("batch_size", "must be a number of entries", f"1 to {BATCH_SIZE_MAX}")
    if body.poll_interval is not None and not 0 <= body.poll_interval <= POLL_INTERVAL_MAX_S:
        raise invalid("poll_interval", "must be seconds", f"0 to {POLL_INTERVAL_MAX_S:g}")
    return after, size


ROUTES = [
    Route(
        "POST",
        "/v1/runs/{run_id}/stream",
        stream,
        "read",
        "Follow a run",
        body=Follow,
        stream=LettaMessage | StopReason | Usage | Ping,
    ),
]
