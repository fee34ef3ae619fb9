"""``serve --workers``: to its clients one server, of which any process may end at any moment."""

import asyncio
import contextlib
import json
import os
import signal
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ledger import ids
from tests.cli.commandline import in_a_process
from tests.end_to_end.server_process import client, serve

PATIENCE_S = 30.0
CONNECTIONS_MAX = 64
"""Connections to try until each worker has one: that all of them go to one of two is as likely as 2 ** -63."""


@pytest.fixture
def db(tmp_path):
    return tmp_path / "ledger.db"


def worker_of(response):
    """The process that answered: its request ids begin alike."""
    return response.headers["X-Request-Id"].rpartition("-")[0]


@asynccontextmanager
async def one_each(server, token, count=2):
    """A session for each worker, which keeps to its connection."""
    async with AsyncExitStack() as stack:
        found = {}
        for _ in range(CONNECTIONS_MAX):
            session = await stack.enter_async_context(client(server, token))
            async with session.get("/v1/health") as response:
                found.setdefault(worker_of(response), session)
            if len(found) == count:
                break
        assert len(found) == count
        yield list(found.values())


def said(db, event):
    """The lines of the server's log with that event."""
    lines = map(json.loads, db.with_suffix(".server.log").read_text().splitlines())
    return [line for line in lines if line["event"] == event]


async def told(db, event, count=1):
    """Return the lines of the log with that event, once there are so many."""
    async with asyncio.timeout(PATIENCE_S):
        while len(lines := said(db, event)) < count:  # noqa: ASYNC110 - a file tells no events
            await asyncio.sleep(0)
    return lines


async def ended(handle):
    """Return once the process that a descriptor stands for has ended, whosever child it is."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(handle, over.set)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await over.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


@contextlib.contextmanager
def stopped(pid):
    """Stop a process; it is killed at the end, where nobody did so: nothing of it would ever end otherwise."""
    handle = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(handle, signal.SIGSTOP)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)


def verified(db):
    return in_a_process("verify", "--json", "--db", db, "--views").json["ok"]


async def test_what_one_worker_answered_each_other_one_has(db):
    async with serve(db, "--workers", "2") as server, one_each(server, server.token) as (first, second):
        for number in range(40):
            here, there = (first, second) if number % 2 else (second, first)
            async with here.post("/v1/jobs/", json={"metadata": {"number": number}}) as response:
                job = await response.json()
            async with there.get(f"/v1/jobs/{job['id']}") as response:
                assert (response.status, (await response.json())["metadata"]) == (200, {"number": number})
            async with here.get(f"/v1/jobs/{job['id']}") as response:
                assert (await response.json())["status"] == "created"  # which is kept from now on
            async with there.patch(f"/v1/jobs/{job['id']}", json={"status": "pending"}) as response:
                assert response.status == 200
            async with here.get(f"/v1/jobs/{job['id']}") as response:
                assert (await response.json())["status"] == "pending"
            async with here.get("/v1/jobs/?limit=1") as response:
                assert [row["status"] for row in await response.json()] == ["pending"]
        assert await server.stop() == 0
    assert verified(db)


async def test_a_token_is_in_force_everywhere_at_once_and_out_of_force_too(db):
    async with serve(db, "--workers", "2") as server, one_each(server, server.token) as (first, second):
        for number in range(20):
            here, there = (first, second) if number % 2 else (second, first)
            async with here.post("/v1/tokens", json={"user_id": ids.make("user"), "scopes": ["read"]}) as response:
                made = await response.json()
            headers = {"Authorization": f"Bearer {made['token']}"}
            async with there.get("/v1/jobs/", headers=headers) as response:
                assert response.status == 200
            async with here.delete(f"/v1/tokens/{made['id']}") as response:
                assert response.status == 200
            async with there.get("/v1/jobs/", headers=headers) as response:
                assert response.status == 401


async def test_a_stream_of_one_worker_has_what_another_one_records(db):
    async with serve(db, "--workers", "2") as server, one_each(server, server.token) as (first, second):
        headers = {"Accept": "text/event-stream"}
        async with first.get("/v1/events?after=1", headers=headers) as stream, asyncio.timeout(PATIENCE_S):
            async with second.post("/v1/jobs/", json={}) as response:
                id = (await response.json())["id"]
            async for line in stream.content:
                if line.startswith(b"data:") and id.encode() in line:
                    break


async def test_whichever_worker_is_scraped_tells_of_all(db):
    async with (
        serve(db, "--workers", "2") as server,
        one_each(server, server.token) as (first, second),
        first.get("/v1/events", headers={"Accept": "text/event-stream"}),
        asyncio.timeout(PATIENCE_S),
    ):
        streams = {}
        while sum(streams.values()) != 1:  # a worker says how it is each second
            async with second.get("/metrics") as response:
                told = {each.name: each for each in text_string_to_metric_families(await response.text())}
            streams = {sample.labels["worker"]: sample.value for sample in told["jobledger_streams_open"].samples}
        assert sorted(streams) == ["1", "2"]
        assert [sample.labels for sample in told["jobledger_ledger_size"].samples] == [{}]
        assert len(told["jobledger_process_open_fds"].samples) == 2
        assert told["jobledger_connections_cut"].type == "counter"


async def test_a_worker_that_is_killed_is_replaced_and_nothing_answered_is_lost(db):
    async with serve(db, "--workers", "2") as server:
        answered = set()

        async def write():
            while len(answered) < 200:
                id = ids.make("job")
                with contextlib.suppress(aiohttp.ClientError):
                    async with client(server, server.token) as session:  # a connection of its own each time
                        async with session.post("/v1/jobs/", json={"id": id}) as response:
                            assert response.status == 201
                        answered.add(id)

        writers = [asyncio.create_task(write()) for _ in range(4)]
        victims = []
        for kills in (1, 2):
            victims.append((await told(db, "worker.ready", 1 + kills))[-1]["pid"])
            os.kill(victims[-1], signal.SIGKILL)
            await told(db, "worker.died", kills)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*writers)
        await told(db, "worker.ready", 4)
        assert [line["pid"] for line in said(db, "worker.died")] == victims
        async with one_each(server, server.token):
            assert await server.stop() == 0
    kept = {event["subject"] for event in in_a_process("export", "--db", db).jsonl[1:]}
    assert answered <= kept
    assert verified(db)


async def test_a_worker_that_is_stopped_is_replaced_and_what_waited_for_it_is_answered(db):
    async with serve(db, limits={"workers": 2, "hung_after_s": 3.0}) as server:

        async def write():
            async with client(server, server.token) as session, session.post("/v1/jobs/", json={}) as response:
                return response.status, worker_of(response)

        (victim,) = [line["pid"] for line in await told(db, "worker.ready", 2) if line["worker"] == 2]
        # Connections fall to both of them: that they do not is as likely as 2 ** -31.
        with stopped(victim):
            async with asyncio.timeout(PATIENCE_S):
                answers = await asyncio.gather(*(write() for _ in range(32)))
        assert {status for status, _ in answers} == {201}
        assert len({worker for _, worker in answers}) == 2
        (hung,) = said(db, "worker.hung")
        assert (hung["worker"], hung["pid"]) == (2, victim)
        (successor,) = (await told(db, "worker.ready", 3))[2:]
        assert successor["worker"] == 2
        async with one_each(server, server.token):
            assert await server.stop() == 0
    assert verified(db)


async def test_one_worker_at_a_time_expires_scrubs_signs_and_sends_and_another_goes_on_when_it_ends(db):
    async with serve(db, "--workers", "3") as server, client(server, server.token) as session:
        (leads,) = await told(db, "beats.leads")
        (pid,) = [line["pid"] for line in said(db, "worker.ready") if line["worker"] == leads["worker"]]
        os.kill(pid, signal.SIGKILL)
        await told(db, "beats.leads", 2)
        for _ in range(20):  # a connection of the one that was killed may be left
            with contextlib.suppress(aiohttp.ClientError):
                async with session.post("/v1/jobs/", json={"status": "running", "timeout_s": 0.05}) as response:
                    id = (await response.json())["id"]
                break
        async with asyncio.timeout(PATIENCE_S):
            while True:
                async with session.get(f"/v1/jobs/{id}") as response:
                    if (await response.json())["status"] == "expired":
                        break
        assert await server.stop() == 0
    types = [event["type"] for event in in_a_process("export", "--db", db).jsonl if event.get("subject") == id]
    assert types.count("job.expired") == 1
    assert len(said(db, "beats.leads")) == 2


async def test_workers_stop_when_their_parent_was_killed(db):
    async with serve(db, "--workers", "2") as server:
        handles = [os.pidfd_open(line["pid"]) for line in await told(db, "worker.ready", 2)]
        await server.kill()
        for handle in handles:
            await ended(handle)
    assert len(said(db, "server.stopping")) == 2
    assert verified(db)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_a_request_under_way_is_answered_before_workers_stop(db, stop):
    async with serve(db, "--workers", "2") as server, one_each(server, server.token) as (first, second):
        waiting = asyncio.create_task(first.get("/v1/jobs/", headers={"Ledger-Position": "2"}))
        async with second.get("/v1/jobs/") as response:
            assert response.status == 200
        async with first.get("/v1/jobs/") as response:  # so what came before has begun
            assert response.status == 200
        server.process.send_signal(stop)
        await told(db, "server.stopping", 2)
        assert (await asyncio.to_thread(in_a_process, "token", "create", "--db", db)).code == 0
        async with await waiting as response:
            assert response.status == 200
        assert await server.process.wait() == 0


async def test_two_servers_do_not_share_a_port_unawares(db, tmp_path):
    async with serve(db, "--workers", "2") as server:
        port = server.url.rpartition(":")[2]
        for count in ("1", "2"):
            other = tmp_path / f"other{count}.db"
            done = await asyncio.to_thread(in_a_process, "serve", "--db", other, "--port", port, "--workers", count)
            lines = [line for line in done.err.splitlines() if not line.startswith("{")]
            assert (done.code, len(lines)) == (2, 1), done.err
            assert port in lines[0]


def test_a_ledger_that_cannot_be_served_is_told_once_and_no_worker_is_left(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no ledger")
    done = in_a_process("serve", "--db", path, "--port", "0", "--workers", "3")
    lines = [line for line in done.err.splitlines() if not line.startswith("{")]
    assert (done.code, len(lines)) == (2, 1), done.err
    assert "notes.txt" in lines[0]


def test_workers_need_an_sqlite_that_several_may_write_with(monkeypatch):
    from ledger.errors import InvalidInput
    from server import workers

    monkeypatch.setattr(workers.sqlite, "has_wal_reset_bug", lambda: True)
    with pytest.raises(InvalidInput, match="pysqlite3"):
        workers.check(2)
    workers.check(1)
