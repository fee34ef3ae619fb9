"""Servers whose clock is wrong, or whose time stands still: what they record, what they end, and what they do twice."""

from __future__ import annotations

import os
import signal
import time
from datetime import datetime
from functools import partial

from tests.end_to_end.server_process import client, serve
from tests.faults.points import Bench
from tests.faults.servers import RECOVERED, Client, running, said, times

HOUR_S = 3600
NEAR_S = 120
"""How far a recorded time may be from where it should be, on a machine under load."""
LOOK_S = 2.5
"""How long to look on: two looks for a lease, and some."""


async def _shift_of(writer: Client) -> float:
    """Return by how many seconds the time of the last job is off."""
    job = await writer.get(f"/v1/jobs/{writer.answered[-1]}")
    return datetime.fromisoformat(job["created_at"]).timestamp() - time.time()


async def _clock(bench: Bench, hours: int, *, stops: bool = False) -> str:
    """Put the clock of a server off, or stop it there; look at the times of jobs then, and afterwards."""
    shift_ns = hours * HOUR_S * 10**9
    async with running(bench) as (_, writer, control):
        await writer.create()
        control.set(**({"stop_ns": time.time_ns() + shift_ns} if stops else {"shift_ns": shift_ns}))
        seen = [(await writer.create(), await _shift_of(writer)) for _ in range(2)]
        off = [status for status, shift in seen if abs(shift - hours * HOUR_S) < NEAR_S]
        if stops:
            both = [(await writer.get(f"/v1/jobs/{id}"))["created_at"] for id in writer.answered[-2:]]
            off = [status for status in off if both[0] == both[1]]
        control.set(shift_ns=0, stop_ns=0)
        after = await writer.after()
        is_right = abs(await _shift_of(writer)) < NEAR_S
        return f"{off} there, then {after}, {'at the right time' if is_right else 'at a wrong time'}"


async def _expiry(bench: Bench) -> str:
    """Let a job's timeout pass by a clock that jumps forth, then back."""
    async with running(bench) as (_, writer, control):
        await writer.create(timeout_s=HOUR_S / 2)
        id = writer.answered[-1]
        before = (await writer.get(f"/v1/jobs/{id}"))["status"]
        control.set(shift_ns=HOUR_S * 10**9)
        ended = await _until_ended(writer, id)
        control.set(shift_ns=0)
        await writer.create(timeout_s=HOUR_S / 2)
        young = (await writer.get(f"/v1/jobs/{writer.answered[-1]}"))["status"]
        return f"{before}, then {ended}; a new one is {young}; {await writer.after()}"


async def _until_ended(writer: Client, id: str) -> str:
    """Wait until a job has ended; return its status, and how often that is in its history."""
    until_s = time.monotonic() + 30
    while (status := (await writer.get(f"/v1/jobs/{id}"))["status"]) == "running" and time.monotonic() < until_s:
        continue
    ends = [event for event in await writer.get(f"/v1/jobs/{id}/events") if event["type"] == "job.expired"]
    return f"{status} {len(ends)} times"


async def _stopped(bench: Bench) -> str:
    """Stop the server that has the lease of the beats (SIGSTOP) while another goes on; then let it go on, too."""
    async with running(bench) as (server, writer, _):
        while "beats.leads" not in said(bench):
            await writer.create()
        async with serve(bench.place / "ledger.db") as second, client(second, server.token) as session:
            other = Client(session)
            os.kill(server.process.pid, signal.SIGSTOP)
            seen = {await other.create(timeout_s=1)}
            until_s = time.monotonic() + LOOK_S
            while time.monotonic() < until_s:
                seen.add(await other.create())
            first = other.answered[0]
            meanwhile = (await other.get(f"/v1/jobs/{first}"))["status"]
            leases = said(bench).count("beats.leads")
            os.kill(server.process.pid, signal.SIGCONT)
            ended = await _until_ended(other, first)
            writer.answered += other.answered
            return f"{sorted(seen)} by the other, {leases} lease, {meanwhile}, then {ended}; {await writer.after()}"


THERE = r"\['201', '201'\] there"
RIGHT = f"then {RECOVERED}, at the right time"
ROWS = (
    ("a clock that stands still", times(partial(_clock, hours=1, stops=True)), f"{THERE}, {RIGHT}"),
    ("a clock that jumps back by an hour", times(partial(_clock, hours=-1)), f"{THERE}, {RIGHT}"),
    ("a clock that jumps forth by an hour", times(partial(_clock, hours=1)), f"{THERE}, {RIGHT}"),
    (
        "a timeout that a clock jumps over",
        times(_expiry),
        f"running, then expired 1 times; a new one is running; {RECOVERED}",
    ),
    (
        "one of two servers stops for a while",
        times(_stopped),
        rf"\['201'\] by the other, 1 lease, running, then expired 1 times; {RECOVERED}",
    ),
)
