"""``serve``: what it prints, that it listens, and how it stops."""

import asyncio
import json
import signal
from contextlib import asynccontextmanager

import aiohttp
import pytest

from ledger import ids, tokens
from tests.cli.commandline import COMMAND, in_a_process
from tests.cli.stories import EVENTS, JOB
from tests.end_to_end.server_process import client, serve

PATIENCE_S = 30.0


@pytest.fixture
def new(tmp_path):
    return tmp_path / "new.db"


async def run(*arguments):
    """Run another command meanwhile."""
    return await asyncio.to_thread(in_a_process, *arguments)


async def test_the_first_start_prints_an_admin_token_once_then_where_it_listens(new):
    async with serve(new) as server:
        assert len(server.said) == 1
        assert tokens.is_well_formed(server.token)
        assert server.url.startswith("http://127.0.0.1:")
        async with client(server, server.token) as session, session.get("/v1/tokens") as response:
            assert response.status == 200
            (token,) = await response.json()
            assert sorted(token["scopes"]) == ["admin", "read", "write"]
        assert await server.stop() == 0
        assert await server.process.stdout.read() == b""
    async with serve(new) as again:
        assert again.said == []
        async with client(again, server.token) as session, session.get("/v1/jobs/") as response:
            assert (response.status, await response.json()) == (200, [])
    assert server.token not in new.with_suffix(".server.log").read_text()


async def test_a_ledger_with_a_history_is_served_and_gets_no_token(db):
    token = (await run("token", "create", "--db", db, "--scopes", "admin")).out.strip()
    async with serve(db) as server:
        assert server.said == []
        async with client(server, token) as session, session.get(f"/v1/jobs/{JOB}") as response:
            assert (await response.json())["status"] == "completed"
    assert (await run("verify", "--json", "--db", db, "--views")).json["size"] == EVENTS + 1


async def test_health_needs_no_token(new):
    async with serve(new) as server, client(server, "") as session, session.get("/v1/health") as response:
        assert (response.status, (await response.json()).keys()) == (200, {"version", "status"})


@asynccontextmanager
async def connected(server):
    """A bare connection, to stop in the middle of a request."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def refused(server):
    """Return once the server accepts no more connections."""
    while True:
        try:
            async with connected(server):
                continue
        except ConnectionError:
            return


def request(method, path, token, *lines, body=b""):
    head = (f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token}", *lines, "", "")
    return "\r\n".join(head).encode() + body


async def answer(reader):
    """The head of the next answer, as lines; its body is passed over."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    sizes = [int(line.partition(":")[2]) for line in head if line.lower().startswith("content-length:")]
    await reader.readexactly(sum(sizes))
    return head


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_a_request_under_way_is_answered_before_a_stop(new, stop):
    async with serve(new) as server, connected(server) as (reader, writer), asyncio.timeout(PATIENCE_S):
        writer.write(request("GET", "/v1/jobs/", server.token))
        assert (await answer(reader))[0].startswith("HTTP/1.1 200")
        writer.write(request("GET", "/v1/jobs/", server.token, "Ledger-Position: 2"))  # there is only 1 so far
        async with client(server, "") as session, session.get("/v1/health") as response:
            assert response.status == 200  # so it has also begun with what came before
        server.process.send_signal(stop)
        await refused(server)
        assert (await run("token", "create", "--db", new)).code == 0
        assert (await answer(reader))[0].startswith("HTTP/1.1 200")
        assert await server.process.wait() == 0


async def test_a_body_that_is_still_coming_at_a_stop_is_taken_and_answered(new):
    id = ids.make("job")
    body = json.dumps({"id": id, "status": "completed"}).encode()
    lines = ("Content-Type: application/json", f"Content-Length: {len(body)}", "Expect: 100-continue")
    async with serve(new) as server, connected(server) as (reader, writer):
        writer.write(request("POST", "/v1/jobs/", server.token, *lines))
        assert (await answer(reader))[0] == "HTTP/1.1 100 Continue"
        server.process.send_signal(signal.SIGTERM)
        await refused(server)
        writer.write(body)
        try:
            async with asyncio.timeout(PATIENCE_S / 3):
                assert (await answer(reader))[0].startswith("HTTP/1.1 201")
                assert await server.process.wait() == 0
        except TimeoutError:
            pytest.fail("the server neither takes the body nor stops")
    assert (await run("show", "--json", "--db", new, id)).json["status"] == "completed"


async def test_many_writes_under_way_at_a_stop_are_answered_or_never_recorded(new):
    async with serve(new) as server, client(server, server.token) as session:
        answered = set()
        begun = asyncio.Event()

        async def write():
            while True:
                id = ids.make("job")
                async with session.post("/v1/jobs/", json={"id": id}) as response:
                    if response.status != 201:
                        assert response.status == 503
                        return
                answered.add(id)
                begun.set()

        writers = [asyncio.create_task(write()) for _ in range(8)]
        async with asyncio.timeout(PATIENCE_S):
            await begun.wait()
            assert await server.stop() == 0
            ends = await asyncio.gather(*writers, return_exceptions=True)
        assert all(end is None or isinstance(end, aiohttp.ClientError) for end in ends), ends
    created = {event["subject"] for event in (await run("export", "--db", new)).jsonl[1:]}
    assert created == answered


async def test_commands_work_beside_a_running_server(new):
    async with serve(new) as server, client(server, server.token) as session:
        async with session.post("/v1/jobs/", json={}) as response:
            id = (await response.json())["id"]
        shown, made, verified = await asyncio.gather(
            run("show", "--json", "--db", new, id),
            run("token", "create", "--db", new, "--scopes", "admin"),
            run("verify", "--json", "--db", new),
        )
        assert (shown.json["status"], verified.json["ok"]) == ("created", True)
        headers = {"Authorization": f"Bearer {made.out.strip()}"}
        async with session.get(f"/v1/jobs/{id}", headers=headers) as response:
            assert response.status == 200
        rebuilt = await run("rebuild", "--json", "--db", new)
        assert rebuilt.json["events"] == 3
        async with session.get(f"/v1/jobs/{id}") as response:
            assert response.status == 200


async def test_a_port_in_use_is_told_in_one_line(new, tmp_path):
    async with serve(new) as server:
        port = server.url.rpartition(":")[2]
        done = await run("serve", "--db", tmp_path / "other.db", "--port", port)
    assert (done.code, done.raw) == (2, b"")
    said = [line for line in done.err.splitlines() if not line.startswith("{")]
    assert len(said) == 1, done.err
    assert port in said[0]


async def test_log_lines_are_json_on_stderr(new):
    async with serve(new) as server, client(server, server.token) as session:
        async with session.get("/v1/jobs/") as response:
            request_id = response.headers["X-Request-Id"]
        assert await server.stop() == 0
    lines = [json.loads(line) for line in new.with_suffix(".server.log").read_text().splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == request_id]
    assert (line["method"], line["status"]) == ("GET", 200)


def test_the_entry_point_is_installed():
    assert in_a_process("--version").out.startswith("jobledger"), COMMAND
