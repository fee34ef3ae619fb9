"""Failures of real agents, grouped by cause: counted as their sources say."""

import gzip
import json
import re
from collections import Counter

import pytest

from tests.cli.commandline import good
from tests.end_to_end.real_data import DATA, needs_data

pytestmark = needs_data
LETTA = sorted((DATA / "letta-evals").glob("*.jsonl.gz"))
TAU2 = sorted((DATA / "tau2-bench").glob("*.json.gz"))
NAME = re.compile(r"[\w.-]+")
"""The part of a tool's name that is one: models added half a conversation to it."""


def read(path):
    with gzip.open(path, "rt") as file:
        return file.read()


def letta_errors():
    """What tools gave back as an error: the tool that was called, and what it said."""
    for path in LETTA:
        for line in read(path).splitlines():
            names = {}
            for message in (each for turn in json.loads(line)["result"]["trajectory"] for each in turn):
                if message["message_type"] == "tool_call_message":
                    names[message["tool_call"]["tool_call_id"]] = message["tool_call"]["name"]
                elif message.get("status") == "error":
                    yield names[message["tool_call_id"]], message["tool_return"]


def simulations():
    for path in TAU2:
        yield from json.loads(read(path))["simulations"]


@pytest.fixture(scope="module")
def db(tmp_path_factory):
    """All runs of agents; the README's test has schedulers, too."""
    path = tmp_path_factory.mktemp("failures") / "ledger.db"
    for format, files in (("tau2", TAU2), ("letta-evals", LETTA)):
        good("import", "--db", path, "--format", format, *files)
    return path


def failures(db, *options):
    return good("failures", "--db", db, "--json", "--limit", "1000", *options).json


def count(rows, *fields):
    found = Counter()
    for row in rows:
        found[tuple(row[field] for field in fields)] += row["count"]
    return found


def test_runs_are_grouped_by_how_and_why_they_ended(db):
    # given
    ends = Counter(each["termination_reason"] for each in simulations())
    # when
    rows = failures(db, "--kind", "run")
    # then
    assert count(rows, "status", "stop_reason", "error_type") == {
        ("failed", "invalid_llm_response", "agent_error"): ends["agent_error"],
        ("failed", "invalid_tool_call", "too_many_errors"): ends["too_many_errors"],
        ("completed", "max_steps", None): ends["max_steps"],
    }
    assert (ends["agent_error"], ends["too_many_errors"], ends["max_steps"]) == (9, 2, 5)
    empty, both = (row for row in rows if row["error_type"] == "agent_error")
    assert (empty["count"], "an empty message" in empty["message"]) == (8, True)
    assert (both["count"], "with both text content and tool calls" in both["message"]) == (1, True)


def test_tool_errors_of_letta_are_grouped_by_tool_and_cause(db):
    # given
    told = list(letta_errors())
    assert len(told) == 43
    constrained = Counter(NAME.match(name)[0] for name, said in told if said.startswith("[ToolConstraintError]"))
    others = Counter(NAME.match(name)[0] for name, said in told if not said.startswith("["))
    # when
    rows = failures(db, "--kind", "tool", "--since", "2025-10-01")
    # then: whatever a model called a tool, each has the one cause, and each of the other causes is one
    by_cause = [row for row in rows if row["error_type"] == "ToolConstraintError"]
    assert {row["tool"]: row["count"] for row in by_cause} == constrained
    assert len({row["message"] for row in by_cause}) == 1
    assert {tool: n for (tool,), n in count([row for row in rows if row not in by_cause], "tool").items()} == others


def test_tool_errors_and_messages_of_no_format_of_tau2_are_all_there(db):
    # given
    messages = [message for each in simulations() for message in each["messages"]]
    errors = sum(1 for message in messages if message["role"] == "tool" and message["error"])
    malformed = sum(1 for message in messages if message.get("errors"))
    # when
    tools = count([row for row in failures(db, "--kind", "tool") if row["last_seen"] < "2025-10"], "kind")
    steps = failures(db, "--kind", "step")
    # then
    assert (tools["tool",], errors) == (104, 104)
    assert (count(steps, "error_type"), malformed) == ({("format_error",): 148}, 148)
    assert len(steps) <= 4  # though each quotes what the model said


def test_with_and_without_views_the_answer_is_the_same(db, tmp_path):
    good("backup", "--db", db, tmp_path / "copy.db")
    assert failures(tmp_path / "copy.db") == failures(db)
