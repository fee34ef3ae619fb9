"""Two sides measured in turns, so that what else the machine does strikes both, and the row that comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

import msgspec


class Lap(NamedTuple):
    """One measurement: how many a second, and where known the CPU seconds that one took in the measured process.

    Where less is better, ``rate`` is a time instead. ``faults``: how many answers were none, or not the wanted ones.
    """

    rate: float
    cpu_s: float | None = None
    faults: int = 0


class Watch:
    """A stopwatch for wall and CPU time (all threads of this process); each ``with`` block adds to it."""

    def __init__(self) -> None:
        self.wall_s = 0.0
        self.cpu_s = 0.0
        self._started = (0.0, 0.0)

    def __enter__(self) -> Watch:
        self._started = (time.perf_counter(), time.process_time())
        return self

    def __exit__(self, *_: object) -> None:
        wall, cpu = self._started
        self.wall_s += time.perf_counter() - wall
        self.cpu_s += time.process_time() - cpu

    def __add__(self, other: Watch) -> Watch:
        total = Watch()
        total.wall_s, total.cpu_s = self.wall_s + other.wall_s, self.cpu_s + other.cpu_s
        return total

    def lap(self, count: int) -> Lap:
        """Return the measurement of ``count`` things done in that time."""
        return Lap(count / self.wall_s, self.cpu_s / count)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the result. Rates are medians; ``ratio`` is the median of the rounds' own ratios, ours / baseline, or
    baseline / ours where less is better: more is better of a ratio.

    ``target`` None: the row only informs. ``by_cpu``: the same ratio in work per CPU second of the measured process,
    which waiting for a busy machine does not change. A row with ``faults`` is not ok, whatever its ratio.
    """

    bench: str
    name: str
    unit: str
    ours: float
    baseline: float
    ratio: float
    ratio_min: float
    ratio_max: float
    by_cpu: float | None
    rounds: int
    faults: int
    target: float | None
    ok: bool | None
    note: str


Side = Callable[[], Lap]
Pair = tuple[Lap, Lap]


def take_turns(ours: Side, baseline: Side, rounds: int) -> list[Pair]:
    """Measure both sides ``rounds`` times, each round beginning with the other side; return (ours, baseline) pairs."""
    pairs = []
    for number in range(rounds):
        if number % 2:
            second = baseline()
            pairs.append((ours(), second))
        else:
            first = ours()
            pairs.append((first, baseline()))
    return pairs


def row(
    bench: str,
    name: str,
    pairs: Sequence[Pair],
    *,
    unit: str,
    target: float | None,
    note: str,
    is_less_better: bool = False,
) -> Row:
    """Make the row of measured pairs."""
    ratios = [(ours.rate / baseline.rate) ** (-1 if is_less_better else 1) for ours, baseline in pairs]
    by_cpu = [baseline.cpu_s / ours.cpu_s for ours, baseline in pairs if ours.cpu_s and baseline.cpu_s]
    ratio = median(ratios)
    faults = sum(lap.faults for pair in pairs for lap in pair)
    return Row(
        bench=bench,
        name=name,
        unit=unit,
        ours=median(ours.rate for ours, _ in pairs),
        baseline=median(baseline.rate for _, baseline in pairs),
        ratio=ratio,
        ratio_min=min(ratios),
        ratio_max=max(ratios),
        by_cpu=median(by_cpu) if by_cpu else None,
        rounds=len(pairs),
        faults=faults,
        target=target,
        ok=False if faults else None if target is None else ratio >= target,
        note=note,
    )
