"""Whose turn it is: callbacks that are ready, and which of them may start, so that a bad receiver delays nobody else.

Each URL (without its query) is a lane; hosts take turns, and so do the lanes of one host. An attempt begins in the
*prompt* class; one that takes long moves over to the *held* class, as far as that has room, and its place is free for
others. A lane whose last attempt was good begins there whatever else its host does. One that has not delivered yet, or
failed last, has few attempts at once, and begins in the held class when it failed, is slow, or its host fails on and
on; all of those together start at a bounded rate. Pure: knows no tasks and no clock; the time in seconds comes with
each call.
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
    unproven_per_lane: int = 4
    """Attempts to one URL that has not delivered yet, or failed last: few enough that some URLs which answer nothing
    leave places to others of their host."""
    failing_rate: float = 40.0
    """Attempts a second at receivers that fail: they cost the server as much as others, and must stay a small share."""


SLOW_AFTER_S: Final = 0.25
"""From when on an attempt is slow, seconds: a good receiver answers in a fraction of it, from far away too."""
FAILING_INTERVAL_S: Final = 0.25
"""Between two turns of failing receivers, seconds: what starts together is read and recorded together, at a fraction of
the cost, and few enough start together that good ones do not wait for them."""
FAILURES_MAX: Final = 8
"""Failures of a host in a row after which all its lanes count as failing: its URLs may be new each time."""
HOSTS_MAX: Final = 10_000
"""Hosts of which it is remembered how they did, about 1 KiB each; beyond it those with nothing to do are forgotten."""
LANES_MAX: Final = 50_000
"""Likewise lanes: a receiver may have a URL for each job."""


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
        """Attempts by whether they are held; so are the lanes whose turn will come, and whether this host's will."""
        self.lanes: dict[bool, deque[_Lane]] = {True: deque(), False: deque()}
        self.has_turn = {True: False, False: False}
        self.failures = 0


class _Lane:
    def __init__(self, host: _Host) -> None:
        self.host = host
        self.ready: deque[Ready] = deque()
        self.is_good: bool | None = None
        """How the last attempt went; None: there was none."""
        self.has_turn = False
        self.under_way = 0
        self.slow = 0

    @property
    def is_held(self) -> bool:
        if self.is_good:
            return False
        return self.is_good is False or self.slow > 0 or self.host.failures >= FAILURES_MAX


class _Attempt(msgspec.Struct):
    lane: _Lane
    is_held: bool
    is_slow: bool = False


class Lanes:
    """Keeps what is ready and says what may start. Each callback is told: offered, started, perhaps slow, ended."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._lanes: dict[str, _Lane] = {}
        self._hosts: dict[str, _Host] = {}
        self._turns: dict[bool, deque[_Host]] = {False: deque(), True: deque()}
        self._under_way: dict[str, _Attempt] = {}
        self._counts = {True: 0, False: 0}
        self._allowance, self._allowed_at_s = 1.0, 0.0
        self._lanes_max = LANES_MAX
        self.ready = 0
        """How many wait for their turn."""

    @property
    def under_way(self) -> int:
        """How many attempts are under way."""
        return len(self._under_way)

    @property
    def waits_for_rate(self) -> bool:
        """Whether something could start but for the rate of failing receivers."""
        return bool(self._turns[True]) and self._has_room(True)

    def rate_wait_s(self, now_s: float) -> float:
        """Return how long it is until failing receivers have their turn again."""
        return max(self._allowed_at_s + FAILING_INTERVAL_S - now_s, 0.0)

    def offer(self, ready: Ready) -> None:
        """Take a callback that is due, of which none is ready or under way."""
        host = self._hosts.setdefault(ready.host, _Host())
        lane = self._lanes.setdefault(ready.url.partition("?")[0], _Lane(host))
        lane.ready.append(ready)
        self.ready += 1
        self._line_up(lane)

    def start(self, now_s: float) -> list[Ready]:
        """Return those that may start now, hosts in turns; each must be told ``ended``."""
        prompt = self._start(False)
        passed_s, rate = now_s - self._allowed_at_s, self._limits.failing_rate
        if passed_s < FAILING_INTERVAL_S:
            return prompt
        self._allowed_at_s = now_s
        self._allowance = min(max(rate * FAILING_INTERVAL_S, 1), self._allowance + passed_s * rate)
        held = self._start(True)
        self._allowance %= 1  # what is not used is not saved
        return prompt + held

    def _start(self, is_held: bool) -> list[Ready]:
        started: list[Ready] = []
        turns = self._turns[is_held]
        while turns and self._has_room(is_held) and (not is_held or self._allowance >= 1):
            host = turns.popleft()
            host.has_turn[is_held] = False
            lane = self._next(host, is_held) if self._has_place(host, is_held) else None
            if lane is not None:
                started.append(self._begin(lane, is_held))
            self._give_turn(host, is_held)
        return started

    def _next(self, host: _Host, is_held: bool) -> _Lane | None:
        """Return the lane of a host whose turn it is; those that have come to belong to the other class go there."""
        lanes = host.lanes[is_held]
        while lanes:
            lane = lanes.popleft()
            lane.has_turn = False
            if lane.is_held == is_held and self._may_begin(lane):
                return lane
            self._line_up(lane)
        return None

    def _begin(self, lane: _Lane, is_held: bool) -> Ready:
        ready = lane.ready.popleft()
        self.ready -= 1
        self._under_way[ready.id] = _Attempt(lane, is_held)
        lane.under_way += 1
        lane.host.under_way[is_held] += 1
        self._counts[is_held] += 1
        self._allowance -= is_held
        self._line_up(lane)
        return ready

    def slow(self, id: str) -> None:
        """Say that an attempt takes long: it is held from now on, as far as there is room for it."""
        attempt = self._under_way.get(id)
        if attempt is None or attempt.is_slow:
            return
        attempt.is_slow = True
        attempt.lane.slow += 1
        host = attempt.lane.host
        if not attempt.is_held and self._has_room(True) and self._has_place(host, True):
            for counts in (host.under_way, self._counts):
                counts[False] -= 1
                counts[True] += 1
            attempt.is_held = True
            self._give_turn(host, False)

    def ended(self, id: str, is_good: bool | None) -> bool:
        """Say that an attempt is over: well, badly, or (None) in a way that tells nothing of the receiver.

        Returns whether that changed what is thought of its lane.
        """
        attempt = self._under_way.pop(id)
        lane, host = attempt.lane, attempt.lane.host
        self._counts[attempt.is_held] -= 1
        host.under_way[attempt.is_held] -= 1
        lane.under_way -= 1
        lane.slow -= attempt.is_slow
        before, was_held = lane.is_good, host.failures >= FAILURES_MAX
        if is_good is not None:
            lane.is_good = is_good
            host.failures = 0 if is_good else host.failures + 1
        self._line_up(lane)
        if is_good and (was_held or (lane.has_turn and not before)):
            self._release(host)
        for is_held in (False, True):
            self._give_turn(host, is_held)
        if len(self._hosts) > HOSTS_MAX or len(self._lanes) > self._lanes_max:
            self._forget()
        return (lane.is_good is False) != (before is False)

    def drop(self) -> list[Ready]:
        """Return all that wait, and forget them."""
        waiting = [ready for lane in self._lanes.values() for ready in lane.ready]
        for lane in self._lanes.values():
            lane.ready.clear()
            lane.has_turn = False
        for is_held, turns in self._turns.items():
            turns.clear()
            for host in self._hosts.values():
                host.lanes[is_held].clear()
                host.has_turn[is_held] = False
        self.ready = 0
        return waiting

    def _has_room(self, is_held: bool) -> bool:
        return self._counts[is_held] < (self._limits.held if is_held else self._limits.prompt)

    def _has_place(self, host: _Host, is_held: bool) -> bool:
        limit = self._limits.held_per_host if is_held else self._limits.prompt_per_host
        return host.under_way[is_held] < limit

    def _may_begin(self, lane: _Lane) -> bool:
        return lane.is_good is True or lane.under_way < self._limits.unproven_per_lane

    def _line_up(self, lane: _Lane) -> None:
        """Let a lane wait for its turn, where it has something and may begin it."""
        if lane.ready and not lane.has_turn and self._may_begin(lane):
            lane.has_turn = True
            is_held = lane.is_held
            lane.host.lanes[is_held].append(lane)
            self._give_turn(lane.host, is_held)

    def _give_turn(self, host: _Host, is_held: bool) -> None:
        """Let a host wait for its turn, where a lane of it waits and there is a place."""
        if host.lanes[is_held] and not host.has_turn[is_held] and self._has_place(host, is_held):
            host.has_turn[is_held] = True
            self._turns[is_held].append(host)

    def _release(self, host: _Host) -> None:
        """Let those lanes of a host wait with the prompt ones that have come to be so."""
        waiting, host.lanes[True] = host.lanes[True], deque()
        for lane in waiting:
            lane.has_turn = False
            self._line_up(lane)

    def _forget(self) -> None:
        """Forget lanes and hosts that nothing waits for and nothing is under way to."""
        self._lanes = {url: lane for url, lane in self._lanes.items() if lane.ready or lane.under_way}
        self._lanes_max = max(LANES_MAX, 2 * len(self._lanes))
        busy = {id(lane.host) for lane in self._lanes.values()}
        self._hosts = {name: host for name, host in self._hosts.items() if id(host) in busy}
