"""Where a request ends: bytes that two readers could take differently are refused, and nothing behind them is done."""

import asyncio

import msgspec
import pytest

from ledger import ids
from server.protocol import Connection
from tests.server.raw import connection, head, post
from tests.server.serving import until
from tests.server.test_errors import check_shape

HOST = b"Host: x\r\n"
HEALTH = b"GET /v1/health HTTP/1.1\r\n" + HOST + b"\r\n"
CHUNKS = b"2\r\n{}\r\n0\r\n\r\n"
FAULTY = {
    "another coding below chunked": (b"HTTP/1.1", b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS),
    "an empty coding before chunked": (b"HTTP/1.1", b"Transfer-Encoding: ,chunked\r\n\r\n" + CHUNKS),
    "no coding at all": (b"HTTP/1.1", b"Transfer-Encoding:\r\n\r\n"),
    "chunked in HTTP/1.0": (b"HTTP/1.0", b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS),
    "HTTP/2.0": (b"HTTP/2.0", b"Content-Length: 2\r\n\r\n{}"),
    "HTTP/0.9": (b"HTTP/0.9", b"Content-Length: 2\r\n\r\n{}"),
    "both lengths": (b"HTTP/1.1", b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS),
    "two lengths": (b"HTTP/1.1", b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}"),
    "a size that is none": (b"HTTP/1.1", b"Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n"),
    "a line that is folded": (b"HTTP/1.1", b"X-A: b\r\n c\r\nContent-Length: 2\r\n\r\n{}"),
    "a line that ends in LF": (b"HTTP/1.1", b"X-A: b\nContent-Length: 2\r\n\r\n{}"),
}


def create(token, version, rest):
    return b"POST /v1/jobs " + version + b"\r\n" + HOST + b"Authorization: Bearer " + token.encode() + b"\r\n" + rest


@pytest.mark.parametrize("apart", [False, True], ids=["in one piece", "in two"])
@pytest.mark.parametrize("what", FAULTY)
async def test_what_has_two_meanings_is_refused_and_nothing_is_done_of_it_or_behind_it(user, what, apart):
    bad, good = create(user.token, *FAULTY[what]), b"".join(post("/v1/jobs", user.token, {}))
    size = user.service.app.ledger.size
    async with connection(user.service) as raw:
        for part in (bad, good) if apart else (bad + good,):
            await raw.send(part)
            await asyncio.sleep(0)
        answer = await raw.answer()
        check_shape(answer, 400, "invalid_request")
        assert answer.headers["Connection"] == "close"
        assert await raw.rest() == b""
    assert user.service.app.ledger.size == size


LAST = {
    "a chunked body": b"POST /v1/jobs HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "trailers": b"POST /v1/jobs HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nUser_Id: a\r\n\r\n",
    "another protocol": b"GET /v1/health HTTP/1.1\r\n%sConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "a web socket": b"GET /v1/health HTTP/1.1\r\n%sConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "a tunnel": b"CONNECT x:80 HTTP/1.1\r\n%s\r\n",
}


@pytest.mark.parametrize("apart", [False, True], ids=["in one piece", "in two"])
@pytest.mark.parametrize("what", LAST)
async def test_behind_what_a_parser_may_mistake_nothing_is_heard_on_the_same_connection(user, what, apart):
    """With ``user_id`` and ``Authorization`` as trailers one client could act for the next one behind a proxy."""
    lines = HOST + b"Authorization: Bearer " + user.token.encode() + b"\r\n"
    job = ids.make("job")
    first, second = LAST[what] % lines, b"".join(post("/v1/jobs", user.token, {"id": job}))
    async with connection(user.service) as raw:
        for part in (first, second) if apart else (first + second,):
            await raw.send(part)
            await asyncio.sleep(0)
        answer = await raw.answer()
        assert answer.status in (200, 201, 404)
        assert answer.headers["Connection"] == "close"
        assert await raw.rest() == b""
    assert (await user.get(f"/v1/jobs/{job}")).status == 404


async def test_a_trailer_is_never_a_header_of_the_next_request(user):
    trailer = b"Authorization: Bearer " + user.token.encode()
    chunked = head("POST", "/v1/jobs", user.token, "Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n" + trailer
    async with connection(user.service) as raw:
        await raw.send(chunked + b"\r\n\r\n", b"GET /v1/jobs HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (await raw.answer()).status == 201
        async with asyncio.timeout(5):
            assert await raw.rest() == b""


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/events"])
@pytest.mark.parametrize("rest", [b"zz\r\n", b"2\r\n{}0\r\n\r\n", b"2\r\n{}\r\n0\r\nno trailer\r\n\r\n"])
async def test_a_body_that_breaks_off_while_it_is_read_is_refused_at_once(user, log_lines, path, rest):
    async with connection(user.service) as raw:
        await raw.send(head("POST", path, user.token, "Transfer-Encoding: chunked"))
        await until(lambda: user.service.app.requests)
        await raw.send(rest)
        check_shape(await raw.answer(), 400, "invalid_request")
        assert await raw.rest() == b""
    assert b'"library"' not in log_lines.getvalue()


async def test_a_body_that_turns_out_broken_behind_its_answer_ends_the_connection_without_an_alarm(user, log_lines):
    async with connection(user.service) as raw:
        await raw.send(head("GET", "/v1/health", user.token, "Transfer-Encoding: chunked"))
        assert (await raw.answer()).status == 200
        await raw.send(b"zz\r\n")
        assert await raw.rest() == b""
    assert {msgspec.json.decode(line)["event"] for line in log_lines.getvalue().splitlines()} == {"request"}


async def test_who_said_that_the_connection_closes_does_not_go_on_where_the_rest_of_the_body_comes(user):
    size = user.service.app.config.command_size_max + 1
    async with connection(user.service) as raw:
        await raw.send(head("POST", "/v1/jobs", user.token, f"Content-Length: {size}"))
        answer = await raw.answer()
        check_shape(answer, 413, "payload_too_large")
        assert answer.headers["Connection"] == "close"
        await raw.send(b" " * size, HEALTH)
        assert await raw.rest() == b""


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_only_who_knows_it_is_told_to_go_on(user, version):
    start, body = post("/v1/jobs", user.token, {}, "Expect: 100-continue")
    async with connection(user.service) as raw:
        await raw.send(start.replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
        if version == "1.1":
            assert (await raw.answer()).status == 100
        await raw.send(body)
        assert (await raw.answer()).status == 201


# --- half-closed ------------------------------------------------------------------------------------------------------


@pytest.fixture
def held(user, monkeypatch):
    """A server whose writes wait until they are let go."""
    store, go = user.service.app.ledger.store, asyncio.Event()
    transact = store.transact

    async def slow(*asked):
        await go.wait()
        return await transact(*asked)

    monkeypatch.setattr(store, "transact", slow)
    return go


async def end_side(raw):
    raw._writer.write_eof()
    await asyncio.sleep(0)


@pytest.fixture
def ends(monkeypatch):
    """Of each client that ended its side, as the server saw it: whether the connection was kept for answers."""
    kept, really = [], Connection.eof_received
    monkeypatch.setattr(Connection, "eof_received", lambda self: kept.append(really(self)) or kept[-1])
    return kept


@pytest.mark.parametrize("count", [1, 3])
async def test_who_ends_its_side_after_the_last_request_still_gets_all_answers(user, held, ends, count):
    service, jobs = user.service, [ids.make("job") for _ in range(count)]
    async with connection(service) as raw:
        await raw.send(*(b"".join(post("/v1/jobs", user.token, {"id": job})) for job in jobs))
        await until(lambda: service.app.requests)
        await end_side(raw)
        await until(lambda: ends)
        held.set()
        for job in jobs:
            answer = await raw.answer()
            assert (answer.status, answer.json["id"]) == (201, job)
        assert await raw.rest() == b""
    await until(lambda: not len(service.app.connections))


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        HEALTH[:-2],
        b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Authorization: Bearer %s\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Authorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}",
    ],
    ids=["nothing", "a part of a head", "a part of a body", "a part of chunks"],
)
@pytest.mark.parametrize("before", [b"", HEALTH])
async def test_who_ends_its_side_within_a_request_is_let_go_and_nothing_is_done(user, before, sent):
    service = user.service
    size = service.app.ledger.size
    async with connection(service) as raw:
        if before:
            await raw.send(before)
            assert (await raw.answer()).status == 200
        await raw.send(sent.replace(b"%s", user.token.encode()))
        await end_side(raw)
        assert await raw.rest() == b""
    await until(lambda: not len(service.app.connections))
    assert (service.app.ledger.size, service.app.bodies.size, service.app.requests) == (size, 0, 0)


async def test_who_ends_its_side_and_is_gone_before_the_answer_leaves_nothing(user, held, ends):
    service = user.service
    async with connection(service) as raw:
        await raw.send(*post("/v1/jobs", user.token, {}))
        await until(lambda: service.app.requests)
        await end_side(raw)
        await until(lambda: ends)
        raw.drop()
    held.set()
    await until(lambda: not len(service.app.connections))
    assert service.app.requests == 0


async def test_the_end_of_a_client_is_the_end_of_its_stream(user):
    run = await user.create("run", status="running")
    async with connection(user.service) as raw:
        await raw.send(head("POST", f"/v1/runs/{run}/stream", user.token, "Content-Length: 0"))
        await until(lambda: user.service.app.hub.subscribers)
        await end_side(raw)
        await until(lambda: len(user.service.app.connections) == 1)  # that of the user's session
        user.service.app.hub.beat()
        await until(lambda: not user.service.app.hub.subscribers)


async def test_who_ends_its_side_before_a_stream_begins_gets_it(user, held, ends):
    held.set()
    run = await user.create("run", status="running")
    assert (await user.patch(f"/v1/runs/{run}", json={"status": "completed"})).status == 200
    held.clear()
    async with connection(user.service) as raw:
        await raw.send(*post("/v1/jobs", user.token, {}))
        await raw.send(head("POST", f"/v1/runs/{run}/stream", user.token, "Content-Length: 0"))
        await until(lambda: user.service.app.requests)
        await end_side(raw)
        await until(lambda: ends)
        held.set()
        assert (await raw.answer()).status == 201
        stream = await raw.rest()
        assert stream.startswith(b"HTTP/1.1 200 OK\r\n")
        assert stream.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
