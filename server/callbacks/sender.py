"""The sender makes one attempt to deliver a callback and tells in fixed words how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import get_args

import aiohttp
import msgspec
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from ledger.errors import InvalidInput
from ledger.events import CallbackError
from server.callbacks.addresses import read
from server.callbacks.protocol import BoundedHandler, StaleConnection

ERRORS: tuple[CallbackError, ...] = get_args(CallbackError)

BODY_SIZE_MAX = 16 * 1024
"""Bytes of an answer's body that are read and dropped, so that its connection can be used again: more costs more than
a new connection does."""
LINE_SIZE_MAX = 8190
"""Bytes of a status line, a header's name or its value: aiohttp's own limit, and about that of most servers."""
HEADERS_MAX = 64
"""Headers of an answer: a chatty proxy sends 30; with their size it bounds a head to 1 MiB."""
RETRY_AFTER_SIZE_MAX = 64
"""Characters of ``Retry-After``: a date has 29, seconds have fewer; what is longer is neither (RFC 9110, 10.2.3)."""

_HEADERS = {
    "User-Agent": f"jobledger/{version('jobledger')}",
    "Content-Type": "application/json",
    # Bodies are dropped: none need be of a kind, nor packed. Said at all, it spares aiohttp putting in its own.
    "Accept": "*/*",
    "Accept-Encoding": "identity",
}


class Timeouts(msgspec.Struct, frozen=True):
    """How long a receiver may take, in seconds."""

    total_s: float = 15.0
    """Until the whole head of the answer is there: Standard Webhooks advises 15 to 30, and it holds a slot."""
    connect_s: float = 5.0
    """Name resolution, TCP and TLS together: Linux repeats a lost SYN after 1 and after 3 s."""
    read_s: float = 10.0
    """Between two reads of the answer's head: a receiver may work before it answers, though it should not."""
    body_s: float = 1.0
    """For the body, which is dropped: an answer that is slow to end costs its connection, not the slot."""


class Outcome(msgspec.Struct, frozen=True):
    """How one attempt ended. ``error`` is None exactly when the status is 2xx: delivered."""

    status_code: int | None
    error: CallbackError | None
    duration_ns: int
    """Until the answer's head was there, or the failure."""
    retry_after: str | None = None
    """The header as it came, if any and not too long to be one; not yet parsed."""


class Sender:
    """Makes single attempts over a pool of connections that are kept alive.

    The connector, and with it the limit of connections and the rules of addresses, comes from outside and is closed
    with the sender. Its limits should not be below the attempts in flight: waiting for a free connection counts as
    connecting. ``is_refusal`` tells whether an error comes from a refused address. Make it in a running loop.
    """

    def __init__(
        self,
        connector: aiohttp.BaseConnector,
        is_refusal: Callable[[BaseException], bool],
        timeouts: Timeouts | None = None,
    ) -> None:
        self._timeouts = timeouts or Timeouts()
        self._is_refusal = is_refusal
        # The one door to the protocol; tests of the sender fail should aiohttp close it.
        handler: type[ResponseHandler] = BoundedHandler
        connector._factory = functools.partial(handler, asyncio.get_running_loop())
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            auto_decompress=False,
            trust_env=False,
            raise_for_status=False,
            read_bufsize=BODY_SIZE_MAX,
            max_line_size=LINE_SIZE_MAX,
            max_field_size=LINE_SIZE_MAX,
            max_headers=HEADERS_MAX,
            # The total is ours, as it spans both tries of an attempt.
            timeout=aiohttp.ClientTimeout(
                total=None, connect=self._timeouts.connect_s, sock_read=self._timeouts.read_s
            ),
        )

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Make one attempt and return how it ended, whatever the receiver or the network did.

        Only cancellation passes through, and leaves no connection behind. An attempt takes at most ``total_s`` and
        ``body_s``. A connection of the pool that turns out to be closed is followed by one more try at once on a new
        one, so that a receiver may see a ``webhook-id`` twice.
        """
        start_ns = time.perf_counter_ns()
        target = _target(url)
        if target is None:
            return Outcome(None, "invalid_url", time.perf_counter_ns() - start_ns)
        try:
            async with asyncio.timeout(self._timeouts.total_s):
                response = await self._request(target, headers, body)
        except (aiohttp.ClientError, OSError) as error:
            return Outcome(None, self._class_of(error), time.perf_counter_ns() - start_ns)
        outcome = Outcome(
            response.status,
            _class_of_status(response.status),
            time.perf_counter_ns() - start_ns,
            _bounded(response.headers.get("Retry-After")),
        )
        await self._drop_body(response)
        return outcome

    async def close(self) -> None:
        """Close the pool. Attempts under way should be cancelled before, else they end as ``connection_lost``."""
        await self._session.close()

    async def _request(self, url: URL, headers: Mapping[str, str], body: bytes) -> aiohttp.ClientResponse:
        """Send the request and return the answer once its head is there.

        A receiver may close an idle connection at any time, also while a request is on its way: that says nothing
        about the receiver, so the request is sent again (RFC 9112, 9.3.1). Repeating this POST is safe, as receivers
        know repeats by their ``webhook-id`` (RFC 9110, 9.2.2).
        """
        with contextlib.suppress(StaleConnection):
            return await self._session.post(url, data=body, headers=headers, allow_redirects=False)
        # Naming the host apart, which changes nothing else, makes the pool look past its other connections: they may be
        # as dead as this one.
        return await self._session.post(
            url,
            data=body,
            headers={**headers, "Connection": "close"},
            allow_redirects=False,
            server_hostname=url.raw_host,
        )

    async def _drop_body(self, response: aiohttp.ClientResponse) -> None:
        """Read the rest of a short answer, so that its connection returns to the pool; else close the connection."""
        if response.closed:  # the whole answer came at once
            return
        try:
            # The status is known and stands; how the body goes on decides only over the connection.
            with contextlib.suppress(aiohttp.ClientError, OSError):
                async with asyncio.timeout(self._timeouts.body_s):
                    left = BODY_SIZE_MAX if (response.content_length or 0) <= BODY_SIZE_MAX else 0
                    while left > 0 and (chunk := await response.content.readany()):
                        left -= len(chunk)
        finally:
            response.close()

    def _class_of(self, error: BaseException) -> CallbackError:
        """Return the class of a failure without an answer."""
        if self._is_refusal(error):
            return "address_refused"
        causes = tuple(_causes(error))
        for kinds, name in _CLASSES:
            if any(isinstance(cause, kinds) for cause in causes):
                return name
        return "connection_lost"


_CLASSES: tuple[tuple[tuple[type[BaseException], ...], CallbackError], ...] = (
    ((aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError), "invalid_url"),
    ((aiohttp.ClientConnectorDNSError,), "name_not_resolved"),
    ((ssl.SSLError,), "tls_failed"),
    ((TimeoutError,), "timeout"),
    ((aiohttp.ClientConnectorError,), "connection_failed"),
    ((aiohttp.ClientResponseError,), "invalid_response"),
)
"""Classes by kinds of errors, the first that fits an error or what caused it; before these comes a refused address,
after them a lost connection."""


def _target(text: str) -> URL | None:
    """Return a URL to which a callback can be sent, else None.

    An import may bring what no creation here would take.
    """
    try:
        read(text)
    except InvalidInput:
        return None
    return URL(text)


def _class_of_status(status: int) -> CallbackError | None:
    """Return the class of a final status; None for 2xx. Unknown ones count as 5xx do (RFC 9110, 15)."""
    if 200 <= status <= 299:
        return None
    if 300 <= status <= 399:
        return "redirect"
    return "gone" if status == 410 else "http_status"


def _bounded(value: str | None) -> str | None:
    return value if value is not None and len(value) <= RETRY_AFTER_SIZE_MAX else None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__
