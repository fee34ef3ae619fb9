"""Peers that are gone without a word, in every phase: each is let go of in its time, and what it held is free again."""

import asyncio
import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import ExitStack, asynccontextmanager, contextmanager

import msgspec
import pytest

from server.connections import Patience
from server.protocol import AppServer
from tests.server.raw import head
from tests.server.serving import serving, until

SIZE = 600_000
"""Bytes of an answer that is not taken: more than the sockets of these tests hold."""
GONE_S = 3.0
"""Within which all must be free, with the deadlines below; it takes about two."""
PATIENCE = Patience(probe_after_s=1, probe_interval_s=1, probes=2, unacknowledged_max_s=0.5)
TCP_REPAIR = 19
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
BUFFER_SIZE = 4096


def tight():
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_SIZE)
    return made


def listening():
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_SIZE)  # connections have it from here
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    listener.setblocking(False)
    return listener


class Peers:
    """Clients on sockets of this process; how they vanish is what the kinds of them differ in."""

    def __init__(self, stack):
        self.listener = stack.enter_context(listening())
        self.sockets = []
        stack.callback(lambda: [each.close() for each in self.sockets])

    async def ask(self, request):
        peer = tight()
        self.sockets.append(peer)
        peer.setblocking(False)
        await asyncio.get_running_loop().sock_connect(peer, self.listener.getsockname())
        await asyncio.get_running_loop().sock_sendall(peer, request)


class Forgotten(Peers):
    """A machine that lost its power and is back: it knows of no connection, and resets what speaks of one."""

    def __init__(self, stack):
        super().__init__(stack)
        try:
            with socket.socket() as probe:
                probe.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        except OSError as error:
            pytest.skip(f"the kernel lets nobody here forget a connection: {error}")

    def vanish(self):
        for each in self.sockets:
            each.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)  # a close says nothing from here on
            each.close()


class Unplugged(Peers):
    """A network of its own, of which only this machine's loopback is part, whose only link goes down."""

    def __init__(self, stack):
        made = []
        thread = threading.Thread(target=lambda: made.append(self._enter(stack)))  # it alone moves to that network
        thread.start()
        thread.join()
        if made[0] is not None:
            pytest.skip(f"nobody here may have a network of their own: {os.strerror(made[0])}")

    def _enter(self, stack):
        libc = ctypes.CDLL(None, use_errno=True)
        if not sys.platform.startswith("linux") or libc.unshare(CLONE_NEWNET):
            return ctypes.get_errno() or errno.ENOSYS
        self._control = stack.enter_context(socket.socket())
        self._link(IFF_UP)
        super().__init__(stack)
        self._spare = [stack.enter_context(tight()) for _ in PHASES]
        return None

    def _link(self, flags):
        fcntl.ioctl(self._control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags))

    async def ask(self, request):
        peer = self._spare.pop()  # it was made in that network and stays there
        peer.setblocking(False)
        await asyncio.get_running_loop().sock_connect(peer, self.listener.getsockname())
        await asyncio.get_running_loop().sock_sendall(peer, request)

    def vanish(self):
        self._link(0)


CLIENT = """
import socket, sys
peer = socket.socket()
peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, int(sys.argv[2]))
peer.connect(("127.0.0.1", int(sys.argv[1])))
peer.sendall(sys.stdin.buffer.read())
print(flush=True)
import signal
signal.pause()
"""


class Stopped(Peers):
    """Processes that are stopped: their kernel still answers for them, but they take nothing and say nothing."""

    def __init__(self, stack):
        super().__init__(stack)
        self._stack, self._processes = stack, []

    async def ask(self, request):
        port = self.listener.getsockname()[1]
        command = [sys.executable, "-S", "-c", CLIENT, str(port), str(BUFFER_SIZE)]
        await asyncio.to_thread(self._start, command, request)

    def _start(self, command, request):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._stack.callback(self._end, process)
        self._processes.append(process)
        process.stdin.write(request)
        process.stdin.close()
        process.stdout.readline()  # which says that it has sent it

    @staticmethod
    def _end(process):
        process.kill()
        process.wait()
        process.stdout.close()

    def vanish(self):
        for each in self._processes:
            each.send_signal(signal.SIGSTOP)


PHASES = ("idle", "body", "bulk", "answer", "stream", "replay")


async def requests_of(user):
    """What a client of each phase sends."""
    job = await user.create(metadata={"text": "x" * SIZE})
    live, long = [await user.create("run", status="running") for _ in range(2)]
    message = {"message_type": "assistant_message", "content": "x" * SIZE}
    assert (await user.post(f"/v1/runs/{long}/messages", json=message)).status == 201
    return {
        "idle": head("GET", "/v1/health", user.token),
        "body": head("POST", "/v1/jobs", user.token, "Content-Length: 1000") + b"{",
        "bulk": head("POST", "/v1/events", user.token, "Content-Length: 2000000") + b"{",
        "answer": head("GET", f"/v1/jobs/{job}", user.token),
        "stream": head("POST", f"/v1/runs/{live}/stream", user.token, "Content-Length: 0"),
        "replay": head("POST", f"/v1/runs/{long}/stream", user.token, "Content-Length: 0"),
    }


@asynccontextmanager
async def listening_for(app, peers):
    """Serve those who come by the peers' own listener, too."""
    protocols = AppServer(app)
    server = await asyncio.get_running_loop().create_server(protocols, sock=peers.listener)
    try:
        yield
    finally:
        server.close()
        await protocols.shutdown(0.1)


async def becomes(app, expected):
    """Wait until there are so many connections, requests under way, bytes of bodies, and streams."""

    def held():
        return len(app.connections), app.requests, app.bodies.size, app.hub.subscribers

    try:
        async with asyncio.timeout(GONE_S):
            await until(lambda: held() == expected)
    except TimeoutError:
        pytest.fail(f"{held()} instead of {expected}")


@contextmanager
def quick(monkeypatch):
    """Deadlines that are kept, and looked after, in less time."""
    monkeypatch.setattr("server.protocol.LINGER_S", 0.1)
    monkeypatch.setattr("server.protocol.ANSWER_RATE", 1 << 30)
    monkeypatch.setattr("server.connections.BEAT_INTERVAL_S", 0.05)
    yield


WAYS = {
    # a silent peer is TCP's to find: with the deadlines of phases as they are, nothing else could end it in time
    "forgotten": (Forgotten, PHASES, {}),
    "unplugged": (Unplugged, PHASES, {}),
    # whose kernel answers is there for TCP: phases have their deadlines. A stream without news cannot be behind
    "stopped": (
        Stopped,
        tuple(each for each in PHASES if each != "stream"),
        {"keepalive_s": 0.5, "body_timeout_s": 0.5, "answer_timeout_s": 0.5, "stream_stall_s": 0.5},
    ),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_peer_that_is_gone_without_a_word_is_let_go_of_with_all_it_held(
    ledger_file, log_lines, monkeypatch, way
):
    kind, phases, limits = WAYS[way]
    with quick(monkeypatch), ExitStack() as stack:
        peers = kind(stack)
        async with serving(ledger_file, ping_interval_s=0.1, **limits) as service:
            app, user = service.app, await service.user()
            app.connections.patience = PATIENCE
            asked = await requests_of(user)
            await service.session.close()
            await until(lambda: not len(app.connections))
            async with listening_for(app, peers):
                # given a client in each phase
                for phase in phases:
                    await peers.ask(asked[phase])
                streams = sum(phase in ("stream", "replay") for phase in phases)
                await becomes(app, (len(phases), 2, 2_000_001, streams))
                await until(lambda: sum(each._paused for each in app.connections._open) == 2)  # answer and replay
                # when all of them are gone at once
                peers.vanish()
                app.start_beats()
                # then
                await becomes(app, (0, 0, 0, 0))
    told = [msgspec.json.decode(line) for line in log_lines.getvalue().splitlines()]
    assert {line["event"] for line in told} <= {"request", "connection.cut", "beats.leads"}
    left = {"/v1/jobs", "/v1/events"} if way != "stopped" else set()
    assert {
        line["route"] for line in told if line.get("outcome") == "disconnected" and line["method"] == "POST"
    } >= left
