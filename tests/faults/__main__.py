"""``scripts/faults``: do every real fault to the real program, and print what was expected and what was seen.

The rows are dealt out to processes of their own. Exit code 1 when a row is not as expected.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from server import logs
from tests.faults import shim
from tests.faults.points import bench
from tests.faults.table import ROWS, Row, run, share
from tests.scratch import scratch

PROCESSES_PER_CORE = 2
"""Rows that lock, stop or kill wait more than they work."""


def _words(seen: dict[str, int]) -> str:
    most = sorted(seen.items(), key=lambda item: -item[1])
    return "\n".join(f"{count} × {what}" if len(seen) > 1 else what for what, count in most)


def _do(rows: list[Row], kills: int, seed: int) -> Iterator[dict[str, Any]]:
    """Do rows in this process; yield what is told of each."""
    with scratch() as folder, bench(share(kills), seed, Path(folder)) as place:
        asyncio.run(place.starts.prepare())
        before = 0
        for row, seen, is_good in run(rows, place):
            yield {
                "fault": row.name, "expected": row.expected, "seen": seen, "count": seen.total(),
                "kills": place.kills - before, "ok": is_good,
            }  # fmt: skip
            before = place.kills


def _deal(jobs: int) -> list[dict[str, Any]]:
    """Have parts of the rows done by processes of their own; return what they told, in the order of the rows."""
    told: list[dict[str, Any]] = []

    def listen(process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            row = json.loads(line)
            told.append(row)
            print(f"{'ok   ' if row['ok'] else 'WRONG'} {row['fault']}", file=sys.stderr, flush=True)

    with ExitStack() as stack:
        command = [sys.executable, "-m", "tests.faults", *sys.argv[1:], "--part"]
        parts = [
            stack.enter_context(subprocess.Popen([*command, f"{number}/{jobs}"], stdout=subprocess.PIPE, text=True))
            for number in range(jobs)
        ]
        with ThreadPoolExecutor(jobs) as threads:
            list(threads.map(listen, parts))
    places = {row.name: number for number, row in enumerate(ROWS)}
    return sorted(told, key=lambda row: places[row["fault"]])


def _show(rows: list[Row], told: list[dict[str, Any]]) -> None:
    table = Table("fault", "expected", "seen", "count")
    for row in told:
        table.add_row(row["fault"], row["expected"], _words(row["seen"]), str(row["count"]))
    Console(markup=False).print(table)
    times, kills = sum(row["count"] for row in told), sum(row["kills"] for row in told)
    missing = {row.name for row in rows} - {row["fault"] for row in told}
    wrong = [row["fault"] for row in told if not row["ok"]] + [f"{name} (not done)" for name in missing]
    print(f"{len(told)} faults, {times} times, {kills} processes killed; not as expected: {wrong or 'none'}")


EXAMPLES = """examples:
  scripts/faults                          all rows, about four minutes
  scripts/faults --only 'power cut'       rows whose name has these words
  scripts/faults --kills 1000 --seed 7    more of them, at other points
"""


def main() -> int:
    """Run the rows asked for and print the table."""
    parser = argparse.ArgumentParser(
        prog="scripts/faults",
        description="Do every real fault to the real program, and look what comes of it. Exit 1: not as expected.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default="", help="only rows whose name has these words")
    parser.add_argument("--kills", type=int, default=200, help="how many processes to kill, about")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", dest="as_json", help="one JSON object a row on stdout")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if shim.MISSING:
        print(f"faults: {shim.MISSING}", file=sys.stderr)
        return 2
    rows = [row for row in ROWS if asked.only in row.name]
    if asked.part:
        logs.configure(Path(os.devnull).open("w"))  # noqa: SIM115 - of servers in this process; it ends with it
        number, jobs = map(int, asked.part.split("/"))
        for row in _do(rows[number::jobs], asked.kills, asked.seed):
            print(json.dumps(row), flush=True)
        return 0
    told = _deal(min(PROCESSES_PER_CORE * (os.cpu_count() or 1), len(rows)) or 1)
    if asked.as_json:
        print("\n".join(map(json.dumps, told)))
    else:
        _show(rows, told)
    return 0 if rows and len(told) == len(rows) and all(row["ok"] for row in told) else 1


if __name__ == "__main__":
    sys.exit(main())
