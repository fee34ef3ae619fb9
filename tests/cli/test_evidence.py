"""``checkpoint``, ``proof``, ``verify --against``: evidence from the file alone, for those who trust nobody."""

import asyncio
import os
import sqlite3
import stat
import subprocess

import pytest

from ledger import Ledger, keys
from projections.file import views_path
from tests.cli.commandline import COMMAND, good, jobledger
from tests.cli.stories import ABSENT, EVENTS, JOB
from tests.ledger import checker
from tests.ledger.histories import leaf_hash


def vkey(db):
    return str(keys.published(db)[-1])


def log_of(db):
    async def read():
        async with Ledger.open(db, read_only=True) as ledger:
            return await ledger.store.scan(0, 1000)

    return asyncio.run(read())


def test_a_checkpoint_is_printed_kept_and_written_where_it_is_asked_for(db, tmp_path):
    target = tmp_path / "monday.checkpoint"
    done = good("checkpoint", "--db", db, "--out", target)
    assert done.out == target.read_text()
    origin, size, root = checker.checkpoint_of(done.out, vkey(db))
    verdict = good("verify", "--db", db, "--json").json
    assert (origin, size, root.hex()) == ("stories.example", EVENTS, verdict["root"])
    assert (verdict["checkpoints"], verdict["signatures"]) == (1, 1)
    # The same log, the same note, in JSON with what it is checked by
    assert good("checkpoint", "--db", db, "--json").json == {"note": done.out, "size": EVENTS, "key": vkey(db)}
    said = f"1 checkpoint, 1 with the signature of a known key, the last of {EVENTS} events"
    assert good("verify", "--db", db).out.splitlines()[1] == said


def test_the_key_is_for_its_owner_alone_and_a_fresh_one_takes_its_place(db):
    first = good("checkpoint", "--db", db).out
    assert stat.S_IMODE(keys.key_path(db).stat().st_mode) == 0o600
    old = vkey(db)
    second = good("checkpoint", "--db", db, "--new-key").out
    assert vkey(db) != old
    assert checker.checkpoint_of(first, old)[1:] == checker.checkpoint_of(second, vkey(db))[1:]
    assert good("verify", "--db", db, "--json").json["signatures"] == 1


def test_proofs_of_the_file_are_believed_by_the_checker(db, tmp_path):
    _, size, root = checker.checkpoint_of(good("checkpoint", "--db", db).out, vkey(db))
    for event in log_of(db):
        proof = good("proof", "inclusion", event.position, "--db", db, "--json").json
        path = [bytes.fromhex(each) for each in proof["path"]]
        assert checker.inclusion_holds(event.position - 1, size, leaf_hash(event), path, root)
    good("checkpoint", "--db", db)
    proof = good("proof", "consistency", 3, "--db", db, "--json").json
    before, after, *path = (bytes.fromhex(each) for each in (proof["root_from"], proof["root_to"], *proof["path"]))
    assert after == root
    assert checker.consistency_holds(3, size, before, after, path)
    assert good("proof", "inclusion", 1, "--size", 1, "--db", db).out.split()[:4] == ["position", "1", "size", "1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("proof", "inclusion", "0"), "there is no event 0"),
        (("proof", "inclusion", "99"), "there is no event 99"),
        (("proof", "inclusion", "1", "--size", "99"), "so no tree of 99"),
        (("proof", "inclusion"), "Missing argument 'POSITION'"),
        (("proof", "consistency", "99"), "not within the first"),
        (("proof", "consistency", "x"), "not a valid integer"),
        (("verify", "--against", "absent"), "absent cannot be read: No such file"),
        (("verify", "--against", "/dev/null"), "/dev/null: is no signed note"),
        (("verify", "--key", "a+b+c"), "--key, line 1: is no Ed25519 key"),
        (("verify", "--key", "absent"), "absent cannot be read: No such file"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(db, arguments, said):
    done = jobledger(*arguments, "--db", db)
    assert done.code == 2, done
    assert said in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("command", [("checkpoint",), ("proof", "inclusion", "1"), ("proof", "consistency", "1")])
def test_evidence_of_no_ledger_is_none(tmp_path, command):
    done = jobledger(*command, "--db", tmp_path / "absent.db")
    assert (done.code, "there is no such file" in done.err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_that_went_on_agrees_with_older_checkpoints_from_files_and_from_stdin(db, tmp_path):
    older = tmp_path / "older"
    older.write_text(good("checkpoint", "--db", db).out)
    good("erase", JOB, "--db", db, "--reason", "asked for", "--yes")
    verdict = good("verify", "--db", db, "--against", older, "--json").json
    assert [verdict[name] for name in ("ok", "checkpoints", "signatures", "signed")] == [True, 1, 1, EVENTS]
    # Also from a pipe, with the key given as text
    done = subprocess.run(
        [COMMAND, "verify", "--db", db, "--against", "-", "--key", vkey(db)],
        input=older.read_bytes(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done


def test_a_tail_that_was_cut_off_is_shown_by_an_older_checkpoint_and_by_nothing_else(db, tmp_path):
    # Given a copy of the ledger, made before an erasure, in the place of the ledger
    copy = tmp_path / "copy.db"
    good("backup", copy, "--db", db)
    good("erase", JOB, "--db", db, "--reason", "asked for", "--yes")
    later = tmp_path / "later"
    later.write_text(good("checkpoint", "--db", db).out)
    assert good("verify", "--db", copy, "--json").json["ok"]
    # When it is verified against what was signed later
    done = jobledger("verify", "--db", copy, "--against", later, "--key", keys.public_path(db))
    # Then what is missing is named
    assert done.code == 1
    assert done.out.startswith(f"position {EVENTS + 1}: the checkpoint in {later} has {EVENTS + 1} events")


def test_a_checkpoint_with_another_key_or_of_another_ledger_is_not_believed(db, tmp_path):
    note = tmp_path / "note"
    note.write_text(good("checkpoint", "--db", db).out)
    other = tmp_path / "other.db"
    good("import", "--db", other, "/dev/null")
    good("checkpoint", "--db", other)
    done = jobledger("verify", "--db", db, "--against", note, "--key", keys.public_path(other))
    assert (done.code, "is not signed by a key that is trusted here" in done.err) == (2, True)
    done = jobledger("verify", "--db", other, "--against", note, "--key", keys.public_path(db))
    assert (done.code, "is a checkpoint of 'stories.example', not of" in done.err) == (2, True)


def test_a_verification_leaves_its_verdict_for_the_server_where_it_can(db, unprivileged):
    good("verify", "--db", db)
    verified = db.with_name("ledger.db.verified")
    assert b'"ok":true' in verified.read_bytes()
    verified.unlink()
    db.parent.chmod(0o500)
    try:
        assert unprivileged("verify", "--db", db).code == 0
        assert not verified.exists()
    finally:
        db.parent.chmod(0o700)


# --- bundles ----------------------------------------------------------------------------------------------------------


def test_a_bundle_is_checked_by_the_file_alone_and_by_the_key_that_is_trusted(db, tmp_path):
    file = tmp_path / "job.bundle"
    good("bundle", JOB, "--db", db, "--out", file)
    key = tmp_path / "trusted.pub"
    keys.public_path(db).rename(key)
    root = good("verify", "--db", db, "--json").json["root"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = file.rename(elsewhere / "job.bundle")
    verdict = good("verify", moved, "--json").json
    assert verdict["problems"] == []
    assert [verdict[name] for name in ("ok", "stream", "size", "root", "trusted")] == [True, JOB, EVENTS, root, False]
    assert good("verify", moved, "--key", key, "--json").json["trusted"]
    lines = good("verify", moved, "--key", key).out.splitlines()
    assert lines[0] == f"ok: 6 events, each in the signed log of {EVENTS} events"
    assert lines[2].endswith("which is trusted here")
    assert [line for line in lines if "job.completed at position 7" in line]
    assert stat.S_IMODE(moved.stat().st_mode) == 0o600


def test_a_bundle_by_another_key_or_with_another_word_is_refused(db, tmp_path):
    file = tmp_path / "job.bundle"
    file.write_bytes(good("bundle", JOB, "--db", db).raw)
    other = tmp_path / "other.db"
    good("import", "--db", other, "/dev/null")
    good("checkpoint", "--db", other)
    done = jobledger("verify", file, "--key", keys.public_path(other))
    assert (done.code, "not signed by a key that is trusted here" in done.out) == (1, True)
    file.write_bytes(file.read_bytes().replace(b"nightly", b"daily"))
    done = jobledger("verify", file, "--json")
    assert (done.code, done.json["ok"], done.json["problems"][0]["position"]) == (1, False, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bundle", ABSENT), f"There is no job '{ABSENT}'"),
        (("bundle", JOB, "--out", "/absent/x"), "/absent/x cannot be read: it cannot be written"),
        (("verify", "absent"), "absent cannot be read: No such file"),
        (("verify", "/dev/null"), "/dev/null cannot be read: it is no bundle"),
        (("verify", "/dev/null", "--views"), "go with a ledger"),
        (("verify", "ledger.db"), "a ledger is verified with --db"),
        (("verify", "x.checkpoint"), "a checkpoint is compared with --against"),
        (("verify", "x.checkpoint", "--key", "absent"), "absent cannot be read: No such file"),
        (("verify", "x.checkpoint", "--key", "x" * 300), "cannot be read: File name too long"),
        (("verify", "x.checkpoint", "--key", "a+b+\udcff"), "--key, line 1: "),
        (("verify", "x.checkpoint", "--key", f"\udcff+00000000+{'A' * 44}"), "no Unicode"),
    ],
)
def test_what_is_no_bundle_is_refused_in_one_line(db, monkeypatch, arguments, said):
    monkeypatch.chdir(db.parent)
    good("checkpoint", "--db", db, "--out", "x.checkpoint")
    done = jobledger(*arguments, "--db", db)
    assert done.code == 2, done
    assert said in done.err
    assert len(done.err.splitlines()) == 1


# --- what must not be lost --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("checkpoint",), ("bundle", JOB), ("export",)])
@pytest.mark.parametrize(
    "name", ["ledger.db", "ledger.key", "ledger.pub", "ledger.views.db", "ledger.db.signed", "link to the ledger"]
)
def test_a_result_is_never_written_over_the_ledgers_own_files(db, command, name):
    good("rebuild", "--db", db)
    good("checkpoint", "--db", db)
    (db.parent / "link to the ledger").symlink_to(db)
    target = db.parent / name
    before = target.read_bytes()
    done = jobledger(*command, "--db", db, "--out", target)
    assert (done.code, "belongs to the ledger; name another file" in done.err) == (2, True)
    assert target.read_bytes() == before


def test_a_result_goes_through_a_pipe_and_leaves_it_one(db, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        note = good("checkpoint", "--db", db, "--out", pipe).out
        assert reader.stdout.read().decode() == note
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_an_older_state_that_is_put_back_is_shown_and_not_signed_until_that_is_said(db, tmp_path):
    # Given a ledger that was signed, and an older state of it put back
    older = tmp_path / "older"
    older.write_bytes(good("backup", tmp_path / "x.db", "--db", db) and (tmp_path / "x.db").read_bytes())
    good("erase", JOB, "--db", db, "--reason", "asked for", "--yes")
    good("checkpoint", "--db", db)
    good("verify", "--db", db)
    db.write_bytes(older.read_bytes())
    # When it is verified, then what was signed last shows it, and what was verified last
    done = jobledger("verify", "--db", db)
    assert done.code == 1
    assert f"position {EVENTS + 1}: what was signed last, in {db}.signed," in done.out
    assert f"but had {EVENTS + 1} events when it was last verified" in done.out
    # And it is not signed as if nothing had happened
    done = jobledger("checkpoint", "--db", db)
    assert (done.code, "jobledger checkpoint --new-key" in done.err) == (2, True)
    # Until somebody says that it was on purpose
    good("checkpoint", "--db", db, "--new-key")
    verdict = good("verify", "--db", db, "--json").json
    assert (verdict["ok"], verdict["size"], verdict["signed"]) == (True, EVENTS, EVENTS)


def test_a_backup_without_its_key_is_whole_and_is_signed_again_when_that_is_said(db, tmp_path):
    good("checkpoint", "--db", db)
    copy = tmp_path / "elsewhere" / "ledger.db"
    copy.parent.mkdir()
    good("backup", copy, "--db", db)
    # A checkpoint whose key nobody knows counts for nothing, and harms nothing
    verdict = good("verify", "--db", copy, "--json").json
    assert [verdict[name] for name in ("ok", "checkpoints", "signatures", "signed")] == [True, 1, 0, 0]
    # Unless a key is named that must have signed it
    assert good("verify", "--db", copy, "--key", keys.public_path(db), "--json").json["signed"] == EVENTS
    done = jobledger("checkpoint", "--db", copy)
    assert (done.code, "by a key that is not known here" in done.err) == (2, True)
    assert not keys.key_path(copy).exists()
    good("checkpoint", "--db", copy, "--new-key")
    assert good("verify", "--db", copy, "--json").json["ok"]


def test_a_ledger_with_old_and_new_keys_is_good_for_who_knows_the_one_or_the_other(db, tmp_path):
    good("checkpoint", "--db", db)
    old = vkey(db)
    good("erase", JOB, "--db", db, "--reason", "asked for", "--yes")
    good("checkpoint", "--db", db, "--new-key")
    for key, signed in ((old, EVENTS), (vkey(db), EVENTS + 1)):
        verdict = good("verify", "--db", db, "--key", key, "--json").json
        assert [verdict[name] for name in ("ok", "checkpoints", "signatures", "signed")] == [True, 2, 1, signed]
    other = tmp_path / "other.db"
    good("import", "--db", other, "/dev/null")
    good("checkpoint", "--db", other)
    done = jobledger("verify", "--db", db, "--key", keys.public_path(other))
    assert (done.code, "no checkpoint here is signed by a key that is trusted" in done.out) == (1, True)


def test_a_checkpoint_that_went_by_mail_is_read(db, tmp_path):
    note = good("checkpoint", "--db", db).out
    mailed = tmp_path / "mailed"
    for text in (note.replace("\n", "\r\n"), note.rstrip("\n"), f"{note}\n\n", note.replace("\n", " \n")):
        mailed.write_text(text, newline="")
        assert good("verify", "--db", db, "--against", mailed, "--json").json["ok"]


def tampered(db, *statements):
    connection = sqlite3.connect(db)
    connection.execute("PRAGMA writable_schema = ON")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "DROP TRIGGER events_are_never_changed",
            "the file: the trigger 'events_are_never_changed' is gone from the file",
        ),
        (
            "CREATE TRIGGER quiet AFTER INSERT ON events WHEN NEW.type LIKE '%.refused' BEGIN SELECT 1; END",
            "the file: the trigger 'quiet' is in the file, which no ledger has",
        ),
        (
            "INSERT INTO sqlite_schema SELECT type, 'sqlite_x', tbl_name, 0, replace(sql, name, 'sqlite_x') "
            "FROM sqlite_schema WHERE name = 'events_are_never_deleted'",
            "the file: the trigger 'sqlite_x' is in the file, which no ledger has",
        ),
        ("CREATE TABLE more (x)", "the file: the table 'more' is in the file, which no ledger has"),
        ("DROP INDEX events_by_key", "the file: the index 'events_by_key' is gone from the file"),
        ("DROP TABLE tree", "the file: the table 'tree' is gone from the file"),
        (
            "UPDATE sqlite_schema SET sql = replace(sql, 'BEFORE', 'AFTER') WHERE name = 'events_are_never_deleted'",
            "the file: the trigger 'events_are_never_deleted' in the file is not what a ledger has",
        ),
        ("INSERT INTO imports VALUES (1, 999)", "the file: an import is noted of positions 1 to 999"),
        ("PRAGMA user_version = 1", "the file: the table 'imports' is in the file, which no ledger has"),
    ],
)
def test_a_file_that_is_not_made_as_ledgers_are_is_told(db, statement, said):
    tampered(db, statement)
    done = jobledger("verify", "--db", db)
    assert (done.code, [line for line in done.out.splitlines() if line.startswith(said)] != []) == (1, True), done


def test_a_view_without_end_in_the_place_of_a_table_is_not_read(db):
    endless = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS size, 1 AS made, '' AS note FROM n"
    )
    tampered(db, "DROP TABLE checkpoints", f"CREATE VIEW checkpoints AS {endless}")
    done = jobledger("verify", "--db", db)
    assert (done.code, "it holds the view 'checkpoints', which no ledger has" in done.err) == (2, True)


def test_an_empty_ledger_that_was_signed_is_whole(tmp_path):
    db = tmp_path / "empty.db"
    good("import", "--db", db, "/dev/null")
    good("checkpoint", "--db", db)
    assert good("verify", "--db", db, "--json").json["problems"] == []


def test_views_that_are_wrong_are_in_the_last_verdict_too(db):
    good("rebuild", "--db", db)
    connection = sqlite3.connect(views_path(db))
    connection.execute("UPDATE jobs SET status = 'failed'")
    connection.commit()
    connection.close()
    assert jobledger("verify", "--db", db, "--views").code == 1
    assert b'"ok":false' in db.with_name("ledger.db.verified").read_bytes()


def test_a_last_checkpoint_that_was_damaged_is_told_and_holds_up_nothing_for_good(db):
    good("checkpoint", "--db", db)
    keys.signed_path(db).write_text("nonsense")
    # The log is verified all the same, and what is wrong is told
    done = jobledger("verify", "--db", db, "--json")
    assert (done.code, done.json["size"], done.json["signed"]) == (1, EVENTS, EVENTS)
    assert [problem["position"] for problem in done.json["problems"]] == [0]
    # Nothing is signed until somebody says that it goes on
    done = jobledger("checkpoint", "--db", db)
    assert (done.code, "begin anew: jobledger checkpoint --new-key" in done.err) == (2, True)
    good("checkpoint", "--db", db, "--new-key")
    assert good("verify", "--db", db, "--json").json["ok"]
