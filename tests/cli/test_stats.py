"""``stats``: how many there are of each status and stop reason, for people and for programs."""

import csv
import io

import pytest

from tests.cli.commandline import good, jobledger
from tests.cli.stories import EVENTS, OBEYED, at

NOW = {"jobs": {"created": 1, "completed": 1}, "runs": {"failed": 1}, "batches": {"created": 1}}
REASONS = {"jobs": {"end_turn": 1}, "runs": {"error": 1}, "batches": {}}


def told(done):
    """The counts above zero."""
    kinds = {name: done.json[name] for name in ("jobs", "runs", "batches")}
    for each in kinds.values():
        assert sum(each["statuses"].values()) == each["total"] >= sum(each["stop_reasons"].values())
    return {name: {key: count for key, count in each["statuses"].items() if count} for name, each in kinds.items()}


def test_stats_counts_what_lists_show(db):
    done = good("stats", "--json", "--db", db)
    assert told(done) == NOW
    assert {name: done.json[name]["stop_reasons"] for name in REASONS} == REASONS
    assert (done.json["at"], done.json["size"]) == (None, EVENTS)


@pytest.mark.parametrize(
    ("when", "jobs", "runs"),
    [
        ("0", {}, {}),
        ("4", {"running": 1}, {"created": 1}),
        (at(20), {"running": 1}, {"created": 1}),
        (at(85), {"completed": 1}, {"running": 1}),
        (at(92), {"completed": 1, "created": 1}, {"failed": 1}),
        (at(93), {"completed": 1}, {"failed": 1}),
        ("99999", NOW["jobs"], NOW["runs"]),
    ],
)
@pytest.mark.parametrize("views", [True, False])
def test_stats_at_a_point_counts_what_was_then(db, views, when, jobs, runs):
    if views:
        good("rebuild", "--db", db)
    done = good("stats", "--json", "--db", db, "--at", when)
    counts = told(done)
    assert (counts["jobs"], counts["runs"], done.json["at"]) == (jobs, runs, when)


def test_stats_is_a_table_with_a_total(db):
    lines = [line.split() for line in good("stats", "--db", db).out.splitlines()]
    assert lines[0] == ["as", "of", "now,", "of", "a", "log", "of", str(EVENTS), "events"]
    assert lines[1] == ["status", "jobs", "runs", "batches"]
    assert lines[2:10] == [
        ["created", "1", "0", "1"],
        ["pending", "0", "0"],
        ["running", "0", "0", "0"],
        ["completed", "1", "0", "0"],
        ["failed", "0", "1", "0"],
        ["cancelled", "0", "0", "0"],
        ["expired", "0", "0"],
        ["total", "2", "1", "1"],
    ]
    assert lines[11:16] == [
        ["stop", "reason", "jobs", "runs", "batches"],
        ["end_turn", "1", "0", "0"],
        ["error", "0", "1", "0"],
        ["none", "1", "0", "1"],
        ["total", "2", "1", "1"],
    ]


def test_stats_at_a_point_is_these_two_tables_and_no_more(db):
    shown = good("stats", "--db", db, "--at", "99999").out
    assert shown.splitlines()[1:] == good("stats", "--db", db).out.splitlines()[1:16]


def test_stats_shows_rates_times_and_charts(db):
    lines = [line.split() for line in good("stats", "--db", db).out.splitlines()]
    assert ["completed", "100.0%", "0.0%"] in lines
    assert ["failed", "0.0%", "100.0%"] in lines
    assert ["jobs:", "duration", "1", *["1", "min", "00", "s"] * 5] in lines
    assert ["jobs:", "in", "the", "queue", "1", *["20.0", "s"] * 5] in lines
    assert ["2026-11-22", "12:00", "░" * 46, "1", "1", *["1", "min", "09", "s"] * 2] in lines
    assert ["1", "min", "–", "3", "min", "█" * 48, "1"] in lines
    assert ["agent-1", "1", "1", "100.0%", "1", "min", "09", "s"] in lines


def test_stats_tells_it_all_to_programs(db):
    told = good("stats", "--json", "--db", db, "--kind", "job", "--top", "1").json
    assert (told["bucket"], told["runs"], told["tokens"]) == ("hour", None, None)
    jobs = told["jobs"]
    assert jobs["rates"] == {"completed": 1.0, "failed": 0.0, "cancelled": 0.0, "expired": 0.0}
    assert jobs["duration_ns"]["count"] == 1
    assert abs(jobs["duration_ns"]["p50"] - 60_500_000_000) < 605_000_000
    assert abs(jobs["queue_ns"]["max"] - 20_000_000_000) < 200_000_000
    assert jobs["ttft_ns"]["p99"] == 5
    assert [(each["start"], each["created"]) for each in jobs["buckets"]] == [("2026-11-22T12:00:00.000000Z", 2)]
    assert [each["agent_id"] for each in jobs["agents"]] == ["\u202egnp.exe"]


@pytest.mark.parametrize(
    ("options", "jobs", "runs"),
    [
        (["--agent", "agent-1"], 0, 1),
        (["--since", at(1)], 1, 1),
        (["--until", at(0.5)], 1, 0),
        (["--until", at(1)], 1, 1),
        (["--since", at(1), "--until", at(93)], 0, 1),
        (["--since", at(95)], 0, 0),
    ],
)
def test_stats_counts_what_the_options_ask_for(db, options, jobs, runs):
    told = good("stats", "--json", "--db", db, *options).json
    assert (told["jobs"]["total"], told["runs"]["total"]) == (jobs, runs)


def test_nothing_that_terminals_obey_is_shown(db):
    shown = good("stats", "--db", db).out
    assert "\\u202egnp.exe" in shown
    assert not OBEYED & set(shown)


def test_csv_is_one_table_with_a_number_in_each_line(db):
    done = good("stats", "--csv", "--db", db)
    assert done.raw.count(b"\r\n") == done.raw.count(b"\n")
    header, *rows = csv.reader(io.StringIO(done.out, newline=""))
    assert header == ["kind", "by", "name", "measure", "value"]
    found = {tuple(row[:4]): row[4] for row in rows}
    assert len(found) == len(rows)
    assert all(float(value) >= 0 for value in found.values())
    assert found["jobs", "all", "", "count"] == "2"
    assert found["runs", "status", "failed", "share_of_ended"] == "1.0"
    assert found["runs", "agent", "agent-1", "failed"] == "1"
    assert found["jobs", "hour", "2026-11-22T12:00:00.000000Z", "count"] == "2"
    assert found["steps", "all", "", "total_tokens"] == "0"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--at", "3", "--csv"], "--at"),
        (["--at", "3", "--agent", "agent-1"], "--at"),
        (["--json", "--csv"], "exclude"),
        (["--since", "7"], "--since"),
        (["--until", "tomorrow"], "--until"),
        (["--agent", "a\tb"], "--agent"),
        (["--top", "-1"], "--top"),
        (["--bucket", "year"], "--bucket"),
    ],
)
def test_options_that_cannot_be_are_wrong_usage(db, arguments, says):
    done = jobledger("stats", "--db", db, *arguments)
    assert done.code == 2
    assert says in done.err
    assert len(done.err.splitlines()) == 1


def test_stats_reads_the_file_and_writes_nothing(db):
    before = {path.name: path.read_bytes() for path in db.parent.iterdir()}
    good("stats", "--db", db)
    kept = {path.name: path.read_bytes() for path in db.parent.iterdir() if path.name in before}
    assert kept == before
    assert not db.with_name("ledger.views.db").exists()


@pytest.mark.parametrize("arguments", [["--at", "yesterday"], ["--at", "-1"], ["--at", "9" * 19]])
def test_a_point_that_is_none_is_wrong_usage(db, arguments):
    done = jobledger("stats", "--db", db, *arguments)
    assert done.code == 2
    assert "--at" in done.err


def test_a_file_that_is_not_there_is_unreadable_and_is_not_made(tmp_path):
    assert jobledger("stats", "--db", tmp_path / "no.db").code == 2
    assert list(tmp_path.iterdir()) == []


def test_help_has_examples():
    shown = good("stats", "--help").out
    assert "Examples:" in shown
    assert "jobledger stats --at" in shown
