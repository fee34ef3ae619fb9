"""Histograms that add up: counts of values in classes that grow with the value, so that percentiles are 1 % exact.

The classes are those of HdrHistogram (Gil Tene); DDSketch (Masson, Rim and Lee, VLDB 2019) is of the same family. Each
power of two is cut into 64 equal parts, and values below 128 are classes of their own: the middle of a class is at most
1/128 from any value in it. Classes are integers all through, so that every machine agrees, and what was counted can be
taken off again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

PARTS: Final = 64
"""Classes to each power of two."""
BITS: Final = 7
"""Bits of the values that are their own class."""
ERROR: Final = 0.01
"""How far a percentile may be from the value it stands for, as a share of it."""
CLASSES: Final = PARTS * (63 - BITS + 2)
"""Of all numbers of up to 63 bits."""


def class_of(value: int) -> int:
    """Return the class of a value from 0 to 2**63 - 1; one below 0 counts as 0."""
    shift = value.bit_length() - BITS
    if shift <= 0:
        return max(value, 0)
    return shift * PARTS + (value >> shift) if value > 0 else 0


def bounds(number: int) -> tuple[int, int]:
    """Return the least and the greatest value of a class."""
    shift = max(number // PARTS - 1, 0)
    least = (number - shift * PARTS) << shift
    return least, least + (1 << shift) - 1


def middle(number: int) -> int:
    """Return what stands for the values of a class."""
    return sum(bounds(number)) // 2


def percentiles(counts: Mapping[int, int], wanted: tuple[int, ...]) -> Iterator[int | None]:
    """Yield the percentiles, each the least value that so many percent of all do not exceed; None where there is none.

    ``counts``: how many values each class has; ``wanted``: ascending. 100 is the maximum.
    """
    total = sum(counts.values())
    classes = sorted(counts.items())
    place, reached = 0, classes[0][1] if classes else 0
    for percent in wanted:
        rank = max(1, -(-total * percent // 100))
        while reached < rank and place + 1 < len(classes):
            place += 1
            reached += classes[place][1]
        yield middle(classes[place][0]) if total else None
