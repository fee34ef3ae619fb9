"""The table of faults: what each is expected to do to the real program, what was seen of it, and how often.

A new fault is one more row in ``ROWS``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from tests.faults import clocks, damage, places, points, servers
from tests.faults.actions import ACTIONS
from tests.faults.points import RECOVERED, Bench
from tests.faults.shim import ALL, Fault


@dataclass(frozen=True)
class Row:
    """A fault. ``how`` does it, and yields what was seen each time; ``expected`` is a pattern for each of these."""

    name: str
    how: Callable[[Bench], Iterator[str]]
    expected: str = RECOVERED


BY_NAME = {action.name: action for action in ACTIONS}
CLEAR = f"(done|a clear error), then {RECOVERED}"
"""A command may go on where the call that fails is made again, or is of no weight; it never says what is not so."""
FAILING = (
    ("a disk that is full for one call", Fault(do="ENOSPC")),
    ("a disk that is full from one call on", Fault(do="ENOSPC", more=ALL)),
    ("one call that fails with EIO", Fault(do="EIO")),
    ("an fsync that fails", Fault(do="EIO", kinds=("fsync",))),
    ("an fsync that fails and loses what was written", Fault(do="lie", kinds=("fsync",))),
    ("one short write", Fault(do="short", kinds=("write",))),
    ("one read that fails with EIO", Fault(do="EIO", kinds=("read",))),
    ("a file system that becomes read-only", Fault(do="EROFS", more=ALL)),
    ("no descriptor left", Fault(do="EMFILE", kinds=("open",), more=ALL)),
)
ROWS = (
    *(Row(f"kill -9 in {each.name}", partial(points.killed, action=each)) for each in ACTIONS),
    *(Row(f"power cut in {each.name}", partial(points.cut_off, action=each)) for each in ACTIONS),
    *(Row(f"power cut after {each.name}", partial(points.ended, action=each)) for each in ACTIONS),
    *(
        Row(
            f"an fsync that loses what was written, a kill, a new start, a power cut: {name}",
            partial(points.lost, action=BY_NAME[name]),
        )
        for name in ("an append", "an append after a crash")
    ),
    *(
        Row(f"{name}: {each.name}", partial(points.refused, action=each, fault=fault), CLEAR)
        for name, fault in FAILING
        for each in ACTIONS
    ),
    *(
        Row(name, partial(how, action=BY_NAME["an append"]), expected)
        for name, how, expected in (
            ("a disk of 2 MiB gets full", places.full, f"done, some refused, then {RECOVERED}"),
            ("a file gets as long as it may be", places.limited, f"done, some refused, then {RECOVERED}"),
            (
                "a folder that cannot be written",
                places.read_only,
                f"reads: done|an append: a clear error|then {RECOVERED}",
            ),
        )
    ),
    *(Row(name, how, expected) for name, how, expected in damage.ROWS),
    *(Row(name, how, expected) for name, how, expected in (*servers.ROWS, *clocks.ROWS)),
)


def run(rows: list[Row], bench: Bench) -> Iterator[tuple[Row, Counter[str], bool]]:
    """Do each row; yield what was seen, and whether all of it was expected. Each has a chance of its own."""
    for row in rows:
        bench.chance.seed(f"{bench.seed} {row.name}")
        seen = Counter(row.how(bench))
        yield row, seen, bool(seen) and all(re.fullmatch(row.expected, each) for each in seen)


def share(kills: int) -> int:
    """Return how many points of each action to try, so that about so many processes are killed in all."""
    return max(2, -(-kills // (2 * len(ACTIONS))))
