"""Delivering callbacks: how many a second to a good receiver, how soon they arrive, and what a hostile one changes.

Ours: ``jobledger serve`` on a ledger of running jobs with a ``callback_url``; jobs end, and each delivery is read from
the log, signed, sent, recorded with ``synchronous=FULL``, and shown. *burst*: all of them end in one request; the rate
is that of the arrivals. *steady*: they end one by one over HTTP, at about a third of that rate. Baseline: ``posts``, a
bare aiohttp client that sends the same bytes to the same receiver over as many connections.
*hostile*: see ``hostile``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from statistics import median
from types import TracebackType

import msgspec

from ledger import ids
from scripts.bench import debts, endings, hostile
from scripts.bench.contest import Lap, Row, row, take_turns
from scripts.bench.delays import Delays, between, recorded_ns
from scripts.bench.posts import Post, Posted
from scripts.bench.served import ours
from scripts.bench.workplace import START_US, Workplace
from server.callbacks.lanes import Limits
from server.callbacks.signing import Signer, new_secret, webhook_id

ALLOW = ("--callback-allow", "127.0.0.0/8")
CONNECTIONS = Limits().prompt_per_host
SHARE = 3
"""The steady rate is one in so many of that of a burst."""
HEADERS = {"User-Agent": "jobledger/bench", "Content-Type": "application/json", "Accept-Encoding": "identity"}


class Receiver:
    """The receiver, in a process of its own, until the end of its ``with`` block."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "scripts.bench.receiver"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def take(self, count: int) -> dict[str, int]:
        """Wait for callbacks of so many jobs; return when each came, by ``time.monotonic_ns``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._process.stdout.readline(), type=dict[str, int])

    def __enter__(self) -> Receiver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


class Sides:
    """Ours and the bare client, who send to the same receiver; and the delays of what they sent."""

    def __init__(self, place: Workplace, receiver: Receiver) -> None:
        self._place = place
        self._receiver = receiver
        self.since_recorded: list[Delays] = []
        self.since_answer: list[Delays] = []
        self.since_call: list[Delays] = []

    def ours(self, count: int, rate: float = 0.0) -> Lap:
        """Let so many jobs end, at a rate or (0) all at once."""
        log = debts.jobs(self._place, count, lambda _: self._receiver.url, ended=False)
        with ours(self._place, log, *ALLOW) as server:
            server.get("/v1/jobs?limit=1")
            cpu_s = server.cpu_s()
            answered = endings.steadily(server, log.jobs, rate) if rate else endings.at_once(server, log.jobs)
            if not rate:
                cpu_s = server.cpu_s()
            arrivals = self._receiver.take(count)
            cpu_s = server.cpu_s() - cpu_s
        self.since_recorded.append(between(recorded_ns(log), arrivals))
        self.since_answer.append(between(answered, arrivals))
        late = count if rate else sum(at > answered[id] for id, at in arrivals.items())
        self._place.remove(log.path)
        return Lap(_rate(arrivals), cpu_s / late)

    def bare(self, count: int, rate: float = 0.0) -> Lap:
        """Post as many, without a ledger."""
        file = self._place.fresh(".json")
        file.write_bytes(msgspec.json.encode(_posts(count)))
        arguments = (self._receiver.url, str(file), str(CONNECTIONS), str(rate))
        command = [sys.executable, "-m", "scripts.bench.posts", *arguments]
        told = subprocess.run(command, capture_output=True, check=True).stdout
        posted = msgspec.json.decode(told, type=Posted)
        arrivals = self._receiver.take(count)
        file.unlink()
        self.since_call.append(between(posted.began_ns, arrivals))
        return Lap(_rate(arrivals), posted.cpu_s / count, posted.faults)


def _rate(arrivals: dict[str, int]) -> float:
    return (len(arrivals) - 1) / (max(arrivals.values()) - min(arrivals.values())) * 1e9


def _posts(count: int) -> list[Post]:
    signer = Signer.parse(new_secret(), "bench")
    posts = []
    for number in range(count):
        id = ids.make("job")
        metadata = {"task": "nightly", "number": number, "model": "openai/gpt-4.1-mini", "origin": "bench"}
        ended = {"status": "completed", "completed_at": "2026-01-01T00:00:00.000000Z", "metadata": metadata}
        body = msgspec.json.encode({"job_id": id, **ended})
        headers = signer.headers(webhook_id(id, 4), START_US, body)
        posts.append(Post(id, {**HEADERS, **headers}, body.decode()))
    return posts


def run(place: Workplace) -> Iterator[Row]:
    """Measure, and yield the rows."""
    with Receiver() as receiver:
        yield from _good(place, receiver)
    yield from hostile.rows(place)


def _good(place: Workplace, receiver: Receiver) -> Iterator[Row]:
    count, rounds = place.scale.deliveries, place.scale.delivery_rounds
    sides = Sides(place, receiver)
    pairs = take_turns(lambda: sides.ours(count), lambda: sides.bare(count), rounds)
    against = f"against a bare aiohttp client that posts the same bytes over {CONNECTIONS} connections"
    note = f"{count:,} jobs end at once; delay p50 / p99 since recorded {_middle(sides.since_recorded)}; {against}"
    yield row("deliver", f"burst of {count:,}", pairs, unit="callbacks/s", target=None, note=note)

    rate = median(ours.rate for ours, _ in pairs) / SHARE
    steady = Sides(place, receiver)
    pairs = take_turns(lambda: steady.ours(count // 4, rate), lambda: steady.bare(count // 4, rate), rounds)
    pairs = [
        (mine._replace(rate=since.p99_ms), theirs._replace(rate=call.p99_ms))
        for (mine, theirs), since, call in zip(pairs, steady.since_recorded, steady.since_call, strict=True)
    ]
    note = (
        f"jobs end one by one, {rate:.0f} a second; p50 / p99 from recorded to arrival "
        f"{_middle(steady.since_recorded)}, from the answer to arrival {_middle(steady.since_answer)}; "
        f"from call to arrival {_middle(steady.since_call)} {against}"
    )
    yield row("deliver", "steady: p99 delay", pairs, unit="ms", target=None, note=note, is_less_better=True)


def _middle(delays: list[Delays]) -> Delays:
    return Delays(median(each.p50_ms for each in delays), median(each.p99_ms for each in delays))
