"""The secret of callbacks: from the environment or the file, made once, whoever starts first and whoever is killed."""

import os
import shlex
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from ledger import private
from ledger.errors import InvalidInput, Unreadable
from server.callbacks.secret import FILE_SIZE_MAX, VARIABLE, load, origin, read, secret_path
from server.callbacks.signing import Signer, new_private_key, new_secret
from tests.server.callbacks.signed import secret

START = """
import os, sys
from pathlib import Path
from server.callbacks.secret import load
print("ready", flush=True)
sys.stdin.readline()
{before}
print(load(Path(sys.argv[1]), {{}}).verifiers()[0][1], flush=True)
"""
KILLED = 9


@pytest.fixture
def db(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
def file(db):
    return db.with_suffix(".secret")


def write(path, raw, mode=0o600):
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    path.chmod(mode)


def keys(signer):
    return [key for _, key in signer.verifiers()]


def starting(db, before=""):
    """A process that loads the secret once it is told to; ``before`` is run in it first."""
    command = [sys.executable, "-c", START.format(before=before), str(db)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def ended(process):
    out, _ = process.communicate("\n", timeout=60)
    return process.returncode, out.strip()


# --- where from -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ledger.db", "ledger.secret"),
        ("ledger", "ledger.secret"),
        ("a.b.db", "a.b.secret"),
        ("x.secret", "x.secret.secret"),
    ],
)
def test_the_file_is_beside_the_ledger_and_never_the_ledger(tmp_path, name, expected):
    assert secret_path(tmp_path / name) == tmp_path / expected


def test_the_environment_goes_before_the_file(db, file):
    write(file, secret(1))
    assert keys(load(db, {VARIABLE: f"{secret(2)}, {secret(3)}"})) == [secret(2), secret(3)]
    assert keys(load(db, {})) == keys(load(db, {VARIABLE: ""})) == [secret(1)]
    assert origin(db, {VARIABLE: secret(2)}) == VARIABLE
    assert origin(db, {VARIABLE: ""}) == str(file)


def test_the_environment_needs_no_file_and_makes_none(db, tmp_path):
    load(db, {VARIABLE: secret(2)})
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_environment_is_an_error_and_no_reason_to_use_the_file(db, file):
    write(file, secret(1))
    for wrong in (" ", "whsec_", "hunter2"):
        with pytest.raises(InvalidInput, match=VARIABLE):
            load(db, {VARIABLE: wrong})


def test_reading_makes_nothing(db, tmp_path):
    assert read(db, {}) is None
    assert list(tmp_path.iterdir()) == []


def test_the_first_use_makes_a_file_for_the_owner_alone_and_later_ones_read_it(db, file, tmp_path):
    before = os.umask(0)
    try:
        first = keys(load(db, {}))
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == [file]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == f"{first[0]}\n"
    assert keys(load(db, {})) == keys(read(db, {})) == first
    assert first[0].startswith("whsec_")


def test_two_ledgers_have_two_secrets(tmp_path):
    assert keys(load(tmp_path / "a.db", {})) != keys(load(tmp_path / "b.db", {}))


# --- starting at once, and being killed -------------------------------------------------------------------------------


def test_processes_that_start_at_once_all_get_the_same_secret(db, file, tmp_path):
    processes = [starting(db) for _ in range(4)]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    outcomes = [ended(process) for process in processes]
    assert {code for code, _ in outcomes} == {0}
    assert {out for _, out in outcomes} == {file.read_text().strip()}
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("round", range(20))
def test_threads_that_start_at_once_all_get_the_same_secret(db, file, tmp_path, round):
    barrier = Barrier(8)

    def start(_):
        barrier.wait()
        return keys(load(db, {}))[0]

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(start, range(8))) == {file.read_text().strip()}
    assert list(tmp_path.iterdir()) == [file]


def test_who_comes_second_between_look_and_link_takes_the_secret_of_the_first(db, file, monkeypatch):
    link = os.link

    def late(source, target):
        write(file, f"{secret(1)}\n")  # the other process, just now
        link(source, target)

    monkeypatch.setattr(private.os, "link", late)
    assert keys(load(db, {})) == [secret(1)]


@pytest.mark.parametrize("call", ["os.fsync", "os.link", "Path.unlink"])
def test_a_process_that_is_killed_while_it_makes_the_secret_leaves_nothing_for_long(db, file, tmp_path, call):
    # Given a process that dies at this call
    code, out = ended(starting(db, f"{call} = lambda *a, **k: os._exit({KILLED})"))
    assert (code, out) == (KILLED, "")
    (leftover,) = (path for path in tmp_path.iterdir() if path != file)
    assert stat.S_IMODE(leftover.stat().st_mode) == 0o600
    assert leftover.suffix == ".secret"  # which .gitignore keeps out of repositories
    linked = file.read_text().strip() if file.exists() else None
    assert (linked is not None) == (call == "Path.unlink")
    # When others start
    (first,) = keys(load(db, {}))
    # Then they agree, and on what the killed one had linked, if it had
    assert keys(load(db, {})) == [first]
    assert linked in (None, first)
    assert list(tmp_path.iterdir()) == [file]  # and what it left is gone


def test_a_file_system_without_links_is_named_as_the_reason(db, file, tmp_path, monkeypatch):
    def refuse(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(private.os, "link", refuse)
    with pytest.raises(Unreadable, match=f"cannot be made .Operation not permitted.; set {VARIABLE}"):
        load(db, {})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(Unreadable, match="No such file or directory"):
        load(tmp_path / "nowhere" / "ledger.db", {})


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(f"{secret(1)}\n", [secret(1)], id="a line"),
        pytest.param(secret(1), [secret(1)], id="without an end"),
        pytest.param(f"{secret(1)}\r\n", [secret(1)], id="an end from Windows"),
        pytest.param(f"{secret(2)}, {secret(1)}\n\n \n", [secret(2), secret(1)], id="two, and empty lines"),
    ],
)
def test_files_that_are_taken(db, file, raw, expected):
    write(file, raw)
    assert keys(load(db, {})) == expected


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        pytest.param(b"", "line 1: holds no secret", id="empty"),
        pytest.param(b"\n", "line 1: holds no secret", id="an empty line"),
        pytest.param(f"\n{secret(1)}\n", "line 2: must be empty", id="on the second line"),
        pytest.param(f"{secret(1)}\n{secret(2)}\n", "line 2: must be empty", id="two lines"),
        pytest.param(f"{secret(1)}\n\n# hunter2\n", "line 3: must be empty", id="a remark"),
        pytest.param(b"hunter2", "line 1: secret 1 of 1 must begin with", id="no secret"),
        pytest.param(f"{secret(1)},{secret(1, 8)}", "line 1: secret 2 of 2 must be 24", id="a short secret"),
        pytest.param(secret(1).encode("utf-16"), "line 1: secret 1 of 1 must begin with", id="UTF-16"),
        pytest.param(
            b"\xef\xbb\xbf" + secret(1).encode(), "line 1: secret 1 of 1 must begin with", id="byte order mark"
        ),
        pytest.param(b"whsec_\xff\xfe" + b"A" * 30, "line 1: secret 1 of 1 must be standard base64", id="not UTF-8"),
        pytest.param(b"\0" * 100, "line 1: secret 1 of 1 must begin with", id="zeros"),
        pytest.param(b" " * (FILE_SIZE_MAX + 1), f"is longer than {FILE_SIZE_MAX} bytes", id="huge"),
    ],
)
@pytest.mark.parametrize("use", [load, read])
def test_a_file_that_holds_no_secrets_is_named_with_its_line_and_without_its_content(db, file, raw, told, use):
    write(file, raw)
    with pytest.raises(InvalidInput) as caught:
        use(db, {})
    said = str(caught.value)
    assert said.startswith(str(file))
    assert told in said
    assert "hunter2" not in said
    assert secret(1)[6:12] not in said
    assert file.read_bytes() == (raw if isinstance(raw, bytes) else raw.encode())


def test_of_a_huge_file_only_the_beginning_is_read(db, file):
    with file.open("wb") as handle:
        handle.truncate(1 << 40)
    file.chmod(0o600)
    with pytest.raises(InvalidInput, match="is longer than"):
        load(db, {})


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o640, 0o620, 0o610, 0o644, 0o666, 0o777])
@pytest.mark.parametrize("use", [load, read])
def test_a_file_that_others_may_use_is_refused_with_what_to_do(db, file, mode, use):
    write(file, secret(1), mode)
    with pytest.raises(InvalidInput, match="chmod 600 ") as caught:
        use(db, {})
    assert secret(1)[6:12] not in str(caught.value)
    subprocess.run(shlex.split(str(caught.value).partition("run: ")[2]), check=True)
    assert keys(use(db, {})) == [secret(1)]


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_the_owner_alone_is_read(db, file, mode):
    write(file, secret(1), mode)
    assert keys(load(db, {})) == [secret(1)]


def test_what_to_do_can_be_pasted_whatever_the_file_is_called(tmp_path):
    db = tmp_path / "my $(ledger).db"
    write(secret_path(db), secret(1), 0o644)
    with pytest.raises(InvalidInput) as caught:
        load(db, {})
    assert str(caught.value).endswith(f"chmod 600 '{tmp_path}/my $(ledger).secret'")


def test_a_link_to_a_file_is_followed(db, file, tmp_path):
    write(tmp_path / "elsewhere", secret(1))
    file.symlink_to(tmp_path / "elsewhere")
    assert keys(load(db, {})) == [secret(1)]
    (tmp_path / "elsewhere").chmod(0o644)
    with pytest.raises(InvalidInput, match="chmod 600"):
        load(db, {})


def test_a_link_to_nothing_is_no_secret_and_is_not_replaced(db, file, tmp_path):
    file.symlink_to(tmp_path / "nothing")
    assert read(db, {}) is None
    with pytest.raises(Unreadable, match="link to nothing"):
        load(db, {})
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        pytest.param(os.mkdir, "Is a directory", id="a folder"),
        pytest.param(os.mkfifo, "it is no regular file", id="a pipe, which would block"),
        pytest.param(lambda path: os.symlink("/dev/null", path), "it is no regular file", id="a device"),
        pytest.param(lambda path: os.symlink(path, path), "Too many levels", id="a link to itself"),
    ],
)
@pytest.mark.parametrize("use", [load, read])
def test_what_is_no_file_is_refused(db, file, make, told, use):
    make(file)
    with pytest.raises(Unreadable) as caught:
        use(db, {})
    assert str(file) in str(caught.value)
    assert told in str(caught.value)


def test_a_file_that_may_not_be_read_is_named(db, file, monkeypatch):
    write(file, secret(1))

    def refuse(path, flags):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(private, "_open", refuse)  # root, as which tests may run, may read everything
    for use in (load, read):
        with pytest.raises(Unreadable, match="Permission denied"):
            use(db, {})


@pytest.mark.parametrize("make", [new_secret, new_private_key])
def test_what_the_command_line_makes_can_be_put_into_the_file(db, file, make):
    made = make()
    write(file, f"{made},{secret(1)}\n")
    assert keys(load(db, {})) == [*keys(Signer.parse(made, "made")), secret(1)]
