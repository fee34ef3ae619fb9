"""Serving one stream: a client reads the log at its own pace, then goes live, and is cut off when it takes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from ledger.errors import Unavailable
from server import sse
from server.exchange import Exchange
from server.hub import Channel, Frame, Subscriber

PIECE_SIZE = 64 * 1024
"""Bytes that are written before the client must have taken them: what aiohttp lets wait, too."""

log = structlog.get_logger("server")


class Part(NamedTuple):
    """Some of what a client is behind: frames, up to which mark that is, and whether it was all."""

    frames: Sequence[Frame]
    mark: int
    is_all: bool


class Source(Protocol):
    """What a client reads of the log."""

    async def read(self, after: int) -> Part:
        """Return what comes after a mark."""

    async def is_over(self) -> bool:
        """Tell whether nothing more is to come; asked before the rest is read."""

    async def final(self) -> bytes:
        """Return what ends the stream."""


async def serve(
    exchange: Exchange, channel: Channel, source: Source, after: int, *, pings: bool = False
) -> web.StreamResponse:
    """Answer with a stream that begins behind the mark ``after``. Raises ``Unavailable`` at the limit of streams.

    ``pings``: whether what keeps it open is an event that the client sees.
    """
    app = exchange.app
    if app.hub.subscribers >= app.config.streams_max:
        raise Unavailable(reason=f"{app.config.streams_max} streams are open, which is the limit")
    is_chunked = exchange.request.version >= (1, 1)
    response = sse.response(exchange.request_id, is_chunked=is_chunked)
    transport = exchange.request.transport
    if transport is None:
        raise ConnectionResetError("the client is gone")
    token_id = exchange.caller.token_id
    subscriber = Subscriber(
        transport,
        after,
        is_chunked=is_chunked,
        pings=pings,
        is_allowed=lambda: app.access.is_in_force(token_id, app.ledger.clock()),
    )
    channel.subscribers.add(subscriber)
    try:
        writer = await response.prepare(exchange.request)
        await response.write(b"")  # the headers go at once, whenever the first event may come
        if writer is not None:
            await _Serving(subscriber, channel, source, writer, app.config.stream_stall_s).run()
    except TimeoutError:
        log.info("stream.cut_off", request_id=exchange.request_id, resource=exchange.resource, mark=subscriber.mark)
        transport.abort()
    except ConnectionError:
        log.info("stream.left", request_id=exchange.request_id, resource=exchange.resource, mark=subscriber.mark)
    finally:
        app.hub.leave(channel, subscriber)
    return response


class _Serving:
    def __init__(
        self,
        subscriber: Subscriber,
        channel: Channel,
        source: Source,
        writer: AbstractStreamWriter,
        stall_s: float,
    ) -> None:
        self._subscriber = subscriber
        self._channel = channel
        self._source = source
        self._writer = writer
        self._stall_s = stall_s

    async def run(self) -> None:
        """Serve until the stream is over, the client is gone, or somebody ends it."""
        subscriber, channel = self._subscriber, self._channel
        while not subscriber.is_ended:
            is_over = await self._source.is_over()
            if not await self._read_on():
                return
            if is_over:
                await self._write([await self._final()])
                return
            if channel.mark > subscriber.mark:
                continue  # announced while this client was reading
            subscriber.wake.clear()
            subscriber.is_live = True  # from the look at the mark to here nothing else ran
            await subscriber.wake.wait()

    async def _read_on(self) -> bool:
        """Write what the client is behind; return whether that was all of it, or somebody ended the stream before."""
        while not self._subscriber.is_ended:
            part = await self._source.read(self._subscriber.mark)
            await self._write([data for _, data in part.frames])
            self._subscriber.mark = part.mark
            if part.is_all:
                return True
        return False

    async def _write(self, events: Sequence[bytes]) -> None:
        """Write events piece by piece, each once the one before was taken; ``TimeoutError`` where the client stalls."""
        piece: list[bytes] = []
        size = 0
        for event in events:
            piece.append(event)
            size += len(event)
            if size >= PIECE_SIZE:
                await self._write_piece(piece)
                piece, size = [], 0
        await self._write_piece(piece)

    async def _write_piece(self, piece: Sequence[bytes]) -> None:
        async with asyncio.timeout(self._stall_s):
            await self._writer.drain()
        if self._subscriber.transport.is_closing():
            raise ConnectionResetError("the client is gone")
        if piece:
            self._subscriber.write(b"".join(piece))

    async def _final(self) -> bytes:
        """Return the end of the stream, made once for all who follow it."""
        channel = self._channel
        if channel.final is None:
            channel.final = asyncio.ensure_future(self._source.final())
        return await asyncio.shield(channel.final)
