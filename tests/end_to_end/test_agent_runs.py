"""Real runs of agents, 300 of letta-evals and 230 of tau2-bench: counted as their README counts, and to the letter."""

import gzip
import json
import sqlite3
from collections import Counter, defaultdict
from typing import NamedTuple

import pytest

from ledger import ids
from ledger.times import from_text
from tests.cli.commandline import good
from tests.end_to_end.real_data import DATA, needs_data

pytestmark = needs_data

LETTA = sorted((DATA / "letta-evals").glob("*.jsonl.gz"))
TAU2 = sorted((DATA / "tau2-bench").glob("*.json.gz"))


class Told(NamedTuple):
    """A row of the README's tables: what it says of one file."""

    runs: int
    messages: int
    tool_errors: int
    prompt_tokens: int
    completion_tokens: int


LETTA_FILES = {  # with the steps that the README counts
    "filesystem-gptoss-120b.run_1.results.jsonl": (Told(100, 1013, 1, 12_417_123, 680_199), 371),
    "filesystem-gptoss-120b.run_2.results.jsonl": (Told(100, 998, 0, 12_089_939, 709_904), 366),
    "filesystem-gptoss-20b.run_1.results.jsonl": (Told(100, 686, 42, 8_629_718, 464_777), 262),
}
FINE_TUNED = "ft_gpt-4.1-2025-04-14_sierra_tau2-full-sft_BzrYdMNm_telecom_default_gpt-4.1"
TAU2_FILES = {  # with the messages that had format errors, and how the runs ended
    f"{name}_1trials.json": row
    for name, row in {
        "gpt-4.1_telecom_default_gpt-4.1": (Told(40, 2238, 0, 7_836_696, 69_762), 17, {"user_stop": 40}),
        "gpt-4.1_retail_defautl_gpt-4.1": (Told(40, 1105, 12, 2_670_434, 40_747), 1, {"user_stop": 40}),
        "gpt-4.1_airline_default_gpt-4.1": (Told(20, 510, 1, 1_113_944, 21_386), 2, {"user_stop": 20}),
        "gpt-4.1_telecom_no-user_gpt-4.1": (Told(40, 1232, 2, 5_237_511, 11_701), 0, {"agent_stop": 40}),
        FINE_TUNED: (
            Told(40, 2935, 10, 12_599_561, 58_692), 0, {"user_stop": 34, "max_steps": 5, "too_many_errors": 1}
        ),
        "qwen2.5_7b_airline_default_gpt-4.1-2025-04-14": (
            Told(50, 1632, 79, 5_715_275, 99_513), 128, {"user_stop": 40, "agent_error": 9, "too_many_errors": 1}
        ),
    }.items()
}  # fmt: skip
ENDS = {
    "user_stop": ("completed", "end_turn"),
    "agent_stop": ("completed", "end_turn"),
    "max_steps": ("completed", "max_steps"),
    "agent_error": ("failed", "invalid_llm_response"),
    "too_many_errors": ("failed", "invalid_tool_call"),
}


class Source(NamedTuple):
    """A file, read on its own: what each of its runs said, in order, and the records themselves."""

    said: dict[str, list[dict]]
    records: dict[str, dict]


@pytest.fixture(scope="module")
def sources():
    found = {}
    for path in LETTA:
        with gzip.open(path) as lines:
            records = [json.loads(line)["result"] for line in lines]
        said = [[message for turn in record["trajectory"] for message in turn] for record in records]
        runs = [messages[0]["run_id"] for messages in said]
        found[path.stem] = Source(dict(zip(runs, said, strict=True)), dict(zip(runs, records, strict=True)))
    for path in TAU2:
        with gzip.open(path) as file:
            records = {f"run-{each['id']}": each for each in json.load(file)["simulations"]}
        found[path.stem] = Source({run: record["messages"] for run, record in records.items()}, records)
    return found


class Imported(NamedTuple):
    """The ledger, what each import said, and what its views and its log hold of each run, in order."""

    db: object
    tallies: list[dict]
    runs: dict[str, dict]
    said: dict[str, list[dict]]
    logged: dict[str, list[dict]]
    steps: dict[str, list[dict]]


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    db = tmp_path_factory.mktemp("agents") / "ledger.db"
    tallies = load(db)
    log, views = (sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True) for path in (db, db.with_suffix(".views.db")))
    runs = {}
    for wire, usage in views.execute("SELECT wire, usage FROM runs"):
        run = json.loads(wire)
        runs[run["id"]] = {**run, "usage": json.loads(usage or "{}")}
    said = by_run(views, "SELECT run_id, wire FROM messages ORDER BY position")
    steps = by_run(views, "SELECT run_id, wire || '}' FROM steps ORDER BY position")  # stored without its agent
    logged = by_run(log, "SELECT stream, data FROM events WHERE type = 'run.message' ORDER BY position")
    log.close()
    views.close()
    return Imported(db, tallies, runs, said, logged, steps)


def load(db):
    """Import all files by the command line."""
    formats = {"letta-evals": LETTA, "tau2": TAU2}
    return [good("import", "--json", "--db", db, "--format", name, *files).json for name, files in formats.items()]


def by_run(connection, query):
    found = defaultdict(list)
    for run, wire in connection.execute(query):
        found[run].append(json.loads(wire))
    return found


def runs_of(imported, file):
    """The runs that the file's import led to."""
    return {id: run for id, run in imported.runs.items() if run["metadata"]["file"] == file}


def counted(imported, file, tokens):
    """The README's row of a file, counted in the views; ``tokens``: of a run, as (prompt, completion)."""
    runs = runs_of(imported, file)
    said = [message for run in runs for message in imported.said[run]]
    errors = [message for message in said if message.get("status") == "error"]
    spent = [tokens(run) for run in runs]
    return Told(len(runs), len(said), len(errors), *(sum(each) for each in zip(*spent, strict=True)))


# --- what the README counts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", LETTA_FILES)
def test_a_file_of_letta_evals_has_what_its_readme_counts(imported, file):
    def tokens(run):
        usage = imported.runs[run]["usage"]
        assert usage["step_count"] == len(imported.steps[run])
        return usage["prompt_tokens"], usage["completion_tokens"]

    row, steps = LETTA_FILES[file]
    assert counted(imported, file, tokens) == row
    assert sum(len(imported.steps[run]) for run in runs_of(imported, file)) == steps


@pytest.mark.parametrize("file", TAU2_FILES)
def test_a_file_of_tau2_has_what_its_readme_counts(imported, file):
    def tokens(run):
        steps = imported.steps[run]
        return tuple(sum(step[name] or 0 for step in steps) for name in ("prompt_tokens", "completion_tokens"))

    row, format_errors, reasons = TAU2_FILES[file]
    assert counted(imported, file, tokens) == row
    runs = runs_of(imported, file)
    assert Counter(run["metadata"]["termination_reason"] for run in runs.values()) == reasons
    failed = Counter(step["error_type"] for run in runs for step in imported.steps[run])
    assert failed["format_error"] == format_errors


def test_the_totals_are_those_of_the_readme(imported):
    rows = [row for row, *_ in TAU2_FILES.values()]
    total = Told(*(sum(column) for column in zip(*rows, strict=True)))
    assert total == Told(230, 9652, 104, 35_173_421, 301_801)
    assert sum(errors for _, errors, _ in TAU2_FILES.values()) == 148
    assert len(imported.runs) == 530


# --- to the letter ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [*LETTA_FILES, *TAU2_FILES])
def test_every_message_comes_back_from_views_and_log_as_it_went_in(imported, sources, file):
    assert runs_of(imported, file).keys() == sources[file].said.keys()
    for run, told in sources[file].said.items():
        shown, logged = imported.said[run], [data["message"] for data in imported.logged[run]]
        if file in TAU2_FILES:
            shown, logged = ([message["original"] for message in each] for each in (shown, logged))
        assert shown == told
        assert logged == told
        assert [list(each) for each in logged] == [list(each) for each in told]  # in the order of its fields, too


@pytest.mark.parametrize("file", TAU2_FILES)
def test_every_message_of_tau2_has_its_type_time_and_step(imported, sources, file):
    for run, told in sources[file].said.items():
        steps = {step["id"]: step for step in imported.steps[run]}
        for message, original in zip(imported.said[run], told, strict=True):
            assert message["message_type"] == type_of(original)
            assert from_text(message["date"]) == from_text(original["timestamp"])
            assert ("user_simulator" in steps[message["step_id"]]["tags"]) == (caller_of(original) == "user")
        assert len(steps) == sum(original["role"] != "tool" for original in told)


def type_of(original):
    if original["role"] == "tool":
        return "tool_return_message"
    return "tool_call_message" if original["tool_calls"] else f"{original['role']}_message"


def caller_of(original):
    return original["requestor"] if original["role"] == "tool" else original["role"]


# --- how they went ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", LETTA_FILES)
def test_every_run_of_letta_evals_is_completed_whatever_its_grade(imported, sources, file):
    for run, record in sources[file].records.items():
        shown, messages = imported.runs[run], sources[file].said[run]
        assert (shown["status"], shown["stop_reason"]) == ("completed", "end_turn")
        assert (shown["agent_id"], shown["metadata"]["grade"]) == (record["agent_id"], record["grade"]["score"])
        assert (shown["metadata"]["sample"], shown["metadata"]["grades"]) == (record["sample"], record["grades"])
        times = [from_text(shown[name]) for name in ("created_at", "completed_at")]
        assert times == [from_text(messages[at]["date"]) for at in (0, -1)]


@pytest.mark.parametrize("file", TAU2_FILES)
def test_every_run_of_tau2_ended_as_its_simulation_did(imported, sources, file):
    for run, record in sources[file].records.items():
        shown = imported.runs[run]
        assert (shown["status"], shown["stop_reason"]) == ENDS[record["termination_reason"]]
        assert ("error" in shown["metadata"]) == (shown["status"] == "failed")
        assert shown["total_duration_ns"] == round(record["duration"] * 1e9)
        assert shown["metadata"]["reward"] == record["reward_info"]["reward"]
        times = [from_text(shown[name]) for name in ("created_at", "completed_at")]
        assert times == [from_text(record[name]) for name in ("start_time", "end_time")]


@pytest.mark.parametrize("file", TAU2_FILES)
def test_every_file_of_tau2_is_a_job_that_its_runs_name(imported, sources, file):
    id = ids.derive("job", "tau2", file)
    assert {run["metadata"]["job_id"] for run in runs_of(imported, file).values()} == {id}
    job = good("show", "--json", "--db", imported.db, id).json
    assert (job["status"], job["metadata"]["simulations"]) == ("completed", TAU2_FILES[file][0].runs)
    records = sources[file].records.values()
    assert from_text(job["created_at"]) == min(from_text(record["start_time"]) for record in records)
    assert from_text(job["completed_at"]) == max(from_text(record["end_time"]) for record in records)


@pytest.mark.parametrize("file", [*LETTA_FILES, *TAU2_FILES])
def test_a_step_is_failed_where_the_source_says_that_something_went_wrong(imported, file):
    for run in runs_of(imported, file):
        wrong = {message["step_id"] for message in imported.said[run] if message.get("status") == "error"}
        wrong |= {m["step_id"] for m in imported.said[run] if m.get("original", {}).get("errors")}
        assert {step["id"] for step in imported.steps[run] if step["status"] == "failed"} == wrong
        assert {step["status"] for step in imported.steps[run]} <= {"failed", "success"}


# --- again, and whole -------------------------------------------------------------------------------------------------


def test_nothing_is_rejected_and_the_same_files_again_add_nothing(imported):
    first = [(tally["appended"], tally["duplicate"], tally["rejected"]) for tally in imported.tallies]
    again = [(tally["appended"], tally["duplicate"], tally["rejected"]) for tally in load(imported.db)]
    events = 3 * (100 + 100 + 100) + 300 + 999 + 1013 + 998 + 686  # three of each run, its usage, steps, messages
    assert first[0] == (events, 0, 0)
    assert first[1][1:] == (0, 0)
    assert again == [(0, appended, 0) for appended, _, _ in first]


def test_the_record_is_whole_and_the_views_equal_a_fresh_fold(imported):
    verdict = good("verify", "--json", "--views", "--db", imported.db).json
    assert (verdict["ok"], verdict["problems"]) == (True, [])
    assert verdict["size"] == sum(tally["appended"] for tally in imported.tallies)
