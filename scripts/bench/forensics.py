"""Forensic questions to a log of many runs (1,000,000 in a full run), milliseconds each, over HTTP and by command.

Ours: ``jobledger serve``, each question with other parameters than the one before, and the command line. Baseline: the
limits that were set, 200 ms over HTTP and a second for the report of a run of 10,000 events. One run in four fails, of
forty causes; one in ten says something, has a step of one of five models, and a tool that fails.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec

from ledger import ids, messages
from ledger.events import NOTHING, Changed, Created, Draft, ErrorInfo, Step, draft
from ledger.ids import SYSTEM_USER
from ledger.ledger import Ledger
from ledger.times import to_text
from scripts.bench.commands import JOBLEDGER
from scripts.bench.contest import Lap, Row, row, take_turns
from scripts.bench.served import Served, ours
from scripts.bench.workplace import APPEND, START_US, Log, Workplace, append
from server.grants import grant

LIMIT_MS = 200.0
REPORT_LIMIT_MS = 1_000.0
SECOND_US = 1_000_000
AGENTS, CAUSES, MODELS = 1_000, 40, 5
LONG = "run-00000000-0000-4000-8000-000000000001"
"""The run with many events."""
LONG_EVENTS = 10_000
ASKED = 9
"""Questions in one round."""
WORDS = (
    "ledger", "record", "flight", "booking", "refund", "payment", "seat", "window", "order", "parcel", "invoice",
    "account", "signal", "network", "reset", "plan", "customer", "update", "confirm", "cancel", "search", "reserve",
    "luggage", "delay", "weather", "ticket", "balance", "transfer", "credit", "ship", "return", "repair", "battery",
    "screen", "cable", "router", "tower", "roaming", "message", "contract",
)  # fmt: skip
"""Of which all texts are made."""


def run(place: Workplace) -> Iterator[Row]:
    """Measure, and yield the rows."""
    log = asyncio.run(_make(place.fresh(), place.scale.forensic_runs))
    with ours(place, log) as server:
        for name, path_of in QUESTIONS.items():
            fresh = itertools.count()
            asked = partial(_asked, server, path_of, fresh, place.scale.forensic_runs)
            yield _row(place, name, asked, LIMIT_MS, f"median of {ASKED}, each asked for the first time")
        report = partial(_asked, server, lambda _, __: f"/v1/runs/{LONG}/report", itertools.count(), 0)
        yield _row(place, "report", report, REPORT_LIMIT_MS, f"{LONG_EVENTS:,} events, over HTTP")
    note = f"{LONG_EVENTS:,} events, by command, with its start"
    yield _row(place, "report, command", lambda: _command(log.path, "report", LONG), REPORT_LIMIT_MS, note)
    place.remove(log.path)


def _row(place: Workplace, name: str, measure: Callable[[], Lap], limit_ms: float, note: str) -> Row:
    pairs = take_turns(measure, lambda: Lap(limit_ms), place.scale.as_of_rounds)
    note += "; the baseline is the limit"
    return row("forensics", name, pairs, unit="ms", target=1.0, note=note, is_less_better=True)


def _since(number: int, runs: int) -> str:
    """Return a time within the history, for each number another one."""
    return to_text(START_US + runs * SECOND_US * (number % 19 + 1) // 20 + number)


QUESTIONS: Final[dict[str, Callable[[int, int], str]]] = {
    "failures": lambda number, runs: f"/v1/failures?limit={100 - number}",
    "failures since": lambda number, runs: f"/v1/failures?since={_since(number, runs)}",
    "failures of an agent": lambda number, runs: f"/v1/failures?agent_id=agent-{number:08d}",
    "stats": lambda number, runs: f"/v1/stats?top={5 + number}",
    "stats of an agent": lambda number, runs: f"/v1/stats?agent_id=agent-{number:08d}",
    "stats since": lambda number, runs: f"/v1/stats?since={_since(number, runs)}",
    "search, a word of many": lambda number, runs: f"/v1/search?query={WORDS[number]}",
    "search, a word of all": lambda number, runs: f"/v1/search?query=nightly&limit={20 + number}",
    "search, no such word": lambda number, runs: f"/v1/search?query=no{WORDS[number]}",
    "search, three words": lambda number, runs: f"/v1/search?query={'+'.join(WORDS[number : number + 3])}",
    "search, failed only": lambda number, runs: f"/v1/search?query={WORDS[number]}&status=failed",
}
"""The path of a question by its number, no two alike, and by how many runs there are."""


def _asked(server: Served, path_of: Callable[[int, int], str], fresh: Iterator[int], runs: int) -> Lap:
    taken = []
    for number in itertools.islice(fresh, ASKED):
        path = path_of(number, runs)
        began = time.perf_counter()
        server.get(path)
        taken.append((time.perf_counter() - began) * 1000)
    return Lap(median(taken))


def _command(db: Path, *arguments: str) -> Lap:
    began = time.perf_counter()
    subprocess.run([*JOBLEDGER, *arguments, "--db", str(db)], check=True, stdout=subprocess.DEVNULL)
    return Lap((time.perf_counter() - began) * 1000)


async def _make(path: Path, runs: int) -> Log:
    log = Log(path, "", [LONG], [])
    chance = random.Random(20261126)
    async with Ledger.open(path, name="bench.example/forensics") as ledger:
        drafts = list(_long(chance))
        for number in range(runs):
            drafts += _life(chance, number)
            if len(drafts) >= APPEND:
                await ledger.submit(append(drafts))
                drafts = []
        await ledger.submit(append(drafts))
        token, _ = await grant(ledger, user_id=SYSTEM_USER, scopes=["read", "admin"], actor=SYSTEM_USER)
    return msgspec.structs.replace(log, token=token)


def _life(chance: random.Random, number: int) -> Iterator[Draft]:
    stream = f"run-{uuid.UUID(int=chance.getrandbits(128), version=4)}"
    at_us = START_US + number * SECOND_US
    metadata = {"task": "nightly", "number": number, "origin": chance.choice(WORDS)}
    created = Created(user_id=SYSTEM_USER, agent_id=f"agent-{number % AGENTS:08d}", metadata=metadata)
    yield _event(stream, "created", created, at_us)
    yield _event(stream, "running", NOTHING, at_us + chance.randrange(SECOND_US))
    ended_us = at_us + 2 * SECOND_US + int(3600 * SECOND_US * chance.random() ** 8)
    if number % 10 == 0:
        yield from _turn(chance, stream, at_us + SECOND_US, uuid.UUID(int=chance.getrandbits(128), version=4))
    if chance.random() < 0.25:
        cause = min(int(chance.expovariate(0.1)), CAUSES - 1)
        message = f"{WORDS[cause]} {number} was not there within {number % 60} s"
        error = ErrorInfo(type=f"{WORDS[-cause].title()}Error", message=message)
        yield _event(stream, "failed", Changed(stop_reason="error", error=error, ttft_ns=number * 1_000), ended_us)
    else:
        ttft_ns = chance.randrange(10**10)
        yield _event(stream, "completed", Changed(stop_reason="end_turn", ttft_ns=ttft_ns), ended_us)


def _turn(chance: random.Random, stream: str, at_us: int, id: uuid.UUID) -> Iterator[Draft]:
    """Yield what a model and a tool say to each other, and the step that it was."""
    call = {"name": f"get_{chance.choice(WORDS)}", "arguments": '{"id":7}', "tool_call_id": f"call-{id}"}
    answer = {"tool_return": f"no {chance.choice(WORDS)} {id}", "status": "error", "tool_call_id": f"call-{id}"}
    for said in (
        {"message_type": "assistant_message", "content": " ".join(chance.choices(WORDS, k=40))},
        {"message_type": "tool_call_message", "tool_call": call},
        {"message_type": "tool_return_message", **answer},
    ):
        yield _event(stream, "message", messages.record(said)[0], at_us)
    model = f"model-{chance.randrange(MODELS)}"
    tokens: dict[str, Any] = {"prompt_tokens": chance.randrange(9_000), "completion_tokens": chance.randrange(900)}
    yield _event(stream, "step", Step(id=ids.make("step"), status="success", model=model, **tokens), at_us)


def _long(chance: random.Random) -> Iterator[Draft]:
    yield _event(LONG, "created", Created(user_id=SYSTEM_USER, agent_id="agent-00000001"), START_US)
    yield _event(LONG, "running", NOTHING, START_US)
    for number in range((LONG_EVENTS - 3) // 4 + 1):
        id = uuid.UUID(int=chance.getrandbits(128), version=4)
        yield from _turn(chance, LONG, START_US + number * SECOND_US, id)
    error = ErrorInfo(type="TimeoutError", message="the model did not answer")
    yield _event(LONG, "failed", Changed(stop_reason="error", error=error), START_US + LONG_EVENTS * SECOND_US)


def _event(stream: str, verb: str, fact: Any, time_us: int) -> Draft:
    return draft(stream, f"run.{verb}", fact, time=time_us, actor=SYSTEM_USER)
