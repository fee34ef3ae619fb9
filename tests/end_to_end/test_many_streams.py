"""Hundreds of clients on one run; some do not read, some go: each other one gets every chunk once and in order."""

import asyncio
import re
import resource
import socket
from pathlib import Path

import pytest

from ledger import ids
from tests.end_to_end.server_process import client, serve
from tests.server.following import said

CLIENTS, STALLED = 200, 15
MESSAGES = 150
LIMITS = {"stream_stall_s": 1.0}
PER_CLIENT_MAX = 150 * 1024
"""Bytes of memory that one client may cost the server, in the middle of it all."""
STALLED_MAX = 1024 * 1024
"""Bytes that one client that does not read may cost: what waits for it, and a part of the log that was read for it."""
_ID = re.compile(rb"(?:^|\n)id: (\d+)\n")


class Client(asyncio.Protocol):
    """Asks, and keeps what comes. A stalled one stops to read as soon as the headers are there."""

    def __init__(self, request, is_stalled):
        self.request, self.is_stalled = request, is_stalled
        self.wire = bytearray()
        self.opened = asyncio.get_running_loop().create_future()
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data):
        self.wire += data
        if not self.opened.done() and b"\r\n\r\n" in self.wire:
            self.opened.set_result(None)
            if self.is_stalled:
                self.transport.pause_reading()
        if self.wire.endswith(b"[DONE]\n\n\r\n0\r\n\r\n") and not self.ended.done():
            self.ended.set_result(None)

    @property
    def seen(self):
        """The marks of the events that came, in order; chunks may break anywhere but between them."""
        return [int(found) for found in _ID.findall(self.wire)]

    @classmethod
    async def connect(cls, port, request, is_stalled):
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        if is_stalled:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        protocol = (await loop.create_connection(lambda: cls(request, is_stalled), sock=sock))[1]
        await protocol.opened
        return protocol


def memory_of(server):
    """Resident bytes of the server's process."""
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{server.process.pid}/status").read_text())[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process's memory")
async def test_clients_that_do_not_read_are_cut_off_and_the_others_get_everything_once_in_bounded_memory(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4 * CLIENTS), hard), hard))
    run = ids.make("run")
    async with serve(tmp_path / "ledger.db", limits=LIMITS) as server, client(server, server.token) as session:
        await session.post("/v1/runs/", json={"id": run, "agent_id": "a", "status": "running"})
        before = memory_of(server)
        # given
        port = int(server.url.rpartition(":")[2])
        head = f"POST /v1/runs/{run}/stream HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.token}\r\n\r\n"
        opened = [Client.connect(port, head.encode(), number < STALLED) for number in range(CLIENTS)]
        clients = await asyncio.gather(*opened)
        stalled, reading = clients[:STALLED], clients[STALLED:]
        # when
        peak = 0
        for number in range(1, MESSAGES + 1):
            content = "x" * (100 if number % 5 else 100_000)
            async with session.post(f"/v1/runs/{run}/messages", json=said(number, content)) as answer:
                assert answer.status == 201
            peak = max(peak, memory_of(server))
        await session.patch(f"/v1/runs/{run}", json={"status": "completed"})
        async with asyncio.timeout(60):
            await asyncio.gather(*(each.ended for each in reading))
        # then
        expected = list(range(3, MESSAGES + 3))
        for each in reading:
            assert each.seen == expected
        assert peak - before < CLIENTS * PER_CLIENT_MAX + STALLED * STALLED_MAX
        for each in stalled:
            assert each.seen == []
        await server.stop()
    log = (tmp_path / "ledger.server.log").read_text()
    assert log.count('"outcome":"stalled"') == STALLED
    assert "stream.failed" not in log
    for each in clients:
        each.transport.abort()
    print(f"{(peak - before) / CLIENTS / 1024:.0f} KiB a client at the peak")


async def test_clients_that_go_do_no_harm_to_the_others_nor_to_the_views(tmp_path):
    """Only a server of its own runs on uvloop, which raises when a connection that is closed is written to."""
    run = ids.make("run")
    async with serve(tmp_path / "ledger.db") as server, client(server, server.token) as session:
        await session.post("/v1/runs/", json={"id": run, "agent_id": "a", "status": "running"})
        port = int(server.url.rpartition(":")[2])
        head = f"POST /v1/runs/{run}/stream HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.token}\r\n\r\n"
        clients = [await Client.connect(port, head.encode(), False) for _ in range(30)]
        for number, gone in enumerate(clients[1:], 1):
            gone.transport.abort()
            async with session.post(f"/v1/runs/{run}/messages", json=said(number)) as answer:
                assert answer.status == 201  # which waits for the views
        await session.patch(f"/v1/runs/{run}", json={"status": "completed"})
        async with asyncio.timeout(60):
            await clients[0].ended
        assert clients[0].seen == list(range(3, 32))
        clients[0].transport.abort()
        assert await server.stop() == 0
    assert "failed" not in (tmp_path / "ledger.server.log").read_text()
