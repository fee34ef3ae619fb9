"""What a producer or a tamperer wrote may be shown on a terminal, and must not be obeyed by it."""

import os
import subprocess

import pytest

from tests.cli.commandline import COMMAND, good, jobledger
from tests.cli.stories import HOSTILE, OBEYED, TRAPS
from tests.cli.test_maintenance import tamper


def on_a_terminal(*arguments, columns=None, code=0):
    """What a command that ends with the code writes to a terminal of its own, one that asks for no colours."""
    master, slave = os.openpty()
    environment = {**os.environ, "TERM": "dumb"}
    if columns is not None:
        environment |= {"COLUMNS": str(columns), "LINES": "50"}
    command = [COMMAND, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=slave, stderr=slave, stdin=subprocess.DEVNULL, env=environment)
    os.close(slave)
    told = b""
    while part := read(master):
        told += part
    os.close(master)
    assert process.wait() == code, told
    return told.decode().replace("\r\n", "\n")


def read(master):
    """The next bytes; none once nobody holds the other end."""
    try:
        return os.read(master, 65536)
    except OSError:
        return b""


def obeyed(text):
    return {char for char in text if char in OBEYED}


@pytest.mark.parametrize("command", ["log", "show", "replay"])
def test_hostile_text_is_shown_and_not_obeyed(db, command):
    on_paper = good(command, "--db", db, HOSTILE).out
    assert obeyed(on_a_terminal(command, "--db", db, HOSTILE)) | obeyed(on_paper) == set()
    for text in ("owned", "gnp.exe", "[bold]x[/bold]:smile:"):  # what looks like markup is text
        assert text in on_paper


@pytest.mark.parametrize("command", ["log", "show", "replay"])
def test_programs_get_the_text_as_it_is_in_json_that_a_terminal_may_see(db, command):
    done = good(command, "--json", "--db", db, HOSTILE)
    found = done.json[0] if command != "show" else done.json
    data = {"log": lambda: found["data"], "show": lambda: found, "replay": lambda: found["state"]}[command]()
    assert data["metadata"] == {TRAPS: TRAPS}
    assert obeyed(done.out) & {"\x1b", "\x07", "\x00", "\x08", "\r"} == set()


def test_hostile_text_in_a_tampered_file_is_not_obeyed_by_verify(db):
    tamper(
        db,
        "UPDATE events SET type = 'job.' || char(27) || '[2Jx' || char(8238) WHERE position = 3",
        "UPDATE events SET stream = char(27) || ']0;owned' || char(7) WHERE position = 5",
    )
    told = on_a_terminal("verify", "--db", db, code=1)
    assert "position 3" in told
    assert "owned" in told
    assert obeyed(told) == set()


def test_a_hostile_project_is_not_obeyed_by_the_list_of_tokens(db):
    good("token", "create", "--db", db, "--project", "a\u202egnp.exe")
    told = on_a_terminal("token", "list", "--db", db)
    assert "gnp.exe" in told
    assert obeyed(told) == set()


def test_a_hostile_id_or_file_name_is_not_obeyed_by_the_message_about_it(db, tmp_path):
    for arguments in (
        ["show", "--db", db, "job-\x1b]0;owned\x07"],
        ["show", "--db", db, HOSTILE, "--at", "\x1b]0;owned\x07"],
        ["verify", "--db", tmp_path / "\x1b]0;owned\x07.db"],
    ):
        assert "owned" in jobledger(*arguments).err
        assert obeyed(on_a_terminal(*arguments, code=2)) == set()


def test_a_hostile_line_is_harmless_in_the_rejects_file(db, tmp_path):
    lines, rejects = tmp_path / "lines.jsonl", tmp_path / "rejects.jsonl"
    lines.write_bytes(b"\x1b]0;owned\x07\x00\xff\x9b31m\n")
    good("import", "--db", db, "--rejects", rejects, lines)
    raw = rejects.read_bytes()
    assert b"owned" in raw
    assert obeyed(raw.decode()) == set()
