"""Times: integer microseconds since 1970 UTC inside, ISO 8601 with microseconds and ``Z`` outside."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from ledger.errors import InvalidInput, invalid

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_START = date(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
_FORM = re.compile(r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?(Z|z|[+-]\d\d:?\d\d)?)?")
TIME_MIN_US, TIME_MAX_US = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The years 1 to 9999: what a calendar can show."""
TIME_FORM = "ISO 8601, such as 2026-11-22T03:00:00Z; without a zone it is UTC"


def to_text(time_us: int) -> str:
    """Return the time as ``2026-11-22T03:45:26.918194Z``."""
    minutes, rest_us = divmod(time_us, 60_000_000)
    day, minute = divmod(minutes, 1440)
    second, micro = divmod(rest_us, 1_000_000)
    calendar = _DATES.get(day) or _date(day)
    return f"{calendar}{_MINUTES[minute]}{_SECONDS[second]}{micro:06d}Z"


# Each row of a view holds a few times, a good part of a rebuild: dates and minutes are looked up, not formatted.
_MINUTES = tuple(f"T{hour:02d}:{minute:02d}:" for hour in range(24) for minute in range(60))
_SECONDS = tuple(f"{second:02d}." for second in range(60))
_DATES: dict[int, str] = {}
_DATES_MAX = 4096


def _date(day: int) -> str:
    if len(_DATES) >= _DATES_MAX:
        _DATES.clear()
    text = _DATES[day] = (_START + timedelta(day)).isoformat()
    return text


def from_text(text: str, where: str = "time") -> int:
    """Return an ISO 8601 time as microseconds; a time without a zone is UTC. Raises ``InvalidInput``."""
    if not _FORM.fullmatch(text):
        raise _fault(text, where)
    try:
        moment = datetime.fromisoformat(text.upper().replace(",", "."))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError) as error:
        raise _fault(text, where) from error


def _fault(text: str, where: str) -> InvalidInput:
    return invalid(where, f"'{text[:80]}' is not a time", TIME_FORM)


def check_range(time_us: int, where: str) -> int:
    """Return the time when a calendar can show it (years 1 to 9999); raise ``InvalidInput`` otherwise."""
    if TIME_MIN_US <= time_us <= TIME_MAX_US:
        return time_us
    raise invalid(where, "lies outside the years 1 to 9999", TIME_FORM)
