"""Connections: each phase has a deadline, whatever a client sends or does not take; a crowd is told to come again."""

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import pytest

from server import connections as module
from server.config import Config
from server.connections import ANSWER_RATE, LOBBY_HEAD_S, LOBBY_MAX
from server.protocol import HEADERS_MAX, LINE_SIZE_MAX
from tests.server.raw import Raw, head
from tests.server.raw import connection as connect
from tests.server.serving import serving, until
from tests.server.test_errors import check_shape

LIMITS = Config()
HEAD_S, ANSWER_S = LIMITS.head_timeout_s, LIMITS.answer_timeout_s
SIZE = 600_000
"""Bytes of an answer that is not taken: more than the sockets of these tests hold."""


class Time:
    """The time that deadlines of connections are measured in; it moves when told."""

    def __init__(self, app):
        self.now_s = 1000.0
        self._app = app
        app.connections.now = lambda: self.now_s

    def passes(self, seconds):
        self.now_s += seconds
        self._app.connections.beat()


@pytest.fixture
def time(service):
    return Time(service.app)


async def newest(service, count=1):
    """The server's side of the only connection that is open, once it is."""
    await until(lambda: len(service.app.connections) == count)
    (connection,) = [each for each in service.app.connections._open if not each._request_count][:1]
    return connection


@asynccontextmanager
async def tight(service, size=4096):
    """A connection whose sockets hold next to nothing, so that what the client does not read waits in the server."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", service.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=size)
    side = next(
        each
        for each in service.app.connections._open
        if each._channel.get_extra_info("peername") == writer.get_extra_info("sockname")
    )
    side._channel.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
    try:
        yield Raw(reader, writer), side
    finally:
        writer.transport.abort()


async def large(user):
    """The path of a job whose JSON is long."""
    job = await user.create(metadata={"text": "x" * SIZE})
    return f"/v1/jobs/{job}"


# --- the head ---------------------------------------------------------------------------------------------------------


async def test_who_sends_nothing_is_closed_without_a_word(service, time):
    async with connect(service) as raw:
        await newest(service)
        time.passes(HEAD_S - 0.1)
        assert len(service.app.connections) == 1
        time.passes(0.1)
        assert await raw.rest() == b""
    await until(lambda: not len(service.app.connections))


@pytest.mark.parametrize("asked_before", [0, 2])
@pytest.mark.parametrize("begun", [b"G", b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nX-A: b", b"\r\n"])
async def test_a_head_that_stops_is_refused(service, time, begun, asked_before):
    # given a connection that may have been good so far
    async with connect(service) as raw:
        side = await newest(service)
        for _ in range(asked_before):
            time.passes(HEAD_S - 1)
            await raw.send(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await raw.answer()).status == 200
        # when a head begins and stops
        await raw.send(begun)
        await until(lambda: side._has_begun)
        time.passes(HEAD_S)
        # then
        answer = await raw.answer()
        check_shape(answer, 408, "request_timeout")
        assert answer.headers["Connection"] == "close"
        assert await raw.rest() == b""
    await until(lambda: not len(service.app.connections))


async def test_a_head_that_drips_wins_no_time(service, time):
    async with connect(service) as raw:
        side = await newest(service)
        sent, came, take = 0, [], side.data_received
        side.data_received = lambda data: came.append(take(data))
        while not side._channel.is_closing() and sent <= HEAD_S:
            await raw.send(b"X-Slow: 1\r\n" if sent else b"GET /v1/health HTTP/1.1\r\n")
            sent += 1
            await until(lambda: len(came) == sent)  # noqa: B023 - it is waited for here
            time.passes(1)
        assert sent == HEAD_S
        assert (await raw.answer()).status == 408


async def test_between_two_requests_a_connection_may_be_idle_for_longer_than_a_head_may_take(service, time):
    async with connect(service) as raw:
        for _ in range(3):
            await raw.send(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await raw.answer()).status == 200
            time.passes(HEAD_S - 0.1)
            time.passes(HEAD_S - 0.1)


async def test_an_idle_connection_is_closed_in_the_end(ledger_file):
    async with serving(ledger_file, keepalive_s=0.02) as service, connect(service) as raw:
        await raw.send(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await raw.answer()).status == 200
        assert await raw.rest() == b""
        await until(lambda: not len(service.app.connections))


@pytest.mark.parametrize(
    "lines",
    [
        [f"X-Long: {'x' * (LINE_SIZE_MAX + 1)}"],
        [f"X-Long: {'x' * 2_000_000}"],
        [f"X-{number}: 1" for number in range(HEADERS_MAX + 1)],
    ],
    ids=["a long line", "an endless line", "many lines"],
)
async def test_a_huge_head_is_refused(user, lines):
    async with connect(user.service) as raw:
        await raw.send(head("GET", "/v1/jobs", user.token, *lines))
        check_shape(await raw.answer(), 400, "invalid_request")


# --- the body ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/events"])
@pytest.mark.parametrize("line", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
async def test_a_body_that_drips_wins_no_time(ledger_file, path, line):
    async with serving(ledger_file, body_timeout_s=0.1) as service:
        user = await service.user()
        async with connect(service) as raw:
            # when byte after byte comes, without a pause that could be taken for the end
            await raw.send(head("POST", path, user.token, line))
            answer = asyncio.create_task(raw.answer())
            piece = b"1\r\n{\r\n" if "chunked" in line else b"{"
            while not answer.done():
                await raw.send(piece)
                await asyncio.sleep(0)
            # then
            check_shape(await answer, 408, "request_timeout")
        await until(lambda: not len(service.app.connections))
        assert service.app.bodies.size == 0


async def test_a_body_that_drips_and_then_stops_has_the_time_of_one_body(ledger_file, monkeypatch):
    async with serving(ledger_file, body_timeout_s=30.0) as service:
        user = await service.user()
        loop, passed_s = asyncio.get_running_loop(), 0.0
        now_s = loop.time
        monkeypatch.setattr(loop, "time", lambda: now_s() + passed_s)
        async with connect(service) as raw:
            # given a byte now and then, each of which comes well within the deadline
            await raw.send(head("POST", "/v1/jobs", user.token, "Content-Length: 1000"))
            for size in (1, 2):
                await raw.send(b"{")
                await until(lambda size=size: service.app.bodies.size == size)
                passed_s += 12.0
            # when nothing more comes until the deadline of the whole
            passed_s += 7.0
            # then
            async with asyncio.timeout(5):
                check_shape(await raw.answer(), 408, "request_timeout")


# --- the answer -------------------------------------------------------------------------------------------------------


async def test_who_takes_nothing_of_an_answer_is_cut_off(user, time):
    service = user.service
    path = await large(user)
    async with tight(service) as (raw, side):
        # given a client that asks and does not read
        await raw.send(head("GET", path, user.token))
        await until(lambda: side._paused)
        waiting = side._channel.get_write_buffer_size()
        time.passes(0)
        # when the time is up that an answer of that size has
        time.passes(ANSWER_S + waiting / ANSWER_RATE - 0.1)
        assert not side._channel.is_closing()
        time.passes(0.1)
        # then
        await until(lambda: side not in service.app.connections._open)
        assert service.app.requests == 0


async def test_who_takes_an_answer_in_drips_wins_no_time(user, time):
    path = await large(user)
    async with tight(user.service) as (raw, side):
        await raw.send(head("GET", path, user.token))
        await until(lambda: side._paused)
        waiting = side._channel.get_write_buffer_size()
        passed = 0
        while side in user.service.app.connections._open:
            time.passes(1)
            passed += 1
            await raw._reader.read(100)
        assert ANSWER_S <= passed <= ANSWER_S + waiting / ANSWER_RATE + 3  # the first look is one second late


async def test_who_takes_its_answers_is_not_cut_off_however_many_they_are(user, time):
    path = await large(user)
    async with tight(user.service) as (raw, side):
        for _ in range(5):
            await raw.send(head("GET", path, user.token))
            await until(lambda: side._paused)
            time.passes(0)
            time.passes(ANSWER_S - 1)
            answer = await raw.answer()
            assert len(answer.body) > SIZE


async def test_a_connection_that_closes_with_an_answer_nobody_takes_is_cut_off_too(user, time):
    service = user.service
    path = await large(user)
    async with tight(service) as (raw, side):
        # given an answer that fits what the server lets wait, and after which it closes
        await raw.send(head("GET", path, user.token, "Connection: close"))
        await until(lambda: side._paused)
        side.force_close()
        assert side._channel.is_closing()
        # when
        time.passes(0)
        time.passes(10 * ANSWER_S)
        # then
        await until(lambda: side not in service.app.connections._open)


async def test_a_flood_of_requests_on_one_connection_is_answered_in_order_and_never_all_held(user):
    service, count = user.service, 500
    ids = [await user.create() for _ in range(5)]
    asked = b"".join(head("GET", f"/v1/jobs/{ids[number % 5]}", user.token) for number in range(count))
    async with tight(service) as (raw, side):
        sending = asyncio.create_task(raw.send(asked))
        await until(lambda: side._paused)
        for number in range(count):
            assert len(side._messages) <= 64
            assert (await raw.answer()).json["id"] == ids[number % 5]
        await sending


async def test_a_stream_has_a_deadline_of_its_own(user, time):
    # given a stream that is further behind than its client reads
    run = await user.create("run", status="running")
    message = {"message_type": "assistant_message", "content": "x" * SIZE}
    assert (await user.post(f"/v1/runs/{run}/messages", json=message)).status == 201
    async with tight(user.service) as (raw, side):
        await raw.send(head("POST", f"/v1/runs/{run}/stream", user.token, "Content-Length: 0"))
        await until(lambda: side._paused)
        # when it lasts for longer than any answer may
        for _ in range(3):
            time.passes(10 * ANSWER_S)
        # then it is not cut off here, and is looked after again once it is over
        assert not side._channel.is_closing()
        user.service.app.hub.stop()
        reading = asyncio.create_task(raw.rest())
        await until(lambda: not side.is_stream)
        reading.cancel()


# --- peers that are gone ----------------------------------------------------------------------------------------------


async def test_tcp_looks_after_peers_that_are_gone_without_a_word(service):
    async with connect(service):
        side = (await newest(service))._channel.get_extra_info("socket")
        tcp = socket.IPPROTO_TCP
        assert side.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        patience = module.Patience()
        assert side.getsockopt(tcp, socket.TCP_KEEPIDLE) == patience.probe_after_s
        assert side.getsockopt(tcp, socket.TCP_KEEPINTVL) == patience.probe_interval_s
        assert side.getsockopt(tcp, socket.TCP_KEEPCNT) == patience.probes
        assert side.getsockopt(tcp, socket.TCP_USER_TIMEOUT) == patience.unacknowledged_max_s * 1000


# --- the crowd --------------------------------------------------------------------------------------------------------


async def test_beyond_the_limit_health_is_told_and_all_else_is_asked_to_come_again(ledger_file):
    async with serving(ledger_file, connections_max=3) as service, AsyncExitStack() as stack:
        # given as many connections as there may be, one of them a session that asks
        user = await service.user()
        assert (await user.get("/v1/jobs")).status == 200
        held = [await stack.enter_async_context(connect(service)) for _ in range(2)]
        await until(lambda: service.app.connections.is_full)
        # when more come
        for path, status in (("/v1/jobs", 503), ("/v1/health", 200), ("/readyz", 503), ("/metrics", 200)):
            async with connect(service) as raw:
                await raw.send(head("GET", path, user.token))
                answer = await raw.answer()
                assert answer.status == status
                assert answer.headers["Connection"] == "close"
                assert await raw.rest() == b""
            if status == 503:
                assert int(answer.headers["Retry-After"]) >= 1
                assert b"3 connections are open" in answer.body
        # and those that were there are served
        assert (await user.get("/v1/jobs")).status == 200
        await until(lambda: len(service.app.connections) == 3)
        # then there is room once one of them has gone
        held[0].drop()
        await until(lambda: not service.app.connections.is_full)
        async with connect(service) as raw:
            for _ in range(2):
                await raw.send(head("GET", "/v1/jobs", user.token))
                assert (await raw.answer()).status == 200


async def test_a_connection_beyond_the_limit_must_ask_at_once(ledger_file):
    async with serving(ledger_file, connections_max=1) as service, connect(service):
        time = Time(service.app)
        await until(lambda: service.app.connections.is_full)
        async with connect(service) as raw:
            await until(lambda: len(service.app.connections) == 2)
            time.passes(LOBBY_HEAD_S)
            assert await raw.rest() == b""
        await until(lambda: len(service.app.connections) == 1)


async def test_a_crowd_is_turned_away_unheard_and_leaves_nothing(ledger_file, log_lines):
    async with serving(ledger_file, connections_max=1) as service, AsyncExitStack() as stack:
        for _ in range(1 + LOBBY_MAX):
            await stack.enter_async_context(connect(service))
        await until(lambda: len(service.app.connections) == 1 + LOBBY_MAX)
        tasks = len(asyncio.all_tasks())
        for _ in range(5):
            async with connect(service) as raw:
                answer = await raw.answer()
                check_shape_of_turned_away(answer)
                assert await raw.rest() == b""
        assert len(service.app.connections) == 1 + LOBBY_MAX
        assert len(asyncio.all_tasks()) == tasks
        service.app.connections.beat()
    told = [msgspec.json.decode(line) for line in log_lines.getvalue().splitlines()]
    (line,) = [line for line in told if line["event"] == "connections.turned_away"]
    assert (line["connections"], line["limit"]) == (5, 1)


def check_shape_of_turned_away(answer):
    assert (answer.status, answer.error["type"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["Connection"] == "close"


@pytest.mark.parametrize(("files", "expected"), [(100_000, 5000), (1024, 1024 - module.FILES_KEPT), (64, 256)])
async def test_there_are_no_more_connections_than_the_system_lets_files_be_open(
    ledger_file, monkeypatch, files, expected
):
    monkeypatch.setattr("resource.getrlimit", lambda which: (files, files))
    async with serving(ledger_file, connections_max=5000) as service:
        assert service.app.connections.max == expected


async def test_while_slow_clients_hang_good_ones_are_served_and_none_is_forgotten(ledger_file):
    async with serving(ledger_file) as service, AsyncExitStack() as stack:
        user, time = await service.user(), Time(service.app)
        path = await large(user)
        # given clients that hang in every phase
        begun = [
            b"",
            b"GET /v1/jobs HTTP/1.1\r\nHost:",
            head("POST", "/v1/jobs", user.token, "Content-Length: 9"),
            head("GET", path, user.token),
        ]
        for _ in range(20):
            for text in begun:
                raw, _ = await stack.enter_async_context(tight(service))
                await raw.send(text)
        # when good ones come meanwhile, then each is answered
        answers = await asyncio.gather(*(user.get("/v1/jobs?limit=1") for _ in range(50)))
        assert {answer.status for answer in answers} == {200}
        assert (await user.post("/v1/jobs", json={})).status == 201
        # and the slow ones are gone when their time is, but for the bodies, which have a clock of their own
        await until(lambda: sum(each._paused for each in service.app.connections._open) == 20)
        time.passes(0)
        time.passes(ANSWER_S + 2 * SIZE / ANSWER_RATE)
        await until(lambda: service.app.requests == 20)
        cut = service.app.metrics.get_sample_value
        assert cut("jobledger_connections_cut_total", {"reason": "head"}) == 40
        assert cut("jobledger_connections_cut_total", {"reason": "answer"}) == 20
