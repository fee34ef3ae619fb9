"""Alignment of two sequences by a longest common subsequence, with bounds that hold for any input.

Rows of the classic table are kept as integers, a bit a cell (Hyyrö 2004), so that 10,000 tokens against 10,000 take a
tenth of a second and 13 MB whatever they are: no heuristic gives up on tokens that are frequent.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import Final

CELLS_MAX: Final = 400_000_000
"""Cells of one table, a bit each: 50 MB. What is larger is cut first where tokens that stand once in both agree, else
in halves, so that time grows with the length; only there may the result be shorter than the longest."""

Pairs = list[tuple[int, int]]


def aligned(a: Sequence[Hashable], b: Sequence[Hashable]) -> Pairs:
    """Return which places of two sequences hold the same, in order, and as many as can be.

    What both begin and end with is paired first; of the rest the earliest that lead to as many.
    """
    numbers: dict[Hashable, int] = {}
    one = [numbers.setdefault(token, len(numbers)) for token in a]
    other = [numbers.setdefault(token, len(numbers)) for token in b]
    found: Pairs = []
    open_parts = [(0, len(one), 0, len(other))]
    while open_parts:
        start_a, end_a, start_b, end_b = open_parts.pop()
        while start_a < end_a and start_b < end_b and one[start_a] == other[start_b]:
            found.append((start_a, start_b))
            start_a, start_b = start_a + 1, start_b + 1
        while start_a < end_a and start_b < end_b and one[end_a - 1] == other[end_b - 1]:
            end_a, end_b = end_a - 1, end_b - 1
            found.append((end_a, end_b))
        part = (start_a, end_a, start_b, end_b)
        places_a, places_b = _shared(one, other, part)
        if len(places_a) * len(places_b) <= CELLS_MAX:
            found += [
                (places_a[i], places_b[j])
                for i, j in _longest([one[i] for i in places_a], [other[j] for j in places_b])
            ]
        else:
            open_parts += _cut(one, other, part)
    return sorted(found)


def _shared(one: list[int], other: list[int], part: tuple[int, int, int, int]) -> tuple[list[int], list[int]]:
    """Return the places of a part that hold what the other side has too."""
    start_a, end_a, start_b, end_b = part
    both = set(one[start_a:end_a]) & set(other[start_b:end_b])
    return (
        [place for place in range(start_a, end_a) if one[place] in both],
        [place for place in range(start_b, end_b) if other[place] in both],
    )


def _longest(a: list[int], b: list[int]) -> Pairs:
    """Return a longest common subsequence, its places as early as may be; the table reads the sequences backwards."""
    masks: dict[int, int] = {}
    for place, token in enumerate(reversed(b)):
        masks[token] = masks.get(token, 0) | 1 << place
    whole = row = (1 << len(b)) - 1
    rows = [row]
    for token in reversed(a):
        both = row & masks[token]
        row = ((row + both) | (row - both)) & whole
        rows.append(row)
    found: Pairs = []
    i = j = 0
    while i < len(a) and j < len(b):
        if a[i] == b[j]:
            found.append((i, j))
            i, j = i + 1, j + 1
        elif rows[len(a) - i] >> (len(b) - j - 1) & 1:  # without b[j] as many follow
            j += 1
        else:
            i += 1
    return found


def _cut(one: list[int], other: list[int], part: tuple[int, int, int, int]) -> list[tuple[int, int, int, int]]:
    """Return smaller parts: between tokens that stand once in both and in the same order, else halves."""
    start_a, end_a, start_b, end_b = part
    counts_a, counts_b = Counter(one[start_a:end_a]), Counter(other[start_b:end_b])
    places = {other[place]: place for place in range(start_b, end_b)}
    once = [
        (place, places[one[place]])
        for place in range(start_a, end_a)
        if counts_a[one[place]] == 1 == counts_b[one[place]]
    ]
    cuts = _rising(once) or [((start_a + end_a) // 2, (start_b + end_b) // 2)]
    edges = [(start_a, start_b), *cuts, (end_a, end_b)]
    return [(low_a, high_a, low_b, high_b) for (low_a, low_b), (high_a, high_b) in pairwise(edges)]


def _rising(pairs: Pairs) -> Pairs:
    """Return a longest list of pairs that rise on both sides; they rise on the first (patience sorting)."""
    ends: list[int] = []
    tails: list[int] = []
    before: list[int] = []
    for number, (_, place) in enumerate(pairs):
        length = bisect_left(ends, place)
        before.append(tails[length - 1] if length else -1)
        ends[length : length + 1] = [place]
        tails[length : length + 1] = [number]
    found: Pairs = []
    number = tails[-1] if tails else -1
    while number >= 0:
        found.append(pairs[number])
        number = before[number]
    return found[::-1]
