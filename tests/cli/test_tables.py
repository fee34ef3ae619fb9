"""``export --table``: jobs, runs, steps and batches as CSV and Parquet, read back to the letter by others' readers."""

import asyncio
import csv
import io
import os
import sqlite3
import sys

import msgspec
import pytest

from ledger import Ledger
from ledger.times import from_text
from server.cli import csvcells
from tests.cli.commandline import good, jobledger
from tests.cli.stories import ALICE, BATCH, GONE, HOSTILE, JOB, NOON_US, RUN, TRAPS, at

TABLES = ("jobs", "runs", "steps", "batches")
STEP = RUN.replace("run", "step")
EVIL = RUN[:-1] + "e"
FORMULAS = ["=1+1", "+cmd", "-cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "\r=1", "\n=1", "'=1", "＝1", "'"]
PLAIN = ["", "a=b", " =1", "x", "a,b", 'say "hi"', "two\r\nlines", "é\u202e", "[1]"]
NUMBERS = ["-5", "+5", "-0.5", "-.5e-7", "1e9"]


@pytest.fixture
def db(db):
    """The stories, and a run with steps, tokens and an error that spreadsheets would run."""
    created = {"user_id": ALICE, "agent_id": "=HYPERLINK(1)", "background": True, "metadata": {"deep": [[1, -(2**63)]]}}
    error = {"type": "-2+3", "message": f"=cmd|'/C calc'!A0\n\"x\",\0{TRAPS}"}
    happened = [
        ("created", created),
        ("running", {}),
        ("step", {"id": STEP, "status": "success", "model": "m-1", "prompt_tokens": 5, "completion_tokens": 2}),
        ("step", {"id": STEP[:-1] + "f", "status": "failed", "model": "m-2", "prompt_tokens": 7, "tags": ["@a", "b"],
                  "error_type": "tool_error", "error_data": {"message": "+oops"}}),
        ("failed", {"error": error, "ttft_ns": 9, "total_duration_ns": 2**62}),
    ]  # fmt: skip

    async def tell():
        async with Ledger.open(db) as ledger:
            for seconds, (verb, data) in enumerate(happened, 100):
                await ledger.append(EVIL, f"run.{verb}", data, actor=ALICE, time_us=NOON_US + seconds * 1_000_000)

    asyncio.run(tell())
    return db


def as_csv(db, table):
    """The rows as Python's reader has them, by id, with cells as they were before they were made safe."""
    raw = good("export", "--db", db, "--format", "csv", "--table", table).raw.decode()
    rows = list(csv.DictReader(io.StringIO(raw, newline=""), strict=True))
    assert all(None not in row and None not in row.values() for row in rows)
    return {row["id"]: {name: csvcells.original(text) for name, text in row.items()} for row in rows}


def parquet():
    return pytest.importorskip("pyarrow.parquet", reason="pyarrow, the extra `parquet`, is not installed")


def as_parquet(db, table):
    reader, target = parquet(), db.parent / f"{table}.parquet"
    assert good("export", "--db", db, "--format", "parquet", "--table", table, "--out", target).raw == b""
    return {row["id"]: row for row in reader.read_table(target).to_pylist()}


# --- what is in them --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", ["none", "all"])
def test_the_tables_hold_what_there_is_now(db, views):
    if views == "all":
        good("rebuild", "--db", db)
    assert {table: list(as_parquet(db, table)) for table in TABLES} == {
        "jobs": [JOB, HOSTILE],
        "runs": [RUN, EVIL],
        "steps": [STEP, STEP[:-1] + "f"],
        "batches": [BATCH],
    }


def test_a_job_has_its_times_and_its_metadata(db):
    job = as_parquet(db, "jobs")[JOB]
    times = {name: int(job[name].timestamp()) for name in ("created_at", "pending_at", "running_at", "completed_at")}
    assert times == {
        name: (NOON_US // 1_000_000) + seconds
        for name, seconds in (("created_at", 0), ("pending_at", 10), ("running_at", 20), ("completed_at", 80))
    }
    assert msgspec.json.decode(job["metadata"]) == {"task": "nightly", "n": 2}
    assert (job["queue_ns"], job["ttft_ns"], job["total_duration_ns"]) == (20 * 10**9, 5, 60_500_000_000)
    assert (job["status"], job["stop_reason"], job["background"]) == ("completed", "end_turn", None)


def test_a_run_has_its_tokens_models_and_error(db):
    run = as_parquet(db, "runs")[EVIL]
    assert (run["step_count"], run["prompt_tokens"], run["completion_tokens"], run["total_tokens"]) == (2, 12, 2, 14)
    assert sorted(msgspec.json.decode(run["models"])) == ["m-1", "m-2"]
    assert (run["error_type"], run["agent_id"], run["background"]) == ("-2+3", "=HYPERLINK(1)", True)
    assert run["error_message"].endswith(TRAPS)
    assert (run["ttft_ns"], run["total_duration_ns"], run["stop_reason"]) == (9, 2**62, None)
    assert msgspec.json.decode(run["metadata"])["deep"] == [[1, -(2**63)]]


def test_a_step_has_its_runs_agent_and_what_went_wrong(db):
    step = as_parquet(db, "steps")[STEP[:-1] + "f"]
    assert (step["run_id"], step["agent_id"], step["model"]) == (EVIL, "=HYPERLINK(1)", "m-2")
    assert (step["error_type"], step["error_message"], step["tags"]) == ("tool_error", "+oops", '["@a","b"]')
    assert (step["status"], step["prompt_tokens"], step["completion_tokens"]) == ("failed", 7, None)


@pytest.mark.parametrize("table", TABLES)
def test_csv_and_parquet_say_the_same(db, table):
    typed, texts = as_parquet(db, table), as_csv(db, table)
    assert list(typed) == list(texts)
    for id, row in typed.items():
        assert list(row) == list(texts[id])
        for name, value in row.items():
            text = texts[id][name]
            if hasattr(value, "timestamp"):
                assert from_text(text) == round(value.timestamp() * 1_000_000)
            elif isinstance(value, bool):
                assert text == str(value).lower()
            else:
                assert text == ("" if value is None else str(value).replace("\0", "\ufffd"))


def test_parquet_has_real_types(db):
    as_parquet(db, "runs")
    schema = parquet().read_schema(db.parent / "runs.parquet")
    types = {name: str(schema.field(name).type) for name in ("id", "created_at", "prompt_tokens", "background")}
    assert types == {
        "id": "string", "created_at": "timestamp[us, tz=UTC]", "prompt_tokens": "int64", "background": "bool",
    }  # fmt: skip


def test_what_was_deleted_or_erased_is_in_no_table(db):
    good("erase", "--db", db, EVIL, "--reason", "asked to")
    assert EVIL not in as_csv(db, "runs")
    assert as_csv(db, "steps") == {}
    assert GONE not in as_csv(db, "jobs")


# --- spreadsheets -----------------------------------------------------------------------------------------------------


def round_trip(value):
    file = io.StringIO(newline="")
    csvcells.write(file, [[value, "last"]])
    ((cell, last),) = csv.reader(io.StringIO(file.getvalue(), newline=""), strict=True)
    assert (last, file.getvalue()[-2:]) == ("last", "\r\n")
    return cell


@pytest.mark.parametrize("text", FORMULAS)
def test_what_a_spreadsheet_would_run_begins_with_an_apostrophe_and_comes_back(text):
    assert round_trip(text) == f"'{text}"
    assert csvcells.original(round_trip(text)) == text


@pytest.mark.parametrize("text", [*PLAIN, *NUMBERS])
def test_what_it_would_not_run_stays_as_it_is(text):
    assert round_trip(text) == csvcells.original(round_trip(text)) == text


@pytest.mark.parametrize(("value", "cell"), [(-5, "-5"), (0.5, "0.5"), (None, ""), ("a\0b", "a\ufffdb")])
def test_numbers_stay_numbers_and_what_csv_cannot_hold_is_marked(value, cell):
    assert round_trip(value) == cell


def test_no_cell_of_a_table_begins_a_formula(db):
    for table in TABLES:
        raw = good("export", "--db", db, "--format", "csv", "--table", table).raw.decode()
        assert "\0" not in raw
        for row in csv.reader(io.StringIO(raw, newline="")):
            assert [cell for cell in row if cell[:1] in tuple("=+-@\t\r\n")] == []


# --- where they go ----------------------------------------------------------------------------------------------------


def test_a_file_is_there_when_it_is_whole(db, tmp_path):
    target = tmp_path / "runs.csv"
    target.write_text("older")
    assert good("export", "--db", db, "--format", "csv", "--table", "runs", "--out", target).raw == b""
    assert target.read_bytes() == good("export", "--db", db, "--format", "csv", "--table", "runs", "--out", "-").raw
    assert not target.with_name("runs.csv.partial").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--format", "csv"], "needs --table"),
        (["--format", "parquet", "--out", "x"], "needs --table"),
        (["--table", "runs"], "--format csv or parquet"),
        (["--format", "csv", "--table", "events"], "events"),
        (["--format", "csv", "--table", "runs", "--after", "0"], "--after"),
        (["--format", "csv", "--table", "runs", "--stream", JOB], "--stream"),
        (["--format", "parquet", "--table", "runs"], "--out"),
        (["--format", "parquet", "--table", "runs", "--out", "-"], "--out"),
        (["--format", "parquet", "--table", "runs", "--out", "/dev/null"], "--out"),
        (["--format", "csv", "--table", "runs", "--out", "ledger.db"], "belongs to the ledger"),
        (["--format", "csv", "--table", "runs", "--out", "ledger.views.db"], "belongs to the ledger"),
    ],
)
def test_what_does_not_go_together_is_told(db, monkeypatch, arguments, told):
    monkeypatch.chdir(db.parent)
    before = db.read_bytes()
    done = jobledger("export", "--db", db, *arguments)
    assert (done.code, done.raw) == (2, b"")
    assert told in done.err
    assert db.read_bytes() == before


def test_without_pyarrow_it_is_told_what_to_install_and_csv_works(db, monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, name, None)
    target = tmp_path / "runs.parquet"
    done = jobledger("export", "--db", db, "--format", "parquet", "--table", "runs", "--out", target)
    assert done.code == 2
    assert "pip install 'jobledger[parquet]'" in done.err
    assert not target.exists()
    assert good("export", "--db", db, "--format", "csv", "--table", "runs").raw


def test_damaged_views_are_left_aside_before_a_row_is_written(db, tmp_path):
    good("rebuild", "--db", db)
    wanted = good("export", "--db", db, "--format", "csv", "--table", "runs").raw
    views = db.with_name("ledger.views.db")
    with sqlite3.connect(views) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with views.open("r+b") as file:
        file.seek(0)
        file.write(os.urandom(100))
    assert good("export", "--db", db, "--format", "csv", "--table", "runs").raw == wanted


def test_many_rows_are_written_part_by_part(db, monkeypatch):
    monkeypatch.setattr("projections.tables.ROWS_AT_ONCE", 1)
    monkeypatch.setattr("server.cli.tablefiles.GROUP_ROWS", 1)
    assert list(as_parquet(db, "runs")) == [RUN, EVIL]
    assert parquet().ParquetFile(db.parent / "runs.parquet").num_row_groups == 2
    assert as_csv(db, "jobs")[JOB]["created_at"] == at(0)
