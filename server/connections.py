"""The connections of a server: how many there may be, and how long each may take for a phase.

aiohttp bounds how long a connection is idle, and ``Exchange`` how long a body takes to arrive. The rest is looked after
here: the head of a request, the answer that nobody takes, the peer that is gone without a word, the crowd.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
from prometheus_client import CollectorRegistry, Counter

from server import beats
from server.admission import Answers
from server.config import Config

if TYPE_CHECKING:
    from server.protocol import Connection

BEAT_INTERVAL_S: Final = 1.0
"""Between two looks at all connections: 5,000 of them take about a millisecond. Deadlines are late by so much."""
LOBBY_MAX: Final = 256
"""Connections beyond the limit that are still heard, so that health is told and others learn that they may come again;
who comes on top of them is turned away unheard."""
LOBBY_HEAD_S: Final = 2.0
"""How long a connection beyond the limit may take to ask: it has one question."""
ANSWER_RATE: Final = 64 * 1024
"""Bytes a second that a client must take of an answer, beside the time that any answer has: a slow modem's."""
FILES_KEPT: Final = 256
"""Descriptors that are not for connections: databases, logs, callbacks under way, and the lobby's share of a small
limit."""


class Patience(NamedTuple):
    """How long TCP waits for a peer that is gone without a word, in seconds."""

    probe_after_s: int = 60
    """A peer that is silent for so long is asked whether it is there; the system's own default is two hours."""
    probe_interval_s: int = 15
    """Between two such questions."""
    probes: int = 4
    """Questions without an answer after which it is gone, where the system does not know ``unacknowledged_max_s``."""
    unacknowledged_max_s: float = 60
    """How long what was sent may stay unacknowledged before the peer is gone: the system's default is some 15
    minutes."""

    @property
    def silence_max_s(self) -> float:
        """How long Linux keeps a silent peer.

        It does not count questions where ``unacknowledged_max_s`` is set: one without an answer is enough after it.
        """
        asked = math.ceil(max(0, self.unacknowledged_max_s - self.probe_after_s) / self.probe_interval_s)
        return self.probe_after_s + max(1, asked) * self.probe_interval_s

    def options(self) -> tuple[tuple[str, int, int], ...]:
        """Return the options of a socket, each with its level and value, by names that a system may not know."""
        tcp = socket.IPPROTO_TCP
        return (
            ("SO_KEEPALIVE", socket.SOL_SOCKET, 1),
            ("TCP_KEEPIDLE", tcp, self.probe_after_s),
            ("TCP_KEEPINTVL", tcp, self.probe_interval_s),
            ("TCP_KEEPCNT", tcp, self.probes),
            ("TCP_USER_TIMEOUT", tcp, round(self.unacknowledged_max_s * 1000)),
        )


log = structlog.get_logger("server")


class Connections:
    """All connections that are open. ``beat`` ends those that are over a deadline."""

    def __init__(self, config: Config, registry: CollectorRegistry, answers: Answers) -> None:
        self.config = config
        self.answers = answers
        self.max = min(config.connections_max, _files_max() - FILES_KEPT)
        """How many there may be: as configured, and as the system's limit of open files allows."""
        self.patience = Patience()
        self.now = asyncio.get_running_loop().time
        self._open: set[Connection] = set()
        self._turned_away = 0
        self._cut = Counter(
            "jobledger_connections_cut",
            "Connections that the server ended, by why: head, answer, or crowd (not even heard).",
            ["reason"],
            registry=registry,
        )

    def __len__(self) -> int:
        return len(self._open)

    @property
    def is_full(self) -> bool:
        """Whether the next connection is one too many."""
        return len(self._open) >= self.max

    def enter(self, connection: Connection) -> bool:
        """Count a new connection in. Returns whether it is heard at all; ``is_over`` says that it is one too many."""
        connection.is_over = self.is_full
        if len(self._open) >= self.max + LOBBY_MAX:
            self._turned_away += 1
            self._cut.labels("crowd").inc()
            return False
        self._open.add(connection)
        return True

    def leave(self, connection: Connection) -> None:
        """Count a connection out that is closed."""
        self._open.discard(connection)

    async def run(self) -> None:
        """Beat for ever."""
        await beats.forever("connections", self.beat)

    def beat(self) -> float:
        """End every connection that is over a deadline; return how many seconds to wait for the next look."""
        now = self.now()
        for connection in list(self._open):
            self._look(connection, now)
        if self._turned_away:
            log.warning("connections.turned_away", connections=self._turned_away, open=len(self._open), limit=self.max)
            self._turned_away = 0
        return BEAT_INTERVAL_S

    def _look(self, connection: Connection, now: float) -> None:
        if connection.answer_is_late(now, self.config.answer_timeout_s):
            reason = "answer"
            connection.cut()
        elif connection.head_is_late(now, LOBBY_HEAD_S if connection.is_over else self.config.head_timeout_s):
            reason = "head"
            connection.refuse_head()
        else:
            return
        self._cut.labels(reason).inc()
        log.info("connection.cut", reason=reason)


def watch(transport: asyncio.BaseTransport, patience: Patience) -> None:
    """Let TCP find out about a peer that is gone without a word, as far as the system can."""
    peer = transport.get_extra_info("socket")
    if peer is None or peer.family not in (socket.AF_INET, socket.AF_INET6):
        return
    for name, level, value in patience.options():
        option = getattr(socket, name, None)
        if option is not None:
            with contextlib.suppress(OSError):  # the peer may be gone already
                peer.setsockopt(level, option, value)


def allow_files() -> None:
    """Let this process have as many open files as it may: many systems begin with 1,024, which are few connections."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # no such limit, or none of ours to raise
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _files_max() -> int:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 1_000_000
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1_000_000 if soft == resource.RLIM_INFINITY else max(soft, 2 * FILES_KEPT)
