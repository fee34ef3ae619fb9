"""The command line of the benchmarks: choose, run, show a table, keep JSON."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

import click
from rich.console import Console

from scripts.bench import (
    append_many,
    append_one,
    as_of,
    deliver,
    forensics,
    import_swf,
    lists,
    owed,
    proofs,
    rebuild,
    retrieve,
    streams,
    sustained,
    verify,
    within,
    workers,
)
from scripts.bench.contest import Row
from scripts.bench.machine import describe
from scripts.bench.report import as_json, show
from scripts.bench.scale import SCALES
from scripts.bench.workplace import Workplace

BENCHES: dict[str, ModuleType] = {
    "retrieve": retrieve,
    "workers": workers,
    "lists": lists,
    "as-of": as_of,
    "within": within,
    "load": sustained,
    "append-many": append_many,
    "append-one": append_one,
    "streams": streams,
    "import": import_swf,
    "rebuild": rebuild,
    "verify": verify,
    "proofs": proofs,
    "forensics": forensics,
    "owed": owed,
    "deliver": deliver,
}


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(BENCHES)), help="Only this bench; may be repeated.")
@click.option("--size", type=click.Choice(list(SCALES)), default="full", show_default=True)
@click.option("--json", "target", type=click.Path(path_type=Path, dir_okay=False), help="Where to write the result.")
def main(only: tuple[str, ...], size: str, target: Path | None) -> None:
    """Measure Job Ledger beside plain baselines, each pair in turns, and tell the ratios.

    small: shows in under a minute that every bench runs; its ratios mean little. full: about 29 minutes. huge: adds
    1e7.
    """
    console = Console(stderr=True)
    began = time.perf_counter()
    machine = describe(size)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="jobledger-bench-") as folder:
        place = Workplace(Path(folder), SCALES[size])
        for name in only or BENCHES:
            started = time.perf_counter()
            rows += BENCHES[name].run(place)
            console.print(f"{name}: {time.perf_counter() - started:.0f} s", style="dim", highlight=False)
    machine["seconds"] = round(time.perf_counter() - began, 1)
    if target is not None:
        target.write_bytes(as_json(machine, rows))
    show(machine, rows, Console(width=None if sys.stdout.isatty() else 180, highlight=False))


if __name__ == "__main__":
    main()
