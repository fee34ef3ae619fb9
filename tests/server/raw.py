"""HTTP by hand: connections that send any bytes, in pieces, and break off when they like."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from multidict import CIMultiDict

from tests.server.serving import Answer, Service


class Raw:
    """One TCP connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *parts: bytes) -> None:
        self._writer.write(b"".join(parts))
        await self._writer.drain()

    async def answer(self) -> Answer:
        """Read one answer: its head, then as many bytes as it says."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        headers = CIMultiDict((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
        body = await self._reader.readexactly(int(headers.get("Content-Length", "0")))
        return Answer(int(first.split(" ")[1]), headers, body)

    async def rest(self) -> bytes:
        return await self._reader.read()

    def drop(self) -> None:
        """Break the connection off at once, with a reset, as a crashed client does."""
        on_second_zero = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, on_second_zero)
        self._writer.transport.abort()


@asynccontextmanager
async def connection(service: Service) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


def head(method: str, path: str, token: str, *lines: str | bytes) -> bytes:
    """A request up to its body. Lines given as bytes are sent as they are."""
    first = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {token}", *lines]
    return b"\r\n".join(line if isinstance(line, bytes) else line.encode() for line in first) + b"\r\n\r\n"


def post(path: str, token: str, body: object, *lines: str) -> tuple[bytes, bytes]:
    """The head and the body of a POST of JSON."""
    raw = msgspec.json.encode(body)
    return head("POST", path, token, "Content-Type: application/json", f"Content-Length: {len(raw)}", *lines), raw
