"""The wire itself under attack: bytes with broken framing, in any pieces, at a real server, against a reader of our own.

The reader (``read``) is strict where HTTP/1.1 has one meaning and gives up where it has two. So it bounds what may be
done: an answer for each request that it reads and one for what it cannot, and nothing behind that.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import random
import re
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from unittest.mock import patch

from ledger.errors import BadRequest
from server.problems import ERROR_TYPES
from tests.fuzz.attack import Target
from tests.fuzz.framings import GET, conversation
from tests.scratch import scratch
from tests.server.serving import Service, logging_to, serving

ANSWERED_S = 10.0
"""Seconds within which the server answers or closes, on a machine under load; it takes milliseconds."""


@dataclass(frozen=True)
class Asked:
    """A request, as far as there is one meaning to it."""

    method: bytes
    version: bytes
    headers: dict[bytes, bytes]
    ids: frozenset[str]
    """Jobs that its body would create."""

    @property
    def is_last(self) -> bool:
        """Whether the connection ends with its answer: it says so, or what follows it could be mistaken."""
        tokens = {each.strip() for each in self.headers.get(b"connection", b"").lower().split(b",")}
        old = self.version == b"0" and b"keep-alive" not in tokens
        other = b"upgrade" in tokens and b"upgrade" in self.headers
        return old or other or b"close" in tokens or b"transfer-encoding" in self.headers or self.method == b"CONNECT"


_LINE = re.compile(rb"([A-Z-]+) +([\x21-\x7e\x80-\xff]+) +HTTP/1\.([01])")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_JOB = re.compile(rb"job-[0-9a-f-]{36}")
_NAME = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
CLEAN, BROKEN, NO_HEAD, NO_BODY = "clean", "broken", "no head", "no body"
"""How what a client sent ends: with a request, a head that is none, in a head, in a body or with one that is none."""


def read(raw: bytes) -> tuple[list[Asked], str]:
    """Return the whole requests at the beginning of some bytes, and how it goes on behind them."""
    found: list[Asked] = []
    at = 0
    while True:
        while raw[at : at + 1] in (b"\r", b"\n"):
            at += 1
        if at == len(raw):
            return found, CLEAN
        end = raw.find(b"\r\n\r\n", at)
        if end < 0 or raw[at:end] == b"PRI * HTTP/2.0":  # which llhttp reads on, to the end of a preface that it knows
            return found, NO_HEAD
        head = _head(raw[at:end])
        if head is None:
            return found, BROKEN
        method, version, headers = head
        body = _body(raw, end + 4, version, headers)
        if isinstance(body, str):
            return found, body
        at, ids = body
        found.append(Asked(method, version, headers, ids))


def _head(raw: bytes) -> tuple[bytes, bytes, dict[bytes, bytes]] | None:
    """Return the method, the minor version and the headers of a head; None where it has no one meaning."""
    first, *lines = raw.split(b"\r\n")
    line, pairs = _LINE.fullmatch(first), [_HEADER.fullmatch(each) for each in lines]
    if line is None or not all(pairs):
        return None
    headers: dict[bytes, bytes] = {}
    for name, value in (pair.groups() for pair in pairs if pair is not None):
        if name.lower() in headers and name.lower() in (b"host", b"content-length", b"transfer-encoding"):
            return None
        headers[name.lower()] = value
    return None if line[3] == b"1" and b"host" not in headers else (line[1], line[3], headers)


def _body(raw: bytes, at: int, version: bytes, headers: dict[bytes, bytes]) -> tuple[int, frozenset[str]] | str:
    """Return where the body from a place on ends and which jobs are in it, or how there is none."""
    coding, length = headers.get(b"transfer-encoding"), headers.get(b"content-length")
    if coding is not None:
        if length is not None or version == b"0" or coding.lower() != b"chunked":
            return BROKEN
        found = _chunks(raw, at)
    elif length is None:
        found = at, b""
    elif not length.isdigit():
        return BROKEN
    else:
        end = at + int(length)
        found = None if end > len(raw) else (end, raw[at:end])
    return NO_BODY if found is None else (found[0], _ids(_unpacked(found[1], headers)))


def _chunks(raw: bytes, at: int) -> tuple[int, bytes] | None:
    body = b""
    while (size := _SIZE.match(raw, at)) is not None:
        at = size.end()
        if count := int(size[1], 16):
            body += raw[at : at + count]
            at += count
            if raw[at : at + 2] != b"\r\n":
                return None
            at += 2
            continue
        while (end := raw.find(b"\r\n", at)) > at:  # trailers
            if not _HEADER.fullmatch(raw, at, end):
                return None
            at = end + 2
        return None if end < 0 else (end + 2, body)
    return None


def _ids(body: bytes) -> frozenset[str]:
    return frozenset(each.decode() for each in _JOB.findall(body))


def _unpacked(body: bytes, headers: dict[bytes, bytes]) -> bytes:
    """Return a body without its gzip; nothing of one that is not whole."""
    if headers.get(b"content-encoding", b"").lower() != b"gzip":
        return body
    try:
        return gzip.decompress(body)
    except (OSError, EOFError, zlib.error):
        return b""


@dataclass(frozen=True)
class Said:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes


_STATUS = re.compile(r"HTTP/1\.([01]) ([1-5][0-9]{2}) [ -~]+")
_FIELD = re.compile(r"([A-Za-z_-]+): ([ -~]*)")


def answers(wire: bytes, asked: list[Asked]) -> tuple[list[Said], bytes]:
    """Return the answers in what a server sent, and what is left of it; each must be as HTTP/1.1 has it."""
    found: list[Said] = []
    while b"\r\n\r\n" in wire:
        head, _, rest = wire.partition(b"\r\n\r\n")
        first, *lines = head.decode("ascii").split("\r\n")
        line, fields = _STATUS.fullmatch(first), [_FIELD.fullmatch(each) for each in lines]
        assert line is not None, first
        assert all(fields), lines
        headers = {field[1].lower(): field[2] for field in fields if field is not None}
        assert len(headers) == len(fields), "a header stands there twice"
        status, question = int(line[2]), asked[len(found)] if len(found) < len(asked) else None
        if status == 100:
            assert not headers
            assert question is None or (question.version == b"1" and b"expect" in question.headers), (
                "nobody asked to go on"
            )
            wire = rest
            continue
        assert "transfer-encoding" not in headers, "nothing that is asked for here is a stream"
        size = (
            0
            if question is not None and question.method == b"HEAD" and status != 400
            else int(headers["content-length"])
        )
        if len(rest) < size:
            break
        found.append(Said(status, headers, rest[:size]))
        wire = rest[size:]
    return found, wire


def check(asked: list[Asked], end: str, said: list[Said], recorded: set[str]) -> None:
    """Compare what was answered and recorded with what was asked."""
    assert len(said) <= len(asked) + (end != CLEAN), "there are more answers than requests"
    for number, answer in enumerate(said):
        question = asked[number] if number < len(asked) else None
        assert answer.status < 500, answer
        assert answer.headers["x-request-id"] != "poison"
        if answer.status >= 400 and answer.body:
            assert answer.headers["content-type"] == "application/json"
            assert json.loads(answer.body)["error"]["type"] in ERROR_TYPES[answer.status]
        if question is None:
            assert answer.status >= 400 or end == NO_BODY, "what is no request was answered like one"
            assert answer.status != 201
        elif answer.status != 400 and (name := _NAME.fullmatch(question.headers.get(b"x-request-id", b""))) is not None:
            assert answer.headers["x-request-id"] == name[0].decode(), "it is another's answer"
        is_last = answer.headers.get("connection") == "close" or (question is not None and question.is_last)
        assert not is_last or answer is said[-1], "there is an answer behind the last one"
    allowed = frozenset[str]().union(*(each.ids for each in asked))
    assert recorded <= allowed, "something was done that nobody asked for with one meaning"
    made = [json.loads(answer.body)["id"] for answer in said if answer.status == 201]
    assert len(made) == len(set(made))


class Wire:
    """A server under attack, and what it is asked in one connection after the other."""

    def __init__(self, service: Service, log: io.BytesIO, token: str) -> None:
        self._service, self._log, self._token = service, log, token.encode()
        self._count = 0

    async def feed(self, raw: bytes) -> None:
        """Send bytes and see what becomes of them; how they are cut and what the client does then follows from them."""
        self._count += 1
        chance, app = random.Random(raw), self._service.app
        sent = raw.replace(b"@@@@@@@@", b"%08x" % self._count).replace(b"@TOKEN@", self._token)
        asked, end = read(sent)
        before, heard, tasks = app.ledger.size, len(self._log.getvalue()), len(asyncio.all_tasks())
        manner = chance.choice(["half", "half", "wait", "wait", "reset", "close"])
        if manner == "wait" and end != CLEAN:  # the server ends what is broken; what is missing it would wait for
            manner = "to the end" if end == BROKEN else "half"
        pieces = _cut(chance, sent)
        async with asyncio.timeout(ANSWERED_S):
            wire, is_reset = await self._talk(pieces, manner, asked)
            await _until(lambda: not len(app.connections) and not app.requests and len(asyncio.all_tasks()) <= tasks)
        assert not app.bodies.size
        events = await app.ledger.store.scan(before, 1000, None)
        recorded = [event.stream for event in events if event.type == "job.created"]
        said, left = answers(wire, asked)
        check(asked, end, said, {each for each in recorded if each.startswith(f"job-{self._count:08x}")})
        if manner not in ("reset", "close") and not is_reset:
            assert not left, "an answer breaks off"
            assert len(recorded) == sum(each.status == 201 for each in said), (
                "what was recorded was not answered, or the reverse"
            )
            is_whole = len(said) >= len(asked) or (said and _is_end(said[-1], asked[len(said) - 1]))
            assert is_whole or end != CLEAN, "a request was not answered"
        told = self._log.getvalue()[heard:]
        for event in (b"request.failed", b'"library"', b"stream.failed", b"task.died"):
            assert event not in told, told[-2000:]
        assert await self._is_well(), "the next one is not served"
        refused = [answer for answer in said if answer.status >= 400]
        if refused or end != CLEAN:
            raise BadRequest(reason=f"{end}: {[answer.status for answer in said]}")

    async def _talk(self, pieces: list[bytes], manner: str, asked: list[Asked]) -> tuple[bytes, bool]:
        loop, client, wire = asyncio.get_running_loop(), socket.socket(), b""
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", self._service.port))
        sending = asyncio.create_task(_send(client, pieces, manner))
        try:
            if manner in ("reset", "close"):
                await sending
                return b"", True
            while manner != "wait" or not self._is_all(wire, asked):
                got = await loop.sock_recv(client, 1 << 16)
                wire += got
                if not got:
                    return wire, False
        except ConnectionError:
            return wire, True
        finally:
            sending.cancel()
            await asyncio.wait([sending])
            client.close()
        return wire, False

    @staticmethod
    def _is_all(wire: bytes, asked: list[Asked]) -> bool:
        said, left = answers(wire, asked)
        return not left and len(said) >= len(asked) and not (said and _is_end(said[-1], asked[-1]))

    async def _is_well(self) -> bool:
        wire, _ = await self._talk([GET + b"Connection: close\r\n\r\n"], "half", [])
        return wire.startswith(b"HTTP/1.1 200 OK\r\n")


def _is_end(answer: Said, question: Asked) -> bool:
    return answer.headers.get("connection") == "close" or question.is_last


def _cut(chance: random.Random, raw: bytes) -> list[bytes]:
    places = sorted(chance.sample(range(len(raw) + 1), min(len(raw), chance.choice([0, 0, 1, 1, 2, 5]))))
    return [raw[start:end] for start, end in zip([0, *places], [*places, len(raw)], strict=True)]


async def _send(client: socket.socket, pieces: list[bytes], manner: str) -> None:
    loop = asyncio.get_running_loop()
    with suppress(ConnectionError, OSError):
        for piece in pieces:
            await loop.sock_sendall(client, piece)
            for _ in range(4):  # turns in which the server takes it
                await asyncio.sleep(0)
        if manner == "half":
            client.shutdown(socket.SHUT_WR)
        if manner == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - what is waited for has no event to wait on
        await asyncio.sleep(0)


def _loops() -> dict[str, Callable[[], asyncio.AbstractEventLoop] | None]:
    """The kinds of event loop that servers run on here: they differ in what they say of sockets, and when."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop] | None] = {"wire of asyncio": None}
    with suppress(ImportError):
        import uvloop

        loops["wire of uvloop"] = uvloop.new_event_loop
    return loops


LOOPS = _loops()


@contextmanager
def wire(name: str, loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> Iterator[Target]:
    """Run a server on a kind of event loop, and give the target that talks to it."""
    with ExitStack() as stack, asyncio.Runner(loop_factory=loop) as runner:
        log = io.BytesIO()
        stack.enter_context(logging_to(io.TextIOWrapper(log)))
        stack.enter_context(patch("server.protocol.LINGER_S", 0.05))
        path = stack.enter_context(scratch()) / "ledger.db"
        server = serving(path, body_timeout_s=0.3)
        service = runner.run(server.__aenter__())
        try:
            token = runner.run(service.admin()).token
            talk = Wire(service, log, token)
            yield Target(name, lambda raw: runner.run(talk.feed(raw)), list, weight=4, make=conversation)
        finally:
            runner.run(server.__aexit__(None, None, None))
