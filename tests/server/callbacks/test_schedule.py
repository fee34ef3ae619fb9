"""When a failed callback is tried again: never before it is due, never all at once, and not for ever."""

import random
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.errors import InvalidInput
from server.callbacks.schedule import (
    JITTER_MAX,
    OPTION,
    RETRY_AFTER_MAX_S,
    WAIT_MAX_S,
    WAITS_MAX,
    WAITS_S,
    Schedule,
    retry_after_s,
)

NOW = datetime(2026, 11, 22, 3, 0, 0, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000
DAY_S = 86_400
HOUR_S = 3_600


class Least(random.Random):
    """Chance that always falls on the lower end."""

    def uniform(self, a, b):
        return a


class Most(random.Random):
    """Chance that always falls on the upper end."""

    def uniform(self, a, b):
        return b


def waits(schedule, chance):
    """The waits after every attempt that fails, until there is none."""
    found = []
    while (wait_s := schedule.wait_s(len(found) + 1, chance, None)) is not None:
        found.append(wait_s)
    return found


# --- the schedule -----------------------------------------------------------------------------------------------------


def test_the_default_is_the_example_of_the_specification_ten_attempts_in_three_days():
    schedule = Schedule()
    assert schedule.attempts_max == 10
    assert waits(schedule, Least()) == [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]
    assert sum(waits(schedule, Least())) == 75 * HOUR_S + 35 * 60 + 5
    assert sum(waits(schedule, Most())) < 91 * HOUR_S


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("5,300,1800", (5, 300, 1800), id="three"),
        pytest.param(" 5 , 300\t", (5, 300), id="blanks"),
        pytest.param("0.05", (0.05,), id="a decimal"),
        pytest.param("10,5,10", (10, 5, 10), id="any order"),
        pytest.param("0.000000000001", (1e-12,), id="the shortest"),
        pytest.param("604800", (WAIT_MAX_S,), id="a week"),
        pytest.param(",".join(["1"] * WAITS_MAX), (1,) * WAITS_MAX, id="the most"),
        pytest.param("", (), id="nothing"),
        pytest.param("  ", (), id="blanks only"),
        pytest.param("none", (), id="none"),
        pytest.param(" None ", (), id="None"),
        pytest.param(",".join(f"{wait:.0f}" for wait in WAITS_S), WAITS_S, id="the default"),
    ],
)
def test_schedules_that_are_taken(text, expected):
    schedule = Schedule.parse(text)
    assert schedule.waits_s == expected
    assert schedule.attempts_max == len(expected) + 1
    assert waits(schedule, Least()) == list(expected)


@pytest.mark.parametrize(
    "text",
    [
        "0", "0.0", "-5", "+5", "604800.000001", "604801", "9" * 12, "9" * 400, "1e3", "inf", "nan", "1_000", "0x10",
        "5s", "5;300", "5 300", "5,", ",5", ",", "5,,300", "5,none", "none,none", ".5", "5.", "5,0", "５", "5\0",
        "0." + "0" * 400 + "1", "soon",
    ],
)  # fmt: skip
def test_what_is_no_wait_is_refused(text):
    with pytest.raises(InvalidInput) as caught:
        Schedule.parse(text)
    assert str(caught.value).startswith(f"{OPTION}: '")
    assert "604800 (7 days)" in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_schedule_of_too_many_waits_is_refused():
    with pytest.raises(InvalidInput, match=f"has {WAITS_MAX + 1} waits, at most {WAITS_MAX}"):
        Schedule.parse(",".join(["1"] * (WAITS_MAX + 1)))


# --- one wait ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempt", range(1, 10))
def test_a_wait_is_never_shorter_than_the_schedule_and_at_most_a_fifth_longer(attempt):
    chance = random.Random(attempt)
    found = [Schedule().wait_s(attempt, chance, None) for _ in range(2_000)]
    least_s = WAITS_S[attempt - 1]
    assert least_s <= min(found) < least_s * 1.01
    assert least_s * (JITTER_MAX - 0.01) < max(found) <= least_s * JITTER_MAX
    tenths = [sum(least_s * (1 + n / 50) <= wait < least_s * (1 + (n + 1) / 50) for wait in found) for n in range(10)]
    assert min(tenths) > 130, "the waits are not spread evenly"


@pytest.mark.parametrize("asked_s", [None, 0.0, 60.0, 1e9])
@pytest.mark.parametrize(
    ("schedule", "attempt"), [(Schedule(), 10), (Schedule(), 11), (Schedule(()), 1), (Schedule((5,)), 2)]
)
def test_after_the_last_attempt_there_is_none_whatever_the_receiver_asks(schedule, attempt, asked_s):
    assert schedule.wait_s(attempt, random.Random(1), asked_s) is None


@pytest.mark.parametrize("attempt", [0, -1])
def test_attempts_are_counted_from_one(attempt):
    with pytest.raises(ValueError, match="from 1"):
        Schedule().wait_s(attempt, random.Random(1), None)


@pytest.mark.parametrize(
    ("attempt", "asked_s", "least_s"),
    [
        pytest.param(1, None, 5, id="nothing asked"),
        pytest.param(1, 0.0, 5, id="at once: the schedule holds"),
        pytest.param(1, 4.0, 5, id="sooner: the schedule holds"),
        pytest.param(1, 60.0, 60, id="later: as asked"),
        pytest.param(2, 60.0, 300, id="sooner than the second wait"),
        pytest.param(1, RETRY_AFTER_MAX_S, DAY_S, id="a day"),
        pytest.param(1, 1e12, DAY_S, id="thousands of years: a day"),
        pytest.param(1, float("inf"), DAY_S, id="for ever: a day"),
        pytest.param(9, 1e12, DAY_S, id="the last wait is a day anyway"),
        pytest.param(1, -5.0, 5, id="before now"),
    ],
)
def test_what_a_receiver_asks_makes_a_wait_longer_never_shorter_and_not_endless(attempt, asked_s, least_s):
    assert Schedule().wait_s(attempt, Least(), asked_s) == least_s
    assert Schedule().wait_s(attempt, Most(), asked_s) == pytest.approx(least_s * JITTER_MAX)


def test_a_wait_of_the_schedule_that_is_longer_than_a_day_is_kept():
    assert Schedule.parse("604800").wait_s(1, Least(), 1e12) == WAIT_MAX_S


# --- Retry-After ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param(None, None, id="none"),
        pytest.param("0", 0, id="at once"),
        pytest.param("120", 120, id="two minutes"),
        pytest.param(" 120\t", 120, id="blanks around"),
        pytest.param("00120", 120, id="leading zeros"),
        pytest.param("86400", DAY_S, id="a day"),
        pytest.param("86401", DAY_S, id="more than a day"),
        pytest.param("99999999999", DAY_S, id="thousands of years"),
        pytest.param("9" * 8_000, DAY_S, id="more digits than Python counts"),
        pytest.param("Sun, 22 Nov 2026 03:02:00 GMT", 120, id="IMF-fixdate"),
        pytest.param("Sunday, 22-Nov-26 03:02:00 GMT", 120, id="RFC 850"),
        pytest.param("Sun Nov 22 03:02:00 2026", 120, id="asctime"),
        pytest.param("Tue Dec  1 03:00:00 2026", DAY_S, id="asctime, one digit"),
        pytest.param("Sun, 22 Nov 2026 04:02:00 +0100", 120, id="another zone"),
        pytest.param("Sun, 22 Nov 2026 03:02:00 UTC", 120, id="UTC"),
        pytest.param("Sun, 22 Nov 2026 03:00:00 GMT", 0, id="now"),
        pytest.param("Sun, 22 Nov 2026 02:59:59 GMT", 0, id="a second ago"),
        pytest.param("Sun, 06 Nov 1994 08:49:37 GMT", 0, id="long ago"),
        pytest.param("Sunday, 06-Nov-94 08:49:37 GMT", 0, id="long ago, two digits"),
        pytest.param("Mon, 23 Nov 2026 03:00:01 GMT", DAY_S, id="more than a day ahead"),
        pytest.param("Fri, 31 Dec 9999 23:59:59 GMT", DAY_S, id="the end of time"),
        pytest.param("Fri, 31 Dec 9999 23:59:59 -2359", DAY_S, id="after the end of time"),
        pytest.param("", None, id="empty"),
        pytest.param("   ", None, id="blanks"),
        pytest.param("-5", None, id="negative"),
        pytest.param("+5", None, id="signed"),
        pytest.param("1.5", None, id="a decimal"),
        pytest.param("1e3", None, id="an exponent"),
        pytest.param("0x10", None, id="hexadecimal"),
        pytest.param("5, 10", None, id="two"),
        pytest.param("5 minutes", None, id="words"),
        pytest.param("soon", None, id="a word"),
        pytest.param("nan", None, id="nan"),
        pytest.param("inf", None, id="inf"),
        pytest.param("１２０", None, id="digits that are not ASCII"),
        pytest.param("²", None, id="a digit that int refuses"),
        pytest.param("Sun, 22 Növ 2026 03:02:00 GMT", None, id="a date that is not ASCII"),
        pytest.param("Tue, 31 Feb 2026 00:00:00 GMT", None, id="no day"),
        pytest.param("Sun, 22 Nov 2026 25:00:00 GMT", None, id="no hour"),
        pytest.param("Sun, 22 Nov 2026", None, id="half a date"),
        pytest.param("Sun, 22 Nov 99999999999999999999 03:00:00 GMT", None, id="no year"),
        pytest.param("2026-11-22T03:02:00Z", None, id="ISO 8601"),
        pytest.param("Sun, 22 Nov 2026 03:02:00 +99999999999999999999", None, id="no zone"),
        pytest.param(" , " * 3_000, None, id="long nonsense"),
    ],
)
def test_a_retry_after_is_a_time_to_wait_or_nothing(header, expected):
    assert retry_after_s(header, NOW_US) == expected


def test_a_date_counts_from_the_fraction_of_a_second_that_it_is():
    assert retry_after_s("Sun, 22 Nov 2026 03:02:00 GMT", NOW_US + 250_000) == pytest.approx(119.75)


@given(st.text(max_size=70) | st.text("0123456789+-:,. GMTSunNov", max_size=70))
@example("Sun, 22 Nov 2026 03:02:00 (")
def test_no_header_breaks_it_or_asks_for_more_than_a_day(header):
    asked_s = retry_after_s(header, NOW_US)
    assert asked_s is None or 0 <= asked_s <= RETRY_AFTER_MAX_S
