"""Times: ISO 8601 outside, microseconds inside, nothing lost on the way."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import times
from ledger.errors import InvalidInput

FIRST_US, LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999


@pytest.mark.parametrize(
    ("text", "time_us"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000001Z", 1),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("1970-01-02", 86_400_000_000),
        ("1970-01-01T01:00", 3_600_000_000),
        ("1970-01-01 01:00:00", 3_600_000_000),
        ("1970-01-01t01:00:00z", 3_600_000_000),
        ("1970-01-01T00:00:00.5", 500_000),
        ("1970-01-01T00:00:00,25Z", 250_000),
        ("1970-01-01T00:00:00.123456789Z", 123_456),
        ("1970-01-01T02:30:00+02:30", 0),
        ("1970-01-01T00:00:00-0100", 3_600_000_000),
        ("1970-01-01T00:00:00-00:00", 0),
        ("2000-02-29T12:00:00Z", 951_825_600_000_000),
        ("0001-01-01T00:00:00Z", FIRST_US),
        ("9999-12-31T23:59:59.999999Z", LAST_US),
    ],
)
def test_a_time_is_read_as_utc_microseconds(text, time_us):
    assert times.from_text(text) == time_us


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "1970", "1970-1-1", "19700101", "1970-01-01T", "1970-01-01T1", "1970-01-01Z", "1970-13-01",
        "1970-02-30", "2001-02-29", "1970-01-01T24:00:00", "1970-01-01T00:60:00", "1970-01-01T00:00:60Z",
        "1970-01-01T00:00:00.Z", "1970-01-01T00:00:00.1234567890Z", "1970-01-01T00:00:00+25:00", "1970-01-01Zx",
        "1970-01-01T00:00:00Z\n", " 1970-01-01", "0000-01-01", "10000-01-01", "-001-01-01", "1970-W01-1",
        "\u0661970-01-01", "1970-01-01T00:00:00\u2212" + "01:00", "0", "1e9", "x" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused_in_a_short_sentence(text):
    with pytest.raises(InvalidInput, match="created_after") as refusal:
        times.from_text(text, "created_after")
    assert len(str(refusal.value)) < 200


@settings(max_examples=300, derandomize=True)
@given(
    st.one_of(st.integers(FIRST_US, LAST_US), st.integers(-3 * 10**8, 3 * 10**8), st.just(FIRST_US), st.just(LAST_US))
)
def test_a_time_written_and_read_again_is_the_same(time_us):
    text = times.to_text(time_us)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    assert text == moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
    assert times.from_text(text) == time_us


def test_a_text_has_microseconds_and_z():
    assert times.to_text(1_795_318_726_918_194) == "2026-11-22T03:38:46.918194Z"
    assert times.to_text(0) == "1970-01-01T00:00:00.000000Z"


def test_more_days_than_are_kept_in_memory_come_out_right_too():
    days = range(0, 86_400_000_000 * 9000, 86_400_000_000)
    texts = [times.to_text(day_us) for day_us in days]
    assert len(set(texts)) == 9000
    assert [times.to_text(day_us) for day_us in days] == texts


@pytest.mark.parametrize(
    ("time_us", "good"),
    [(FIRST_US, True), (LAST_US, True), (0, True), (FIRST_US - 1, False), (LAST_US + 1, False), (2**70, False)],
)
def test_a_time_is_one_that_a_calendar_can_show(time_us, good):
    if good:
        assert times.check_range(time_us, "time") == time_us
    else:
        with pytest.raises(InvalidInput, match="years 1 to 9999"):
            times.check_range(time_us, "time")


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_zone_can_move_a_time_out_of_the_calendar(text):
    with pytest.raises(InvalidInput):
        times.check_range(times.from_text(text), "time")
