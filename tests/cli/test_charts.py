"""Bars, lines and stretches of time: nothing above zero is shown as nothing, and nothing is wider than it may be."""

import random

import pytest

from server.cli.charts import bar, limit_text, sparkline, time_text


@pytest.mark.parametrize(
    ("whole", "part", "most", "shown"),
    [
        (10, 0, 10, "██████████"),
        (10, 10, 10, "░░░░░░░░░░"),
        (10, 3, 10, "███████░░░"),
        (5, 0, 10, "█████"),
        (1, 0, 1000, "█"),
        (1, 1, 1000, "░"),
        (1000, 1, 1000, "█████████░"),
        (1000, 999, 1000, "█░░░░░░░░░"),
        (2, 1, 1000, "█░"),
        (0, 0, 10, ""),
        (0, 0, 0, ""),
    ],
)
def test_a_bar_is_light_where_it_failed(whole, part, most, shown):
    assert bar(whole, part, most, 10) == shown


def test_no_bar_is_wider_than_it_may_be_nor_hides_what_there_is():
    chance = random.Random(3)
    for _ in range(2000):
        most = chance.choice([1, 7, 10**6])
        whole = chance.randint(0, most)
        part = chance.randint(0, whole)
        width = chance.randint(2, 50)
        shown = bar(whole, part, most, width)
        assert len(shown) <= width
        assert ("█" in shown, "░" in shown) == (whole > part, part > 0)


@pytest.mark.parametrize(
    ("counts", "width", "shown"),
    [
        ([0, 1, 2, 4, 8], 10, "·▁▂▄█"),
        ([1, 1000], 10, "▁█"),
        ([1, 1, 2, 2], 2, "▄█"),
        ([], 10, ""),
        ([0, 0], 2, "··"),
    ],
)
def test_a_line_is_as_high_as_its_counts(counts, width, shown):
    assert sparkline(counts, width) == shown


@pytest.mark.parametrize(
    ("time_ns", "shown"),
    [
        (None, "–"),
        (0, "0 ns"),
        (999, "999 ns"),
        (1500, "1.50 µs"),
        (12_345_678, "12.3 ms"),
        (59_990_000_000, "60.0 s"),
        (60_500_000_000, "1 min 00 s"),
        (3_725 * 10**9, "1 h 02 min"),
        (400 * 86_400 * 10**9, "400 d 0 h"),
        (2**63 - 1, "106,751 d 23 h"),
    ],
)
def test_a_time_has_three_digits_or_two_units(time_ns, shown):
    assert time_text(time_ns) == shown


def test_a_limit_is_a_whole_number():
    assert [limit_text(limit) for limit in (3 * 10**6, 10**10, 3 * 60 * 10**9)] == ["3 ms", "10 s", "3 min"]
