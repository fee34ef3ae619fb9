"""Typed ids: made, derived for ever the same, and refused when malformed."""

import re
import uuid

import pytest

from ledger import ids
from ledger.errors import InvalidInput

GOOD = "6f9c2b1e-8a4d-4c3b-9e2f-0123456789ab"


@pytest.mark.parametrize("kind", ["job", "run", "user", "token"])
def test_a_made_id_is_a_random_uuid4_of_its_kind(kind):
    made = {ids.make(kind) for _ in range(50)}
    assert len(made) == 50
    for each in made:
        assert uuid.UUID(each.removeprefix(f"{kind}-")).version == 4
        assert ids.parse(each, kind) == each


@pytest.mark.parametrize(
    ("text", "kinds", "good"),
    [
        (f"job-{GOOD}", ["job"], True),
        (f"job-{GOOD}", ["run", "job"], True),
        (f"job-{GOOD}", ["run"], False),
        ("job-00000000-0000-0000-0000-000000000000", ["job"], True),
        (f"job-{GOOD.upper()}", ["job"], False),
        (f"JOB-{GOOD}", ["job"], False),
        (GOOD, ["job"], False),
        (f"job_{GOOD}", ["job"], False),
        (f"job-{GOOD.replace('-', '')}", ["job"], False),
        (f"job-{{{GOOD}}}", ["job"], False),
        (f"job-{GOOD}\n", ["job"], False),
        (f" job-{GOOD}", ["job"], False),
        (f"job-{GOOD}0", ["job"], False),
        (f"job-{GOOD[:-1]}g", ["job"], False),
        (f"job-{GOOD[:-1]}٣", ["job"], False),
        ("job-", ["job"], False),
        ("", ["job"], False),
        ("x" * 100_000, ["job"], False),
    ],
)
def test_an_id_is_its_kind_and_a_uuid_in_lower_case(text, kinds, good):
    assert ids.is_id(text, *kinds) is good
    if good:
        assert ids.parse(text, *kinds) == text
    else:
        with pytest.raises(InvalidInput) as refusal:
            ids.parse(text, *kinds, where="job_id")
        assert refusal.value.faults[0]["where"] == "job_id"
        assert len(str(refusal.value)) < 300


def test_a_derived_id_is_the_same_for_ever():
    assert ids.derive("job", "swf", "17") == "job-63245b8f-5ccc-412f-95ff-964c7b1ede96"


@pytest.mark.parametrize(
    "other", [("run", "swf", "17"), ("job", "swf", "18"), ("job", "swf1", "7"), ("job", "sw", "f17")]
)
def test_another_record_has_another_id_in_the_form_of_a_uuid4(other):
    derived = ids.derive(*other)
    assert derived != ids.derive("job", "swf", "17")
    assert ids.is_id(derived, other[0])
    assert re.fullmatch(r"\w+-.{8}-.{4}-4.{3}-[89ab].{3}-.{12}", derived)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("agent-1", True), ("Ä 漢字", True), ("x" * 256, True),
        ("", False), ("x" * 257, False), ("a\nb", False), ("a\x00", False), ("\x7f", False),
        ("\x85", False), ("\ud800", False),
    ],
)  # fmt: skip
def test_a_label_has_1_to_256_characters_and_no_controls(text, good):
    if good:
        assert ids.label(text, "agent_id") == text
    else:
        with pytest.raises(InvalidInput, match="agent_id"):
            ids.label(text, "agent_id")


def test_the_system_user_is_a_user():
    assert ids.is_id(ids.SYSTEM_USER, "user")
