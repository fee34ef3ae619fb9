"""The benchmarks run, all that there are; those of callbacks have a file of their own, to be run beside these."""

from pathlib import Path

from scripts.bench.__main__ import BENCHES
from tests.benches import check

CALLBACKS = {"owed", "deliver"}


def test_every_row_of_the_smallest_size_comes_out_with_a_positive_ratio(tmp_path: Path) -> None:
    check(tmp_path, BENCHES.keys() - CALLBACKS)
