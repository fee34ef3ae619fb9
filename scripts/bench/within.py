"""What happens within runs, over HTTP: ``GET /v1/runs/{id}/messages?limit=100``, and recording steps.

Ours: ``jobledger serve`` on a run with some thousand messages. Baseline: a ``web.Application`` with that one route,
whose handler reads the body and returns the same bytes; nothing is kept there, nor checked, nor made durable.
``bulk`` sends many steps in one request, and its rates are steps a second.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from scripts.bench.contest import Pair, Row, row
from scripts.bench.load import Asking, compare
from scripts.bench.served import Served, bare, ours
from scripts.bench.workplace import Log, Workplace

TARGET = 0.60
"""What design.md asks of a list of 100; for writes it names no ratio over HTTP."""
MESSAGES = 4_000
BULK = 200
STEP = {
    "status": "success",
    "model": "gpt-oss-120b",
    "provider_name": "openai",
    "prompt_tokens": 812,
    "completion_tokens": 64,
    "prompt_tokens_details": {"cached_tokens": 512},
    "stop_reason": "end_turn",
}
AGAINST = "a bare web.Application with this one route that reads the body and returns the same bytes"


def run(place: Workplace) -> Iterator[Row]:
    """Measure, and yield the rows."""
    log = place.talk(MESSAGES)
    with ours(place, log) as server:
        yield from _messages(place, log, server)
        yield from _steps(place, log, server)


def _messages(place: Workplace, log: Log, server: Served) -> Iterator[Row]:
    path = f"/v1/runs/{log.runs[0]}/messages"
    first = f"{path}?limit=100"
    body = server.get(first)
    found = msgspec.json.decode(server.get(f"{path}?limit=1000"))
    assert len(found) == 1000
    cold = [f"{first}&after={message['id']}" for message in found]
    with bare(place, log, "application", path, body) as baseline:
        assert baseline.get(first) == body
        pairs = compare(place, Asking(server, [first]), Asking(baseline, [first]))
        note = f"one URL all the time; against {AGAINST}"
        yield row("within", "messages, 100, hot", pairs, unit="requests/s", target=TARGET, note=note)
        pairs = compare(place, Asking(server, cold, 401), Asking(baseline, cold, 401))
        note = f"{len(cold):,} cursors in turn; against {AGAINST}"
        yield row("within", "messages, 100, cursors", pairs, unit="requests/s", target=None, note=note)


def _steps(place: Workplace, log: Log, server: Served) -> Iterator[Row]:
    path = f"/v1/runs/{log.runs[0]}/steps"
    for name, count in (("steps, one a request", 1), (f"steps, {BULK:,} a request", BULK)):
        sent = place.fresh(".json")
        sent.write_bytes(msgspec.json.encode(STEP if count == 1 else [STEP] * count))
        answer = server.post(path, sent.read_bytes())
        with bare(place, log, "application", path, answer) as baseline:
            pairs = compare(place, Asking(server, [path], body=sent), Asking(baseline, [path], body=sent), least_s=1.5)
        yield row("within", name, _times(pairs, count), unit="steps/s", target=None, note=f"against {AGAINST}")


def _times(pairs: list[Pair], count: int) -> list[Pair]:
    """Return measurements of requests as those of what is in them."""
    return [
        (ours._replace(rate=ours.rate * count), baseline._replace(rate=baseline.rate * count))
        for ours, baseline in pairs
    ]
