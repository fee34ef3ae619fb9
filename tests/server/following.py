"""Clients of streams, by hand: every byte of the answer is looked at, down to the chunks of HTTP/1.1 and their end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
from multidict import CIMultiDict

PATIENCE_S = 30.0
"""Nothing is measured by it; a stream that hangs fails its test."""
SSE = "Accept: text/event-stream"


class Event(NamedTuple):
    """One server-sent event: its id, and its data; neither in a comment."""

    id: int | None
    data: bytes | None

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.data or b"null")

    @property
    def type(self) -> str:
        """What kind of chunk it is, as V1 clients look at it."""
        if self.data is None:
            return "comment"
        return "[DONE]" if self.data == b"[DONE]" else self.json.get("message_type") or self.json["type"]


class Stream:
    """An answer that may be endless. ``is_whole``: its end was one, not a connection that broke off."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._text = b""
        self.status = 0
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.is_whole = False
        self.events: list[Event] = []

    async def open(self) -> None:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        self.status = int(first.split(" ")[1])
        self.headers = CIMultiDict((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))

    @property
    def ids(self) -> list[int]:
        """The ids of all events so far."""
        return [event.id for event in self.events if event.id is not None]

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]

    async def next(self) -> Event:
        """The next event or comment; ``EOFError`` at the end of the stream."""
        async with asyncio.timeout(PATIENCE_S):
            while (end := self._text.find(b"\n\n")) < 0:
                piece = await self._piece()
                if not piece:
                    assert self._text == b"", "the stream ends inside an event"
                    raise EOFError
                self._text += piece
        raw, self._text = self._text[:end], self._text[end + 2 :]
        lines = dict(line.split(b":", 1) for line in raw.split(b"\n"))
        assert lines.keys() <= {b"id", b"data", b""}, raw
        event = Event(int(lines[b"id"]) if b"id" in lines else None, lines[b"data"][1:] if b"data" in lines else None)
        self.events.append(event)
        return event

    async def take(self, count: int) -> list[Event]:
        return [await self.next() for _ in range(count)]

    async def rest(self) -> list[Event]:
        """The events to the end."""
        before = len(self.events)
        while True:
            try:
                await self.next()
            except EOFError:
                return self.events[before:]

    async def all_bytes(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await self._reader.read()

    async def _piece(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            piece = await self._reader.read(65536)
            self.is_whole = not piece
            return piece
        line = await self._reader.readline()
        if not line:
            return b""
        piece = await self._reader.readexactly(int(line, 16) + 2)
        assert piece.endswith(b"\r\n")
        self.is_whole = piece == b"\r\n"
        return piece[:-2]


@asynccontextmanager
async def following(
    user: Any, path: str, body: Any = None, *lines: str, method: str = "", version: str = "1.1", receive: int = 0
) -> AsyncIterator[Stream]:
    """Open a stream as this user: a POST, or with ``Accept`` among the lines a GET. ``receive``: size of its socket."""
    raw = b"" if body is None else msgspec.json.encode(body)
    method = method or ("GET" if SSE in lines else "POST")
    head = [f"{method} {path} HTTP/{version}", "Host: 127.0.0.1", f"Authorization: Bearer {user.token}", *lines]
    if body is not None:
        head += ["Content-Type: application/json", f"Content-Length: {len(raw)}"]
    sock = socket.socket()
    if receive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", user.service.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1024 if receive else 2**20)
    try:
        writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + raw)
        stream = Stream(reader, writer)
        async with asyncio.timeout(PATIENCE_S):
            await stream.open()
        yield stream
    finally:
        writer.transport.abort()


def said(number: int, content: str = "", **more: Any) -> dict[str, Any]:
    """A message as producers send it."""
    id = f"message-{number:08d}-0000-4000-8000-000000000000"
    return {"message_type": "assistant_message", "id": id, "content": content or "hi", **more}
