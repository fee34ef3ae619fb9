"""One request and its answer: what handlers see of HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec
from aiohttp import web
from aiohttp.http import HttpVersion11
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from ledger import jsontext
from ledger.commands import Context, Receipt
from ledger.errors import BadRequest, NotFound, NotShown, Unavailable, invalid
from ledger.events import Recorded
from ledger.state import State
from ledger.times import check_range, from_text
from server import unpacking
from server.admission import LARGE
from server.audit import OK, rows_of
from server.auth import NOBODY
from server.params import Params, parse_body
from server.problems import BrokenBody, PayloadTooLarge, SlowBody

if TYPE_CHECKING:
    from server.app import App
    from server.protocol import Connection

S = TypeVar("S", bound=msgspec.Struct)
Q = TypeVar("Q")
KEY_SIZE_MAX = 255
"""Characters of an idempotency key."""
_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_ETAG = re.compile(r'\s*(?:(W/)?"([^"]*)"|(\*))\s*(?:,|$)')
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
JSON = "application/json"


class Exchange:
    """A request, who sent it, and the services that answer it."""

    __slots__ = (
        "app",
        "body_digest",
        "body_held",
        "caller",
        "events_sent",
        "history_held",
        "outcome",
        "path",
        "pattern",
        "query_string",
        "request",
        "request_id",
        "resource",
        "target_is_ascii",
    )

    def __init__(self, app: App, request: web.BaseRequest, request_id: str) -> None:
        self.app = app
        self.request = request
        self.request_id = request_id
        target = request.raw_path
        if not target.startswith("/"):  # the absolute form, as sent to proxies
            target = request.rel_url.raw_path_qs
        self.target_is_ascii = target.isascii()
        self.path, _, self.query_string = target.partition("?")
        self.caller = NOBODY
        self.pattern = ""
        self.resource = ""
        """What is read or changed, for the log: an id, or as ``server.audit`` writes what has none."""
        self.outcome = OK
        self.events_sent: int | msgspec.UnsetType = msgspec.UNSET
        """Of a stream: how many events of the log went out."""
        self.body_digest = b""
        self.body_held = 0
        """Bytes of the body that are counted among those held at once; given back with the answer."""
        self.history_held = 0
        """Bytes of histories that are counted likewise."""

    @property
    def connection(self) -> Connection:
        """The connection that it came by."""
        return cast("Connection", self.request.protocol)

    @property
    def params(self) -> Params:
        """The query parameters; ask for each that the route knows, then ``done``."""
        return Params(self.request.query)

    def asked(self, query: Callable[[Params], Q]) -> Q:
        """Return what the query parameters say, as the function of the route's ``query`` reads them.

        Raises ``InvalidInput`` with every fault, and for each parameter that the function does not ask for.
        """
        params = self.params
        found = query(params)
        params.done()
        return found

    def no_params(self) -> None:
        """Refuse any query parameter."""
        if self.query_string:
            self.params.done()

    def limits(self, project_id: str | None) -> tuple[str | None, str | None]:
        """Return the user and project that rows are limited to, None for all; ``project_id``: the one asked for.

        Raises ``NotFound`` where that is another than the caller's.
        """
        bound = self.caller.project_id
        if bound is not None and project_id not in (None, bound):
            raise NotFound(what="project", id=project_id)
        return self.caller.owner_filter, project_id if bound is None else bound

    def reads_rows(self) -> None:
        """Say for the log that what the caller may see is listed."""
        self.resource = rows_of(self.caller.owner_filter, self.caller.project_id)

    async def body(self, shape: type[S]) -> S:
        """Return the JSON body of a command in the shape."""
        return parse_body(await self.raw_body(self.app.config.command_size_max), shape)

    async def raw_body(self, size_max: int) -> bytes:
        """Return the body. Raises ``PayloadTooLarge`` before reading more than ``size_max`` bytes of it."""
        chunks = [chunk async for chunk in self.body_chunks(size_max)]
        raw = b"".join(chunks)
        self.body_digest = hashlib.sha256(raw).digest()
        return raw

    async def items(self) -> tuple[list[Any], bool]:
        """Return the objects of a body that is one object or an array of them, and whether it is an array.

        One object has the size limit of a command, an array that of a bulk append.
        """
        config = self.app.config
        chunks: list[bytes] = []
        size, limit = 0, config.command_size_max
        async for chunk in self.body_chunks(config.bulk_size_max):
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                if not b"".join(chunks).lstrip().startswith(b"["):
                    raise PayloadTooLarge(limit=limit)
                limit = config.bulk_size_max
        raw = b"".join(chunks)
        self.body_digest = hashlib.sha256(raw).digest()
        value = jsontext.decode(raw)
        items = value if isinstance(value, list) else [value]
        if not items:
            raise invalid("body", "is an empty array", "an object, or an array of at least one")
        for number, item in enumerate(items):
            if not isinstance(item, dict):
                raise invalid(f"[{number}]" if value is items else "body", "must be a JSON object", "object")
        return items, value is items

    async def body_chunks(self, size_max: int) -> AsyncIterator[bytes]:
        """Yield the body as it arrives, within the limits of size and time and of what all bodies may hold."""
        declared = self.request.content_length
        if declared is not None and declared > size_max:
            raise PayloadTooLarge(limit=size_max)
        loop = asyncio.get_running_loop()
        until = loop.time() + self.app.config.body_timeout_s
        size = 0
        self._hold(self.app.bodies.reserved(declared))
        self._say_go_on()
        unpacker = unpacking.unpacker(self.request.headers.get("Content-Encoding", ""))
        while chunk := await self._chunk(until):
            for number, piece in enumerate(unpacker.unpack(chunk)):
                if number:
                    await asyncio.sleep(0)  # a little that unpacks to much makes nobody wait
                size += len(piece)
                if size > size_max:
                    raise PayloadTooLarge(limit=size_max)
                self._hold(size)
                yield piece
        if not unpacker.is_whole:
            raise BrokenBody

    def _say_go_on(self) -> None:
        """Tell a client that waits for it that its body may come; HTTP/1.0 knows no answer before the answer."""
        request = self.request
        is_asked = request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11
        if is_asked and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def _chunk(self, until: float) -> bytes:
        """Return what has arrived of the body since the last look, b"" at its end.

        The deadline is that of the whole body. It is set for each wait anew, as one around all of them would strike
        whoever uses the chunks.
        """
        try:
            async with asyncio.timeout_at(until):
                chunk = await self.request.content.readany()
        except TimeoutError:
            raise SlowBody(timeout_s=self.app.config.body_timeout_s) from None
        except (RequestPayloadError, HttpProcessingError) as error:
            raise BrokenBody from error
        if chunk and asyncio.get_running_loop().time() > until:  # a body that never ends makes nobody wait
            raise SlowBody(timeout_s=self.app.config.body_timeout_s)
        return chunk

    def _hold(self, size: int) -> None:
        """Count in what the body now holds, where that is more than before."""
        more = size - self.body_held
        if more > 0:
            self.app.bodies.take(size, more)
            self.body_held = size

    async def history(self, id: str) -> list[Recorded]:
        """Return all events of a resource. Raises ``BadRequest`` for one with more bytes than are read at once."""
        size_max = self.app.config.history_size_max
        events = await self.app.ledger.store.stream(id, size_max=size_max)
        size = sum([len(event.data or b"") for event in events])
        if size >= size_max:
            reason = (
                f"The history of '{id}' has {size_max >> 20} MiB or more, too much to be read as a whole over HTTP; "
                "`jobledger` does so on the file, and lists of its events, messages and steps come in pages."
            )
            raise BadRequest(reason=reason)
        self.history_held += self.app.answers.take(size)
        return events

    def hold(self, response: web.StreamResponse) -> None:
        """Count an answer in, where it is large, until the client has it. Raises ``Unavailable`` without room."""
        body = response.body if isinstance(response, web.Response) else None
        if isinstance(body, bytes) and len(body) >= LARGE:
            self.connection.hold(len(body))

    def let_go(self) -> None:
        """Count out what was held for this request."""
        if self.body_held:
            self.app.bodies.give_back(self.body_held)
        if self.history_held:
            self.app.answers.give_back(self.history_held)

    def context(self, time: str | None = None) -> Context:
        """Return who asks for a change, when it happened, and under which idempotency key."""
        key = self.idempotency_key()
        return Context(
            actor=self.caller.user_id,
            time_us=None if time is None else check_range(from_text(time), "time"),
            key=key,
            digest=self._digest() if key else "",
            correlation=self.request_id,
            sees=self.sees,
        )

    def sees(self, state: State) -> bool:
        """Tell whether a resource exists for the caller."""
        return self.caller.may_see(state.user_id, state.project_id)

    def idempotency_key(self) -> str | None:
        """Return the Idempotency-Key of a POST or PATCH."""
        key = self.request.headers.get("Idempotency-Key")
        if key is None or self.request.method not in ("POST", "PATCH"):
            return None
        if len(key) > KEY_SIZE_MAX or not _KEY.fullmatch(key):
            raise invalid("header Idempotency-Key", f"must have 1 to {KEY_SIZE_MAX} visible ASCII characters")
        return key

    def _digest(self) -> str:
        caller, path = self.caller, self.path.rstrip("/")
        if self.query_string:  # it may say whose runs are meant
            path += f"?{self.query_string}"
        head = "\n".join((self.request.method, path, caller.user_id, caller.project_id or ""))
        return hashlib.sha256(head.encode() + b"\n" + self.body_digest).hexdigest()

    def if_match(self) -> tuple[int, ...] | None:
        """Return the versions that If-Match allows; None when it allows any."""
        lines = self.request.headers.getall("If-Match", None)
        if lines is None:
            return None
        header = ", ".join(lines)
        found = _ETAG.findall(header)
        if not found or any(star for _, _, star in found):
            if header.strip() == "*":
                return None
            raise invalid("header If-Match", f"'{header[:40]}' is not a list of ETags", '"<version>"')
        return tuple(int(tag) for weak, tag, _ in found if not weak and _VERSION.fullmatch(tag))

    def matches(self, version: int) -> bool:
        """Tell whether If-None-Match names the version, so that 304 is the answer."""
        header = self.request.headers.get("If-None-Match")
        if header is None:
            return False
        return header.strip() == "*" or any(tag == str(version) for _, tag, _ in _ETAG.findall(header))

    def last_event_id(self) -> int | None:
        """Return the mark that ``Last-Event-ID`` names, where a client goes on with a stream; None where it is new."""
        header = self.request.headers.get("Last-Event-ID")
        if header is None or not header.strip():
            return None
        if not (header.isascii() and header.isdigit() and len(header) < 19):
            raise invalid("header Last-Event-ID", f"'{header[:40]}' is no id of this stream", "an integer from 0")
        return int(header)

    async def wait_for_position(self) -> None:
        """Wait until the views have what ``Ledger-Position`` names."""
        header = self.request.headers.get("Ledger-Position")
        if header is None:
            return
        if not (header.isascii() and header.isdigit() and len(header) < 19):
            raise invalid("header Ledger-Position", f"'{header[:40]}' is not a position", "an integer from 0")
        await self.app.engine.wait_for(int(header), self.app.config.wait_timeout_s)

    async def wait_for_own(self, position: int) -> None:
        """Wait until the views have what this request recorded. Raises ``NotShown``: it stands all the same."""
        try:
            await self.app.engine.wait_for(position, self.app.config.wait_timeout_s)
        except Unavailable as error:
            raise NotShown(position=position, reason=error.facts["reason"]) from error

    def resource_answer(self, wire: bytes, version: int) -> web.Response:
        """Return a resource with its ETag, or 304 when the client has it."""
        etag = f'"{version}"'
        if self.matches(version):
            return web.Response(status=304, headers={"ETag": etag})
        return web.Response(body=wire, headers={"Content-Type": JSON, "ETag": etag})

    async def command_answer(
        self, receipt: Receipt, wire: bytes, *, status: int = 200, location: str = ""
    ) -> web.Response:
        """Return what a command led to, once this node's views have it."""
        await self.wait_for_own(receipt.position)
        headers = {"Content-Type": JSON, "Ledger-Position": str(receipt.position)}
        if receipt.state is not None:
            headers["ETag"] = f'"{receipt.state.etag}"'
        if location:
            headers["Location"] = location
        if receipt.prior is not None:
            headers["Idempotency-Replayed"] = "true"
        return web.Response(status=status, body=wire, headers=headers)


def json_answer(value: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return a value as JSON."""
    return web.Response(
        status=status, body=msgspec.json.encode(value), headers={"Content-Type": JSON, **(headers or {})}
    )


def state_of(receipt: Receipt, id: str) -> State:
    """Return the state that a command led to."""
    if receipt.state is None:
        raise NotFound(what=id.partition("-")[0], id=id)
    return receipt.state
