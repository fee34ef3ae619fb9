"""The simulator: a bounded number of seeds, the same each time, and a product that is broken does not pass."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SEEDS = 6
"""Seeds of the suite, some six CPU seconds; scripts/simulate runs as many as one likes."""

HAPPENS = (
    "crashes", "answered", "refused", "repeated", "callbacks sent", "rebuilds", "clock jumps", "expired",
    "streams broken off", "streamed", "imported", "exports", "damages",
)  # fmt: skip
"""What each of them has some of, and without which they would show little."""

SABOTAGED = """
import sys
import ledger.decider
from tests.simulation.__main__ import main

present = ledger.decider._present
ledger.decider._present = lambda state, id, etags: present(state, id, None)
sys.exit(main(sys.argv[1:]))
"""
"""The simulator on a product that takes any If-Match."""


def simulate(*options, program=("-m", "tests.simulation")):
    """Run the command as scripts/simulate does, in a process of its own."""
    command = [sys.executable, *program, "--jobs", "1", *options]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def first():
    return simulate("--seeds", str(SEEDS), "--traces")


def traces(done):
    lines = (line.split() for line in done.stdout.splitlines())
    return [(parts[0], parts[1]) for parts in lines if len(parts) == 2 and len(parts[1]) == 64]


def test_whatever_befalls_a_ledger_all_that_it_promises_holds(first):
    assert first.returncode == 0, first.stdout + first.stderr
    table = dict(line.rsplit(None, 1) for line in first.stdout.splitlines() if line[:1].isalpha())
    assert int(table["seeds"]) == int(table["checks"]) == SEEDS
    for what in HAPPENS:
        assert int(table[what].replace(",", "")) > 0, what


def test_a_seed_is_the_same_run_in_another_process(first):
    again = simulate("--seeds", "3", "--traces")
    assert len(traces(again)) == 3
    assert traces(again) == traces(first)[:3]


def test_a_broken_product_fails_and_the_command_that_shows_it_again_is_printed():
    done = simulate("--seeds", "8", program=("-c", SABOTAGED))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "took effect at version" in done.stdout
    assert "scripts/simulate --seed" in done.stdout


ENDLESS = """
import sys
import ledger.decider
from tests.simulation import __main__ as simulation

def forever(*_):
    while True:
        pass

simulation.PATIENCE_S = 1
ledger.decider._present = forever
sys.exit(simulation.main(sys.argv[1:]))
"""
"""The simulator on a product that gets stuck in real time, in which the clock of a seed does not move."""


def test_a_product_that_gets_stuck_in_real_time_fails_its_seed_instead_of_holding_up_all():
    done = simulate("--seeds", "1", program=("-c", ENDLESS))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "seed 1 failed: it does not end" in done.stdout
