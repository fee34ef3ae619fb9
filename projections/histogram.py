"""Histograms that add up: counts of values in classes that grow with the value, so that percentiles are 1 % exact.

The classes are those of HdrHistogram (Gil Tene), of the family of DDSketch (Masson, Rim and Lee, VLDB 2019): each power
of two is cut into 50 equal parts. A class is thus at most 2 % wide, and its middle at most 1 % from any value in it.
They are integers all through, so that every machine agrees, and what was counted can be taken off again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

PARTS: Final = 50
"""Classes to each power of two."""
ERROR: Final = 0.01
"""How far a percentile may be from the value it stands for, as a share of it."""
CLASSES: Final = 1 + PARTS * 63
"""Of zero, and of all 63-bit numbers above it."""


def class_of(value: int) -> int:
    """Return the class of a value from 0 to 2**63 - 1; one below 0 counts as 0."""
    if value <= 0:
        return 0
    bits = value.bit_length() - 1
    return (bits - 1) * PARTS + (value * PARTS >> bits) + 1


def bounds(number: int) -> tuple[int, int]:
    """Return the least and the greatest value of a class."""
    if number == 0:
        return 0, 0
    bits, part = divmod(number - 1, PARTS)
    return _least(bits, part), _least(bits, part + 1) - 1


def _least(bits: int, part: int) -> int:
    return -(-((PARTS + part) << bits) // PARTS)


def middle(number: int) -> int:
    """Return what stands for the values of a class."""
    return sum(bounds(number)) // 2


def percentiles(counts: Mapping[int, int], wanted: tuple[int, ...]) -> Iterator[int | None]:
    """Yield the percentiles, each the least value that so many percent of all do not exceed; None where there is none.

    ``counts``: how many values each class has. 100 is the maximum.
    """
    total = sum(counts.values())
    classes = sorted(counts.items())
    place, reached = 0, classes[0][1] if classes else 0
    for percent in sorted(wanted):
        rank = max(1, -(-total * percent // 100))
        while reached < rank and place + 1 < len(classes):
            place += 1
            reached += classes[place][1]
        yield middle(classes[place][0]) if total else None
