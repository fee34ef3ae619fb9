"""The command ``scripts/fuzz``: hostile input for every parser, broken HTTP, stories of users, as long as it is told."""

from __future__ import annotations

import argparse
import random
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack

from hypothesis import seed as seeded
from hypothesis.stateful import run_state_machine_as_test

from tests.fuzz.attack import Failure, Tally, Target, attack, input_of
from tests.fuzz.machine import Surface, limits
from tests.fuzz.requests import requests
from tests.fuzz.targets import TARGETS
from tests.fuzz.wire import LOOPS, wire

ROUND = 200
"""Inputs of a parser before the next one has its turn."""
EXAMPLES, STEPS = 20, 40
"""Stories of a turn of the state machine, and steps of each."""
STORIES = "users"
"""The name of the state machine."""
EXAMPLES_OF_USE = """examples:
  scripts/fuzz                                    five minutes with a fresh seed
  scripts/fuzz --minutes 60 --seed 3              an hour with a seed of its own
  scripts/fuzz --only import --minutes 1          all parsers whose name holds "import"
  scripts/fuzz --only wire --minutes 10           broken HTTP, on each kind of event loop
  scripts/fuzz --only users --seed 11             stories of users alone
  scripts/fuzz --only json --seed 7 --input 42    one input again, shown whole, with its traceback
  scripts/fuzz --only users --seed 7 --input 2    one turn of stories again
"""


def main() -> int:
    """Fuzz for so long; print a table, then each failure with what shows it again. Return 1 where there is one."""
    parser = argparse.ArgumentParser(
        "scripts/fuzz",
        description=__doc__,
        epilog=EXAMPLES_OF_USE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="fresh unless given")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long to look (default: 5)")
    parser.add_argument(
        "--only", default="", metavar="NAME", help=f"targets whose name holds this; '{STORIES}': stories"
    )
    parser.add_argument("--input", type=int, metavar="N", help="only this input of the one target, shown whole")
    asked = parser.parse_args()
    with ExitStack() as stack:
        every = [*TARGETS, stack.enter_context(requests())]
        every += [stack.enter_context(wire(name, loop)) for name, loop in LOOPS.items()]
        exact = [each for each in every if each.name == asked.only]
        targets = exact or [each for each in every if asked.only in each.name]
        if asked.input is not None and asked.only == STORIES:
            return report([_stories(asked.seed)(asked.input)])
        if asked.input is not None:
            if len(targets) != 1:
                parser.error("--input is one of one target: say which with --only")
            return again(targets[0], asked.seed, asked.input)
        turns: dict[str, Callable[[int], Tally]] = {each.name: _parser(each, asked.seed) for each in targets}
        if asked.only in STORIES:
            turns[STORIES] = _stories(asked.seed)
        if not turns:
            parser.error(f"there is no target like '{asked.only}': {', '.join(each.name for each in every)}, {STORIES}")
        print(f"seed {asked.seed}")
        return report(look(turns, asked.minutes * 60))


def look(turns: dict[str, Callable[[int], Tally]], seconds: float) -> list[Tally]:
    """Give each target turns until the time is over, at least one each."""
    end, number, tallies = time.monotonic() + seconds, 0, {}
    while number == 0 or time.monotonic() < end:
        for name, turn in turns.items():
            if number == 0 or time.monotonic() < end:
                tallies[name] = turn(number)
        number += 1
    return list(tallies.values())


def _parser(target: Target, seed: int) -> Callable[[int], Tally]:
    tally, size = Tally(target.name), max(1, ROUND // target.weight)
    return lambda number: attack(target, seed, range(number * size, (number + 1) * size), tally)


def _stories(seed: int) -> Callable[[int], Tally]:
    tally = Tally(STORIES)

    def turn(number: int) -> Tally:
        started, before = time.perf_counter(), Surface.stories
        machine = seeded(seed * 1000 + number)(type("Surface", (Surface,), {}))
        try:
            run_state_machine_as_test(machine, settings=limits(EXAMPLES, STEPS, derandomize=False))
        except Exception:  # noqa: BLE001 - whatever it is, it is told with the story that led to it
            told = traceback.format_exc()[-6000:]
            tally.failures.append(Failure(STORIES, seed, number, b"", told))
        tally.accepted += Surface.stories - before
        tally.seconds += time.perf_counter() - started
        return tally

    return turn


def report(tallies: list[Tally]) -> int:
    """Print the table and every failure."""
    print(f"{'target':<52}{'inputs':>10}{'accepted':>10}{'refused':>10}{'failures':>10}{'inputs/s':>10}")
    for tally in tallies:
        speed = tally.inputs / tally.seconds if tally.seconds else 0.0
        print(
            f"{tally.name:<52}{tally.inputs:>10,}{tally.accepted:>10,}{tally.refused:>10,}{len(tally.failures):>10,}{speed:>10,.0f}"
        )
    failures = [failure for tally in tallies for failure in tally.failures]
    print(f"{'all':<52}{sum(tally.inputs for tally in tallies):>10,}{'':>20}{len(failures):>10,}")
    for failure in failures:
        print(f"\n{failure}")
    return 1 if failures else 0


def again(target: Target, seed: int, number: int) -> int:
    """Feed one target one input, and let what happens be seen."""
    raw = input_of(target, seed, number)
    print(f"{raw!r}\n")
    try:
        target.feed(raw)
    except target.refusals as error:
        print(f"refused: {type(error).__name__}: {error}")
    except Exception:  # noqa: BLE001 - it is what was asked for
        traceback.print_exc()
        return 1
    else:
        print("accepted")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
