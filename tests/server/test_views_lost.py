"""A views file that is damaged, deleted or replaced while servers run: made anew from the log, without hands."""

import asyncio

import pytest

from ledger import engine as sqlite
from projections import engine
from projections.file import identity, views_path
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


async def test_what_is_recorded_while_views_are_made_anew_reaches_those_who_follow(service, user, ledger_file):
    positions = []
    applied = service.app.engine.on_applied

    def noted(batch):
        positions.extend(event.position for event in batch)
        applied(batch)

    service.app.engine.on_applied = noted
    start = service.app.ledger.size
    views_path(ledger_file).unlink()
    await jobs(user, 5)
    was = service.app.ledger.size
    await until(lambda: service.app.engine.position >= was and not service.app.engine.is_mending)
    assert set(positions) >= set(range(start + 1, was + 1))
