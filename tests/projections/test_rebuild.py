"""A rebuild: folded beside the old views and swapped in one step, whoever reads, writes, fails or dies meanwhile."""

import asyncio
import os
import sys
import threading
from pathlib import Path

import pytest

import projections.engine
import projections.rebuild
from ledger import engine as sqlite
from projections.engine import PROJECTIONS, Engine
from projections.file import lock
from projections.jobs import JOBS
from projections.projection import tables_of
from tests.projections.views_file import PLACES, TABLES, ask, change, contents, positions, tamper, tampered

ROOT = Path(__file__).resolve().parents[2]
DYING = """
import asyncio, sys
from pathlib import Path
from ledger import Ledger
from projections import engine, rebuild
from projections.engine import Engine
from projections.resources import ResourceProjection

moment, db, views = sys.argv[1:]

def wait_here(*_, **__):
    print(moment, flush=True)
    sys.stdin.readline()

rebuild.BATCH = 20
home = {"_births": rebuild.Rebuild, "index": ResourceProjection, "move": rebuild, "_swap": rebuild}[moment]
calls, original = [], getattr(home, moment)

def pass_some(*arguments, **named):
    calls.append(1)
    if len(calls) > {"_births": 3, "index": 1, "move": 0}[moment]:
        wait_here()
    return original(*arguments, **named)

setattr(home, moment, wait_here if moment == "_swap" else pass_some)

async def main():
    async with Ledger.open(db) as ledger:
        await Engine(ledger, Path(views)).rebuild_only()

asyncio.run(main())
"""
"""A rebuild that stops at a moment until it is killed: in the fold, between indexes, before and inside the swap."""


def test_the_moments_to_die_in_exist():
    for home, name in ((projections.rebuild.Rebuild, "_births"), (projections.rebuild, "move"), (JOBS, "index")):
        assert hasattr(home, name)
    assert hasattr(projections.rebuild, "_swap")


@pytest.fixture
def small_batches(monkeypatch):
    for module in (projections.engine, projections.rebuild):
        monkeypatch.setattr(module, "BATCH", 20)


class Reader(threading.Thread):
    """Reads a view over and over, with a connection of its own; each answer must be no older than the one before."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.stopping, self.looks, self.fault = path, threading.Event(), 0, None

    def run(self):
        connection = sqlite.connect(self.path, read_only=True)
        latest, rows = 0, 0
        try:
            while not self.stopping.is_set():
                for table in TABLES:
                    position, count, checkpoint = connection.execute(
                        f"SELECT max({PLACES[table]}), (SELECT count(*) FROM jobs), "
                        f"(SELECT position FROM projections WHERE name = 'jobs') FROM {table}"
                    ).fetchone()
                    if position is None or count < rows or checkpoint < latest:
                        self.fault = f"{table}: {position}, {count} rows after {rows}, {checkpoint} after {latest}"
                        return
                    latest, rows = checkpoint, count
                self.looks += 1
        except sqlite.Error as error:
            self.fault = repr(error)
        finally:
            connection.close()

    def stop(self):
        self.stopping.set()
        self.join()


@pytest.mark.usefixtures("small_batches")
async def test_readers_never_miss_a_view_nor_go_back_while_it_is_rebuilt_and_written(
    engine, ledger, history, path, fresh
):
    reader = Reader(path)
    reader.start()
    engine.start()
    other = Engine(ledger, path)
    await other.open()

    async def write():
        for _ in range(40):
            await history.extend(ledger, 10)
            await engine.wait_for(ledger.size)  # writers read their writes, a rebuild under way or not

    async def rebuild():
        return [await other.rebuild() for _ in range(4)]

    try:
        async with asyncio.timeout(60):
            _, folded = await asyncio.gather(write(), rebuild())
            await engine.wait_for(ledger.size)
    finally:
        reader.stop()
        await other.close()
    assert reader.fault is None
    assert reader.looks > 5
    assert folded == sorted(folded)
    assert await engine.beat() == 0
    assert contents(path) == await fresh()


@pytest.mark.usefixtures("small_batches")
async def test_two_rebuilds_of_one_file_wait_for_each_other(engine, ledger, path, fresh):
    other = Engine(ledger, path)
    await other.open()
    assert await asyncio.gather(engine.rebuild(), other.rebuild()) == [ledger.size] * 2
    await other.close()
    assert contents(path) == await fresh()


async def test_a_rebuild_that_is_cancelled_lets_others_begin_once_what_it_is_at_is_done(engine, path, monkeypatch):
    """Seed 254 of the simulator: a server stopped while its connection made tables, and an import made them, too."""
    # Given a rebuild that makes its tables
    is_at_it, may_end, begin = threading.Event(), threading.Event(), projections.rebuild._begin

    def begin_slowly(db, chosen):
        is_at_it.set()
        may_end.wait()
        begin(db, chosen)

    monkeypatch.setattr(projections.rebuild, "_begin", begin_slowly)
    task = asyncio.create_task(engine.rebuild())
    await asyncio.to_thread(is_at_it.wait)
    # When it is cancelled, then no other begins before that is over
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=0.05)
    others = lock(path, wait=False)
    may_end.set()
    assert (done, others) == (set(), None)
    with pytest.raises(asyncio.CancelledError):
        await task
    handle = lock(path, wait=False)
    assert handle is not None
    os.close(handle)


async def test_only_what_was_asked_for_is_rebuilt(engine, ledger, path):
    tamper(path)
    await engine.rebuild([JOBS])
    assert tampered(path) == {table: table != "jobs" for table in TABLES}
    assert set(positions(path).values()) == {ledger.size}


async def test_an_engine_goes_on_from_a_rebuild_with_what_comes_after(engine, ledger, history, path, fresh):
    change(path, "UPDATE jobs SET status = 'tampered'")
    await engine.rebuild()
    await history.extend(ledger, 60)
    await engine.beat()
    assert contents(path) == await fresh()


async def test_a_rebuild_tells_how_far_it_is(engine, ledger, monkeypatch):
    monkeypatch.setattr(projections.rebuild, "BATCH", 50)
    told = []
    assert await engine.rebuild(progress=lambda done, total: told.append((done, total))) == ledger.size
    assert told == [(min(done + 50, ledger.size), ledger.size) for done in range(0, ledger.size, 50)]


@pytest.mark.parametrize("steps", [0, 1])
async def test_the_views_of_a_log_without_history_are_empty_and_there(ledger, history, path, steps):
    await history.extend(ledger, steps)
    engine = Engine(ledger, path)
    assert await engine.rebuild_only() == ledger.size
    await engine.close()
    found = contents(path)
    assert len(found.pop("checkpoints")) == len(PROJECTIONS)
    assert len(found.pop("failures")) == len(history.ids)  # where what goes on is remembered, too
    assert sum(map(len, found.values())) == len(history.ids)


@pytest.mark.parametrize("method", ["apply", "index"])
async def test_a_rebuild_that_fails_leaves_the_old_views_and_lets_others_rebuild(
    engine, ledger, path, fresh, method, monkeypatch
):
    before = contents(path)
    with monkeypatch.context() as patch:

        def fail(*_, **__):
            raise sqlite.OperationalError("database or disk is full")

        patch.setattr(PROJECTIONS[1], method, fail, raising=False)
        with pytest.raises(sqlite.OperationalError):
            await engine.rebuild()
    assert contents(path) == before
    async with asyncio.timeout(20):
        await engine.rebuild()
    assert contents(path) == await fresh()


@pytest.mark.parametrize("moment", ["_births", "index", "_swap", "move"])
async def test_a_rebuild_that_is_killed_leaves_the_old_views_and_the_next_succeeds(
    engine, ledger, history, path, fresh, moment
):
    await engine.close()
    change(path, "UPDATE jobs SET agent_id = 'of the old views'")
    before = contents(path)
    command = [sys.executable, "-c", DYING, moment, str(path.with_name("ledger.db")), str(path)]
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, **pipes)
    assert await process.stdout.readline() == f"{moment}\n".encode()
    process.kill()
    await process.communicate()
    assert contents(path) == before
    await history.extend(ledger, 20)
    again = Engine(ledger, path)
    async with asyncio.timeout(20):
        await again.open()
        assert ask(path, "SELECT count(*) FROM jobs WHERE agent_id = 'of the old views'")[0][0] > 0
        await again.rebuild()
    await again.close()
    assert contents(path) == await fresh()
    left = "SELECT name FROM pragma_table_list WHERE type IN ('table', 'virtual') AND name NOT LIKE 'sqlite_%'"
    made = [table for projection in PROJECTIONS for table in tables_of(projection)]
    assert sorted(name for (name,) in ask(path, left)) == sorted([*made, "projections", "unscrubbed"])
