"""The result for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from scripts.bench.contest import Row


def as_json(machine: dict[str, Any], rows: Sequence[Row]) -> bytes:
    """Return the result as JSON: ``machine`` and ``rows``."""
    return msgspec.json.format(msgspec.json.encode({"machine": machine, "rows": rows})) + b"\n"


def show(machine: dict[str, Any], rows: Sequence[Row], console: Console) -> None:
    """Print the result as a table, then what each row measures."""
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    console.print(f"{machine['date']}  size {machine['size']}  {machine['seconds']:g} s  commit {machine['commit']}")
    console.print(
        f"{machine['cpus']} × {machine['cpu_model']}  {machine['system']}  load {machine['load_average_before']}  "
        f"{machine['python']}  SQLite {machine['sqlite']}\n{packages}  load by {machine['load_generator']}"
    )
    table = Table(box=None, pad_edge=False)
    for name in ("bench", "what"):
        table.add_column(name, no_wrap=True)
    for name in ("ours", "baseline", "", "ratio", "min – max", "by CPU", "target", "ok"):
        table.add_column(name, justify="left" if name == "" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    console.print(table)
    for row in rows:
        console.print(f"[dim]{row.bench}: {row.name}: {row.note}[/dim]", soft_wrap=True)
    for row in rows:
        if row.faults:
            console.print(f"[red]{row.bench}: {row.name}: {row.faults} requests went wrong[/red]")
    below = [row.name for row in rows if row.ok is False]
    console.print(f"not ok: {'; '.join(below)}" if below else "every target is met")


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.bench,
        row.name,
        _number(row.ours),
        _number(row.baseline),
        row.unit,
        f"{row.ratio:.2f}",
        f"{row.ratio_min:.2f} – {row.ratio_max:.2f}",
        "" if row.by_cpu is None else f"{row.by_cpu:.2f}",
        "" if row.target is None else f"{row.target:.2f}",
        {True: "[green]yes[/green]", False: "[red]no[/red]", None: ""}[row.ok],
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"
