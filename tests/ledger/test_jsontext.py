"""JSON from outside: within the bounds of depth and number size, or refused with a clear error."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import jsontext
from ledger.errors import BadRequest, InvalidInput


def nested(depth, opening=b"[", closing=b"]"):
    return opening * depth + closing * depth


def objects(depth):
    return b'{"a":' * depth + b"1" + b"}" * depth


@pytest.mark.parametrize(
    ("raw", "good"),
    [
        (nested(64), True),
        (nested(65), False),
        (objects(64), True),
        (objects(65), False),
        (b"[" + nested(63) * 1 + b"]", True),
        (b"[" + b",".join([nested(63)] * 9) + b"]", True),
        (b"[" + b",".join([nested(63)] * 9 + [nested(64)]) + b"]", False),
        (b"[" + b",".join([b"[]"] * 1000) + b"]", True),
        (json.dumps(["[" * 1000]).encode(), True),
        (json.dumps(["\\" * 7, '"[{' * 1000, "]}"]).encode(), True),
        (json.dumps({'"' + "{" * 200: 1}).encode(), True),
        (b'["' + b"]" * 100 + b'",' + nested(64) + b"]", False),
        (b'["\\"' + b"]" * 100 + b'",' + nested(64) + b"]", False),
        (nested(100_000), False),
        (b"[" * 100_000, False),
    ],
)
def test_json_is_nested_at_most_64_levels_deep(raw, good):
    if good:
        assert jsontext.decode(raw) == json.loads(raw)
    else:
        with pytest.raises(InvalidInput, match="deeper than 64"):
            jsontext.decode(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b" ", b"nul", b"{", b"[1,]", b'{"a":}', b"{'a':1}", b"\xff", b'"\xff"', b'"\\ud800"',
        b'"\\udc00\\ud800"', b'"\n"',
        b"1 2", b"NaN", b"Infinity", b"01", b"\xef\xbb\xbf{}", b"[" * 10, b'"' + b"\\", b"\x00",
    ],
)  # fmt: skip
def test_what_is_no_json_is_a_bad_request(raw):
    with pytest.raises(BadRequest, match="The body is not JSON"):
        jsontext.decode(raw)


@pytest.mark.parametrize(
    ("number", "good"),
    [
        (2**63 - 1, True), (-(2**63), True), (2**63, False), (-(2**63) - 1, False), (2**64, False), (10**400, False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["{}", "[{}]", '{{"a": {{"b": [0, {}]}}}}'])
def test_an_integer_has_64_bits_wherever_it_stands(number, good, place):
    raw = place.format(number).encode()
    if good:
        assert jsontext.decode(raw) == json.loads(raw)
    else:
        with pytest.raises(InvalidInput, match=r"64 bits|out of range"):
            jsontext.decode(raw)


def test_a_refused_integer_is_named_by_its_place():
    with pytest.raises(InvalidInput) as refusal:
        jsontext.decode(b'{"metadata":{"n":18446744073709551616}}')
    assert refusal.value.faults[0]["where"] == "metadata.n"


@pytest.mark.parametrize("raw", [b"1e400", b"-1e400", b'{"a":1e999}'])
def test_a_number_beyond_a_double_is_refused(raw):
    with pytest.raises(InvalidInput, match="out of range"):
        jsontext.decode(raw)


@pytest.mark.parametrize(
    "raw", [b'"12345678901234567890123"', b'{"12345678901234567890123":1}', b"1.2345678901234567890123"]
)
def test_many_digits_that_are_no_integer_are_fine(raw):
    assert jsontext.decode(raw) == json.loads(raw)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(values, st.booleans())
def test_any_json_within_bounds_is_decoded_as_the_standard_library_does(value, is_ascii):
    raw = json.dumps(value, ensure_ascii=is_ascii).encode("utf-8", "replace")
    assert jsontext.decode(raw) == json.loads(raw)


HOSTILE = """
from ledger import jsontext
from ledger.errors import LedgerError
try:
    jsontext.decode(b"[]" * 65 + b'"' + b'\\\\"' * 500_000)
except LedgerError as error:
    print(type(error).__name__)
"""


def test_a_mebibyte_of_quotes_in_a_string_without_end_is_refused_like_any_other():
    """The limit is no measure of speed: a scan in square time takes three quarters of an hour, any other a moment."""
    found = subprocess.run([sys.executable, "-c", HOSTILE], capture_output=True, text=True, timeout=5, check=True)
    assert found.stdout in {"BadRequest\n", "InvalidInput\n"}
