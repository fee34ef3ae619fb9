"""Passed and failed trials of the same tau2 tasks: where they part, as read in the source files by hand.

The numbers are those of the messages in the files' JSON, from 1. Two fine-tuned and plain GPT-4.1 agents solved the
same telecom tasks; a user whom a model played talks to them, and calls tools of their own.
"""

import json
from typing import NamedTuple

import pytest

from ledger import Ledger
from projections.diff import diff
from tests.cli.commandline import good
from tests.end_to_end.real_data import DATA, needs_data

pytestmark = needs_data

FILES = [
    DATA / "tau2-bench" / f"{name}_telecom_default_gpt-4.1_1trials.json.gz"
    for name in ("gpt-4.1", "ft_gpt-4.1-2025-04-14_sierra_tau2-full-sft_BzrYdMNm")
]


class Pair(NamedTuple):
    """Two trials of one task, the first passed, the second failed; where words and the agent's calls first part."""

    passed: str
    failed: str
    words: tuple[int, int]
    who: str
    action: tuple[int, int | None]
    calls: tuple[str, str | None]


PAIRS = [
    # Abroad without roaming: the failed agent took the first of the customer's lines for theirs, and changed that.
    Pair(
        "869bf7c6-d6a4-453d-9294-b6a657c3047e",
        "75519eda-d819-47a8-b714-5b9176fd4692",
        (3, 3), "agent", (9, 11), ("get_details_by_id", "enable_roaming"),
    ),
    # A contract that ended: the failed agent never looked at the line.
    Pair(
        "172939d8-e1f4-4509-bbfe-961587484063",
        "377d9013-f43e-4b90-b271-ff6d1d46e24c",
        (3, 3), "agent", (7, None), ("get_details_by_id", None),
    ),
    # A locked SIM: the failed agent did not transfer the customer. The users quoted "No Service" and 'No Service'.
    Pair(
        "000ee2d3-0c50-4e99-9506-3d52d41e60d8",
        "694314c0-de74-4240-a614-d7c12cb335b3",
        (2, 2), "user", (15, None), ("transfer_to_human_agents", None),
    ),
    # A contract that ended, again: the failed agent had a bill paid and resumed the line, which the policy forbids.
    Pair(
        "b1387894-ebfc-40f1-9fc2-d67d198d1c71",
        "4d9b4442-7a59-4c93-aa16-359d10b29f42",
        (2, 2), "user", (11, 29), ("transfer_to_human_agents", "get_bills_for_customer"),
    ),
]  # fmt: skip
ids = [pair.passed[:8] for pair in PAIRS]


@pytest.fixture(scope="module")
def db(tmp_path_factory):
    path = tmp_path_factory.mktemp("tau2") / "ledger.db"
    good("import", "--db", path, "--format", "tau2", *FILES)
    return path


@pytest.fixture
async def histories(db):
    async with Ledger.open(db, read_only=True) as ledger:
        yield ledger


def place(said):
    return None if said is None else said.number


def tool(said):
    return None if said is None else said.calls[0].tool


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
async def test_a_passed_and_a_failed_trial_part_where_the_source_says(histories, pair):
    # Given two trials of one task, when they are compared
    found = diff(await histories.read(f"run-{pair.passed}"), await histories.read(f"run-{pair.failed}"))
    assert (found.a.reward, found.b.reward) == (1.0, 0.0)
    # Then the first words that differ are those of the file, and so is the agent's first call
    words, action = found.first_divergence, found.first_divergent_action
    assert (place(words.a), place(words.b)) == pair.words
    assert words.a.who == words.b.who == pair.who
    assert (place(action.a), place(action.b)) == pair.action
    assert (tool(action.a), tool(action.b)) == pair.calls
    assert "metadata" in {each.what for each in found.metadata}


async def test_what_the_environment_answered_otherwise_is_told(histories):
    # Given the pair in which roaming was switched on for another line, when both measure their speed
    pair = PAIRS[0]
    found = diff(await histories.read(f"run-{pair.passed}"), await histories.read(f"run-{pair.failed}"))
    # Then the same call gave different things back
    told = [(each.call_a.number, each.call_b.number, each.tool, each.differs[0].b) for each in found.returns]
    assert (26, 14, "run_speed_test", "Speed test failed: No Connection.") in told


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_the_command_puts_it_on_top(db, pair):
    lines = good("diff", "--db", db, f"run-{pair.passed}", f"run-{pair.failed}").out.splitlines()
    heads = [line for line in lines if line.startswith("First ")]
    assert f"message {pair.words[0]} of a, message {pair.words[1]} of b" in heads[0]
    assert f"message {pair.action[0]} of a" in heads[1]
    assert heads == [line for line in lines[:20] if line.startswith("First ")]
    told = json.loads(good("diff", "--json", "--db", db, f"run-{pair.passed}", f"run-{pair.failed}").out)
    assert told["first_divergent_action"]["a"]["number"] == pair.action[0]
