"""Serving one stream: a client reads the log at its own pace, then goes live, and is cut off when it takes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from ledger.errors import Unavailable
from ledger.events import Recorded
from server import audit, sse
from server.exchange import Exchange
from server.hub import Channel, Frame, Hub, Part, Subscriber
from server.problems import Unauthorized, type_of

PIECE_SIZE = 64 * 1024
"""Bytes that are written before the client must have taken them: what aiohttp lets wait, too."""

READ_SIZE = 256 * 1024
"""Bytes that are read of the log at a time for one client, one event more at most."""

NOTHING_KNOWN = -1
"""In the place of a mark: the end was seen in the views, and where that is was not announced. The log must be asked."""

log = structlog.get_logger("server")


def is_all(events: Sequence[Recorded], limit: int) -> bool:
    """Tell whether a read of at most ``limit`` events and ``READ_SIZE`` bytes reached the end."""
    return len(events) < limit and sum(len(event.data or b"") for event in events) < READ_SIZE


class Source(Protocol):
    """What a client reads of the log."""

    async def read(self, after: int, known: int) -> Part:
        """Return what comes after a mark. What was announced up to the mark ``known`` is not missing from it."""

    async def is_over(self) -> bool:
        """Tell whether nothing more is to come; asked once, before anything is read."""

    async def final(self) -> bytes:
        """Return what ends the stream."""


async def serve(
    exchange: Exchange, channel: Channel, source: Source, after: int, *, pings: bool = False
) -> web.StreamResponse:
    """Answer with a stream that begins behind the mark ``after``. Raises ``Unavailable`` at the limit of streams.

    ``pings``: whether what keeps it open is an event that the client sees. A stream that ends before it is over (a
    stop, a token revoked) ends between two events, and a fault breaks the connection off: the client goes on from the
    last event that it has whole.
    """
    is_chunked = exchange.request.version >= (1, 1)
    response = sse.response(exchange.request_id, is_chunked=is_chunked)
    transport = exchange.request.transport
    if transport is None:
        raise ConnectionResetError("the client is gone")
    app, token_id = exchange.app, exchange.caller.token_id
    subscriber = Subscriber(
        transport,
        after,
        is_chunked=is_chunked,
        pings=pings,
        is_allowed=lambda: app.access.is_in_force(token_id, app.ledger.clock()),
    )
    connection = exchange.connection
    try:
        _check(exchange, subscriber)
        connection.is_stream = True
        app.hub.join(channel, subscriber)
        writer = await response.prepare(exchange.request)
        await response.write(b"")  # the headers go at once, whenever the first event may come
        if writer is not None and exchange.request.method != "HEAD":
            await _serve(exchange, _Serving(app.hub, subscriber, channel, source, writer, app.config.stream_stall_s))
    finally:
        subscriber.end()
        app.hub.leave(channel, subscriber)
        connection.is_stream = False
    return response


def _check(exchange: Exchange, subscriber: Subscriber) -> None:
    hub, streams_max = exchange.app.hub, exchange.app.config.streams_max
    if hub.is_stopped:
        raise Unavailable(reason="the server is stopping")
    if hub.subscribers >= streams_max:
        raise Unavailable(reason=f"{streams_max} streams are open, which is the limit")
    if not subscriber.is_allowed():  # it was when the request began; its body may have taken a while
        raise Unauthorized(reason="The token is not in force.")


async def _serve(exchange: Exchange, serving: _Serving) -> None:
    """Serve until the end. The headers are out: from here on an error can be told only by breaking off."""
    subscriber = serving.subscriber
    try:
        await serving.run()
    except TimeoutError:
        exchange.outcome = audit.STALLED
    except ConnectionError:
        exchange.outcome = audit.DISCONNECTED
    except Exception as error:
        exchange.outcome = type_of(error)
        log.exception("stream.failed", mark=subscriber.mark, request_id=exchange.request_id)
    else:
        is_gone = subscriber.outcome == audit.STOPPED and subscriber.transport.is_closing()
        exchange.outcome = audit.DISCONNECTED if is_gone else subscriber.outcome
        return
    finally:
        exchange.events_sent = subscriber.sent
    subscriber.transport.abort()


class _Serving:
    def __init__(
        self,
        hub: Hub,
        subscriber: Subscriber,
        channel: Channel,
        source: Source,
        writer: AbstractStreamWriter,
        stall_s: float,
    ) -> None:
        self._hub = hub
        self.subscriber = subscriber
        self._channel = channel
        self._source = source
        self._writer = writer
        self._stall_s = stall_s

    async def run(self) -> None:
        """Serve until the stream is over, the client is gone, or somebody ends it."""
        subscriber, channel = self.subscriber, self._channel
        was_over = await self._source.is_over()
        is_behind = True
        while self._goes_on():
            subscriber.wake.clear()  # whoever calls from here on is heard below
            is_over = was_over or channel.is_over
            await self._drain()
            if is_behind or channel.mark > subscriber.mark:
                await self._read_on(NOTHING_KNOWN if was_over else channel.mark)
                is_behind = False
            if not self._goes_on():
                return
            if is_over:
                await self._write_final(await self._final())
                subscriber.end()  # no ping may follow
                await self._drain()
                return
            if channel.mark <= subscriber.mark and not subscriber.wake.is_set():
                subscriber.is_live = True  # from the look at the mark to here nothing else ran
                await subscriber.wake.wait()

    def _goes_on(self) -> bool:
        return not self.subscriber.is_ended

    async def _read_on(self, known: int) -> None:
        """Write what the client is behind, unless somebody ends the stream before."""
        subscriber = self.subscriber
        while self._goes_on():
            await self._drain()
            erasures = self._hub.erasures
            part = await self._source.read(subscriber.mark, known)
            if not await self._write(part.frames, erasures):
                continue
            subscriber.mark = part.mark
            if part.is_all:
                return

    async def _write(self, frames: Sequence[Frame], erasures: int) -> bool:
        """Write events piece by piece, each once the one before was taken; ``TimeoutError`` where the client stalls.

        False where something was erased since they were read (``erasures``: the hub's count then): the rest, which
        may be of that, is to be read again.
        """
        piece: list[Frame] = []
        size = 0
        for frame in frames:
            piece.append(frame)
            size += len(frame[1])
            if size >= PIECE_SIZE:
                if not await self._write_piece(piece, erasures):
                    return False
                piece, size = [], 0
        return not piece or await self._write_piece(piece, erasures)

    async def _write_piece(self, piece: Sequence[Frame], erasures: int) -> bool:
        await self._drain()
        if self._hub.erasures != erasures:
            return False
        if self._goes_on():
            self.subscriber.write(b"".join(data for _, data in piece), len(piece))
            self.subscriber.mark = piece[-1][0]
        return True

    async def _write_final(self, final: bytes) -> None:
        await self._drain()
        if self._goes_on():
            self.subscriber.write(final)

    async def _drain(self) -> None:
        """Wait until the client took most of what waits; ``TimeoutError`` when it takes nothing for the time given."""
        transport = self.subscriber.transport
        waiting = transport.get_write_buffer_size()
        while True:
            try:
                async with asyncio.timeout(self._stall_s):
                    await self._writer.drain()
            except TimeoutError:
                waited, waiting = waiting, transport.get_write_buffer_size()
                if waiting >= waited:
                    raise
            else:
                return

    async def _final(self) -> bytes:
        """Return the end of the stream, made once for all who follow it."""
        channel = self._channel
        if channel.final is None:
            channel.final = asyncio.ensure_future(self._source.final())
        try:
            return await asyncio.shield(channel.final)
        except Exception:
            channel.final = None  # the next one tries again
            raise
