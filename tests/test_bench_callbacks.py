"""The benchmarks of callbacks run."""

from pathlib import Path

from tests.benches import check


def test_every_row_of_the_smallest_size_comes_out_with_a_positive_ratio(tmp_path: Path) -> None:
    check(tmp_path, {"owed", "deliver"})
