"""The engine: rows and checkpoints move together, catch up, wait, and notice what is no longer true."""

import asyncio
import os
import random

import pytest

import projections.engine
from ledger import Ledger, upcast
from ledger import engine as sqlite
from ledger.errors import Unavailable
from ledger.events import ERASURES, TYPES
from projections import resources
from projections.documents import document
from projections.engine import PROJECTIONS, Engine
from projections.file import replace
from projections.jobs import JOBS
from projections.runs import RUNS
from tests.projections.random_histories import History
from tests.projections.views_file import TABLES, contents, positions, tamper, tampered


class Faulty:
    """A projection that writes its rows and then fails, while told to."""

    def __init__(self, projection):
        self._projection = projection
        self.error = None

    def __getattr__(self, name):
        return getattr(self._projection, name)

    def apply(self, *arguments):
        changed = self._projection.apply(*arguments)
        if self.error is not None:
            raise self.error
        return changed


# --- one transaction --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("a bug"), sqlite.OperationalError("disk I/O error")], ids=repr)
@pytest.mark.parametrize("which", range(len(PROJECTIONS)), ids=TABLES)
async def test_an_apply_that_fails_leaves_all_rows_and_checkpoints_as_they_were(
    ledger, history, path, fresh, error, which
):
    projections = list(PROJECTIONS)
    projections[which] = faulty = Faulty(projections[which])
    await history.extend(ledger, 80)
    engine = Engine(ledger, path, projections)
    await engine.open()
    before = contents(path)
    await history.extend(ledger, 80)
    faulty.error = error
    with pytest.raises(type(error)):
        await engine.beat()
    assert contents(path) == before
    faulty.error = None
    await engine.beat()
    await engine.close()
    assert contents(path) == await fresh()


async def test_a_task_that_failed_says_why_tries_again_and_forgets_the_fault(ledger, history, path, monkeypatch):
    tried, faulty = asyncio.Event(), Faulty(JOBS)
    monkeypatch.setattr(projections.engine, "RETRY_S", 0.001)
    monkeypatch.setattr(projections.engine.log, "exception", lambda *_, **__: tried.set(), raising=False)
    engine = Engine(ledger, path, [faulty])
    await engine.open()
    faulty.error = sqlite.OperationalError("disk I/O error")
    engine.start()
    await history.extend(ledger, 20)
    async with asyncio.timeout(20):
        await tried.wait()
        assert engine.fault == "disk I/O error"
        with pytest.raises(Unavailable, match="disk I/O error"):
            await engine.wait_for(ledger.size, 0.01)
        faulty.error = None
        await engine.wait_for(ledger.size)
    assert engine.fault is None
    await engine.close()


# --- catching up and waiting ------------------------------------------------------------------------------------------


async def test_what_was_appended_without_an_engine_is_caught_up_when_it_opens(engine, ledger, history, path, fresh):
    await engine.close()
    await history.extend(ledger, 80)
    again = Engine(ledger, path)
    await again.open()
    assert again.position == ledger.size
    assert contents(path) == await fresh()
    await again.close()


async def test_an_engine_at_work_follows_the_log(engine, ledger, history, path, fresh):
    engine.start()
    for _ in range(5):
        await history.extend(ledger, 10)
        await engine.wait_for(ledger.size)
        assert set(positions(path).values()) == {ledger.size}
    assert contents(path) == await fresh()


async def test_who_waits_for_a_position_is_answered_when_it_is_there_and_not_before(engine, ledger, history):
    await engine.wait_for(engine.position, 0)
    await history.extend(ledger, 30)
    waiters = [asyncio.create_task(engine.wait_for(engine.position + number)) for number in (1, ledger.size)]
    beyond = asyncio.create_task(engine.wait_for(ledger.size + 1))
    near = asyncio.create_task(engine.wait_for(ledger.size))
    await asyncio.sleep(0)
    assert not any(task.done() for task in (*waiters, near))
    await engine.beat()
    await asyncio.gather(waiters[0], near)
    assert not beyond.done()
    for task in (beyond, waiters[1]):
        task.cancel()


async def test_waiting_is_bounded_and_says_how_far_the_views_are(engine, ledger):
    with pytest.raises(Unavailable, match=f"at position {ledger.size}, not yet at {ledger.size + 1}"):
        await engine.wait_for(ledger.size + 1, 0)


async def test_who_waits_when_the_engine_closes_is_told(ledger, path):
    engine = Engine(ledger, path)
    await engine.open()
    waiter = asyncio.create_task(engine.wait_for(10))
    await asyncio.sleep(0)
    await engine.close()
    with pytest.raises(Unavailable, match="stopping"):
        await waiter


async def test_a_waiter_who_gave_up_is_no_burden(engine, ledger, history):
    waiter = asyncio.create_task(engine.wait_for(ledger.size + 1))
    await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    await history.extend(ledger, 20)
    await engine.beat()
    assert engine.position == ledger.size


@pytest.mark.parametrize("states_max", [2, 50_000])
async def test_each_commit_tells_the_ids_that_it_changed(engine, ledger, history, states_max, monkeypatch):
    monkeypatch.setattr(resources, "STATES_MAX", states_max)
    told = []
    engine.on_changed = told.append
    start = ledger.size
    await history.extend(ledger, 40)
    await engine.beat()
    expected = {table: set() for table in TABLES}
    for event in await ledger.store.scan(start, 1000):
        kind = event.type.partition(".")[0]
        expected["texts"] |= {event.stream} if document(event) or event.type in ERASURES else set()
        if event.type == "run.step":
            expected["steps"].add(upcast.fact(event).id)
        elif event.type == "run.message":
            expected["messages"].add(event.stream)
            expected["tools"] |= {event.stream} if b'"tool_call"' in event.data else set()
        elif kind != "access":
            born = (await ledger.read(event.stream))[0]
            kind = born.type.partition(".")[0]
            named = b'"callback_url"' in born.data and TYPES[event.type].verb not in ("updated", "refused", "deleted")
            if named and event.type.rpartition(".")[2] not in ("pending", "running"):
                expected["callbacks"].add(event.stream)
            expected[{"job": "jobs", "run": "runs", "batch": "batches"}[kind]].add(event.stream)
    assert [{table: set(ids) for table, ids in changed.items()} for changed in told] == [expected]


# --- versions, strangers, damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("raised", PROJECTIONS, ids=TABLES)
async def test_a_raised_version_rebuilds_just_that_view(engine, ledger, path, raised, monkeypatch):
    await engine.close()
    tamper(path)
    monkeypatch.setattr(raised, "version", raised.version + 1)
    again = Engine(ledger, path)
    await again.open()
    await again.close()
    after = contents(path)
    assert tampered(path) == {table: table != raised.name for table in TABLES}
    versions = {name: version for name, version, *_ in after["checkpoints"]}
    assert versions == {projection.name: projection.version for projection in PROJECTIONS}


async def views_opened(ledger, path):
    """Open the views of a ledger, which makes them true, and close them."""
    views = Engine(ledger, path)
    try:
        async with asyncio.timeout(5):
            await views.open()
    finally:
        await views.close()
    return contents(path)


async def other_ledger(tmp_path, seed, steps):
    """Another ledger, with a history of its own."""
    ledger = Ledger.open(tmp_path / f"other-{seed}.db")
    await ledger.__aenter__()
    await History(seed).extend(ledger, steps)
    return ledger


@pytest.mark.parametrize("steps", [0, 5, 80, 400])
async def test_the_views_of_another_ledger_are_noticed_and_made_anew(engine, path, tmp_path, steps):
    await engine.close()
    other = await other_ledger(tmp_path, 77, steps)
    try:
        assert await views_opened(other, path) == await views_opened(other, tmp_path / "fresh.db")
    finally:
        await other.close()


async def test_a_ledger_restored_from_a_backup_gets_views_of_its_own_history(tmp_path, path):
    sizes = []
    for name, more in (("before", 0), ("after", 60)):
        async with Ledger.open(tmp_path / f"{name}.db", name="same.example") as ledger:
            history = History(5)
            await history.extend(ledger, 100)
            await history.extend(ledger, more)
            await views_opened(ledger, path)
            sizes.append(ledger.size)
    assert sizes[0] < sizes[1]
    async with Ledger.open(tmp_path / "before.db") as ledger:  # shorter than the views, which are of another history
        assert await views_opened(ledger, path) == await views_opened(ledger, tmp_path / "fresh.db")


def garbage(path):
    path.write_bytes(random.Random(1).randbytes(100_000))


def nothing(path):
    path.write_bytes(b"")


def a_cut(path):
    os.truncate(path, path.stat().st_size // 3)


def pages_overwritten(path):
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(16_384 * 2)
        file.write(random.Random(2).randbytes(size - 16_384 * 2))


SHOWS_AT_ONCE = [garbage, nothing, a_cut]
"""Damage that opening a file shows; what lies deeper shows when it is read."""


@pytest.mark.parametrize(
    ("way", "damage"),
    [("open", damage) for damage in SHOWS_AT_ONCE]
    + [("rebuild_only", damage) for damage in (*SHOWS_AT_ONCE, pages_overwritten)],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
async def test_a_damaged_views_file_is_replaced_and_made_anew(engine, ledger, path, fresh, way, damage):
    await engine.close()
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    damage(path)
    views = Engine(ledger, path)
    try:
        await getattr(views, way)()
    finally:
        await views.close()
    assert contents(path) == await fresh()


# --- several engines on one file --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_two_engines_on_one_file_apply_each_event_once(engine, ledger, history, path, fresh, seed, monkeypatch):
    chance = random.Random(seed)
    second = Engine(ledger, path)
    await second.open()
    for _ in range(30):
        await history.extend(ledger, chance.randint(1, 12))
        monkeypatch.setattr(projections.engine, "BATCH", chance.randint(1, 12))
        at_work = chance.sample([engine, second, engine, second], chance.randint(1, 4))
        await asyncio.gather(*(each.beat() for each in at_work))
    monkeypatch.setattr(projections.engine, "BATCH", 1000)
    for each in (engine, second):
        while await each.beat():
            assert each.position <= ledger.size
        assert each.position == ledger.size
    await second.close()
    assert contents(path) == await fresh()


async def test_an_engine_of_one_view_does_not_hold_up_that_of_another(ledger, history, path, fresh):
    jobs, runs = Engine(ledger, path, [JOBS]), Engine(ledger, path, [RUNS])
    for each in (jobs, runs):
        await each.open()
    await history.extend(ledger, 50)
    await jobs.beat()
    assert positions(path) == {"jobs": ledger.size, "runs": 0}
    await runs.beat()
    for each in (jobs, runs):
        await each.close()
    every = Engine(ledger, path)
    await every.open()
    await every.close()
    assert contents(path) == await fresh()


async def test_a_file_that_comes_while_another_is_opened_is_opened_instead(ledger, history, path, monkeypatch):
    """What is folded into a file that no path leads to, nobody reads."""
    await history.extend(ledger, 80)
    really, opened = projections.engine.open_or_replace, []

    def open_then_lose(path):
        connection = really(path)
        opened.append(path)
        if len(opened) == 1:
            replace(path, "somebody deletes it")
        return connection

    monkeypatch.setattr(projections.engine, "open_or_replace", open_then_lose)
    engine = Engine(ledger, path)
    await engine.open()
    await engine.close()
    assert set(positions(path).values()) == {ledger.size}
