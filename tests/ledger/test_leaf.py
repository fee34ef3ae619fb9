"""Leaves against the contract's own words: any text, any number, absent values, erased payloads."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import leaf
from ledger.events import Recorded
from tests.ledger import histories
from tests.ledger.histories import event

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
number = st.integers(-(2**63), 2**63 - 1)
events = st.builds(
    Recorded,
    position=number, stream=text, version=number, type=text, schema=number, time=number, recorded=number, actor=text,
    key=st.none() | text, correlation=st.none() | text, data=st.binary(max_size=40), salt=st.binary(max_size=16),
)  # fmt: skip


@settings(max_examples=300, derandomize=True, deadline=None)
@given(events)
def test_a_leaf_is_what_the_contract_says_of_any_event(found):
    assert leaf.leaf_data(found) == histories.leaf_data(found)
    assert leaf.leaf_hash(found) == histories.leaf_hash(found)


@pytest.mark.parametrize(
    "code", [*range(0x20), 0x22, 0x2F, 0x5C, 0x7F, 0x80, 0x9F, 0xFF, 0x2028, 0x2029, 0xFEFF, 0xFFFF, 0x1F989]
)
def test_every_character_that_json_may_write_in_two_ways_is_written_in_one(code):
    found = event("job.created", key=chr(code), correlation=f"a{chr(code)}b")
    assert leaf.leaf_data(found) == histories.leaf_data(found)


def test_the_leaf_of_an_event_is_this_one_for_ever():
    found = event("job.created", {"user_id": "é"}, key="k", time=1_700_000_000_000_001)
    assert leaf.leaf_data(found).decode() == (
        '[1,"job-00000000-0000-4000-8000-000000000001",1,"job.created",1,1700000000000001,1700000000000001,'
        '"user-00000000-0000-4000-8000-0000000000aa","k",null,'
        '"fe2095abb8397dc9ca697addc2624b9c953136864abc9556b1a8ab0358a48b7f"]'
    )


def test_erasing_the_data_leaves_the_leaf_as_it_was():
    found = event("job.created", {"user_id": "u"})
    erased = event("job.created", raw=None, salt=None, digest=leaf.payload_digest(found))
    assert leaf.leaf_hash(erased) == leaf.leaf_hash(found)


@pytest.mark.parametrize(
    "field", ["position", "stream", "version", "type", "schema", "time", "recorded", "actor", "key"]
)
def test_another_value_of_any_field_is_another_leaf(field):
    found = event("job.created", key="k")
    value = getattr(found, field)
    facts = {name: getattr(found, name) for name in found.__struct_fields__}
    other = Recorded(**{**facts, field: value + 1 if isinstance(value, int) else value + "x"})
    assert leaf.leaf_hash(other) != leaf.leaf_hash(found)


def test_another_salt_or_other_data_is_another_leaf():
    hashes = {
        leaf.leaf_hash(event("job.created", raw=data, salt=salt))
        for data in (b"{}", b"{ }")
        for salt in (b"a" * 16, b"b" * 16)
    }
    assert len(hashes) == 4
