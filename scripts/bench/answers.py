"""A keep-alive connection that takes answers one after the other, in less time than the servers take to make them."""

from __future__ import annotations

import asyncio
from typing import Any

_LENGTH = b"\r\nContent-Length: "
_GOOD = (b"HTTP/1.1 200 ", b"HTTP/1.1 201 ")


class Answers(asyncio.Protocol):
    """One connection, with one request under way at a time. What an answer and a failure mean is for its kinds."""

    def __init__(self) -> None:
        self.transport: Any
        self._missing = 0
        self._head = b""
        self._is_good = True

    def begun(self) -> None:
        """Do what is due when the connection is there."""

    def answered(self, *, is_good: bool) -> None:
        """Take notice of a whole answer. ``is_good``: whether it was 200 or 201."""

    def failed(self, reason: str) -> None:
        """Take notice that there will be no more answers."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport
        self.begun()

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer."""
        if self._missing:
            self._missing -= len(data)
        else:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            at = self._head.find(_LENGTH) + len(_LENGTH)
            if at < len(_LENGTH):
                self.failed(f"the server answered {self._head[:200]!r}")
                return
            self._is_good = self._head.startswith(_GOOD)
            self._missing = end + 4 + int(self._head[at : self._head.find(b"\r", at)]) - len(self._head)
            self._head = b""
        if not self._missing:
            self.answered(is_good=self._is_good)

    def connection_lost(self, exc: Exception | None) -> None:
        """A server that closes a connection under load is a failure."""
        self.failed(f"the server closed the connection: {exc}")
