"""``erase``: data is gone from every file, with a server or without one, whenever the process is killed."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from ledger import Ledger
from projections.file import views_path
from tests.cli.commandline import good, jobledger
from tests.cli.stories import ABSENT, ALICE, BATCH, EVENTS, GONE, JOB, RUN
from tests.ledger.leftovers import holds

ROOT = Path(__file__).resolve().parents[2]
SECRET = "the text that must go"
WHY = ("--reason", "asked for")


@pytest.fixture
def db(db):
    """The stories, with a text in two of them, and views that show it."""

    async def tell():
        async with Ledger.open(db) as ledger:
            for stream, type in ((JOB, "job.updated"), (RUN, "run.updated")):
                await ledger.append(stream, type, {"metadata": {"text": SECRET, "long": SECRET * 3_000}}, actor=ALICE)

    asyncio.run(tell())
    good("rebuild", "--db", db)
    assert {db.name, views_path(db).name} <= set(holds(db.parent, SECRET))
    return db


def test_what_was_erased_is_in_no_file_and_in_no_backup_and_the_record_is_whole(db):
    done = good("erase", JOB, RUN, GONE, "--db", db, *WHY, "--json").json
    assert done == {"erased": 13, "scrubbed": True}
    good("backup", "--db", db, db.parent / "copy.db")
    assert holds(db.parent, SECRET) == []
    for each, views in ((db, ["--views"]), (db.parent / "copy.db", [])):
        verdict = good("verify", "--db", each, "--json", *views).json
        assert (verdict["ok"], verdict["erased"], verdict["size"]) == (True, 13, EVENTS + 2 + 3)


def test_a_copy_made_before_keeps_it(db):
    good("backup", "--db", db, db.parent / "copy.db")
    good("erase", JOB, RUN, "--db", db, *WHY)
    assert holds(db.parent, SECRET) == ["copy.db"]


def test_a_ledger_without_views_gets_none(db):
    views_path(db).unlink()
    good("erase", JOB, RUN, "--db", db, *WHY)
    assert not views_path(db).exists()
    assert holds(db.parent, SECRET) == []


def test_what_is_left_says_when_and_why(db):
    done = good("erase", JOB, "--db", db, *WHY)
    assert done.out == "7 events lost their data.\n"
    log = good("log", JOB, "--db", db).out
    assert (log.count("(erased)"), log.count("asked for")) == (7, 1)
    shown = good("show", JOB, "--db", db, "--json")
    assert (shown.json["status"], shown.json["metadata"]) == ("completed", None)
    assert shown.err == f"{JOB} was erased at position {EVENTS + 3}; only its envelopes are left\n"


def test_erasing_again_adds_nothing(db):
    good("erase", JOB, "--db", db, *WHY)
    assert good("erase", JOB, "--db", db, *WHY).out == "All of that was erased already.\n"
    assert good("erase", JOB, RUN, "--db", db, *WHY, "--json").json == {"erased": 4, "scrubbed": True}


@pytest.mark.parametrize(("arguments", "why"), [
    ((JOB,), "--reason"),
    ((JOB, "--reason", " "), "must say why"),
    (WHY, "ID"),
    ((JOB, ABSENT, *WHY), ABSENT),
    (("nonsense", *WHY), "nonsense"),
    (("token-00000000-0000-4000-8000-000000000001", *WHY), "token"),
])  # fmt: skip
def test_a_wrong_request_erases_nothing_and_says_what_is_wrong(db, arguments, why):
    before = good("export", "--db", db).raw
    done = jobledger("erase", *arguments, "--db", db)
    assert (done.code, done.raw, len(done.err.splitlines())) == (2, b"", 1)
    assert why in done.err
    assert good("export", "--db", db).raw == before


def test_no_ledger_is_made(tmp_path):
    done = jobledger("erase", JOB, "--db", tmp_path / "none.db", *WHY)
    assert (done.code, "no such file" in done.err, list(tmp_path.iterdir())) == (2, True, [])


def test_an_export_of_what_is_left_restores_the_same_tree(db):
    good("erase", JOB, BATCH, "--db", db, *WHY)
    lines, copy = db.parent / "export.jsonl", db.parent / "again.db"
    good("export", "--db", db, "--out", lines)
    good("import", lines, "--db", copy)
    verdicts = [good("verify", "--db", each, "--json", "--views").json for each in (db, copy)]
    assert verdicts[0] == verdicts[1]
    assert verdicts[0]["ok"]


# --- killed -----------------------------------------------------------------------------------------------------------

DYING = """
import sys
from ledger import engine, queries
from projections import scrub
from server.cli import main

moment = sys.argv.pop(1)
home, name = {
    "blanking": (queries, "_blank"),
    "emptying the log": (engine, "empty_wal"),
    "rewriting the views": (scrub, "_rewrite"),
    "emptying the views": (engine, "empty_wal"),
}[moment]
passes = 1 if moment == "emptying the views" else 0
original, calls = getattr(home, name), []

def stop_here(*arguments):
    calls.append(1)
    if len(calls) <= passes:
        return original(*arguments)
    print("here", flush=True)
    sys.stdin.readline()

setattr(home, name, stop_here)
main()
"""
MOMENTS = ["blanking", "emptying the log", "rewriting the views", "emptying the views"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_erasure_is_finished_by_whoever_comes_next_or_never_was(db, moment):
    # given: an erasure that is killed on its way
    command = [sys.executable, "-c", DYING, moment, "erase", JOB, RUN, "--db", str(db), *WHY]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"here\n"
        process.kill()
    assert holds(db.parent, SECRET)
    # when: somebody opens the ledger and its views
    verdict = good("verify", "--db", db, "--json").json
    assert verdict["ok"]
    if moment == "blanking":
        assert verdict["erased"] == 0
        return
    good("rebuild", "--db", db)
    # then
    assert holds(db.parent, SECRET) == []
    assert good("verify", "--db", db, "--json", "--views").json["erased"] == 11
