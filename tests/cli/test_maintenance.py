"""``verify`` and ``rebuild``: whether the record is whole, and views that can always be made anew."""

import shutil
import sqlite3

import pytest

from projections.file import views_path
from tests.cli.commandline import good, jobledger
from tests.cli.stories import EVENTS, JOB

TRIGGERS = "SELECT name FROM sqlite_schema WHERE type = 'trigger'"


def tamper(db, *statements):
    """Change the file as somebody with `sqlite3` and no scruples would: past the triggers."""
    connection = sqlite3.connect(db)
    for (name,) in connection.execute(TRIGGERS).fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def problems(db, *options):
    """The problems that a failing verification names."""
    done = jobledger("verify", "--json", "--db", db, *options)
    assert done.code == 1
    assert done.json["ok"] is False
    assert [problem.keys() for problem in done.json["problems"]] == [{"position", "problem"}] * len(
        done.json["problems"]
    )
    return done.json["problems"]


# --- verify -----------------------------------------------------------------------------------------------------------


def test_verify_says_that_a_whole_record_is_whole(db):
    verdict = good("verify", "--json", "--db", db).json
    assert len(bytes.fromhex(verdict.pop("root"))) == 32
    assert verdict == {
        "ok": True, "size": EVENTS, "erased": 0,
        "checkpoints": 0, "signatures": 0, "signed": 0, "problems": [],
    }  # fmt: skip
    assert good("verify", "--db", db).out.startswith(f"ok: {EVENTS} events")


def test_an_empty_ledger_is_whole_and_has_the_root_of_nothing(tmp_path):
    db = tmp_path / "empty.db"
    good("import", "--db", db, "/dev/null")
    verdict = good("verify", "--json", "--db", db, "--views").json
    assert verdict["root"] == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert (verdict["ok"], verdict["size"]) == (True, 0)


@pytest.mark.parametrize(
    ("statement", "position"),
    [
        ("UPDATE events SET data = CAST('{}' AS BLOB) WHERE position = 7", 7),
        ("UPDATE events SET actor = 'user-00000000-0000-4000-8000-0000000000ee' WHERE position = 4", 4),
        ("UPDATE events SET time = time + 1 WHERE position = 1", 1),
        ("UPDATE events SET salt = zeroblob(16) WHERE position = 9", 9),
        ("UPDATE events SET leaf = zeroblob(32) WHERE position = 9", 9),
        ("UPDATE events SET type = 'job.failed' WHERE position = 7", 7),
        ("UPDATE events SET data = NULL, salt = NULL WHERE position = 3", 3),
        ("DELETE FROM events WHERE position = 5", 5),
        (f"DELETE FROM events WHERE position = {EVENTS}", EVENTS),
        (f"UPDATE events SET version = 9 WHERE position = {EVENTS}", EVENTS),
    ],
)
def test_verify_names_the_first_position_that_was_tampered_with(db, statement, position):
    tamper(db, statement)
    assert problems(db)[0]["position"] == position
    done = jobledger("verify", "--db", db)
    assert (done.code, done.out.splitlines()[0].partition(":")[0]) == (1, f"position {position}")


def test_two_events_that_were_swapped_are_found(db):
    swap = "UPDATE events SET position = CASE position WHEN 3 THEN 4 ELSE 3 END WHERE position IN (3, 4)"
    tamper(
        db,
        "UPDATE events SET position = -position WHERE position IN (3, 4)",
        swap.replace("CASE position", "CASE -position").replace("IN (3, 4)", "IN (-3, -4)"),
    )
    assert problems(db)[0]["position"] == 3


@pytest.mark.parametrize("change", [f"size = {EVENTS - 1}", "size = 0", "frontier = zeroblob(96)", "frontier = x'00'"])
def test_a_head_that_is_not_that_of_the_events_is_found(db, change):
    tamper(db, f"UPDATE head SET {change}")
    assert problems(db)


def test_verify_finds_views_that_are_no_fold_of_the_log(db):
    good("rebuild", "--db", db)
    good("verify", "--db", db, "--views")
    views = sqlite3.connect(views_path(db))
    views.execute("UPDATE jobs SET status = 'failed' WHERE id = ?", (JOB,))
    views.commit()
    views.close()
    assert good("verify", "--json", "--db", db).json["ok"]
    assert {problem["position"] for problem in problems(db, "--views")} == {7}
    good("rebuild", "--db", db)
    good("verify", "--db", db, "--views")


def test_verify_reads_a_copy_whose_wal_lies_beside_it(db, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    connection = sqlite3.connect(db)  # keeps the WAL from being written back
    connection.execute("SELECT count(*) FROM events").fetchone()
    good("token", "create", "--db", db)
    for path in db.parent.glob("ledger.db*"):
        shutil.copy(path, folder)
    connection.close()
    assert good("verify", "--json", "--db", folder / "ledger.db").json["size"] == EVENTS + 1


# --- rebuild ----------------------------------------------------------------------------------------------------------


def test_rebuild_folds_every_event_and_tells_how_long_it_took(db):
    told = good("rebuild", "--json", "--db", db).json
    assert told.keys() == {"events", "seconds"}
    assert told["events"] == EVENTS
    assert told["seconds"] >= 0
    assert good("rebuild", "--db", db).out.startswith(f"{EVENTS} events")


@pytest.mark.parametrize("state", ["there", "not there", "damaged"])
def test_rebuild_makes_the_same_views_whatever_there_was(db, state):
    good("rebuild", "--db", db)
    expected = rows(db)
    if state != "there":
        for path in db.parent.glob("ledger.views.db*"):
            path.unlink()
    if state == "damaged":
        views_path(db).write_bytes(b"no database at all " * 1000)
    good("rebuild", "--db", db)
    assert rows(db) == expected
    assert [row[0] for row in expected["jobs"]] == [1, 10, 12]


def rows(db):
    views = sqlite3.connect(f"{views_path(db).as_uri()}?mode=ro", uri=True)
    try:
        return {
            name: views.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in ("jobs", "runs", "batches")
        }
    finally:
        views.close()
