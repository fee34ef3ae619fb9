"""``scripts/faults``: do every real fault to the real program, and print what was expected and what was seen.

Exit code 1 when a row is not as expected.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults import shim
from tests.faults.points import bench
from tests.faults.table import ROWS, run, share
from tests.server.serving import scratch


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
