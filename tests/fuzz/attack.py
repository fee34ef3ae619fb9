"""One parser under attack: hostile inputs, each with a bound on its work and memory, and what became of them."""

from __future__ import annotations

import random
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from ledger.errors import LedgerError
from tests.fuzz.mutations import mutated

WORK_MAX_S = 5.0
"""CPU seconds of this process for one input of at most 1 MiB; the slowest good ones take some 0.1 s."""
GROWTH_MAX = 512 * 2**20
"""Bytes by which the process may grow with one input: a few hundred times the largest."""
SHOWN_MAX = 160
"""Bytes of an input that a failure shows."""


class Hung(BaseException):
    """An input took more work than any may; no parser can take it for an error of its own."""


@dataclass(frozen=True)
class Target:
    """A parser: what it is fed, the errors by which it may refuse, and functions of the product that it stands for.

    ``feed`` raises one of ``refusals``, or returns; it asserts that what was accepted means the same when it is written
    and read again.
    """

    name: str
    feed: Callable[[bytes], object]
    examples: Callable[[], Sequence[bytes]]
    refusals: tuple[type[Exception], ...] = (LedgerError,)
    covers: tuple[str, ...] = ()
    weight: int = 1
    """One of so many inputs is taken, where one costs much."""
    make: Callable[[random.Random], bytes] | None = None
    """Makes an input, where they are no examples that were changed."""


@dataclass(frozen=True)
class Failure:
    """An input that broke a promise: which one of the seed it was, how it began, and what happened."""

    target: str
    seed: int
    number: int
    raw: bytes
    error: str

    def __str__(self) -> str:
        again = f"scripts/fuzz --only '{self.target}' --seed {self.seed} --input {self.number}"
        return f"{again}\n  {self.raw[:SHOWN_MAX]!r} ({len(self.raw)} bytes)\n  {self.error}"


@dataclass
class Tally:
    """What became of the inputs of one target."""

    name: str
    accepted: int = 0
    refused: int = 0
    seconds: float = 0.0
    failures: list[Failure] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        return self.accepted + self.refused + len(self.failures)


def input_of(target: Target, seed: int, number: int) -> bytes:
    """Return the input of a number: the same for the same seed."""
    chance = random.Random(f"{target.name} {seed} {number}")
    return mutated(chance, target.examples()) if target.make is None else target.make(chance)


def attack(target: Target, seed: int, numbers: Iterator[int] | range, tally: Tally | None = None) -> Tally:
    """Feed a target the inputs of some numbers; add what became of them to the tally."""
    tally = tally or Tally(target.name)
    started = time.perf_counter()
    for number in numbers:
        raw = input_of(target, seed, number)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            with bounded():
                target.feed(raw)
            tally.accepted += 1
        except target.refusals as error:
            tally.refused += 1
            if not str(error).strip():
                tally.failures.append(Failure(target.name, seed, number, raw, f"{type(error).__name__} says nothing"))
        except (Exception, Hung) as error:  # noqa: BLE001 - whatever it is, it is told with the input that led to it
            tally.failures.append(Failure(target.name, seed, number, raw, _told(error)))
        if (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 > GROWTH_MAX:
            tally.failures.append(Failure(target.name, seed, number, raw, "it took more memory than any input may"))
    tally.seconds += time.perf_counter() - started
    return tally


@contextmanager
def bounded() -> Iterator[None]:
    """End what takes more than ``WORK_MAX_S`` of this process's own time, whatever else the machine does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hung(f"it took more than {WORK_MAX_S:g} s of work")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, WORK_MAX_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _told(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = next((each for each in reversed(frames) if "/site-packages/" not in each.filename), frames[-1])
    name = "/".join(place.filename.rsplit("/", 3)[1:])
    return f"{type(error).__name__}: {str(error)[:SHOWN_MAX]} (at {name}:{place.lineno})"
