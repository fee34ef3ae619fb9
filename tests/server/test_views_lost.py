"""A views file that is damaged, deleted or replaced while servers run: made anew from the log, without hands."""

import asyncio
from pathlib import Path

import pytest

from ledger import Ledger
from ledger import engine as sqlite
from ledger.errors import Unavailable
from projections import engine
from projections.engine import Engine
from projections.file import PAGE_SIZE, identity, views_path
from projections.rebuild import Rebuild
from tests.server.serving import User, serving, until


def garble(path):
    path.write_bytes(b"garbage " * 8192)


def cut(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def put_another(path):
    other = path.with_name("other.db")
    connection = sqlite.connect(other, read_only=False)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    other.replace(path)


DAMAGES = {
    "garbled": garble,
    "cut short": cut,
    "deleted": lambda path: path.unlink(),
    "replaced by another database": put_another,
    "replaced by garbage": lambda path: (path.unlink(), garble(path)),
}


@pytest.fixture(autouse=True)
def attentive(monkeypatch):
    """Servers that look at once, and whose SQLite keeps no pages that hide what became of the file."""
    monkeypatch.setattr(engine, "LOOK_INTERVAL_S", 0.01)


def forget_pages(service):
    views = service.app.views
    for connection in (views._single, views._quick):
        connection.execute("PRAGMA shrink_memory")
    return service.app.engine._connection.run(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())


async def reads(user, ids):
    paths = (*(f"/v1/jobs/{id}" for id in ids), "/v1/jobs/?limit=100", "/v1/stats", "/v1/failures")
    return [(await user.get(path)).body for path in paths]


async def jobs(user, count):
    return [await user.create(status="running") for _ in range(count)]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_server_makes_its_views_anew_and_answers_as_before(service, user, ledger_file, damage, log_lines):
    # Given a server with some history, and what it answers
    ids, views = await jobs(user, 30), views_path(ledger_file)
    before = await reads(user, ids)
    await forget_pages(service)
    was = identity(views)
    # When its views are no longer what they were, and somebody asks for what it has not in memory
    damage(views)
    await user.get("/v1/jobs/?limit=99")
    await until(lambda: b"views.made_anew" in log_lines.getvalue() and not service.app.engine.is_mending)
    # Then it answers what it answered before, in a new file, goes on, and said so once
    assert await reads(user, ids) == before
    assert identity(views) not in (None, was)
    (id,) = await jobs(user, 1)
    assert id in (await user.get("/v1/jobs/?limit=100")).ids
    assert (await service.request("GET", "/readyz")).status == 200
    assert log_lines.getvalue().count(b"views.made_anew") == 1


async def test_while_views_are_made_anew_reads_are_told_to_come_again_and_writes_are_recorded(
    service, user, ledger_file, monkeypatch
):
    # Given views that are gone, and a rebuild that takes its time
    ids, begun, may_go, rebuild = await jobs(user, 3), asyncio.Event(), asyncio.Event(), Rebuild.run

    async def slowly(*arguments):
        begun.set()
        await may_go.wait()
        return await rebuild(*arguments)

    monkeypatch.setattr(Rebuild, "run", slowly)
    monkeypatch.setattr(engine, "MADE_IN_PLACE_MAX", 0)
    views_path(ledger_file).unlink()
    await begun.wait()
    # Then reads are told to come again
    for path in (f"/v1/jobs/{ids[0]}", "/v1/jobs/", "/v1/stats", "/v1/failures"):
        answer = await user.get(path)
        assert (answer.status, answer.error["type"], answer.headers["Retry-After"]) == (503, "unavailable", "1"), path
        assert engine.MADE_ANEW in answer.error["message"]
    ready = await service.request("GET", "/readyz")
    assert (ready.status, ready.json["problems"]) == (503, [engine.MADE_ANEW])
    # And a write is recorded at once, and answered when the views have it
    size = service.app.ledger.size
    writing = asyncio.create_task(user.create(status="running"))
    await until(lambda: service.app.ledger.size > size)
    assert not writing.done()
    may_go.set()
    assert await writing in (await user.get("/v1/jobs/")).ids


async def test_two_servers_that_lost_one_views_file_share_the_next(ledger_file, clock):
    async with serving(ledger_file, clock) as first, serving(ledger_file, clock) as second:
        user = await first.user()
        ids = await jobs(user, 10)
        views_path(ledger_file).unlink()
        found = [service.app.engine for service in (first, second)]
        was = found[0]._identity
        await until(lambda: all(each._identity not in (None, was) and not each.is_mending for each in found))
        assert found[0]._identity == found[1]._identity == identity(views_path(ledger_file))
        at_the_other = User(second, user.id, user.token)
        assert await reads(at_the_other, ids) == await reads(user, ids)
        position = {"Ledger-Position": str((await at_the_other.post("/v1/jobs/", json={})).position)}
        lists = [(await each.get("/v1/jobs/?limit=100", headers=position)).ids for each in (user, at_the_other)]
        assert lists[0] == lists[1]
        assert len(lists[0]) == len(ids) + 1


async def views_of_another(ledger_file, clock):
    """Return a function that puts the views of another ledger in the place of a views file."""
    db = ledger_file.with_name("another.db")
    async with Ledger.open(db, clock=clock) as ledger:
        views = Engine(ledger, views_path(db))
        await views.open()
        await views.close()

    def put(path):
        for ending in ("", "-wal", "-shm"):
            Path(f"{path}{ending}").unlink(missing_ok=True)
        views_path(db).replace(path)

    return put


async def test_a_file_that_comes_while_views_are_made_anew_is_not_read(service, user, ledger_file, clock, log_lines):
    """Seed 248 of the simulator: readers opened it, and the engine had the one that it had made."""
    # Given views that are made anew, and the views of another ledger in their place before readers open them
    ids, put, found = await jobs(user, 3), await views_of_another(ledger_file, clock), service.app.engine
    before, reopen = await reads(user, ids), found.on_made_anew

    async def reopen_another():
        found.on_made_anew = reopen
        put(views_path(ledger_file))
        await reopen()

    found.on_made_anew = reopen_another
    views_path(ledger_file).unlink()
    # When the engine says that it is done
    await until(lambda: found._identity == identity(views_path(ledger_file)) and not found.is_mending)
    # Then it saw that, and said so once
    assert await reads(user, ids) == before
    assert log_lines.getvalue().count(b"views.made_anew") == 1


async def test_a_long_look_opens_no_other_file_than_the_short_ones(service, user, ledger_file, clock, monkeypatch):
    put = await views_of_another(ledger_file, clock)
    await jobs(user, 3)

    async def look():
        return False

    monkeypatch.setattr(service.app.engine, "look", look)
    put(views_path(ledger_file))
    with pytest.raises(Unavailable):
        async with service.app.views.moment():
            pass


def noted(service):
    """Return a list that gets the positions of all that those who follow are told."""
    positions = []
    applied = service.app.engine.on_applied

    def note(batch):
        positions.extend(event.position for event in batch)
        applied(batch)

    service.app.engine.on_applied = note
    return positions


async def test_what_is_recorded_while_views_are_made_anew_reaches_those_who_follow(service, user, ledger_file):
    positions = noted(service)
    start = service.app.ledger.size
    views_path(ledger_file).unlink()
    await jobs(user, 5)
    was = service.app.ledger.size
    await until(lambda: service.app.engine.position >= was and not service.app.engine.is_mending)
    assert set(positions) >= set(range(start + 1, was + 1))


FAULTS = {
    "the views are damaged": sqlite.DatabaseError("database disk image is malformed"),
    "the disk fails once": sqlite.OperationalError("disk I/O error"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_fault_after_a_commit_of_the_views_leaves_nothing_out_for_those_who_follow(
    service, user, monkeypatch, fault
):
    """Seed 20 of the simulator: rows were committed, then a look at the file found it damaged; nobody was told."""
    # Given views whose file is looked at in vain right after a commit
    monkeypatch.setattr(engine, "RETRY_S", 0.01)
    found, positions, start = service.app.engine, noted(service), service.app.ledger.size
    changed = found.on_changed

    def fail(ids):
        found.on_changed = changed
        raise fault

    found.on_changed = fail
    # When that was so, and more is recorded
    await jobs(user, 3)
    size = service.app.ledger.size
    await until(lambda: positions and positions[-1] == size)
    # Then those who follow are told each event, in order
    assert [each for each in positions if each > start] == list(range(start + 1, size + 1))


async def test_a_server_starts_though_pages_of_its_views_are_damaged(ledger_file, clock, log_lines):
    """Seed 97 of the simulator: the head could be read, and each start failed where it folded what was missing."""
    # Given views that are behind the log, and of which only the first pages are whole
    async with serving(ledger_file, clock) as service:
        user = await service.user()
        ids = await jobs(user, 20)
        before = await reads(user, ids)
    async with Ledger.open(ledger_file, clock=clock) as ledger:
        await ledger.append(ids[0], "job.updated", {"metadata": {"a": 1}})
    views = views_path(ledger_file)
    with sqlite.library.connect(str(views)) as connection:
        tables = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name IN ('projections', 'unscrubbed')")
        whole = {1} | {page for (page,) in tables}
    connection.close()
    with views.open("r+b") as file:
        for page in set(range(1, views.stat().st_size // PAGE_SIZE + 1)) - whole:
            file.seek((page - 1) * PAGE_SIZE)
            file.write(b"\xff" * PAGE_SIZE)
    # When a server starts, then it answers as before, by views made anew
    async with serving(ledger_file, clock) as service:
        again = User(service, user.id, user.token)
        assert (await reads(again, ids[1:]))[:19] == before[1:20]
        assert (await again.get(f"/v1/jobs/{ids[0]}")).json["metadata"] == {"a": 1}
    assert b"views.replaced" in log_lines.getvalue()


async def test_rows_of_a_file_that_is_gone_take_no_room_any_more(service, user, ledger_file, log_lines):
    ids = await jobs(user, 3)
    await reads(user, ids)
    views = service.app.views
    assert views._rows_size > 0
    views_path(ledger_file).unlink()
    await until(lambda: b"views.made_anew" in log_lines.getvalue() and not service.app.engine.is_mending)
    assert views._rows_size == sum(len(row.wire) for row in views._rows.values())
