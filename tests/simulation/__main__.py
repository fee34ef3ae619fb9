"""The command line of the simulator: many seeds on all cores, and a table of what happened."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing import get_context

import structlog

from tests.scratch import scratch
from tests.simulation.world import Outcome, World

CHUNK = 8
"""Seeds of one child process: what a crash leaves in memory is gone with it."""
PATIENCE_S = 120
"""Real seconds that a seed may take; on a busy machine the longest takes some ten."""
QUIET_SHARE = 0.2
TABLE = (
    "seeds", "quiet seeds", "operations", "answered", "refused", "told to try later", "unanswered", "repeated",
    "duplicated", "events", "reads", "crashes", "stops", "failed statements", "failed commits", "clock jumps",
    "callbacks sent", "callbacks lost", "expired", "erasures", "rebuilds", "verifications", "readers", "checkpoints",
    "streams", "streams broken off", "streamed", "imports", "imported", "exports", "damages", "checks",
)  # fmt: skip
"""What the table has, in this order."""
EXAMPLES = """examples:
  scripts/simulate --seeds 1000
  scripts/simulate --seed 42 --verbose     one seed again, told line by line
  scripts/simulate --seeds 200 --quiet-share 1     nothing fails, but more happens
"""


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(
        prog="scripts/simulate",
        description="Run the whole ledger on a virtual clock, disk and network, once a seed, and check all of it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="how many seeds (100)")
    parser.add_argument("--first", type=int, default=1, metavar="SEED", help="the first of them (1)")
    parser.add_argument("--seed", type=int, metavar="SEED", help="this one alone")
    parser.add_argument("--verbose", action="store_true", help="print every line of the trace")
    parser.add_argument(
        "--quiet-share", type=float, default=QUIET_SHARE, metavar="SHARE", help="seeds without faults, but longer (0.2)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (cores)")
    parser.add_argument("--traces", action="store_true", help="print the hash of each seed's trace")
    return parser.parse_args(given)


def is_quiet(seed: int, share: float) -> bool:
    """Tell whether a seed is one of those without faults: they are spread evenly."""
    return int(seed * share) != int((seed - 1) * share)


def live(seed: int, share: float, *, verbose: bool = False) -> Outcome:
    """Run one seed."""
    with scratch() as folder:
        world = World(seed, folder, quiet=is_quiet(seed, share), say=_say if verbose else None)
        signal.signal(signal.SIGALRM, _give_up)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_S, 1.0)
        try:
            outcome = world.run()
        except Endless:
            outcome = Outcome(seed, None, {}, "", PATIENCE_S)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if _late:  # whatever the product made of it
            _late.clear()
            outcome.failure = f"it does not end: {PATIENCE_S} s of real time are over"
        _GRAVEYARD.append(world)
        gc.freeze()
        return outcome


class Endless(BaseException):
    """A seed goes on in real time and gets nowhere; nothing of the product is to handle that."""


_late: list[type[Endless]] = []


def _give_up(_number: int, _frame: object) -> None:
    _late.append(Endless)
    raise Endless


_GRAVEYARD: list[World] = []
"""Worlds that are over; code of their dead must not run when they are collected, so they are kept till the end."""


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _chunk(task: tuple[list[int], float, bool]) -> list[Outcome]:
    seeds, share, verbose = task
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING if verbose else logging.CRITICAL),
        processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()],
        logger_factory=structlog.PrintLoggerFactory() if verbose else structlog.ReturnLoggerFactory(),
    )
    outcomes = [live(seed, share, verbose=verbose) for seed in seeds]
    sys.stdout.flush()
    return outcomes


def outcomes_of(seeds: Sequence[int], share: float, jobs: int, *, verbose: bool = False) -> Iterator[Outcome]:
    """Yield what came of each seed, in order."""
    chunks = [(list(seeds[start : start + CHUNK]), share, verbose) for start in range(0, len(seeds), CHUNK)]
    with get_context("fork").Pool(jobs, maxtasksperchild=1) as pool:
        for outcomes in pool.imap(_chunk, chunks, chunksize=1):
            yield from outcomes


def main(given: Sequence[str]) -> int:
    """Run the seeds; return 1 where one failed."""
    asked = arguments(given)
    seeds = [asked.seed] if asked.seed is not None else list(range(asked.first, asked.first + asked.seeds))
    began_s = time.monotonic()
    counts: Counter[str] = Counter()
    failed: list[Outcome] = []
    for done, outcome in enumerate(outcomes_of(seeds, asked.quiet_share, asked.jobs, verbose=asked.verbose), 1):
        counts.update(outcome.counts)
        counts["seeds"] += 1
        counts["quiet seeds"] += is_quiet(outcome.seed, asked.quiet_share)
        if asked.traces:
            print(outcome.seed, outcome.trace)
        if outcome.failure is not None:
            failed.append(outcome)
            print(f"seed {outcome.seed} failed: {outcome.failure[:2000]}")
            share = "" if asked.quiet_share == QUIET_SHARE else f" --quiet-share {asked.quiet_share:g}"
            print(f"  again: scripts/simulate --seed {outcome.seed} --verbose{share}", flush=True)
        elif sys.stderr.isatty():
            print(f"\r{done:,} of {len(seeds):,}", end="", file=sys.stderr, flush=True)
    for name in (*TABLE, *sorted(counts.keys() - set(TABLE))):
        print(f"{name:24}{counts[name]:>12,}")
    print(f"{'failed':24}{len(failed):>12,}")
    print(f"{time.monotonic() - began_s:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
