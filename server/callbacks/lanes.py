"""Whose turn it is: callbacks that are ready, and which of them may start, so that a bad receiver delays nobody else.

Each URL (without its query) is a lane, and lanes take turns. An attempt begins in the *prompt* class; one that takes
long moves over to the *held* class, as far as that has room, and its place is free for others. A lane whose last
attempt failed, or whose host fails on and on, begins in the held class at once, and all of those together start at a
bounded rate. Pure: knows no tasks and no clock; the time in seconds comes with each call.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How many attempts may be under way, in all and to one host; ``failing_rate`` in attempts a second."""

    prompt: int = 256
    """Prompt attempts in all: each costs a connection and about 50 KiB."""
    prompt_per_host: int = 16
    """Prompt attempts to one host: what a small receiver takes without queueing."""
    held: int = 256
    """Slow and failing attempts in all."""
    held_per_host: int = 32
    """Slow and failing attempts to one host: a host that answers nothing holds no more places than these."""
    failing_rate: float = 100.0
    """Attempts a second at receivers that fail: they cost the server as much as others, and must stay a small share."""


SLOW_AFTER_S: Final = 0.25
"""From when on an attempt is slow, seconds: a good receiver answers in a fraction of it, from far away too."""
FAILING_INTERVAL_S: Final = 0.25
"""Between two turns of failing receivers: what starts together is read and recorded together, at a fraction of the
cost, and they do not mind."""
FAILURES_MAX: Final = 8
"""Failures of a host in a row after which all its lanes count as failing: its URLs may be new each time."""
HOSTS_MAX: Final = 10_000
"""Hosts of which it is remembered that they fail, about 1 KiB each; beyond it all are given another chance."""


class Ready(msgspec.Struct, frozen=True):
    """A callback that is due: whose, where to, by which event it is owed, and after how many attempts."""

    id: str
    url: str
    host: str
    owed_position: int
    attempts: int


class _Host:
    def __init__(self) -> None:
        self.under_way = {True: 0, False: 0}
        """Attempts by whether they are held."""
        self.failures = 0
        self.parked: list[_Lane] = []
        """Lanes that wait until an attempt at this host is over."""


class _Lane:
    def __init__(self, host: _Host) -> None:
        self.host = host
        self.ready: deque[Ready] = deque()
        self.is_failing = False
        self.has_turn = False
        self.under_way = 0

    @property
    def is_held(self) -> bool:
        return self.is_failing or self.host.failures >= FAILURES_MAX


class _Attempt(msgspec.Struct):
    lane: _Lane
    is_held: bool


class Lanes:
    """Keeps what is ready and says what may start. Each callback is told: offered, started, perhaps slow, ended."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._lanes: dict[str, _Lane] = {}
        self._hosts: dict[str, _Host] = {}
        self._turns: dict[bool, deque[_Lane]] = {False: deque(), True: deque()}
        self._under_way: dict[str, _Attempt] = {}
        self._counts = {True: 0, False: 0}
        self._allowance, self._allowed_at_s = 1.0, 0.0
        self.ready = 0
        """How many wait for their turn."""

    @property
    def under_way(self) -> int:
        """How many attempts are under way."""
        return len(self._under_way)

    @property
    def waits_for_rate(self) -> bool:
        """Whether something could start but for the rate of failing receivers."""
        return bool(self._turns[True]) and self._allowance < 1 and self._has_room(True)

    def rate_wait_s(self, now_s: float) -> float:
        """Return how long it is until failing receivers have their turn again."""
        return max(self._allowed_at_s + FAILING_INTERVAL_S - now_s, 0.0)

    def offer(self, ready: Ready) -> None:
        """Take a callback that is due, of which none is ready or under way."""
        host = self._hosts.setdefault(ready.host, _Host())
        lane = self._lanes.setdefault(ready.url.partition("?")[0], _Lane(host))
        lane.ready.append(ready)
        self.ready += 1
        if not lane.has_turn:
            self._give_turn(lane)

    def start(self, now_s: float) -> list[Ready]:
        """Return those that may start now, lanes in turns; each must be told ``ended``."""
        passed_s = now_s - self._allowed_at_s
        if passed_s >= FAILING_INTERVAL_S:
            rate = self._limits.failing_rate
            self._allowance = min(max(rate * FAILING_INTERVAL_S, 1), self._allowance + passed_s * rate)
            self._allowed_at_s = now_s
        return [*self._start(False), *self._start(True)]

    def _start(self, is_held: bool) -> list[Ready]:
        started: list[Ready] = []
        turns, per_host = self._turns[is_held], self._limits.held_per_host if is_held else self._limits.prompt_per_host
        while turns and self._has_room(is_held) and (not is_held or self._allowance >= 1):
            lane = turns.popleft()
            if lane.is_held != is_held:
                self._turns[lane.is_held].append(lane)
            elif lane.host.under_way[is_held] >= per_host:
                lane.host.parked.append(lane)
            else:
                started.append(self._begin(lane, is_held))
        return started

    def _begin(self, lane: _Lane, is_held: bool) -> Ready:
        ready = lane.ready.popleft()
        self.ready -= 1
        self._under_way[ready.id] = _Attempt(lane, is_held)
        lane.under_way += 1
        lane.host.under_way[is_held] += 1
        self._counts[is_held] += 1
        self._allowance -= is_held
        lane.has_turn = False
        if lane.ready:
            self._give_turn(lane)
        return ready

    def slow(self, id: str) -> None:
        """Say that an attempt takes long: it is held from now on, as far as there is room for it."""
        attempt = self._under_way.get(id)
        if attempt is None or attempt.is_held or not self._has_room(True):
            return
        host = attempt.lane.host
        if host.under_way[True] < self._limits.held_per_host:
            self._move(attempt, True)
            self._unpark(host)

    def _move(self, attempt: _Attempt, is_held: bool) -> None:
        for counts in (attempt.lane.host.under_way, self._counts):
            counts[attempt.is_held] -= 1
            counts[is_held] += 1
        attempt.is_held = is_held

    def ended(self, id: str, is_good: bool | None) -> bool:
        """Say that an attempt is over: well, badly, or (None) in a way that tells nothing of the receiver.

        Returns whether that changed what is thought of its lane.
        """
        attempt = self._under_way.pop(id)
        lane, host = attempt.lane, attempt.lane.host
        self._counts[attempt.is_held] -= 1
        host.under_way[attempt.is_held] -= 1
        lane.under_way -= 1
        was_failing = lane.is_failing
        if is_good is not None:
            lane.is_failing = not is_good
            host.failures = 0 if is_good else host.failures + 1
        self._unpark(host)
        if len(self._hosts) > HOSTS_MAX:
            self._forget()
        return lane.is_failing != was_failing

    def drop(self) -> list[Ready]:
        """Return all that wait, and forget them."""
        waiting = [ready for lane in self._lanes.values() for ready in lane.ready]
        for lane in self._lanes.values():
            lane.ready.clear()
            lane.has_turn = False
        for host in self._hosts.values():
            host.parked.clear()
        for turns in self._turns.values():
            turns.clear()
        self.ready = 0
        return waiting

    def _has_room(self, is_held: bool) -> bool:
        return self._counts[is_held] < (self._limits.held if is_held else self._limits.prompt)

    def _give_turn(self, lane: _Lane) -> None:
        lane.has_turn = True
        self._turns[lane.is_held].append(lane)

    def _unpark(self, host: _Host) -> None:
        for lane in host.parked:
            self._turns[lane.is_held].append(lane)
        host.parked.clear()

    def _forget(self) -> None:
        """Forget lanes and hosts that nothing waits for and nothing is under way to."""
        self._lanes = {url: lane for url, lane in self._lanes.items() if lane.ready or lane.under_way}
        busy = {id(lane.host) for lane in self._lanes.values()}
        self._hosts = {name: host for name, host in self._hosts.items() if id(host) in busy}
