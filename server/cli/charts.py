"""Small charts of block characters, that tell as much without colour and on paper."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from projections.durations import in_words

LEVELS: Final = "·▁▂▃▄▅▆▇█"
"""From nothing to all; a value above 0 is never shown as nothing."""
_UNITS: Final = (
    ("d", 86_400 * 10**9),
    ("h", 3_600 * 10**9),
    ("min", 60 * 10**9),
    ("s", 10**9),
    ("ms", 10**6),
    ("µs", 1000),
)


def bar(whole: int, part: int, most: int, width: int) -> str:
    """Return a bar as long as ``whole`` is of ``most``, whose end is light by the share of ``part``.

    Neither is left out where it is above 0.
    """
    length = _cells(whole, most, width)
    least = int(whole > part)
    light = min(max(length - least, int(part > 0)), _cells(part, most, width))
    full, pale = ("█", "░") if _can_show("█░") else ("#", ".")
    return full * max(length - light, least) + pale * light


def _cells(count: int, most: int, width: int) -> int:
    return max(1, round(count * width / most)) if count > 0 and most > 0 else 0


def sparkline(counts: Sequence[int], width: int) -> str:
    """Return a line of so many columns at most, each as high as the sum of its counts."""
    columns = min(width, len(counts))
    sums = [0] * columns
    for place, count in enumerate(counts):
        sums[place * columns // len(counts)] += count
    most = max(sums, default=0)
    levels = LEVELS if _can_show(LEVELS) else " .:-=+*#@"
    return "".join(levels[-(-count * (len(levels) - 1) // most)] if count > 0 else levels[0] for count in sums)


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def time_text(time_ns: int | None) -> str:
    """Return a stretch of time in three digits and a unit, from a minute on as ``in_words`` does; a dash for none."""
    if time_ns is None:
        return "–"
    if time_ns >= 60 * 10**9:
        return in_words(time_ns / 10**9)
    for name, unit in _UNITS:
        if time_ns >= unit:
            value = time_ns / unit
            digits = 0 if value >= 100 else 1 if value >= 10 else 2
            return f"{value:,.{digits}f} {name}"
    return f"{time_ns} ns"


def limit_text(time_ns: int) -> str:
    """Return a round stretch of time in a whole number of its unit."""
    name, unit = next(((name, unit) for name, unit in _UNITS if time_ns >= unit), ("ns", 1))
    return f"{time_ns // unit:,} {name}"
