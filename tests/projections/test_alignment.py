"""Alignment: a longest common subsequence, the earliest of them, within bounds whatever the tokens are."""

import itertools
import random
import time

import pytest

from projections import alignment
from projections.alignment import aligned


def longest(a, b):
    """The length of a longest common subsequence, by the table of the textbook."""
    row = [0] * (len(b) + 1)
    for token in a:
        above = row[:]
        for place, other in enumerate(b, 1):
            row[place] = above[place - 1] + 1 if token == other else max(above[place], row[place - 1])
    return row[-1]


def assert_rises(pairs, a, b):
    assert all(a[i] == b[j] for i, j in pairs)
    assert all(one[0] < two[0] and one[1] < two[1] for one, two in itertools.pairwise(pairs))


@pytest.mark.parametrize(
    ("a", "b", "pairs"),
    [
        ("", "", []),
        ("abc", "", []),
        ("abc", "abc", [(0, 0), (1, 1), (2, 2)]),
        ("abc", "xbz", [(1, 1)]),
        ("s", "sxs", [(0, 0)]),
        ("xs", "ysys", [(1, 3)]),  # what ends both alike is taken first
        ("axsx", "ysybsy", [(2, 1)]),
        ("abcd", "badc", [(0, 1), (2, 3)]),
    ],
)
def test_places_that_hold_the_same_are_paired_and_of_equal_ones_the_first(a, b, pairs):
    assert aligned(a, b) == pairs


def random_pair(chance, length_max=16):
    letters = chance.randint(1, 6)
    return [[chance.randrange(letters) for _ in range(chance.randint(0, length_max))] for _ in range(2)]


@pytest.mark.parametrize("seed", range(5))
def test_no_longer_alignment_exists(seed):
    chance = random.Random(seed)
    for _ in range(200):
        a, b = random_pair(chance)
        pairs = aligned(a, b)
        assert_rises(pairs, a, b)
        assert len(pairs) == longest(a, b)


@pytest.mark.parametrize("cells", [0, 4, 30])
def test_what_is_too_large_for_one_table_is_cut_and_still_rises(monkeypatch, cells):
    monkeypatch.setattr(alignment, "CELLS_MAX", cells)
    chance = random.Random(cells)
    for _ in range(300):
        a, b = random_pair(chance, 40)
        assert_rises(aligned(a, b), a, b)


def test_a_cut_goes_where_both_have_what_stands_once(monkeypatch):
    monkeypatch.setattr(alignment, "CELLS_MAX", 3)
    a, b = "xx1yyyy2zz", "x1yy2zzz"
    assert len(aligned(a, b)) == longest(a, b) == 7


@pytest.mark.parametrize("letters", [2, 100, 10**9])
def test_ten_thousand_against_ten_thousand_takes_a_moment_whatever_they_are(letters):
    chance = random.Random(1)
    a, b = [[chance.randrange(letters) for _ in range(10_000)] for _ in range(2)]
    began = time.monotonic()
    assert_rises(aligned(a, b), a, b)
    assert time.monotonic() - began < 2
