"""When a callback that failed is tried again: fixed waits with jitter, and what a receiver's ``Retry-After`` asks."""

from __future__ import annotations

import email.utils
import random
import re
from datetime import UTC

import msgspec

from ledger.errors import InvalidInput, invalid

OPTION = "--callback-schedule"
WAITS_S = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""Seconds after each failed attempt, by the example of Standard Webhooks 1.0.0: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h,
14 h, 20 h, 24 h. That makes ten attempts; the last is due about three days after the first (75.6 h, with jitter at most
90.7 h), which outlasts a weekend's outage."""
WAITS_MAX = 50
"""Waits of a schedule: every attempt is an event that the log keeps for good."""
WAIT_MAX_S = 7 * 86_400.0
"""Longest single wait, seconds: a week. What is quiet for longer is taken for given up by those who look."""
JITTER_MAX = 1.2
"""A wait is taken 1 to 1.2 times, by chance: debts that failed together, because their receiver was down, must not hit
it together when it comes back. Never less than 1 time: what the schedule or the receiver asks is a least wait."""
RETRY_AFTER_MAX_S = 86_400.0
"""Most that a receiver's ``Retry-After`` counts, seconds: a day. A hostile one must not park a debt for years."""
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")
_DATE_SIZE_MAX = 64
"""Characters of an HTTP date; the longest form has 33."""


class Schedule(msgspec.Struct, frozen=True):
    """The waits in seconds after each failed attempt; no waits: no second attempt."""

    waits_s: tuple[float, ...] = WAITS_S

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Return the schedule of ``--callback-schedule``: seconds with commas between; nothing or ``none``: no retry.

        Raises ``InvalidInput``.
        """
        if text.strip().lower() in ("", "none"):
            return cls(())
        parts = [part.strip() for part in text.split(",")]
        if len(parts) > WAITS_MAX:
            raise _fault(f"has {len(parts)} waits, at most {WAITS_MAX} are allowed")
        return cls(tuple(_wait(part) for part in parts))

    @property
    def attempts_max(self) -> int:
        """How many attempts there are, the first included."""
        return len(self.waits_s) + 1

    def wait_s(self, attempt: int, chance: random.Random, retry_after_s: float | None = None) -> float | None:
        """Return how long after failed attempt number ``attempt`` (from 1) the next is due; None: that was the last.

        ``retry_after_s`` is what the receiver asked for: the wait is no shorter, as far as ``RETRY_AFTER_MAX_S`` goes.
        """
        if attempt < 1:
            raise ValueError("attempts are counted from 1")
        if attempt > len(self.waits_s):
            return None
        least_s = max(self.waits_s[attempt - 1], min(retry_after_s or 0.0, RETRY_AFTER_MAX_S))
        return least_s * chance.uniform(1.0, JITTER_MAX)


def retry_after_s(header: str | None, now_us: int) -> float | None:
    """Return how many seconds from now a ``Retry-After`` asks to wait, 0 to ``RETRY_AFTER_MAX_S``; None: nothing clear.

    RFC 9110, 10.2.3: a number of seconds, or an HTTP date in any of its three forms (5.6.7). A date that is over asks
    for no wait.
    """
    text = (header or "").strip(" \t")
    if not text.isascii():
        return None
    if text.isdigit():
        return min(float(text), RETRY_AFTER_MAX_S)
    time_s = _date_s(text)
    return None if time_s is None else min(max(time_s - now_us / 1_000_000, 0.0), RETRY_AFTER_MAX_S)


def _date_s(text: str) -> float | None:
    """Return an HTTP date as seconds since 1970 UTC, None for what is none."""
    if len(text) > _DATE_SIZE_MAX:
        return None
    try:
        moment = email.utils.parsedate_to_datetime(text)
        # The form of asctime names no zone, and means UTC.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _wait(text: str) -> float:
    wait_s = float(text) if _NUMBER.fullmatch(text) else 0.0
    if not 0.0 < wait_s <= WAIT_MAX_S:
        raise _fault(f"'{text[:40]}' is not a number of seconds above 0 and up to {WAIT_MAX_S:.0f} (7 days)")
    return wait_s


def _fault(what: str) -> InvalidInput:
    return invalid(OPTION, what, "seconds with commas between, such as 5,300,1800, or none for no second attempt")
