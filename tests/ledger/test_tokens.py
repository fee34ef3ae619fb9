"""Tokens: their form, their checksum, and which of them are in force."""

import re
from hashlib import sha256
from typing import Any

import pytest

from ledger import tokens
from tests.ledger.histories import ACTOR, START_US, event, id_of

TOKEN = "jl_" + "A" * 43 + "_"


def granted(number, text="one", *, position, **more):
    data = {"user_id": "user-1", "scopes": ["read"], "token_sha256": tokens.digest(text), **more}
    return event("access.granted", data, stream=id_of("token", number), position=position, time=START_US + position)


def revoked(number, *, position):
    return event("access.revoked", {}, stream=id_of("token", number), position=position, version=2)


def test_a_new_token_is_random_and_well_formed():
    made = {tokens.mint() for _ in range(50)}
    assert len(made) == 50
    for each in made:
        assert re.fullmatch(r"jl_[A-Za-z0-9_-]{43}_[0-9a-z]{7}", each)
        assert tokens.is_well_formed(each)


def test_the_checksum_is_the_same_for_ever():
    assert tokens.checksum("A" * 43) == "03dk0p2"
    assert tokens.checksum("") == "0000000"


def test_every_typing_error_of_one_character_is_found():
    good = TOKEN + tokens.checksum("A" * 43)
    assert tokens.is_well_formed(good)
    for at in range(len(good)):
        for wrong in "aB0-_ é":
            if wrong != good[at]:
                assert not tokens.is_well_formed(good[:at] + wrong + good[at + 1 :])
        assert not tokens.is_well_formed(good[:at] + good[at + 1 :])
        assert not tokens.is_well_formed(good[:at] + "x" + good[at:])


@pytest.mark.parametrize("text", ["", "jl_", "Bearer jl_x", TOKEN, "jl_" + "A" * 10**6])
def test_what_has_no_token_s_form_is_none(text):
    assert not tokens.is_well_formed(text)


def test_only_the_sha_256_of_a_token_is_kept():
    assert tokens.digest("jl_x") == sha256(b"jl_x").hexdigest()


def test_a_granted_token_is_in_force_with_all_that_was_granted():
    access = tokens.Access()
    access.apply([granted(1, position=4, project_id="p", scopes=["read", "admin"], expires_us=START_US + 9)])
    found: Any = access.find("one", START_US)
    assert (found.id, found.user_id, found.scopes) == (id_of("token", 1), "user-1", frozenset({"read", "admin"}))
    assert (found.project_id, found.expires_us) == ("p", START_US + 9)
    assert (found.granted_us, found.granted_by) == (START_US + 4, ACTOR)
    assert access.get(id_of("token", 1)) == found
    assert access.find("another", START_US) is None
    assert access.position == 4


@pytest.mark.parametrize(("now", "in_force"), [(-1, True), (0, False), (1, False)])
def test_a_token_ends_at_its_expiry(now, in_force):
    access = tokens.Access()
    access.apply([granted(1, position=1, expires_us=START_US)])
    assert (access.find("one", START_US + now) is not None) is in_force


def test_a_revoked_token_is_in_force_no_more_and_the_others_stay():
    access = tokens.Access()
    access.apply([granted(1, position=1), granted(2, "two", position=2), revoked(1, position=3)])
    assert access.find("one", START_US) is None
    assert access.get(id_of("token", 1)) is None
    assert [grant.id for grant in access.all()] == [id_of("token", 2)]
    access.apply([revoked(9, position=4)])
    assert access.find("two", START_US) is not None


def test_events_that_come_again_are_passed_over():
    access, events = tokens.Access(), [granted(1, position=1), revoked(1, position=2)]
    access.apply(events)
    access.apply(events[:1])
    assert access.find("one", START_US) is None


def test_events_of_other_types_are_passed_over():
    access = tokens.Access()
    access.apply([event("job.created", {"user_id": "u"}), granted(1, position=2)])
    assert [grant.id for grant in access.all()] == [id_of("token", 1)]


def test_all_grants_come_oldest_first():
    access = tokens.Access()
    access.apply([granted(number, f"t{number}", position=position) for position, number in enumerate((3, 1, 2), 1)])
    assert [grant.id for grant in access.all()] == [id_of("token", number) for number in (3, 1, 2)]
