"""A share of the table of faults (``scripts/faults`` does all of it), and whether its instruments see what is so."""

import asyncio
import os
import random
import subprocess
import sys

import pytest

from tests.faults import damage, points, shim
from tests.faults.actions import ACTIONS
from tests.faults.powercut import Disk, read_journal
from tests.faults.shim import ALL, Fault
from tests.faults.table import BY_NAME, FAILING, ROWS, Row, run
from tests.scratch import scratch

pytestmark = pytest.mark.skipif(shim.MISSING is not None, reason=shim.MISSING or "")

SEED = 31
POINTS = 2
SHARE = (
    *(f"kill -9 in {name}" for name in ("an append after a crash", "the first checkpoint", "an erasure")),
    *(f"power cut in {name}" for name in ("an append after a crash", "the first checkpoint")),
    *(f"power cut after {name}" for name in ("an append", "a backup")),
    "kill -9 in an export",
    "an fsync that loses what was written, a kill, a new start, a power cut: an append after a crash",
    "a disk that is full from one call on: an erasure",
    "an fsync that fails and loses what was written: an append",
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    with scratch() as folder, points.bench(POINTS, SEED, folder) as made:
        asyncio.run(made.starts.prepare())
        yield made


def as_expected(bench, row):
    ((_, seen, is_good),) = run([row], bench)
    assert is_good, seen


@pytest.mark.parametrize("name", SHARE)
def test_a_fault_does_no_more_than_is_expected(bench, name):
    (row,) = (row for row in ROWS if row.name == name)
    as_expected(bench, row)


def test_every_row_has_a_name_of_its_own_and_every_fault_meets_every_action():
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert len(ROWS) >= 3 * len(ACTIONS) + len(FAILING) * len(ACTIONS) + len(damage.ROWS)


def test_an_answer_that_nothing_was_recorded_is_true_when_the_disk_fails_in_a_commit(bench):
    # Given appends on a log whose last process was killed, and a disk that is full from the middle of a commit on
    fault, append = Fault(do="ENOSPC", more=ALL), BY_NAME["an append after a crash"]
    for point in range(42, 50):  # among them the writes of a group's commit, the last of which makes it valid
        db = bench.starts.copy(append.start, bench.place)
        wanted = Fault(do=fault.do, at=point, more=fault.more)
        done = bench.forks.run(*append.arguments(db), environment=shim.environment(bench.place, wanted))
        # Then what is said to be recorded nowhere is nowhere, also when the file is opened again
        assert points.recovered(bench, append, done) == points.RECOVERED, point


def test_the_table_sees_a_program_that_lies(bench):
    def lying(_):
        yield points.RECOVERED
        yield "1 answered and lost"

    ((_, seen, is_good),) = run([Row("a lie", lying)], bench)
    assert (seen.total(), is_good) == (2, False)
    ((_, _, is_good),) = run([Row("nothing done", lambda _: iter(()))], bench)
    assert not is_good


WRITING = """
import os, sys
folder = sys.argv[1]
handle = os.open(f"{folder}/a", os.O_RDWR | os.O_CREAT, 0o600)
os.write(handle, b"synced")
os.fsync(handle)
root = os.open(folder, os.O_RDONLY)
os.fsync(root)
os.pwrite(handle, b"SYNCED", 0)
os.rename(f"{folder}/a", f"{folder}/b")
"""


@pytest.mark.parametrize(("share", "left"), [(0.0, {"a": b"synced"}), (1.0, {"b": b"SYNCED"})])
def test_a_power_cut_takes_what_was_not_synced_and_no_more(tmp_path, share, left):
    place, after = tmp_path / "place", tmp_path / "after"
    place.mkdir()
    after.mkdir()
    disk, journal = Disk(place), tmp_path / "journal"
    asked = {**os.environ, **shim.environment(place, journal=journal)}
    subprocess.run([sys.executable, "-c", WRITING, str(place)], env=asked, check=True)
    disk.play(read_journal(journal))
    disk.after_a_cut(after, random.Random(SEED), share)
    assert {path.name: path.read_bytes() for path in after.iterdir()} == left
