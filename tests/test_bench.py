"""The benchmarks run, all that there are; those of callbacks have a file of their own, to be run beside these."""

from pathlib import Path

import msgspec
import pytest

from scripts.bench.__main__ import BENCHES
from scripts.bench.openloop import Latencies, Told
from scripts.bench.sustained import _is_good
from tests.benches import check

CALLBACKS = {"owed", "deliver"}


def test_every_row_of_the_smallest_size_comes_out_with_a_positive_ratio(tmp_path: Path) -> None:
    check(tmp_path, BENCHES.keys() - CALLBACKS)


QUICK = Latencies(p50_ms=1, p90_ms=2, p99_ms=5, p999_ms=9, max_ms=9)
SLOW = msgspec.structs.replace(QUICK, p99_ms=150)
KEPT_UP = Told(answers=1000, faults=0, late_s=0.01, all=QUICK, kinds={"reads": QUICK}, lag_ms=0.3, busy=0.4)


@pytest.mark.parametrize(
    ("seen", "is_good"),
    [
        ({}, True),
        ({"faults": 1}, False),
        ({"late_s": 0.5}, False),
        ({"all": SLOW}, False),
        ({"all": SLOW, "lag_ms": 60}, True),  # the generator was late, not the server
        ({"late_s": 0.05, "lag_ms": 40}, True),
        ({"late_s": 0.5, "lag_ms": 60}, False),
    ],
)
def test_a_rate_is_sustained_when_the_server_kept_up_with_what_the_generator_sent(seen, is_good):
    assert _is_good(msgspec.structs.replace(KEPT_UP, **seen), 1.0) == is_good
