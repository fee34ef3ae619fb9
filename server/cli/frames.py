"""A history one event at a time: each with the state after it, and what it changed.

Of a long history only every so many states are held, and those between are folded again.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, Final, NamedTuple

from ledger.events import Recorded
from ledger.state import State, evolve, fact_of
from projections.history import AsOf
from projections.past import known_at
from server.cli.reading import object_of

KEPT_EVERY: Final = 200
"""Events between two states that are held: going anywhere folds no more than these, about 1 ms."""


class Frame(NamedTuple):
    """One event, ``number`` from 1; the resource after it as HTTP shows it; what changed: (old, new) by name.

    ``now`` is None where there is no resource. ``gap_us``: since the effective time of the event before it.
    """

    number: int
    event: Recorded
    now: dict[str, Any] | None
    changed: dict[str, tuple[Any, Any]]
    gap_us: int


class Frames:
    """The frames of one history, by number; up to a point in history where one is given."""

    def __init__(self, events: Sequence[Recorded], at: AsOf | None = None) -> None:
        self.events = list(events if at is None else known_at(events, at))
        reached_us = list(accumulate((event.time for event in self.events), max))
        self._gaps_us = [0, *(after - before for before, after in pairwise(reached_us))]
        self._kept: list[State | None] = [None]
        """The state after none, after 200, after 400 events and so on, as far as was asked for."""

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[Frame]:
        """Yield all frames, each folded from the one before."""
        state: State | None = None
        for number in range(1, len(self.events) + 1):
            before = state
            state = _after(state, self.events[number - 1])
            yield self._frame(number, before, state)

    def __getitem__(self, number: int) -> Frame:
        before = self._state(number - 1)
        return self._frame(number, before, _after(before, self.events[number - 1]))

    def nearest(self, position: int) -> int:
        """Return the number of the first event at a position of the log or behind it, else that of the last one."""
        found = (number for number, event in enumerate(self.events, 1) if event.position >= position)
        return next(found, len(self.events))

    def _state(self, count: int) -> State | None:
        """Return the state after so many events."""
        while len(self._kept) <= count // KEPT_EVERY:
            self._kept.append(self._fold(self._kept[-1], (len(self._kept) - 1) * KEPT_EVERY, KEPT_EVERY))
        begun = count // KEPT_EVERY
        return self._fold(self._kept[begun], begun * KEPT_EVERY, count % KEPT_EVERY)

    def _fold(self, state: State | None, start: int, count: int) -> State | None:
        for event in self.events[start : start + count]:
            state = _after(state, event)
        return state

    def _frame(self, number: int, before: State | None, after: State | None) -> Frame:
        shown = {} if before is None else object_of(before)
        now = None if after is None else object_of(after)
        changed = {name: (shown.get(name), value) for name, value in (now or {}).items() if value != shown.get(name)}
        return Frame(number, self.events[number - 1], now, changed, self._gaps_us[number - 1])


def _after(state: State | None, event: Recorded) -> State | None:
    return evolve(copy.copy(state), event, fact_of(event))
