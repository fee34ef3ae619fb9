"""Admission: what is too much at once is told to come again, while the rest is served and memory stays flat."""

import asyncio
import io

import msgspec
import pytest

from ledger.errors import Unavailable
from server.admission import BULK_SHARE, Bodies
from server.config import MIB, Config
from server.problems import RETRY_AFTER_S
from tests.server.raw import connection, head
from tests.server.serving import serving, until
from tests.server.test_errors import check_shape

LINE = b'{"specversion":"1.0","type":"job.created","subject":"job-%s","data":{"user_id":"%s"}}\n'


def check_come_again(answer, why):
    """503 in the one shape, with a whole number of seconds to wait."""
    check_shape(answer, 503, "unavailable")
    assert why in answer.error["message"]
    assert int(answer.headers["Retry-After"]) >= RETRY_AFTER_S


# --- requests under way -----------------------------------------------------------------------------------------------


async def test_more_requests_than_may_be_under_way_are_refused_and_health_is_told(ledger_file, monkeypatch):
    async with serving(ledger_file, requests_max=3) as service:
        user = await service.user()
        entered, go = [], asyncio.Event()
        transact = service.app.ledger.store.transact

        async def held(*asked):
            entered.append(asked)
            await go.wait()
            return await transact(*asked)

        monkeypatch.setattr(service.app.ledger.store, "transact", held)
        # given as many writes under way as there may be
        writes = [asyncio.create_task(user.post("/v1/jobs", json={})) for _ in range(3)]
        await until(lambda: service.app.requests == 3)
        # when more is asked
        check_come_again(await user.get("/v1/jobs"), "3 requests are under way")
        check_come_again(await user.post("/v1/jobs", json={"metadata": {"a": "x" * 100_000}}), "requests are under way")
        assert (await service.request("GET", "/v1/health")).status == 200
        assert (await user.get("/readyz")).status == 503
        told = (await user.get("/metrics")).body.decode()
        assert "jobledger_requests_under_way 4.0" in told  # the scrape itself is the fourth
        # then those under way are answered, and there is room again
        go.set()
        assert {(await write).status for write in writes} == {201}
        assert (await user.get("/v1/jobs")).status == 200
        assert (await user.get("/readyz")).status == 200


async def test_open_streams_are_no_requests_under_way(ledger_file):
    async with serving(ledger_file, requests_max=1) as service:
        user = await service.user()
        run = await user.create("run", status="running")
        async with connection(service) as one, connection(service) as two:
            for raw in (one, two):
                await raw.send(head("POST", f"/v1/runs/{run}/stream", user.token, "Content-Length: 0"))
            await until(lambda: service.app.hub.subscribers == 2)
            assert service.app.requests == 0
            assert (await user.get("/v1/jobs")).status == 200


# --- bodies -----------------------------------------------------------------------------------------------------------


def test_commands_go_on_while_bulk_fills_its_share():
    bodies = Bodies(8 * MIB, MIB)
    bodies.take(5 * MIB, 5 * MIB)
    bodies.take(MIB, MIB)  # this is the share of bulk, 6 MiB
    with pytest.raises(Unavailable):
        bodies.take(MIB + 1, MIB + 1)
    for _ in range(2):
        bodies.take(MIB, MIB)
    with pytest.raises(Unavailable):
        bodies.take(1, 1)
    bodies.give_back(MIB)
    bodies.take(MIB, MIB)
    assert bodies.size == 8 * MIB


def test_the_largest_body_always_finds_room_on_a_server_that_is_idle():
    limits = Config()
    Bodies(limits.bodies_size_max, limits.command_size_max).take(limits.bulk_size_max, limits.bulk_size_max)
    assert limits.bulk_size_max <= limits.bodies_size_max * BULK_SHARE


@pytest.mark.parametrize("kind", ["declared", "chunked"])
async def test_bodies_that_would_fill_the_memory_are_refused_and_the_next_find_room(ledger_file, kind):
    limits = {"bodies_size_max": 4 * MIB, "command_size_max": 10_000, "bulk_size_max": 3 * MIB}
    async with serving(ledger_file, **limits) as service:
        user = await service.user()
        line = "Content-Length: 2500000" if kind == "declared" else "Transfer-Encoding: chunked"
        piece, run = b"[" + b" " * 1_999_999, await user.create("run", status="running")
        async with connection(service) as slow:
            # given a large body that is not there yet as a whole
            await slow.send(head("POST", f"/v1/runs/{run}/messages", user.token, line))
            await slow.send(piece if kind == "declared" else b"%x\r\n%b\r\n" % (len(piece), piece))
            await until(lambda: service.app.bodies.size >= 2_000_000)
            held = service.app.bodies.size
            assert held == (2_500_000 if kind == "declared" else 2_000_000)
            # when another comes, then it is refused, and what is small goes on
            check_come_again(await user.post("/v1/events", data=io.BytesIO(b"x" * 2_000_000)), "fill the memory")
            assert (await user.post("/v1/jobs", json={"metadata": {"a": "x" * 5_000}})).status == 201
            assert service.app.bodies.size == held
            slow.drop()
        await until(lambda: service.app.bodies.size == 0)
        # and the next finds room
        lines = b"".join(LINE % (b"%08d-0000-4000-8000-000000000000" % n, user.id.encode()) for n in range(10_000))
        assert len(lines) > MIB
        answer = await user.post("/v1/events", data=io.BytesIO(lines), headers={"Content-Type": "application/x-ndjson"})
        assert (answer.status, answer.json["appended"]) == (200, 10_000), answer.body
        assert service.app.bodies.size == 0


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/jobs", b'{"metadata":1}', 422),
        ("/v1/jobs", b"{", 400),
        ("/v1/events", b"nope\n" * 1000, 422),
        ("/v1/jobs", b"x" * 1_048_577, 413),
        ("/v1/jobs", b'{"metadata":{}}', 201),
    ],
)
async def test_whatever_becomes_of_a_request_its_body_is_given_back(user, path, body, status):
    assert (await user.post(path, data=io.BytesIO(body))).status == status
    assert user.service.app.bodies.size == 0


async def test_a_bad_line_ends_a_bulk_append_whose_body_is_still_on_its_way(ledger_file):
    # given a body that never ends, and a deadline that would strike whoever still waits for it
    async with serving(ledger_file, body_timeout_s=0.05) as service:
        user = await service.user()
        async with connection(service) as raw:
            await raw.send(head("POST", "/v1/events", user.token, "Content-Length: 100000"), b"nope\n")
            check_shape(await raw.answer(), 422, "validation_error")
        assert service.app.bodies.size == 0


async def test_a_deadline_that_passes_while_lines_are_read_is_told_as_one(ledger_file, monkeypatch):
    # given a server that is busy with the lines that came, until the body's time is over
    async with serving(ledger_file, body_timeout_s=0.05) as service:
        user = await service.user()
        loop = asyncio.get_running_loop()
        began = loop.time()
        lines = [LINE % (b"%08d-0000-4000-8000-000000000000" % n, user.id.encode()) for n in range(600)]
        monkeypatch.setattr("server.routes.log.YIELD_EVERY", 1)
        sleep = asyncio.sleep

        async def busy(seconds):
            while loop.time() < began + 0.1:
                await sleep(0)

        monkeypatch.setattr("server.routes.log.asyncio.sleep", busy)
        async with connection(service) as raw:
            await raw.send(head("POST", "/v1/events", user.token, "Content-Length: 1000000"), *lines)
            check_shape(await raw.answer(), 408, "request_timeout")


# --- long reads -------------------------------------------------------------------------------------------------------


async def test_long_reads_wait_in_a_line_of_limited_length(ledger_file, monkeypatch):
    async with serving(ledger_file, reads_max=2) as service:
        user = await service.user()
        await user.create()
        views = service.app.views
        entered, go = [], asyncio.Event()
        run = views._slow.run

        async def held(work):
            entered.append(work)
            await go.wait()
            return await run(work)

        monkeypatch.setattr(views._slow, "run", held)
        # given as many full-text searches, which always are long reads, as may wait
        reads = [asyncio.create_task(user.get("/v1/search?query=nothing")) for _ in range(2)]
        await until(lambda: views.line.length == 2)
        # when another comes, then it is refused at once, and what is short goes on
        check_come_again(await user.get("/v1/search?query=nothing"), "long reads wait")
        check_come_again(await user.get("/v1/stats"), "long reads wait")
        assert (await user.get("/v1/jobs")).status == 200
        assert b"jobledger_long_reads 2.0" in (await user.get("/metrics")).body
        go.set()
        assert {(await read).status for read in reads} == {200}
        assert (await user.get("/v1/search?query=nothing")).status == 200
        assert views.line.length == 0


# --- the whole --------------------------------------------------------------------------------------------------------


async def test_under_more_than_it_can_take_a_server_answers_all_and_forgets_none(ledger_file):
    # given a server of small limits
    async with serving(ledger_file, requests_max=20, bodies_size_max=400_000, command_size_max=50_000) as service:
        user = await service.user()
        body = msgspec.json.encode({"metadata": {"a": "x" * 40_000}})
        # when three hundred ask at once, again and again
        for _ in range(3):
            answers = await asyncio.gather(
                *(user.post("/v1/jobs", data=body) if n % 2 else user.get("/v1/jobs?limit=1") for n in range(300))
            )
            # then each has its answer, and who was told that it is recorded, is
            assert {answer.status for answer in answers} <= {200, 201, 503}
            assert {"1", "5"} >= {each.headers["Retry-After"] for each in answers if each.status == 503}
            created = {answer.json["id"] for answer in answers if answer.status == 201}
            assert created
            assert created <= set((await user.get("/v1/jobs?limit=1000")).ids)
        assert (service.app.requests, service.app.bodies.size, service.app.ledger.writer.waiting) == (0, 0, 0)


async def test_searches_and_statistics_without_end_do_not_let_the_write_ahead_file_grow(ledger_file, monkeypatch):
    # given a server that makes a gap at a small size
    monkeypatch.setattr("projections.line.WAL_SIZE_MAX", 300_000)
    monkeypatch.setattr("projections.line.GAP_INTERVAL_S", 0.0)
    async with serving(ledger_file) as service:
        user = await service.user()
        wal = ledger_file.with_name("ledger.views.db-wal")
        largest = 0
        over = asyncio.Event()

        async def ask(path):
            while not over.is_set():
                assert (await user.get(path)).status == 200

        # when long reads overlap all the time while others write
        asking = [asyncio.create_task(ask(path)) for path in ("/v1/search?query=x", "/v1/stats", "/v1/search?query=y")]
        for _ in range(40):
            await asyncio.gather(*(user.post("/v1/jobs", json={"metadata": {"a": "x y" * 200}}) for _ in range(10)))
            largest = max(largest, wal.stat().st_size)
        over.set()
        await asyncio.gather(*asking)
        # then the file was begun anew again and again
        assert largest < 3_000_000
        (await user.get("/v1/search?query=x"))
        assert wal.stat().st_size < 1_000_000
