"""``scripts/planted``: plant each bug in a copy of the project, and see whether the test named for it fails."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.planted.bugs import BUGS, Bug
from tests.scratch import scratch

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("ledger", "projections", "server", "tests", "scripts", "pyproject.toml", "README.md")
TIMEOUT_S = 120
"""A bug may make a test wait for ever: that is noticed too. The slowest test file takes a quarter of that."""


class Seen(NamedTuple):
    """What became of a planted bug."""

    bug: Bug
    verdict: str
    failed: str
    seconds: float

    @property
    def is_caught(self) -> bool:
        return self.verdict == "caught"


@contextmanager
def copy() -> Iterator[Path]:
    """A copy of the project, in memory where the system has such a place."""
    with scratch("planted-") as root:
        for each in COPIED:
            source, target = ROOT / each, root / each
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        yield root


def plant(root: Path, bug: Bug) -> None:
    """Make the wrong edit."""
    file = root / bug.path
    text = file.read_text("utf-8")
    if text.count(bug.old) != 1:
        raise click.ClickException(f"{bug.path} has {text.count(bug.old)} times what '{bug.kind}' changes")
    file.write_text(text.replace(bug.old, bug.new), "utf-8")


def command(bug: Bug) -> list[str]:
    """What must notice the bug: a module with arguments, or else tests."""
    if bug.caught_by.startswith("python -m "):
        return [sys.executable, *shlex.split(bug.caught_by)[1:]]
    return [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *bug.caught_by.split()]


def run(root: Path, bug: Bug) -> tuple[int, str]:
    """Run what must notice the bug; return the exit code, and what it said. 124: it did not end."""
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command(bug), cwd=root, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as late:
        return 124, str(late)
    return done.returncode, done.stdout + done.stderr


def try_one(bug: Bug) -> Seen:
    """Plant one bug and look."""
    began_s = time.perf_counter()
    with copy() as root:
        plant(root, bug)
        code, said = run(root, bug)
    failed = [line.partition(" - ")[0] for line in said.splitlines() if line.startswith(("FAILED", "ERROR", "seed"))]
    is_pytest = not bug.caught_by.startswith("python -m ")
    if code == 0:
        verdict = "survived"
    elif not is_pytest and "Traceback (most recent call last)" in said:  # what should notice broke down by itself
        verdict = "unknown"
    elif code in {1, 124} and (failed or code == 124 or not is_pytest):
        verdict = "caught"
    else:
        verdict = f"exit {code}: {said.strip().splitlines()[-1] if said.strip() else ''}"
    return Seen(bug, verdict, failed[0] if failed else "", time.perf_counter() - began_s)


@click.command()
@click.option("--only", metavar="TEXT", default="", help="Only bugs whose kind or file has this text.")
@click.option(
    "--jobs", default=os.cpu_count() or 1, show_default=True, type=click.IntRange(1), help="How many at once."
)
def main(only: str, jobs: int) -> None:
    """Plant bugs one by one in copies of the project, and see whether the tests notice.

    Exit 1 when one survives.

    \b
    Examples:
      scripts/planted
      scripts/planted --only fsync
    """
    chosen = [bug for bug in BUGS if only in bug.kind or only in bug.path]
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    errors = Console(stderr=True, highlight=False)
    seen = []
    with ThreadPoolExecutor(jobs) as pool:
        for each in pool.map(try_one, chosen):
            errors.print(f"{each.verdict}: {each.bug.kind}", style="dim", markup=False)
            seen.append(each)
    table = Table("planted bug", "in", "noticed by", "seen", "s", title=f"{len(seen)} planted bugs")
    for each in seen:
        noticed = (each.failed.partition(" ")[2] or each.bug.caught_by).removeprefix("tests/")
        table.add_row(each.bug.kind, each.bug.path, escape(noticed), escape(each.verdict), f"{each.seconds:.0f}")
    console.print(table)
    sys.exit(0 if seen and all(each.is_caught for each in seen) else 1)


if __name__ == "__main__":
    main(prog_name="scripts/planted")
