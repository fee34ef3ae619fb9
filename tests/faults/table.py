"""The table of faults: what each is expected to do to the real program, what was seen of it, and how often.

    python -m tests.faults.table [--only WORDS] [--kills N] [--seed S] [--json]

A new fault is one more row in ``ROWS``. Exit code 1 when a row is not as expected.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults import damage, points, servers, shim
from tests.faults.actions import ACTIONS
from tests.faults.points import RECOVERED, Bench, bench
from tests.faults.shim import ALL, Fault
from tests.scratch import scratch


@dataclass(frozen=True)
class Row:
    """A fault. ``how`` does it, and yields what was seen each time; ``expected`` is a pattern for each of these."""

    name: str
    how: Callable[[Bench], Iterator[str]]
    expected: str = RECOVERED


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
        Row(f"{name}: {each.name}", partial(points.refused, action=each, fault=fault), CLEAR)
        for name, fault in FAILING
        for each in ACTIONS
    ),
    *(Row(name, how, expected) for name, how, expected in damage.ROWS),
    *(Row(name, how, expected) for name, how, expected in servers.ROWS),
)


def run(rows: list[Row], bench: Bench) -> Iterator[tuple[Row, Counter[str], bool]]:
    """Do each row; yield what was seen, and whether all of it was expected."""
    for row in rows:
        seen = Counter(row.how(bench))
        yield row, seen, bool(seen) and all(re.fullmatch(row.expected, each) for each in seen)


def share(kills: int) -> int:
    """Return how many points of each action to try, so that about so many processes are killed in all."""
    return max(2, -(-kills // (2 * len(ACTIONS))))


def _words(seen: Counter[str]) -> str:
    return "\n".join(f"{count} × {what}" if len(seen) > 1 else what for what, count in seen.most_common())


def main() -> int:
    """Run the rows asked for and print the table."""
    parser = argparse.ArgumentParser(description="Do every real fault to the real program, and look what comes of it.")
    parser.add_argument("--only", default="", help="only rows whose name has these words")
    parser.add_argument("--kills", type=int, default=240, help="how many processes to kill, about")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", dest="as_json", help="one JSON object a row on stdout")
    asked = parser.parse_args()
    if shim.MISSING:
        print(f"faults: {shim.MISSING}", file=sys.stderr)
        return 2
    rows = [row for row in ROWS if asked.only in row.name]
    table, wrong, times, console = Table("fault", "expected", "seen", "count"), [], 0, Console()
    with scratch() as folder, bench(share(asked.kills), asked.seed, Path(folder)) as place:
        asyncio.run(place.starts.prepare())
        for row, seen, is_good in run(rows, place):
            times += seen.total()
            if not is_good:
                wrong.append(row.name)
            if asked.as_json:
                told = {"fault": row.name, "expected": row.expected, "seen": seen, "count": seen.total(), "ok": is_good}
                print(json.dumps(told), flush=True)
            else:
                print(f"{'ok   ' if is_good else 'WRONG'} {row.name}", file=sys.stderr)
                table.add_row(row.name, row.expected, _words(seen), str(seen.total()))
    if not asked.as_json:
        console.print(table)
        print(f"{len(rows)} faults, {times} times, {place.kills} processes killed; not as expected: {wrong or 'none'}")
    return 1 if wrong or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
