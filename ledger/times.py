"""Times: integer microseconds since 1970 UTC inside, ISO 8601 with microseconds and ``Z`` outside."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from ledger.errors import invalid

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FORM = re.compile(r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?(Z|z|[+-]\d\d:?\d\d)?)?")
TIME_FORM = "ISO 8601, such as 2026-11-22T03:00:00Z; without a zone it is UTC"


def to_text(time_us: int) -> str:
    """Return the time as ``2026-11-22T03:45:26.918194Z``."""
    second, micro = divmod(time_us, 1_000_000)
    return f"{_second(second)}.{micro:06d}Z"


@lru_cache(maxsize=4096)  # events of one moment share the second; 4096 of them take about 0.5 MB
def _second(second: int) -> str:
    return (_EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")


def from_text(text: str, where: str = "time") -> int:
    """Return an ISO 8601 time as microseconds; a time without a zone is UTC. Raises ``InvalidInput``."""
    fault = invalid(where, f"'{text[:80]}' is not a time", TIME_FORM)
    if not _FORM.fullmatch(text):
        raise fault
    try:
        moment = datetime.fromisoformat(text.upper().replace(",", "."))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError) as error:
        raise fault from error


def check_range(time_us: int, where: str) -> int:
    """Return the time when a calendar can show it (years 1 to 9999); raise ``InvalidInput`` otherwise."""
    if -62_135_596_800_000_000 <= time_us <= 253_402_300_799_999_999:
        return time_us
    raise invalid(where, "lies outside the years 1 to 9999", TIME_FORM)
