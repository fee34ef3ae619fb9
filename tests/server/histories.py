"""Random histories, the same for the same seed: lives that interleave, with clocks that jump."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from typing import Any

from ledger.ledger import Ledger
from ledger.transitions import STOP_REASONS, TERMINAL, allowed

START_US = 1_790_000_000_000_000
SECOND_US = 1_000_000
SPAN_S = 30
"""Creations fall on few different seconds, so that many rows have an equal created_at."""
USERS = [f"user-00000000-0000-4000-8000-00000000000{number}" for number in range(1, 4)]
AGENTS = ["agent-a", "agent-b", "agent-c"]
SOURCES = ["source-a", "source-b", 7, None]
PROJECTS = [None, None, "project-p", "project-q"]
CONVERSATIONS = [None, "conv-a", "conv-b"]
TEMPLATES = [None, "template-a", "template-b"]
STOPS = ["end_turn", "error", "max_steps"]

Event = tuple[str, str, dict[str, Any], str, int]
"""Stream, type, data, actor, time in microseconds."""


def typed_id(chance: random.Random, prefix: str) -> str:
    return f"{prefix}-{uuid.UUID(int=chance.getrandbits(128), version=4)}"


def any_time(chance: random.Random) -> int:
    return START_US + chance.randrange(SPAN_S) * SECOND_US + chance.choice([0, 0, 0, 1, 500_000])


def birth(chance: random.Random, kind: str) -> dict[str, Any]:
    data: dict[str, Any] = {"user_id": chance.choice(USERS), "project_id": chance.choice(PROJECTS)}
    if kind == "run" or chance.random() < 0.5:
        data["agent_id"] = chance.choice(AGENTS)
    if kind == "run":
        data |= {"conversation_id": chance.choice(CONVERSATIONS), "base_template_id": chance.choice(TEMPLATES)}
    data["background"] = chance.choice([None, True, False])
    if chance.random() < 0.7:
        data["metadata"] = {"source_id": chance.choice(SOURCES), "n": chance.randrange(9)}
    return {name: value for name, value in data.items() if value is not None}


def change(chance: random.Random) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if chance.random() < 0.3:
        said["metadata"] = {"source_id": chance.choice(SOURCES)}
    if chance.random() < 0.2:
        said["agent_id"] = chance.choice(AGENTS)
    if chance.random() < 0.2:
        said["total_duration_ns"] = chance.randrange(5) * 1_000_000_000
    return said


def life(chance: random.Random, kind: str) -> list[Event]:
    """One resource from its creation to wherever chance leaves it."""
    stream, status = typed_id(chance, "run" if kind == "run" else "job"), "created"
    data = birth(chance, kind)
    owner, time_us = data["user_id"], any_time(chance)
    events: list[Event] = [(stream, f"{kind}.created", data, owner, time_us)]
    while chance.random() < 0.85:
        time_us += chance.choice([0, 1, 1, 2, 5, 9, -4, -12]) * SECOND_US
        step = chance.random()
        following = allowed(kind, status)
        if step < 0.7 and following:
            status = chance.choice(following)
            said = change(chance)
            if status in TERMINAL and status != "cancelled" and chance.random() < 0.7:
                said["stop_reason"] = chance.choice(STOPS)
            events.append((stream, f"{kind}.{status}", said, owner, time_us))
        elif step < 0.85:
            events.append((stream, f"{kind}.updated", {"ttft_ns": 1, **change(chance)}, owner, time_us))
        elif step < 0.93:
            events.append((stream, f"{kind}.refused", {"asked": "cancelled", "found": status}, owner, time_us))
        else:
            events.append((stream, f"{kind}.deleted", {}, owner, time_us))
            break
    return events


def interleave(chance: random.Random, lives: list[list[Event]]) -> Iterator[Event]:
    """Merge lives at random, each in its own order."""
    waiting = [list(reversed(events)) for events in lives]
    while waiting:
        chosen = chance.randrange(len(waiting))
        yield waiting[chosen].pop()
        if not waiting[chosen]:
            del waiting[chosen]


def history(seed: int, jobs: int, runs: int, batches: int) -> list[Event]:
    chance = random.Random(seed)
    kinds = ["job"] * jobs + ["run"] * runs + ["batch"] * batches
    lives = [life(chance, kind) for kind in kinds]
    _join(random.Random(f"batches {seed}"), [events[0] for events in lives])
    return list(interleave(chance, lives))


def _join(chance: random.Random, births: list[Event]) -> None:
    """Let some runs be of a batch, most of them of one with their own owner."""
    batches = [(stream, data) for stream, name, data, _, _ in births if name == "batch.created"]
    for data in (data for _, name, data, _, _ in births if name == "run.created" and chance.random() < 0.5):
        owned = [each for each in batches if each[1]["user_id"] == data["user_id"]]
        chosen = owned if chance.random() < 0.8 else batches
        if chosen:
            data["batch_id"], of_batch = chance.choice(chosen)
            data["project_id"] = of_batch.get("project_id")


async def record(ledger: Ledger, events: list[Event]) -> int:
    """Append the events one after the other; return the last position."""
    position = 0
    for stream, name, data, actor, time_us in events:
        position = (await ledger.append(stream, name, data, actor=actor, time_us=time_us)).position
    return position


assert set(STOPS) < set(STOP_REASONS)
