"""Planted bugs: each still fits the source, and the machine that plants them tells noticed from unnoticed."""

import ast
import subprocess
import sys

import pytest

from tests.planted.__main__ import ROOT, try_one
from tests.planted.bugs import BUGS, Bug


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.kind.replace(" ", "-"))
def test_a_bug_to_plant_is_one_edit_that_still_can_be_made(bug):
    text = (ROOT / bug.path).read_text("utf-8")
    assert text.count(bug.old) == 1
    assert bug.new != bug.old
    if bug.path.endswith(".py"):
        ast.parse(text.replace(bug.old, bug.new))
    for name in bug.caught_by.split():
        if name.startswith("tests/"):
            assert (ROOT / name.partition("::")[0]).exists()


def test_bugs_are_of_at_least_twenty_kinds():
    assert len({bug.kind for bug in BUGS}) == len(BUGS) >= 20


ONE = Bug(
    "a wrong word", "ledger/merkle.py", "return sha256(_LEAF + data).digest()", "return sha256(data).digest()", ""
)
CASES = {"caught": "tests/ledger/test_merkle.py", "survived": "tests/ledger/test_times.py"}


@pytest.mark.parametrize("verdict", CASES)
def test_a_bug_counts_as_noticed_only_when_its_test_fails(verdict):
    assert try_one(ONE._replace(caught_by=CASES[verdict])).verdict == verdict


@pytest.mark.parametrize("module", sorted({bug.caught_by.split()[2] for bug in BUGS if "python -m" in bug.caught_by}))
def test_a_module_that_is_to_notice_bugs_can_be_run(module):
    """Its failure to begin would pass for noticing."""
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
