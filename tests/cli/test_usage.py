"""What all commands have in common: help, exit codes, one line for what cannot be read, and reading without writing."""

import os
import re
import shutil
import sqlite3
import stat

import pytest

from server.cli import cli
from tests.cli.commandline import good, in_a_process, jobledger
from tests.cli.stories import ABSENT, EVENTS, JOB

WRITING = (["import", "/dev/null"], ["token", "create"], ["serve", "--port", "0"])
READING = (
    ["export"], ["log", JOB], ["show", JOB], ["replay", JOB], ["verify"], ["token", "list"],
    ["log", "--json", JOB], ["show", "--json", JOB], ["replay", "--json", JOB], ["verify", "--json"],
    ["stuck"], ["stuck", "--for", "1s", "--status", "created"],
    ["token", "list", "--json"], ["callbacks", "list"], ["callbacks", "list", "--json"],
    ["search", "nightly"], ["search", "--json", "nightly"],
    ["report", JOB], ["report", JOB, "--json"], ["report", JOB, "--html", "-"], ["replay", JOB, "--plain"],
)  # fmt: skip
ON_A_LEDGER = (
    *READING,
    ["rebuild"],
    ["backup", "copy.db"],
    ["verify", "--views"],
    ["callbacks", "redeliver", "--abandoned"],
)
joined = " ".join


def commands(group=cli, path=()):
    """Every command, groups and their members, as words."""
    for name, command in group.commands.items():
        yield (*path, name), command
        yield from commands(command, (*path, name)) if hasattr(command, "commands") else ()


LEAVES = [(path, command) for path, command in commands() if not hasattr(command, "commands")]


def one_line(done):
    """The only line of stderr, of a command that could not read its input and printed nothing else."""
    assert (done.code, done.raw) == (2, b""), done
    (line,) = done.err.splitlines()
    assert "Traceback" not in line
    return line


# --- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [path for path, _ in LEAVES], ids=joined)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_each_command_explains_itself_with_an_example(path, flag):
    out = good(*path, flag).out
    assert re.match(rf"Usage: \S.* {' '.join(path)} \[OPTIONS\]", out)
    assert re.search(rf"^ +jobledger {' '.join(path)}\b", out, re.MULTILINE), "there is no example"


def test_the_command_itself_names_all_commands(tmp_path):
    out = in_a_process("--help").out
    assert all(re.search(rf"^  {path[0]} ", out, re.MULTILINE) for path, _ in LEAVES)
    assert re.fullmatch(r"jobledger, version \d+\.\d+\.\d+\S*\n", in_a_process("--version").out)


@pytest.mark.parametrize("path", [path for path, command in LEAVES if path[0] != "serve"], ids=joined)
def test_each_command_that_reads_speaks_json(path):
    # Two speak nothing else, two do not read
    speechless = {("export",), ("bundle",), ("backup",), ("token", "revoke")}
    assert ("--json" in good(*path, "--help").out) == (path not in speechless)


# --- wrong usage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["show"],
        ["show", JOB, JOB],
        ["verify", "--frobnicate"],
        ["import"],
        ["import", "--format", "xml", "/dev/null"],
        ["export", "--after", "-1"],
        ["export", "--after", "x"],
        ["serve", "--port", "65536"],
        ["token", "create", "--expires", "soon"],
    ],
    ids=joined,
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(db, arguments):
    done = jobledger(
        *arguments, *(["--db", db] if "--frobnicate" not in arguments and arguments != ["frobnicate"] else [])
    )
    assert (done.code, done.raw) == (2, b"")
    assert "Traceback" not in done.err
    assert done.err.splitlines()[-1].startswith("jobledger: ")


@pytest.mark.parametrize("command", ["log", "show", "replay", "report"])
@pytest.mark.parametrize("id", ["", "job-1", JOB.upper(), f"{JOB} ", f"user-{JOB[4:]}", "x" * 5000, "job-\x1b[31m"])
def test_a_malformed_id_is_told_with_the_form_it_should_have(db, command, id):
    line = one_line(jobledger(command, "--db", db, id))
    assert "job-<uuid4>" in line
    assert len(line) < 300
    assert "\x1b" not in line


@pytest.mark.parametrize("command", ["log", "show", "replay", "report"])
def test_an_id_that_nobody_has_is_told(db, command):
    assert ABSENT in one_line(jobledger(command, "--db", db, ABSENT))


@pytest.mark.parametrize("command", ["show", "replay"])
@pytest.mark.parametrize("when", ["", "yesterday", "-1", "9" * 30, "2026-13-01", "2026-11-22T25:00:00Z", "١"])
def test_a_point_that_is_none_is_told(db, command, when):
    assert "--at" in one_line(jobledger(command, "--db", db, JOB, "--at", when))


# --- unreadable input -------------------------------------------------------------------------------------------------


def text_file(path):
    path.write_text("just some text, long enough to be looked at\n" * 200)


def other_database(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE jobs (id)")
    connection.commit()
    connection.close()


def later_format(path):
    good("token", "create", "--db", path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 999")
    connection.close()


def cut_off(path):
    good("token", "create", "--db", path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    os.truncate(path, 5000)


@pytest.mark.parametrize("arguments", ON_A_LEDGER, ids=joined)
@pytest.mark.parametrize("make", [text_file, other_database, later_format, cut_off], ids=lambda make: make.__name__)
def test_a_file_that_is_no_ledger_is_told_in_one_line_and_left_as_it_was(tmp_path, monkeypatch, arguments, make):
    if make is later_format and arguments[0] == "backup":
        pytest.skip("a copy needs no understanding")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "odd.db"
    make(path)
    before = path.read_bytes()
    done = jobledger(*arguments, "--db", path)
    if make is cut_off and done.code == 1:
        assert arguments[0] == "verify"  # it can be opened, and what is missing shows when it is read
    else:
        assert "odd.db" in one_line(done)
    assert path.read_bytes() == before


@pytest.mark.parametrize("arguments", ON_A_LEDGER, ids=joined)
def test_a_ledger_that_is_not_there_is_told_and_not_made(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    line = one_line(jobledger(*arguments, "--db", "absent.db"))
    assert "absent.db" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [*ON_A_LEDGER, *WRITING], ids=joined)
def test_a_directory_is_no_ledger(tmp_path, arguments):
    done = jobledger(*arguments, "--db", tmp_path)
    assert (done.code, done.raw) == (2, b"")
    assert "directory" in done.err.splitlines()[-1]


@pytest.mark.parametrize("arguments", WRITING, ids=joined)
def test_a_folder_that_is_not_there_is_told(tmp_path, arguments):
    assert "folder" in one_line(jobledger(*arguments, "--db", tmp_path / "absent" / "ledger.db"))


@pytest.mark.parametrize("path", ["absent.swf", "."])
def test_an_input_that_is_no_file_is_told(db, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = jobledger("import", "--db", db, path)
    assert (done.code, done.raw) == (2, b"")
    assert path in done.err.splitlines()[-1]


# --- where the ledger is ----------------------------------------------------------------------------------------------


def test_the_environment_names_the_ledger_and_the_option_wins(db, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    named = in_a_process("verify", "--json", cwd=elsewhere, JOBLEDGER_DB=str(db))
    assert named.json["size"] == EVENTS
    wins = in_a_process("verify", "--json", "--db", db, cwd=elsewhere, JOBLEDGER_DB=str(elsewhere / "absent.db"))
    assert wins.json["size"] == EVENTS


def test_without_any_name_it_is_here(db):
    assert in_a_process("verify", "--json", cwd=db.parent).json["size"] == EVENTS


# --- reading never writes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", READING, ids=joined)
def test_a_command_that_reads_leaves_the_file_as_it_is(db, arguments):
    before, told = db.read_bytes(), db.stat()
    good(*arguments, "--db", db)
    assert db.read_bytes() == before
    assert (db.stat().st_mtime_ns, db.stat().st_ino) == (told.st_mtime_ns, told.st_ino)


@pytest.mark.parametrize("arguments", READING, ids=joined)
def test_a_command_that_reads_needs_no_right_to_write(db, tmp_path, arguments, unprivileged):
    folder = tmp_path / "evidence"
    folder.mkdir()
    connection = sqlite3.connect(db)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    shutil.copy(db, folder)
    (folder / "ledger.db").chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
    folder.chmod(0o555)
    done = unprivileged(*arguments, "--db", folder / "ledger.db")
    assert (done.code, done.err) == (0, "")
    assert done.raw == good(*arguments, "--db", db).raw
    assert [path.name for path in folder.iterdir()] == ["ledger.db"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "nightly", "--agent", "\udcff"],
        ["search", "nightly", "--tool", "\udcff"],
        ["failures", "--agent", "\udcff"],
        ["stuck", "--agent", "\udcff"],
        ["stats", "--agent", "\udcff"],
        ["report", "run-\udcff"],
    ],
    ids=joined,
)
def test_bytes_that_are_no_text_are_told_in_one_line(db, arguments):
    done = jobledger(*arguments, "--db", db)
    assert (done.code, done.raw) == (2, b"")
    (line,) = done.err.splitlines()
    assert line.startswith("jobledger: ")
