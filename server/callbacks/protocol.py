"""The protocol under each connection to a receiver: what aiohttp's own neither bounds nor tells."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, RawResponseMessage
from aiohttp.streams import StreamReader

INTERIM_MAX = 16
"""Interim answers (1xx) to one request: a receiver that works long may send one now and then (RFC 9110, 15.2)."""
SLICE_SIZE = 16 * 1024
"""Bytes parsed before the bounds are looked at again: a read may hold 256 KB, or 10,000 interim answers, and take the
loop 0.1 s."""


class StaleConnection(aiohttp.ClientOSError):
    """A connection that had served before was lost, before a byte of the answer came."""


class BoundedHandler(ResponseHandler):
    """Reads answers as aiohttp does, but gives up on one that interim answers announce without end.

    It also raises ``StaleConnection`` when the receiver closed a kept connection while a request was on its way.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._requests = 0
        self._interim = 0
        self._has_answer = False

    def set_response_params(self, **params: Any) -> None:
        """Begin with a request; called once for each."""
        self._requests += 1
        self._interim = 0
        self._has_answer = False
        super().set_response_params(**params)

    def is_connected(self) -> bool:
        """Tell whether the connection may take another request: not if bytes came that no request has asked for."""
        return super().is_connected() and not self.should_close

    def data_received(self, data: bytes) -> None:
        """Parse what came, slice by slice, for as long as the connection is wanted."""
        self._has_answer = True
        if len(data) <= SLICE_SIZE:
            super().data_received(data)
            return
        for start in range(0, len(data), SLICE_SIZE):
            if not super().is_connected():
                return
            super().data_received(data[start : start + SLICE_SIZE])

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Take the head of an answer. Beyond the bound, the answer ends as one that is no HTTP."""
        if 100 <= data[0].code <= 199:
            self._interim += 1
            if self._interim > INTERIM_MAX:
                if self.transport is not None:
                    self.transport.close()
                self.set_exception(HttpProcessingError(message="too many interim answers"))
                return
        super().feed_data(data, size)

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Fail the request that is on its way."""
        if self._requests > 1 and not self._has_answer and isinstance(exc, _LOST):
            exc, exc_cause = StaleConnection(*exc.args), exc
        super().set_exception(exc, *(() if exc_cause is None else (exc_cause,)))


_LOST = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)
