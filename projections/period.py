"""Periods of time: how they are cut into pieces whose sums are kept, and into the buckets of a chart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Final, Literal, NamedTuple, get_args

from ledger.errors import invalid
from projections.tally import HOUR_US

BucketSize = Literal["hour", "day", "week", "month"]
"""How long a bucket is. Weeks begin on Monday, all at midnight UTC."""
BUCKETS: Final[tuple[BucketSize, ...]] = get_args(BucketSize)
AUTO: Final = "auto"
DAY_US: Final = 24 * HOUR_US
_AUTO_DAYS: Final[tuple[tuple[int, BucketSize], ...]] = ((2, "hour"), (62, "day"), (731, "week"))
"""Up to how many days a size is chosen."""
HOURLY_DAYS_MAX: Final = 62
"""Days that can be told by the hour: some 1,500 buckets."""
_EPOCH: Final = date(1970, 1, 1).toordinal()
_MONDAY: Final = 3
"""Days from the Monday before 1970 to its first day."""
_FAR_US: Final = 2**20 * DAY_US
"""Beyond all times: a whole number of days."""


class Period(NamedTuple):
    """From ``since_us``, up to but without ``until_us``."""

    since_us: int = -_FAR_US
    until_us: int = _FAR_US

    @property
    def is_open(self) -> bool:
        """Whether it has no beginning or no end."""
        return self.since_us == -_FAR_US or self.until_us == _FAR_US


def period(since_us: int | None, until_us: int | None) -> Period:
    """Return the period between two times, each of which may be open; that of the end is not in it."""
    return Period(-_FAR_US if since_us is None else since_us, _FAR_US if until_us is None else until_us)


def up_to(since_us: int | None, until_us: int | None) -> Period:
    """Return the period between two times, both of which are in it, as ``since`` and ``until`` mean everywhere."""
    return period(since_us, None if until_us is None else until_us + 1)


class Piece(NamedTuple):
    """A part of a period: a whole number of units of a size, or (size 1) of microseconds."""

    size_us: int
    since_us: int
    until_us: int

    def covers(self, hour: int) -> bool:
        """Tell whether the hour is in it."""
        return self.since_us <= hour * HOUR_US < self.until_us


def pieces(whole: Period, sizes_us: Sequence[int]) -> Iterator[Piece]:
    """Cut a period into as large units as it has whole ones of; ``sizes_us``: from large to small, ending with 1."""
    since_us, until_us = whole
    if since_us >= until_us:
        return
    size_us, *smaller = sizes_us
    first, last = -(-since_us // size_us) * size_us, until_us // size_us * size_us
    if first >= last:
        yield from pieces(whole, smaller)
        return
    yield Piece(size_us, first, last)
    yield from pieces(Period(since_us, first), smaller)
    yield from pieces(Period(last, until_us), smaller)


def start_of(hour: int, size: BucketSize) -> int:
    """Return where the bucket of an hour begins; both in hours since 1970."""
    if size == "hour":
        return hour
    day = hour // 24
    if size == "week":
        day -= (day + _MONDAY) % 7
    elif size == "month":
        day = date.fromordinal(_EPOCH + day).replace(day=1).toordinal() - _EPOCH
    return day * 24


def chosen(asked: str, days: int) -> BucketSize:
    """Return the size that is asked for, or (``auto``) one that suits so many days.

    Raises ``InvalidInput`` where they are too many to be told by the hour.
    """
    if asked == AUTO:
        return next((size for days_max, size in _AUTO_DAYS if days <= days_max), "month")
    if asked == "hour" and days > HOURLY_DAYS_MAX:
        raise invalid("bucket", f"has more than {HOURLY_DAYS_MAX} days of hours here; ask for less", list(BUCKETS))
    return next(size for size in BUCKETS if size == asked)


def next_start(hour: int, size: BucketSize) -> int:
    """Return where the bucket after that of an hour begins; both in hours since 1970."""
    start = start_of(hour, size)
    return start_of(start + {"hour": 1, "day": 24, "week": 7 * 24, "month": 31 * 24}[size], size)
