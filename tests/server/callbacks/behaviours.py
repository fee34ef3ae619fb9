"""How receivers of callbacks behave: good, slow, broken and hostile, one function each.

A behaviour gets a call, answers it as it sees fit, and says whether its connection stays open for more. A peer that
goes away meanwhile raises an OSError, which ends the connection.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.server.callbacks.zoo import Arrival, Zoo

STALL_S = 30.0
"""How long a receiver that stalls does nothing: longer than any sender should wait."""
DRIP_S = 0.2
"""Between two bytes of a receiver that drips."""
HUGE_SIZE = 1 << 30
"""Bytes of a huge body, as announced."""
BLOCK = bytes(64 * 1024)
"""What floods are made of: one buffer, sent again and again."""
HEAD_200 = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class Call:
    """One request that has arrived, and the connection to answer on."""

    __slots__ = ("_reader", "_writer", "arrival", "count", "ordinal", "zoo")

    def __init__(
        self,
        zoo: Zoo,
        arrival: Arrival,
        ordinal: int,
        count: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.zoo = zoo
        self.arrival = arrival
        self.ordinal = ordinal  # of the request on its connection, from 1
        self.count = count  # of requests with this webhook-id that came to this behaviour, from 1
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self, status: int, *lines: bytes, body: bytes = b'{"received":true}') -> bool:
        if status == 204:
            body, length = b"", ()
        else:
            length = (b"Content-Type: application/json", b"Content-Length: %d" % len(body))
        first = b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())
        await self.send(b"\r\n".join((first, *length, *lines, b"", body)))
        return True

    async def flood(self, block: bytes) -> bool:
        """Send a block for ever, as fast as it is taken, and count the bytes."""
        while True:
            await self.send(block)
            self.zoo.sent[self.arrival.behaviour] += len(block)

    async def drip(self, data: bytes) -> None:
        for byte in data:
            await self.send(bytes([byte]))
            await self.pause(DRIP_S)

    async def pause(self, wait_s: float) -> None:
        """Wait, but no longer than the peer does."""
        try:
            more = await asyncio.wait_for(self._reader.read(1), wait_s)
        except TimeoutError:
            return
        if not more:
            raise ConnectionResetError("the sender has closed the connection")

    def reset(self) -> bool:
        reset(self._writer)
        return False


def reset(writer: asyncio.StreamWriter) -> None:
    """Break a connection off with a reset."""
    at_once = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    writer.transport.abort()


async def good(call: Call) -> bool:
    return await call.answer(200)


async def created(call: Call) -> bool:
    return await call.answer(201, b"Set-Cookie: session=1; Path=/")


async def no_content(call: Call) -> bool:
    return await call.answer(204)


async def fail(call: Call) -> bool:
    return await call.answer(500, body=b'{"error":"secret of the receiver"}')


async def busy(call: Call) -> bool:
    return await (call.answer(429, b"Retry-After: 1") if call.count <= call.zoo.failures else call.answer(200))


async def flaky(call: Call) -> bool:
    return await call.answer(500 if call.count <= call.zoo.failures else 200)


async def gone(call: Call) -> bool:
    return await call.answer(410)


async def redirect(call: Call) -> bool:
    return await call.answer(302, b"Location: " + f"{call.zoo.urls['good']}/redirected".encode())


async def stall(call: Call) -> bool:
    await call.pause(STALL_S)
    return False


async def drip(call: Call) -> bool:
    await call.drip(HEAD_200 + b"Content-Length: 0\r\n\r\n")
    return True


async def drip_body(call: Call) -> bool:
    await call.send(HEAD_200 + b"Content-Length: 100\r\n\r\n")
    await call.drip(b" " * 100)
    return True


async def reset_after_request(call: Call) -> bool:
    return call.reset()


async def close_after_request(call: Call) -> bool:
    return False


async def half_head(call: Call) -> bool:
    await call.send(HEAD_200)
    return False


async def huge(call: Call) -> bool:
    await call.send(HEAD_200 + b"Content-Length: %d\r\n\r\n" % HUGE_SIZE)
    return await call.flood(BLOCK)


async def chunks(call: Call) -> bool:
    """A body in the smallest chunks there are, without end."""
    await call.send(HEAD_200 + b"Transfer-Encoding: chunked\r\n\r\n")
    return await call.flood(b"1\r\n \r\n" * 10_000)


async def endless_head(call: Call) -> bool:
    await call.send(HEAD_200)
    return await call.flood(b"X-More: and more\r\n" * 1000)


async def long_line(call: Call) -> bool:
    """One header without end."""
    await call.send(HEAD_200 + b"X-More: ")
    return await call.flood(b"x" * 65536)


async def many_1xx(call: Call) -> bool:
    return await call.flood(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000)


async def not_http(call: Call) -> bool:
    await call.send(b"SSH-2.0-OpenSSH_9.2\r\n")
    return False


async def wrong_length(call: Call) -> bool:
    """A body that ends before its length."""
    await call.send(HEAD_200 + b"Content-Length: 100\r\n\r\n{}")
    return False


async def overlong(call: Call) -> bool:
    """A body that goes on after its length, with what would be an answer to the next request."""
    await call.send(HEAD_200 + b"Content-Length: 2\r\n\r\n{}HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
    return True


async def long_wait(call: Call) -> bool:
    """A ``Retry-After`` that is none."""
    return await call.answer(503, b"Retry-After: " + b"1" * 1000)


async def status(call: Call) -> bool:
    """The status that the path ends with: .../status/418."""
    code = int(call.arrival.path.rpartition("/")[2])
    await call.send(b"HTTP/1.1 %d Said So\r\nContent-Length: 0\r\n\r\n" % code)
    return code != 101


async def eager(call: Call) -> bool:
    """Answers, and then answers once more to what nobody has asked."""
    await call.answer(200)
    await call.pause(0.001)
    await call.answer(500)
    call.zoo.mark("eager answers")
    return True


async def last_answer(call: Call) -> bool:
    """Answers the first request that comes at all, and then none, as a receiver does that dies."""
    return call.zoo.counts["last_answer"] == 1 and await call.answer(200)


async def closing_keepalive(call: Call) -> bool:
    """Keeps connections open, and closes each when its second request is on the way."""
    return call.ordinal == 1 and await call.answer(200)


async def resetting_keepalive(call: Call) -> bool:
    """Likewise, with a reset."""
    return await call.answer(200) if call.ordinal == 1 else call.reset()


BEHAVIOURS: dict[str, Callable[[Call], Awaitable[bool]]] = {
    **{
        each.__name__: each
        for each in (
            *(good, created, no_content, fail, busy, flaky, gone, redirect, stall, drip, drip_body, half_head),
            *(huge, chunks, endless_head, long_line, many_1xx, not_http, wrong_length, overlong, long_wait),
            *(status, eager, last_answer, closing_keepalive, resetting_keepalive),
        )
    },
    "reset": reset_after_request,
    "close": close_after_request,
}
"""What each receiver does with a request, by the first part of its path."""

ONLY_PORTS = {"reset_at_once": reset_after_request, "tls": good, "plain_on_tls": good}
"""Those that show before there is a request, so that they have ports of their own only: a reset on accept, a
certificate that nobody trusts, and plain HTTP where TLS is expected."""
