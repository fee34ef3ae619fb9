"""The SQLite file: durable, readable as a copy, refused when it is none of ours, confined where the library is bad."""

import contextlib
import os
import shutil
from hashlib import sha256
from typing import Any, cast

import pytest

from ledger import Ledger, database, engine
from ledger.database import APPLICATION_ID, FORMAT, format_of
from ledger.decider import Change
from ledger.errors import InDoubt, StoreFailed, Unreadable
from ledger.sqlite import SqliteStore
from tests.ledger.engines import ME, create, log_of
from tests.ledger.histories import Clock, birth, job


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
async def ledger(path):
    async with Ledger.open(path, clock=Clock()) as opened:
        yield opened


# --- durability -------------------------------------------------------------------------------------------------------


async def test_what_is_answered_is_synced_to_disk(ledger):
    def settings(connection):
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]

    assert await ledger.store._writer.run(settings) == ["wal", 2]


@pytest.mark.parametrize("failures", [1, 2, 3])
async def test_after_a_commit_that_failed_the_answer_says_what_is_known_and_the_next_goes_on(path, failures):
    class Broken:
        def __init__(self, connection):
            self._connection = connection
            self.left = failures

        def __getattr__(self, name):
            return getattr(self._connection, name)

        def execute(self, statement, *parameters):
            if statement == "COMMIT" and broken.left:
                broken.left -= 1
                raise engine.OperationalError("disk I/O error")
            return self._connection.execute(statement, *parameters)

    async with Ledger.open(path) as ledger:
        await ledger.execute(create(job()), ME)
        writer = cast(Any, ledger.store)._writer
        run, broken = writer.run, Broken(writer._conn)
        writer.run = lambda work: run(lambda _: work(broken))
        # The second failure is of what makes sure that nothing is left; the third of the next caller's try at that.
        with pytest.raises(StoreFailed if failures == 1 else InDoubt, match="disk I/O error"):
            await ledger.execute(Change(id=job(), status="pending"), ME)
        assert "disk I/O error" in ledger.writer.trouble.reason
        if failures == 3:
            with pytest.raises(StoreFailed, match="nothing of this request was recorded"):
                await ledger.execute(Change(id=job(), status="pending"), ME)
        assert len(await log_of(ledger)) == 1
        assert (await ledger.execute(Change(id=job(), status="pending"), ME)).position == 2
    async with Ledger.open(path) as ledger:
        assert (await ledger.execute(Change(id=job(), status="running"), ME)).position == 3


async def test_what_makes_sure_that_nothing_is_left_of_a_commit_changes_no_format_that_a_later_program_wrote(path):
    async with Ledger.open(path) as ledger:
        with contextlib.closing(engine.connect(path, read_only=False)) as later:
            later.execute(f"PRAGMA user_version = {FORMAT + 1}")
        cast(Any, ledger.store)._in_doubt = "disk I/O error"
        await ledger.execute(create(job()), ME)
        assert cast(Any, ledger.store)._in_doubt is None
        assert await ledger.store._writer.run(format_of) == FORMAT + 1


async def test_a_probe_is_written_to_the_disk_as_any_change_is(path):
    async with Ledger.open(path) as ledger:
        await ledger.execute(create(job()), ME)
        wal = path.with_name(f"{path.name}-wal")
        with contextlib.closing(engine.connect(path, read_only=True)) as other:

            def seen():
                return other.execute("PRAGMA data_version").fetchone()[0], wal.stat().st_size

            (version, size), _ = seen(), await ledger.store.probe()
            assert seen()[0] != version
            assert seen()[1] > size


async def test_a_look_at_the_tree_that_ends_badly_leaves_no_reader_in_the_past(ledger):
    """Found by ``scripts/simulate --seed 128``: a repeated request was answered 404, of a run that was there."""
    reader, sqlite = ledger.store._reader._conn, engine.library

    def no_commit(action, what, *_):
        denied = action == sqlite.SQLITE_TRANSACTION and what == "COMMIT"
        return sqlite.SQLITE_DENY if denied else sqlite.SQLITE_OK

    with contextlib.suppress(StoreFailed):
        await ledger.store._reader.run(lambda _: reader.set_authorizer(no_commit))
        await ledger.store.prove(lambda tree: tree.size)
    await ledger.store._reader.run(lambda _: reader.set_authorizer(None))
    created = await ledger.execute(create(job(1)))
    assert (await ledger.read(created.state.id))[-1].position == created.position


async def test_a_ledger_opened_again_goes_on_where_it_ended(path):
    async with Ledger.open(path, clock=Clock(), name="ours") as ledger:
        await ledger.execute(create(job(), "running"), ME)
        before, head = await log_of(ledger), await ledger.store.head()
    async with Ledger.open(path, clock=Clock(), name="ignored") as ledger:
        assert ledger.name == "ours"
        assert (await log_of(ledger), ledger.size) == (before, 3)
        assert (await ledger.store.head()).frontier.root() == head.frontier.root()
        assert (await ledger.execute(Change(id=job(), status="failed"), ME)).position == 4


async def test_a_read_only_copy_with_its_wal_shows_all_that_was_recorded(ledger, tmp_path):
    await ledger.execute(create(job(), "running"), ME)
    await ledger.execute(Change(id=job(), status="failed"), ME)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("ledger.db", "ledger.db-wal"):
        shutil.copy(tmp_path / name, copy / name)
    digest = sha256((copy / "ledger.db").read_bytes()).hexdigest()
    store = await SqliteStore.open(copy / "ledger.db", read_only=True)
    assert await store.scan(0, 100) == await log_of(ledger)
    await store.close()
    assert sha256((copy / "ledger.db").read_bytes()).hexdigest() == digest


# --- files that are none ----------------------------------------------------------------------------------------------


def foreign(path):
    with contextlib.closing(engine.connect(path, read_only=False)) as connection:
        connection.execute("CREATE TABLE theirs (x)")


def newer(path):
    with contextlib.closing(engine.connect(path, read_only=False)) as connection:
        connection.execute("CREATE TABLE ledger (name)")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT + 1}")


FILES = [
    pytest.param(foreign, "not a ledger", id="somebody else's database"),
    pytest.param(newer, "newer than this program", id="a ledger of a later format"),
    pytest.param(lambda path: path.write_bytes(b"no database at all\n" * 99), "not a database", id="no database"),
    pytest.param(lambda path: path.mkdir(), "unable to open|disk I/O", id="a folder"),
]


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(("make", "reason"), FILES)
async def test_a_file_that_is_no_ledger_is_refused_and_left_as_it_was(path, make, reason, read_only):
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(Unreadable, match=reason) as refusal:
        await SqliteStore.open(path, read_only=read_only)
    assert str(path) in str(refusal.value)
    assert (path.read_bytes() if path.is_file() else None) == before


async def test_a_missing_file_is_not_made_by_a_reader(path):
    with pytest.raises(Unreadable, match="no such file"):
        await SqliteStore.open(path, read_only=True)
    assert not path.exists()


async def test_a_reader_cannot_write(ledger):
    await ledger.execute(create(job()), ME)
    store = await SqliteStore.open(ledger.store.path, read_only=True)
    with pytest.raises(StoreFailed, match="readonly"):
        await store.call(lambda connection: connection.execute("UPDATE head SET size = 9"))
    await store.close()


# --- the library ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "bad"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 4), False),
        ((4, 0, 0), False),
    ],
)
def test_the_versions_with_the_wal_reset_bug_are_known(version, bad):
    assert engine.has_wal_reset_bug(version) is bad


def test_the_library_in_use_is_free_of_the_bug_where_a_good_one_can_be_had():
    pytest.importorskip("pysqlite3")
    assert not engine.has_wal_reset_bug()
    assert engine.known_bugs() == []


@pytest.fixture
def bad_library(monkeypatch):
    monkeypatch.setattr(engine, "has_wal_reset_bug", lambda version=None: True)


async def test_who_writes_alone_lets_others_in_once_it_has_looked_after_what_a_killed_one_left(path, monkeypatch):
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_S", 0.0)
    handle, is_alone = database.enter(path)
    assert is_alone
    with pytest.raises(Unreadable, match="another process writes to it, and lets no other do so"):
        database.enter(path)
    database.admit(handle)
    other, is_alone = database.enter(path)
    assert not is_alone
    os.close(handle)
    os.close(other)


@pytest.mark.usefixtures("bad_library")
async def test_with_a_bad_library_one_may_write_and_the_next_is_told_why_not(path):
    assert engine.known_bugs() == ["wal-reset"]
    async with Ledger.open(path) as first:
        await first.append(job(), "job.created", birth("job"))
        with pytest.raises(Unreadable, match=r"another process writes to it.*WAL-reset bug.*pip install pysqlite3"):
            await SqliteStore.open(path)
        reader = await SqliteStore.open(path, read_only=True)
        assert len(await reader.scan(0, 9)) == 1
        await reader.close()
    async with Ledger.open(path) as second:
        assert second.size == 1


@pytest.mark.usefixtures("bad_library")
@pytest.mark.parametrize(("make", "reason"), FILES[:3])
async def test_with_a_bad_library_an_opening_that_failed_holds_no_lock(path, make, reason):
    make(path)
    with pytest.raises(Unreadable, match=reason):
        await SqliteStore.open(path)
    path.unlink()
    async with Ledger.open(path) as ledger:
        assert ledger.size == 0
