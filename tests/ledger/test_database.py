"""Files of format 1, from before imports were marked: read as they are, and brought up to date by whoever writes."""

import asyncio
import contextlib
from hashlib import sha256

import pytest

from ledger import Ledger, archive, database, engine
from ledger.database import FORMAT
from ledger.decider import Change
from ledger.errors import InvalidInput, Unreadable
from ledger.sqlite import SqliteStore
from ledger.verify import verify
from tests.ledger.engines import ME, create, log_of, scramble
from tests.ledger.histories import Clock, job
from tests.ledger.oldfile import COPIED, write_format_1


@pytest.fixture
async def newer(tmp_path):
    """A ledger of today's format with some history."""
    path = tmp_path / "newer.db"
    async with Ledger.open(path, clock=Clock(), name="of.old") as ledger:
        await scramble(ledger, seed=4, rounds=20)
        await ledger.execute(create(job(50), "pending"), ME)
    return path


@pytest.fixture
def old(newer, tmp_path):
    """The same as a file of format 1."""
    path = tmp_path / "old.db"
    write_format_1(path, newer)
    assert (format_of(path), has_imports(path)) == (1, False)
    return path


def ask(path, question):
    with contextlib.closing(engine.connect(path, read_only=True)) as connection:
        return connection.execute(question).fetchall()


def format_of(path):
    return ask(path, "PRAGMA user_version")[0][0]


def has_imports(path):
    return bool(ask(path, "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'imports'"))


def schema(path):
    return sorted(ask(path, "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))


async def test_a_file_of_format_1_is_brought_up_to_date_and_keeps_all_that_it_holds(newer, old):
    before = {table: ask(old, f"SELECT * FROM {table}") for table in COPIED}
    assert len(before["events"]) > 20
    async with Ledger.open(old, clock=Clock()) as ledger:
        assert (ledger.name, ledger.size) == ("of.old", len(before["events"]))
        assert {table: ask(old, f"SELECT * FROM {table}") for table in COPIED} == before
        assert await ledger.store.imported(range(1, ledger.size + 1)) == set()
    assert (format_of(old), FORMAT) == (3, 3)
    assert schema(old) == schema(newer)


async def test_a_file_of_format_1_goes_on_and_takes_imports(newer, old):
    async with Ledger.open(newer, clock=Clock()) as ledger:
        await ledger.execute(Change(id=job(50), status="running"), ME)
        lines = [line async for part in archive.dump(ledger.store) for line in part]
    async with Ledger.open(old, clock=Clock()) as ledger:
        size = ledger.size
        (outcome,) = [part async for part in archive.load(ledger, lines, "jobledger", "export")]
        assert (outcome.appended, outcome.duplicate) == (1, size)
        assert (await ledger.state(job(50))).status == "running"
        assert await ledger.store.imported(range(1, size + 2)) == {size + 1}
        log = await log_of(ledger)
    with contextlib.closing(engine.connect(old, read_only=True)) as connection:
        verdict = verify(connection)
    assert (verdict.problems, verdict.size) == ([], len(log))


async def test_a_file_of_format_1_is_read_as_it_is_and_nothing_in_it_was_imported(newer, old):
    digest = sha256(old.read_bytes()).hexdigest()
    async with Ledger.open(old, read_only=True) as ledger, Ledger.open(newer, read_only=True) as same:
        assert await log_of(ledger) == await log_of(same)
        assert await ledger.store.imported(range(1, ledger.size + 1)) == set()
        assert ledger.store.lease("callbacks") is False
    assert (format_of(old), sha256(old.read_bytes()).hexdigest()) == (1, digest)


async def test_a_reader_that_was_there_before_sees_what_is_imported_afterwards(newer, old):
    async with Ledger.open(newer, clock=Clock()) as ledger:
        await ledger.execute(Change(id=job(50), status="running"), ME)
        lines = [line async for part in archive.dump(ledger.store) for line in part]
    reader = await SqliteStore.open(old, read_only=True)
    size = (await reader.head()).size
    assert await reader.imported([size + 1]) == set()
    async with Ledger.open(old, clock=Clock()) as ledger:
        assert [part.appended async for part in archive.load(ledger, lines, "jobledger", "export")] == [1]
        assert await reader.imported([size, size + 1]) == {size + 1}
    await reader.close()


async def test_of_several_who_open_a_file_of_format_1_at_once_each_finds_it_up_to_date(old):
    stores = await asyncio.gather(*(SqliteStore.open(old) for _ in range(4)))
    assert [await store.imported([1]) for store in stores] == [set()] * 4
    for store in stores:
        await store.close()
    assert (format_of(old), has_imports(old)) == (3, True)


async def test_an_update_that_fails_leaves_a_file_of_format_1(old, monkeypatch):
    run_script = database._run_script

    def fail_behind(connection, name):
        run_script(connection, name)
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(database, "_run_script", fail_behind)
        with pytest.raises(RuntimeError, match="power cut"):
            await SqliteStore.open(old)
    assert (format_of(old), has_imports(old)) == (1, False)
    async with Ledger.open(old) as ledger:
        assert await ledger.store.imported([1]) == set()


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\n"])
async def test_a_name_that_no_checkpoint_can_have_is_refused_and_nothing_is_made(tmp_path, name):
    with pytest.raises(InvalidInput, match="name: has no name, or one with blanks or a plus sign"):
        async with Ledger.open(tmp_path / "ledger.db", name=name):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_log_in_a_folder_that_cannot_be_written_is_told_with_what_to_do(tmp_path, monkeypatch):
    # Given a log with its write-ahead log beside it, for which SQLite must make a third file
    path = tmp_path / "ledger.db"
    path.touch()
    path.with_name("ledger.db-wal").write_bytes(b"x")

    def refuse(*_, **__):
        raise engine.OperationalError("unable to open database file")

    monkeypatch.setattr(engine, "connect", refuse)
    with pytest.raises(engine.OperationalError):
        database.open_reader(path)
    monkeypatch.setattr(database.os, "access", lambda *_: False)
    with pytest.raises(Unreadable, match="copy both to a folder of your own"):
        database.open_reader(path)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("ALTER TABLE head RENAME TO x; CREATE VIEW head AS SELECT * FROM x", "the view 'head'"),
        ("CREATE VIEW more AS SELECT * FROM more_still", "the view 'more'"),
        ("CREATE VIRTUAL TABLE words USING fts5(text)", "the virtual table 'words'"),
    ],
)
@pytest.mark.parametrize("read_only", [True, False])
async def test_a_file_that_runs_sql_of_its_own_is_not_opened(newer, change, what, read_only):
    with contextlib.closing(engine.connect(newer, read_only=False)) as connection:
        connection.executescript(change)
    with pytest.raises(Unreadable, match=f"it holds {what}, which no ledger has"):
        await SqliteStore.open(newer, read_only=read_only)


async def test_a_schema_of_somebody_else_gets_at_nothing_but_plain_sql(newer):
    with contextlib.closing(engine.connect(newer, read_only=False)) as connection:
        connection.execute("CREATE TABLE more (x DEFAULT (fts3_tokenizer('simple')))")
        with pytest.raises(engine.Error, match="unsafe use of fts3_tokenizer"):
            connection.execute("INSERT INTO more DEFAULT VALUES")
