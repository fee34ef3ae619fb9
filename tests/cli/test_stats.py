"""``stats``: how many there are of each status and stop reason, for people and for programs."""

import pytest

from tests.cli.commandline import good, jobledger
from tests.cli.stories import EVENTS, at

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
    assert lines[11:] == [
        ["stop", "reason", "jobs", "runs", "batches"],
        ["end_turn", "1", "0", "0"],
        ["error", "0", "1", "0"],
        ["none", "1", "0", "1"],
        ["total", "2", "1", "1"],
    ]


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
