"""What a server is told at its start, with the limits it keeps."""

from __future__ import annotations

from pathlib import Path

import msgspec

from server.callbacks.addresses import Rules
from server.callbacks.schedule import Schedule

MIB = 1024 * 1024


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen and what to serve. Sizes in bytes, times in seconds."""

    db: Path = Path("ledger.db")
    host: str = "127.0.0.1"
    port: int = 8283
    workers: int = 1
    """Processes that serve. Each holds some 60 MiB, and has limits and what it keeps in memory of its own."""
    worker: int = 1
    """Which of the workers this process is, from 1."""
    shared: Path | None = None
    """A folder for what the workers tell each other; there is one when there are several."""
    hung_after_s: float = 30.0
    """How long a worker may show no sign of life before it is killed and replaced. The largest bulk append delays one
    by a tenth of a second; the rest is for a machine that swaps, or whose disk stands still."""
    command_size_max: int = MIB
    """One command's body; the longest single message in the real data has 25 KiB."""
    bulk_size_max: int = 64 * MIB
    """One bulk append's body: about 200,000 events."""
    connections_max: int = 8_000
    """Open connections: about 15 KiB each while idle, so these are 120 MiB. Those beyond are told health alone."""
    head_timeout_s: float = 15.0
    """How long a request's head may take to arrive: from the connection's opening, later from its first byte."""
    body_timeout_s: float = 30.0
    """How long a body may take to arrive."""
    answer_timeout_s: float = 30.0
    """How long a client may take for what waits of an answer, and a second more for each 64 KiB of it."""
    keepalive_s: float = 75.0
    """Idle keep-alive: longer than the usual proxy's 60 s, so that the proxy is the one to close."""
    requests_max: int = 2_000
    """Requests under way, streams apart: some 30 KiB each; as many take about a second."""
    bodies_size_max: int = 128 * MIB
    """Bytes of bodies held at once: a bulk append needs several times its body while it is read and written."""
    answers_size_max: int = 256 * MIB
    """Bytes of answers of 64 KiB and more, and of histories that some are made of, held until clients have them."""
    history_size_max: int = 64 * MIB
    """Bytes of one history that is read as a whole, for a report, a trace or a diff."""
    reads_max: int = 64
    """Long reads of the views that wait for the thread they share, each up to 20 s."""
    wait_timeout_s: float = 10.0
    """How long a request waits for the views to have a position."""
    streams_max: int = 5_000
    """Open streams: about 15 KiB each while idle, so these are 75 MiB. One that is behind holds up to some 600 KiB
    and a message more, until it reads on or is cut off."""
    stream_stall_s: float = 10.0
    """How long a client of a stream may take nothing before it is cut off; it can go on from where it was."""
    ping_interval_s: float = 15.0
    """How often a stream without news says that it is there: less than the usual proxy's 60 s."""
    stop_timeout_s: float = 30.0
    """How long a stop waits for requests under way."""
    callbacks: bool = True
    """Whether this server sends callbacks; what is owed stays owed."""
    callback_rules: Rules = Rules()
    """What callbacks may be sent to."""
    callback_schedule: Schedule = Schedule()
    """When a callback that failed is tried again."""
    callback_timeout_s: float = 15.0
    """How long a receiver may take to answer; Standard Webhooks advises 15 to 30."""
