"""``export`` and ``backup``: the log out of the ledger, as lines or as a whole."""

import os
import stat
import subprocess

import pytest

from tests.cli.commandline import COMMAND, good, jobledger
from tests.cli.stories import EVENTS, JOB


@pytest.mark.parametrize("options", [[], ["--after", "3"], ["--stream", JOB], ["--stream", JOB, "--after", "4"]])
def test_an_export_holds_the_lines_asked_for(db, options):
    lines = good("export", "--db", db, *options).jsonl
    after = int(options[-1]) if "--after" in options else 0
    every = good("export", "--db", db).jsonl
    assert lines == [
        line for line in every if line["position"] > after and ("--stream" not in options or line["subject"] == JOB)
    ]
    assert [line["position"] for line in every] == list(range(1, EVENTS + 1))


def test_an_export_goes_to_a_file_in_one_step(db, tmp_path):
    target = tmp_path / "log.jsonl"
    target.write_text("older")
    assert good("export", "--db", db, "--out", target).raw == b""
    assert target.read_bytes() == good("export", "--db", db).raw
    beside = {path.name for path in tmp_path.iterdir()}
    assert beside <= {"log.jsonl", "ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db.writer"}


def test_an_export_leaves_a_file_alone_that_is_named_like_an_unfinished_one(db, tmp_path):
    neighbour = tmp_path / "log.jsonl.partial"
    neighbour.write_text("of another export")
    good("export", "--db", db, "--out", tmp_path / "log.jsonl")
    assert neighbour.read_text() == "of another export"


def test_an_export_into_a_pipe_goes_through_it_and_leaves_it_in_its_place(db, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        good("export", "--db", db, "--out", pipe)
        assert stat.S_ISFIFO(pipe.stat().st_mode)
        assert os.read(reader, 2**20) == good("export", "--db", db).raw
    finally:
        os.close(reader)


@pytest.mark.parametrize(
    "arguments", [["export"], ["log", JOB], ["log", "--json", JOB], ["show", JOB], ["stuck"]], ids=" ".join
)
def test_a_reader_who_stops_listening_is_no_error(db, arguments):
    unread, pipe = os.pipe()
    os.close(unread)
    command = [COMMAND, *arguments, "--db", str(db)]
    done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, check=False)
    os.close(pipe)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_disk_is_told_in_one_line(db):
    with open("/dev/full", "wb") as full:
        done = subprocess.run([COMMAND, "export", "--db", db], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert "No space left" in line


# --- backup -----------------------------------------------------------------------------------------------------------


def test_a_backup_is_the_ledger(db, tmp_path):
    target = tmp_path / "backup.db"
    good("backup", "--db", db, target)
    assert good("export", "--db", target).raw == good("export", "--db", db).raw
    assert good("verify", "--json", "--db", target).json == good("verify", "--json", "--db", db).json
    assert target.stat().st_mode & 0o077 == 0


def test_a_backup_never_overwrites_a_file(db, tmp_path):
    target = tmp_path / "backup.db"
    target.write_text("precious")
    done = jobledger("backup", "--db", db, target)
    assert (done.code, done.raw, target.read_text()) == (2, b"", "precious")
    assert "exists" in done.err


def test_a_backup_of_what_is_no_ledger_leaves_nothing_behind(tmp_path):
    source, target = tmp_path / "source.db", tmp_path / "backup.db"
    source.write_text("not a database, but long enough to look at" * 100)
    done = jobledger("backup", "--db", source, target)
    assert (done.code, done.raw, len(done.err.splitlines())) == (2, b"", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["source.db"]
