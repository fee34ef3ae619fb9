"""A connection in memory: what a server writes waits until the client takes it, at its own pace or never."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpVersion, HttpVersion11

HEAD_END = b"\r\n\r\n"


class Answer(msgspec.Struct, frozen=True):
    """What a server said."""

    status: int
    headers: dict[str, str]
    body: bytes


class Protocol(BaseProtocol):
    """What a request knows of its connection."""

    ssl_context = peername = sockname = None
    connected = True  # type: ignore[assignment]
    is_over = is_stream = False


class Wire(asyncio.Transport):
    """The connection of one stream, for the server a transport; ``take`` and ``leave`` are its other end.

    ``high``: bytes beyond which the server is told to wait. ``on_write`` is told of all that the server writes.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, version: HttpVersion, high: int, on_write: Callable[[bytes], None]
    ) -> None:
        super().__init__()
        self.protocol: Any = Protocol(loop)
        self.protocol.transport = self
        self.version = version
        self.answer: Answer | None = None
        """What the server said instead of a stream."""
        self._loop = loop
        self._high = high
        self._on_write = on_write
        self._waiting = bytearray()
        self._is_closing = self._is_paused = False
        self._arrived: asyncio.Future[None] | None = None

    # -- the server's end

    def write(self, data: Any) -> None:
        if self._is_closing:
            return
        self._on_write(bytes(data))
        self._waiting += data
        if len(self._waiting) > self._high and not self._is_paused:
            self._is_paused = True
            self.protocol.pause_writing()
        self._tell()

    def is_closing(self) -> bool:
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        return len(self._waiting)

    def close(self) -> None:
        """End it: what waits can be taken still."""
        self._is_closing = True
        self._tell()

    def abort(self) -> None:
        """Break it off: what waits is lost."""
        self._waiting.clear()
        self.close()

    # -- the client's end

    async def take(self, size_max: int) -> bytes:
        """Return the next bytes, as soon as there are some; none at the end."""
        while not self._waiting and not self._is_closing:
            self._arrived = self._loop.create_future()
            await self._arrived
        taken = bytes(self._waiting[:size_max])
        del self._waiting[:size_max]
        if self._is_paused and not self._is_closing and len(self._waiting) <= self._high // 4:
            self._is_paused = False
            self.protocol.resume_writing()
        return taken

    def leave(self, error: Exception | None) -> None:
        """Be gone: by a close, or by an error of the network."""
        self.abort()
        if self.protocol.transport is not None:
            self.protocol.connection_lost(error)

    def _tell(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)


class Parser:
    """Makes server-sent events of the bytes of an answer: its head, then chunks or the plain body."""

    def __init__(self, version: HttpVersion) -> None:
        self._is_chunked = version == HttpVersion11
        self._raw = b""
        self._body = b""
        self._has_head = False
        self.is_whole = False
        """Whether the answer ended as its framing says, and was not broken off."""

    def feed(self, data: bytes) -> Iterator[tuple[int | None, bytes]]:
        """Yield each event that is whole now: its id, where it has one, and its data; comments are none."""
        self._raw += data
        if not self._has_head:
            head, found, rest = self._raw.partition(HEAD_END)
            if not found:
                return
            self._has_head, self._raw = True, rest
            assert head.startswith(b"HTTP/1.") and b" 200 OK" in head, head  # noqa: PT018 - either is a wrong head
        if self._is_chunked:
            self._unchunk()
        else:
            self._body, self._raw = self._body + self._raw, b""
        *events, self._body = self._body.split(b"\n\n")
        for event in events:
            yield from _event(event)

    def _unchunk(self) -> None:
        while not self.is_whole:
            size_text, found, rest = self._raw.partition(b"\r\n")
            if not found or len(rest) < (size := int(size_text, 16)) + 2:
                return
            assert rest[size : size + 2] == b"\r\n", rest[: size + 2]
            self._body, self._raw, self.is_whole = self._body + rest[:size], rest[size + 2 :], size == 0


def _event(text: bytes) -> Iterator[tuple[int | None, bytes]]:
    id, data = None, None
    for line in text.split(b"\n"):
        name, _, value = line.partition(b": ")
        if name == b"id":
            id = int(value)
        elif name == b"data":
            assert data is None, text
            data = value
        else:
            assert line == b":", text
    if data is not None:
        yield id, data
