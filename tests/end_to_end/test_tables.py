"""Tables of real histories: as many rows as ``stats`` counts, and the tokens that the data's README tells."""

import csv

import pytest

from tests.cli.commandline import good
from tests.end_to_end.real_data import DATA, needs_data

pytestmark = needs_data

AIRLINE = DATA / "tau2-bench" / "gpt-4.1_airline_default_gpt-4.1_1trials.json.gz"
TOOLS_FAIL = DATA / "letta-evals" / "filesystem-gptoss-20b.run_1.results.jsonl.gz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with all tables of two files, a ledger of both, and what ``stats`` counts there."""
    folder = tmp_path_factory.mktemp("tables")
    db = folder / "ledger.db"
    good("import", "--db", db, "--format", "tau2", AIRLINE)
    good("import", "--db", db, "--format", "letta-evals", TOOLS_FAIL)
    for table in ("jobs", "runs", "steps", "batches"):
        target = folder / f"{table}.csv"
        good("export", "--db", db, "--format", "csv", "--table", table, "--out", target)
    return folder


def rows(folder, table):
    with (folder / f"{table}.csv").open(newline="") as file:
        return list(csv.DictReader(file, strict=True))


def test_there_are_as_many_rows_of_each_status_as_stats_counts(folder):
    counted = good("stats", "--json", "--db", folder / "ledger.db").json
    for table in ("jobs", "runs", "batches"):
        found = [row["status"] for row in rows(folder, table)]
        assert {status: found.count(status) for status in counted[table]["statuses"]} == counted[table]["statuses"]


def test_the_tokens_are_those_of_the_source(folder):
    runs = rows(folder, "runs")
    airline = [row for row in runs if '"domain":"airline"' in row["metadata"]]
    assert sum(int(row["prompt_tokens"]) for row in airline) == 1_113_944
    assert sum(int(row["completion_tokens"]) for row in runs if row not in airline) == 464_777


def test_the_steps_are_those_of_the_runs(folder):
    runs, steps = rows(folder, "runs"), rows(folder, "steps")
    assert {step["run_id"] for step in steps} <= {row["id"] for row in runs}
    assert sum(int(row["step_count"]) for row in runs) == len(steps)
    assert len({row["run_id"] for row in steps if row["error_type"] == "tool_error"}) >= 30


def test_parquet_holds_the_same_rows(folder):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow, the extra `parquet`, is not installed")
    target = folder / "steps.parquet"
    good("export", "--db", folder / "ledger.db", "--format", "parquet", "--table", "steps", "--out", target)
    found = parquet.read_table(target, columns=["id", "prompt_tokens"]).to_pylist()
    assert [row["id"] for row in found] == [row["id"] for row in rows(folder, "steps")]
