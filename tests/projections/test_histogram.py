"""Classes are at most two percent wide, hold what they say, and percentiles are one percent exact."""

import itertools
import random

import pytest

from projections.histogram import CLASSES, ERROR, bounds, class_of, middle, percentiles

EDGES = [*range(5000), 2**31 - 1, 2**31, 2**62, 2**63 - 1]


def values():
    chance = random.Random(5)
    return [*EDGES, *(int(2 ** chance.uniform(0, 63)) for _ in range(5000))]


def test_every_value_is_in_its_class_and_the_middle_is_near():
    for value in values():
        number = class_of(value)
        low, high = bounds(number)
        assert 0 <= number < CLASSES
        assert low <= value <= high
        assert abs(middle(number) - value) <= ERROR * value


def test_classes_follow_each_other_without_a_gap():
    for before, after in itertools.pairwise(range(CLASSES)):
        assert bounds(before)[1] + 1 == bounds(after)[0]
    assert (bounds(0), bounds(CLASSES - 1)[1]) == ((0, 0), 2**63 - 1)


def test_a_value_below_zero_counts_as_zero():
    assert [class_of(value) for value in (-1, -5, -(2**40))] == [0, 0, 0]


@pytest.mark.parametrize("size", [1, 2, 3, 10, 99, 100, 1000])
def test_percentiles_are_those_of_the_values_but_for_one_percent(size):
    chance = random.Random(size)
    told = sorted(chance.choice(values()) for _ in range(size))
    counts = {}
    for value in told:
        counts[class_of(value)] = counts.get(class_of(value), 0) + 1
    wanted = (1, 50, 90, 95, 99, 100)
    for percent, found in zip(wanted, percentiles(counts, wanted), strict=True):
        exact = told[max(0, -(-size * percent // 100) - 1)]
        assert abs(found - exact) <= ERROR * exact


def test_nothing_has_no_percentiles():
    assert list(percentiles({}, (50, 100))) == [None, None]
