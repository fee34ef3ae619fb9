"""The bounded share of ``scripts/soak``: it finds nothing leaked or lost, and would find what is."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from scripts.soaking.samples import MIB, Sample, problems

ROOT = Path(__file__).parents[2]
FILES = {"ledger.db": 10 * MIB, "ledger.db-wal": 4 * MIB, "ledger.views.db": 20 * MIB}


def test_a_server_is_after_a_soak_as_it_was_before(tmp_path):
    command = [sys.executable, "-m", "scripts.soaking", "--minutes", "0.05", "--rate", "100"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    assert (done.returncode, found["problems"]) == (0, []), done.stderr
    assert found["delivered"] > 0
    assert {name.split()[0] for name in found["told"]} >= {"create", "messages", "steps", "change", "read", "list"}


def at(second, **others):
    """A sample of a server that is as it should be, but for the others."""
    was = Sample(second, 80 * MIB, 40, 20, 12, 1, 100 * second, FILES)
    return msgspec.structs.replace(was, **others)


def test_a_flat_server_is_found_flat():
    samples = [at(second, memory=80 * MIB + second % 7 * 100_000) for second in range(0, 600, 15)]
    assert problems(samples, at(0), at(600), judges_memory=True) == []


@pytest.mark.parametrize(
    ("change", "after", "said"),
    [
        (lambda second: {"memory": 80 * MIB + second * MIB // 10}, {}, "memory grows by 6.0 MiB a minute"),
        (lambda second: {}, {"tasks": 21}, "tasks: 20 before, 21 after"),
        (lambda second: {}, {"descriptors": 60}, "descriptors: 40 before, 60 after"),
        (lambda second: {}, {"connections": 3}, "connections: 1 before, 3 after"),
        (lambda second: {"files": FILES | {"ledger.views.db-wal": second * MIB}}, {}, "write-ahead file of 585 MiB"),
        (lambda second: {}, {"files": FILES | {"etilqs_1": 5}}, "files that are left: etilqs_1"),
        (lambda second: {}, {"files": {"ledger.views.db": 600 * MIB}}, "files of 600 MiB for 60000 events"),
    ],
)
def test_what_leaks_is_found(change, after, said):
    samples = [at(second, **change(second)) for second in range(0, 600, 15)]
    (problem,) = problems(samples, at(0), at(600, **after), judges_memory=True)
    assert said in problem
