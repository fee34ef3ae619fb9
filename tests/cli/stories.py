"""Small histories that the tests of the commands tell: each event with its time, in seconds after noon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ledger import Ledger
from ledger.errors import InvalidTransition
from ledger.times import to_text

NOON_US = 1_795_348_800_000_000  # 2026-11-22T12:00:00Z
ALICE = "user-00000000-0000-4000-8000-00000000000a"
BOB = "user-00000000-0000-4000-8000-00000000000b"
JOB = "job-00000000-0000-4000-8000-000000000001"
RUN = "run-00000000-0000-4000-8000-000000000002"
BATCH = "job-00000000-0000-4000-8000-000000000003"
GONE = "job-00000000-0000-4000-8000-000000000004"
HOSTILE = "job-00000000-0000-4000-8000-000000000005"
ABSENT = "job-00000000-0000-4000-8000-0000000000ff"

TRAPS = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\n\x08\u202egnp.exe\u2066\u200f\u2028\x00[bold]x[/bold]:smile:"
"""What terminals obey: escapes, titles, carriage returns, text direction; and what a printer may take for markup."""
OBEYED = set("\x1b\x07\x9b\r\x08\u202e\u2066\u200f\u2028\x00")

LIFE = [
    (JOB, "job.created", {"user_id": ALICE, "metadata": {"task": "nightly", "n": 1}}, 0),
    (RUN, "run.created", {"user_id": ALICE, "agent_id": "agent-1"}, 1),
    (JOB, "job.pending", {}, 10),
    (JOB, "job.running", {}, 20),
    (RUN, "run.running", {}, 21),
    (JOB, "job.updated", {"metadata": {"n": 2}, "ttft_ns": 5}, 30),
    (JOB, "job.completed", {"stop_reason": "end_turn"}, 80.5),
    (RUN, "run.failed", {"stop_reason": "error", "error": {"type": "ValueError", "message": "no"}}, 90),
    (BATCH, "batch.created", {"user_id": BOB, "runs": [RUN]}, 91),
    (GONE, "job.created", {"user_id": BOB}, 92),
    (GONE, "job.deleted", {}, 93),
    (HOSTILE, "job.created", {"user_id": ALICE, "agent_id": "\u202egnp.exe", "metadata": {TRAPS: TRAPS}}, 94),
]
EVENTS = len(LIFE) + 1
"""Those and a refusal, the last one: BOB asked to cancel the job that had ended."""


def at(seconds: float) -> str:
    return to_text(NOON_US + int(seconds * 1_000_000))


async def write(path: Path) -> None:
    """Write the stories into a new ledger."""
    now_us = NOON_US + 200_000_000
    async with Ledger.open(path, clock=lambda: now_us, name="stories.example") as ledger:
        for stream, type, data, seconds in LIFE:
            await ledger.append(stream, type, data, actor=ALICE, time_us=NOON_US + int(seconds * 1_000_000))
        try:
            await ledger.cancel(JOB, actor=BOB)
        except InvalidTransition:
            return
        raise AssertionError("a job that has ended was cancelled")


def types_of(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]
