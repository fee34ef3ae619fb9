"""Files that commands make: for their owner alone, whatever the umask, and just where they were asked for."""

import os
import stat
from contextlib import contextmanager

import click
import pytest

from server.cli.options import check_target
from tests.cli.commandline import good, in_a_process, jobledger
from tests.cli.stories import JOB, RUN
from tests.end_to_end.server_process import client, serve

READABLE = {"ledger.pub", "ledger.db.signed", "ledger.db.verified"}
"""What is there to be shown: keys' public halves, checkpoints, verdicts."""
LOG = "ledger.server.log"
"""Made by the test, which sends the server's stderr there."""


@contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def open_to_others(folder):
    """The files of a folder that others than their owner may read or write."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return {path.name for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077}


async def test_a_server_makes_files_that_only_its_owner_can_read(tmp_path):
    with umask(0):
        async with serve(tmp_path / "ledger.db", "--workers", "2") as server, client(server, server.token) as session:
            async with session.post("/v1/jobs/", json={}) as response:
                assert response.status == 201
            others = (
                open_to_others(tmp_path) - READABLE - {"ledger.server.log"}
            )  # a log is as who redirects it wants it
            assert others == set()
            assert await server.stop() == 0
    assert open_to_others(tmp_path) - READABLE == {LOG}


@pytest.mark.parametrize("arguments", [
    ("backup", "--db", "{db}", "{out}"),
    ("bundle", "--db", "{db}", RUN, "--out", "{out}"),
    ("checkpoint", "--db", "{db}", "--out", "{out}"),
    ("report", "--db", "{db}", RUN, "--html", "{out}"),
    ("export", "--db", "{db}", "--out", "{out}"),
    ("export", "--db", "{db}", "--table", "jobs", "--format", "csv", "--out", "{out}"),
    ("rebuild", "--db", "{db}"),
    ("verify", "--db", "{db}", "--views"),
    ("import", "--db", "{new}", "{exported}", "--rejects", "{out}"),
], ids=lambda arguments: arguments[0])  # fmt: skip
def test_what_a_command_writes_only_its_owner_can_read(arguments, db, tmp_path):
    exported = tmp_path / "events.jsonl"
    exported.write_bytes(good("export", "--db", db).raw + b"{}\n")
    exported.chmod(0o600)
    names = {"db": db, "out": tmp_path / "out", "new": tmp_path / "new.db", "exported": exported}
    with umask(0):
        done = jobledger(*[each.format(**names) for each in arguments])
    assert done.code in {0, 1}, done
    assert open_to_others(tmp_path) - READABLE == set()


NAMES = [
    "a b.db", "a?mode=memory.db", "a#b.db", "a%20b.db", "a%00b.db", "file:a.db", ":memory:", "-rf.db", "ä–ö.db",
    "a\nb.db", "a'b\".db", "a;b.db", "a&cache=shared.db", "$(touch x).db", "..db", "ledger", "x.key", "x.views.db",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_ledger_is_the_file_that_was_named_however_it_is_called(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = good("token", "create", "--db", name)
    assert made.raw.startswith(b"jl_")
    assert (tmp_path / name).is_file()
    listed = good("token", "list", "--json", "--db", name)
    assert listed.raw.count(b"token-") >= 1
    stem = name.removesuffix(".db")
    assert all(path.name.lstrip(".").startswith(stem.lstrip(".")) for path in tmp_path.iterdir()), os.listdir(tmp_path)


@pytest.mark.parametrize(
    "path", ["", ".", "/", "no/such/folder/x.db", "/dev/null", "/dev/full", "/proc/self/mem", "a" * 300 + ".db"]
)
def test_what_can_be_no_ledger_is_refused_in_one_line(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = jobledger("token", "create", "--db", path)
    assert (done.code, done.raw) == (2, b"")
    assert len(done.err.strip().splitlines()) <= 3, done.err
    assert "Traceback" not in done.err
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("ending", ["", "-wal", ".beats", ".callbacks", ".signed", ".verified"])
def test_no_result_is_written_over_a_file_of_the_ledger(ending, db):
    good("checkpoint", "--db", db)
    before = db.read_bytes()
    done = jobledger("bundle", "--db", db, RUN, "--out", f"{db}{ending}")
    assert done.code == 2
    assert "belongs to the ledger" in done.err
    assert db.read_bytes() == before


async def test_every_file_that_a_server_and_commands_make_beside_a_ledger_is_known_to_belong_to_it(tmp_path):
    db = tmp_path / "ledger.db"
    async with serve(db) as server, client(server, server.token) as session:
        async with session.post("/v1/jobs/", json={"id": JOB}) as response:
            assert response.status == 201
        for command in (("checkpoint",), ("verify", "--views"), ("rebuild",)):
            assert in_a_process(*command, "--db", db).code == 0
        made = sorted(os.listdir(tmp_path))
    made.remove(LOG)
    assert len(made) >= 8, made
    for name in made:
        with pytest.raises(click.UsageError, match="belongs to the ledger"):
            check_target(db, tmp_path / name)
