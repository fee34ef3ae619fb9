"""No input of any parser leads to anything but a value that means the same when it is read again, or a clear error."""

import re
from pathlib import Path

import pytest

from tests.fuzz.attack import Target, attack
from tests.fuzz.requests import requests
from tests.fuzz.targets import ELSEWHERE, TARGETS

SEED, INPUTS, REQUESTS = 7, 400, 300
"""With these all parsers together take about 9 s of one core; ``scripts/fuzz`` looks for longer."""
ROOT = Path(__file__).parent.parent.parent
PARSER = re.compile(
    r"parse|parse_(keys|body)|load|decode|from_(text|bytes)|convert|read_(keys|note|bytes)|check_url|verify(_\w+)?"
)
"""What functions are called that read what somebody else wrote."""
DEFINED = re.compile(r"^\s*(?:async )?def (\w+)", re.MULTILINE)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_hostile_input_is_refused_clearly_or_means_something(target):
    tally = attack(target, SEED, range(max(1, INPUTS // target.weight)))
    assert not tally.failures, "\n".join(map(str, tally.failures))


def test_hostile_requests_are_answered_as_documented_and_record_nothing_by_halves():
    with requests() as target:
        tally = attack(target, SEED, range(REQUESTS))
    assert not tally.failures, "\n".join(map(str, tally.failures))


def test_every_function_that_is_named_like_a_parser_is_in_the_table():
    fed = {name for target in TARGETS for name in target.covers} | set(ELSEWHERE)
    found = set()
    for package in ("ledger", "projections", "server"):
        for path in (ROOT / package).rglob("*.py"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found |= {f"{module}.{name}" for name in DEFINED.findall(path.read_text()) if PARSER.fullmatch(name)}
    assert found <= fed, f"not in tests/fuzz/targets.py: {sorted(found - fed)}"


def raise_key_error(raw):
    raise KeyError(raw)


def go_on_for_ever(raw):
    while raw:
        raw = bytes(reversed(raw))


def refuse_without_a_word(raw):
    raise ValueError


def believe_anything(raw):
    assert raw == b"something else", "it is not what was signed"


@pytest.mark.parametrize(
    ("feed", "said"),
    [
        (raise_key_error, "KeyError"),
        (go_on_for_ever, "it took more than 0.05 s of work"),
        (refuse_without_a_word, "says nothing"),
        (believe_anything, "it is not what was signed"),
    ],
)
def test_an_attack_tells_of_what_a_parser_must_not_do_and_how_to_see_it_again(feed, said, monkeypatch):
    monkeypatch.setattr("tests.fuzz.attack.WORK_MAX_S", 0.05)
    tally = attack(Target("broken", feed, lambda: [b"x"], refusals=(ValueError,)), 1, range(3, 4))
    (failure,) = tally.failures
    assert said in failure.error
    assert str(failure).startswith("scripts/fuzz --only 'broken' --seed 1 --input 3")
