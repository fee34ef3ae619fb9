"""Reports of real runs are right by their source: its files were read message by message, and the report agrees."""

import gzip
import json
from typing import NamedTuple

import pytest

from tests.cli.commandline import good
from tests.end_to_end.real_data import DATA, needs_data

pytestmark = needs_data

QWEN = "qwen2.5_7b_airline_default_gpt-4.1-2025-04-14_1trials.json"
TUNED = "ft_gpt-4.1-2025-04-14_sierra_tau2-full-sft_BzrYdMNm_telecom_default_gpt-4.1_1trials.json"
OSS_20B = "filesystem-gptoss-20b.run_1.results.jsonl"
OSS_120B = "filesystem-gptoss-120b.run_1.results.jsonl"
FORMAT = "You sent an empty message. Each message must contain either a text content"
CONSTRAINT = "[ToolConstraintError] Cannot call"
PASSENGERS = "Error: Number of passengers does not match"


class Read(NamedTuple):
    """What was read in the source: numbers of messages, from 1, where it first went wrong and where it last was good.

    ``text`` stands in what went wrong there; ``tool``: whose answer it is, None for what the model itself sent.
    """

    file: str
    run: str
    wrong: int | None
    tool: str | None
    text: str
    good: int


READ = [
    # The agent looks for plans that do not exist, ten in a row: P1005 in message 60 was the last that did.
    Read(
        TUNED,
        "eac5e8ee-ab9c-4b5d-9a2a-95958dbc7a6f",
        63,
        "get_details_by_id",
        "Error: Plan with ID P1006 not found",
        60,
    ),
    # Empty messages, and messages that both talk and call, until the last one cannot be mended.
    Read(QWEN, "4b4ca4a5-1654-492b-b86a-02e26e8f2874", 3, None, "verify your reservation detail", 12),
    Read(QWEN, "e54b70df-3199-4e1c-8ac1-4d98292cf4b8", 3, None, "provide me with your user ID", 6),
    Read(QWEN, "a23812b0-46b1-41db-8919-51d0c97d9482", 5, None, "thank you for providing your user ID", 18),
    Read(QWEN, "41cadac4-405e-4fd6-bc1d-6db813dd0cf9", 5, None, FORMAT, 6),
    Read(QWEN, "26287e9f-19e5-4991-8a47-8bd341bcb814", 7, None, FORMAT, 36),
    Read(QWEN, "89f2a48a-fdfa-462c-8ef1-0a04e87651ff", 33, None, FORMAT, 32),
    Read(QWEN, "86599d37-f2eb-4227-9e16-193b5fa2a0cf", 3, None, "confirm if this is a one-way", 36),
    Read(QWEN, "4bd34f8c-fe0f-45bd-bfe8-3fdaad409bfc", 7, None, "I can use your reservation code", 6),
    Read(QWEN, "1f27a1e0-ddc1-4f95-814b-94fb4b07a501", 5, None, FORMAT, 4),
    # The same wrong call ten times; the first had to be asked for again, too. The user's word in 70 was the last good.
    Read(QWEN, "8b4d82b4-b612-494c-ba78-d296374e1301", 5, None, FORMAT, 70),
    # Nothing goes wrong: it asks the same until its steps are used up.
    Read(TUNED, "cae68900-b90b-412c-a2d6-7b43e57275d7", None, None, "", 201),
    # Tools that do not exist, or are called with what they do not take; the last message is good all the same.
    Read(OSS_120B, "bc7c4e1d-0132-4f8a-886a-a7b43cd02e76", 10, "open_files <|constrain|>json", CONSTRAINT, 11),
    Read(OSS_20B, "d1a8541b-f1d1-44f2-b787-7ec63fc3c012", 4, "sematic_search_files", CONSTRAINT, 5),
    Read(OSS_20B, "72dce0cf-d47b-4d3e-8575-9720a4834a8c", 7, "grep_files", "unexpected keyword argument 'status'", 8),
    Read(OSS_20B, "0e3eba91-03a9-4e06-970b-d4c948e04913", 4, "sematic_search_files", CONSTRAINT, 11),
]


@pytest.fixture(scope="module")
def db(tmp_path_factory):
    path = tmp_path_factory.mktemp("reports") / "ledger.db"
    good("import", "--db", path, "--format", "tau2", *(DATA / "tau2-bench" / f"{name}.gz" for name in (QWEN, TUNED)))
    files = (DATA / "letta-evals" / f"{name}.gz" for name in (OSS_20B, OSS_120B))
    good("import", "--db", path, "--format", "letta-evals", *files)
    return path


def simulations(file):
    with gzip.open(DATA / "tau2-bench" / f"{file}.gz") as raw:
        return json.load(raw)["simulations"]


def messages_of(db, run):
    """The positions of the messages of a run in the log, in order, and the ids of their steps."""
    events = good("log", "--json", "--db", db, run).json
    said = [event for event in events if event["type"] == "run.message"]
    return [(event["position"], event["data"]["message"].get("step_id")) for event in said]


@pytest.mark.parametrize("read", READ, ids=lambda read: read.run[:8])
def test_the_first_error_and_the_last_good_step_are_those_of_the_source(db, read):
    run = f"run-{read.run}"
    report = good("report", "--json", "--full", "--db", db, run).json
    said = messages_of(db, run)
    first = report["first_error"]
    if read.wrong is None:
        assert (first, report["errors"]) == (None, [])
    else:
        position, step_id = said[read.wrong - 1]
        assert (first["position"], first["step_id"]) == (position, step_id)
        assert first["kind"] == ("format" if read.tool is None else "tool")
        assert (first["tool"] or "").startswith(read.tool or "")
        assert read.text in first["message"]["text"]
    assert report["last_good_step"]["id"] == said[read.good - 1][1]


@pytest.mark.parametrize("file", [QWEN, TUNED])
def test_in_every_run_of_a_file_they_are_what_a_reader_of_the_source_finds(db, file):
    for simulation in simulations(file):
        told = simulation["messages"]
        wrong = next((number for number, each in enumerate(told) if each.get("errors") or each.get("error")), None)
        fine = last_good(told)
        run = f"run-{simulation['id']}"
        report, said = good("report", "--json", "--db", db, run).json, messages_of(db, run)
        assert (report["first_error"] or {}).get("position") == (None if wrong is None else said[wrong][0]), run
        assert report["last_good_step"]["id"] == said[fine][1], run
        calls = sum(len(each.get("tool_calls") or ()) for each in told)
        assert report["header"]["tool_calls"] == calls
        costs = {name: simulation[name] for name in ("agent_cost", "user_cost") if simulation[name] is not None}
        assert report["header"]["costs"] == costs


def last_good(told):
    """The index of the last message of agent or user without format errors, none of whose tools gave an error back."""
    found, is_good = None, False
    for index, each in enumerate(told):
        if each["role"] != "tool":
            start, is_good = index, not each["errors"]
        elif each["error"]:
            is_good = False
        if is_good and (index + 1 == len(told) or told[index + 1]["role"] != "tool"):
            found = start
    return found


LOOPS = [  # the call, how often it is made in a row, and the first and last message that makes it
    ("cae68900-b90b-412c-a2d6-7b43e57275d7", 'get_details_by_id({"id":"P1002"})', 96, 11, 201),
    ("c11efbca-2e69-4fbd-8587-3fa343f6f784", 'get_details_by_id({"id":"L1002"})', 67, 69, 201),
    ("ac425abd-7a2d-4f00-a617-ea310c175597", 'get_data_usage({"customer_id":"C1001","line_id":"L1002"})', 64, 75, 201),
]


@pytest.mark.parametrize(("run", "call", "count", "first", "last"), LOOPS)
def test_a_run_that_used_up_its_steps_asking_the_same_is_told_so(db, run, call, count, first, last):
    run = f"run-{run}"
    report = good("report", "--json", "--db", db, run).json
    said = messages_of(db, run)
    (loop,) = report["loops"]
    assert (loop["count"], loop["same_answer"], len(loop["positions"])) == (count, True, count)
    assert (loop["positions"][0], loop["positions"][-1]) == (said[first - 1][0], said[last - 1][0])
    numbers = {step["id"]: step["number"] for step in report["steps"]}
    steps = (numbers[said[first - 1][1]], numbers[said[last - 1][1]])
    assert loop["name"] == f"{call} {count} times in a row, steps {steps[0]}–{steps[1]}"
    assert loop["name"] in report["verdict"]
    # And a person sees it on the first screen
    assert any(loop["name"] in line for line in good("report", "--db", db, run).out.splitlines()[:12])


def test_the_same_wrong_call_is_named_as_a_loop_and_each_as_a_retry(db):
    report = good("report", "--json", "--db", db, "run-8b4d82b4-b612-494c-ba78-d296374e1301").json
    said = messages_of(db, "run-8b4d82b4-b612-494c-ba78-d296374e1301")
    (loop,) = report["loops"]
    calls = [5, 9, 21, 31, 37, 43, 51, 57, 63, 71]  # each answered by the message after it: PASSENGERS
    assert (loop["count"], loop["positions"]) == (10, [said[number - 1][0] for number in calls])
    again = [each for each in report["retries"] if each["kind"] == "tool"]
    assert [(each["position"], each["later"], each["succeeded"]) for each in again] == [
        (position, 1, False) for position in loop["positions"][1:]
    ]
    assert [each["message"]["text"] for each in report["errors"] if each["kind"] == "tool"] == [PASSENGERS] * 10


def test_times_apart_add_up_and_every_event_is_in_the_timeline(db):
    for run in (f"run-{read.run}" for read in READ):
        report = good("report", "--json", "--db", db, run).json
        times, header = report["header"]["durations"], report["header"]
        assert times["queue_s"] + times["working_s"] + times["idle_s"] == pytest.approx(times["total_s"], abs=2e-6)
        assert len(report["timeline"]) == header["events"]
        gaps = sum(entry["gap_s"] for entry in report["timeline"])
        assert gaps == pytest.approx(times["total_s"], abs=1e-5)
