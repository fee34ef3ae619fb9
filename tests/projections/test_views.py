"""Reading views: long queries leave the event loop free, and what is kept is dropped when it is no longer true."""

import asyncio
import threading

import pytest

from ledger import engine as sqlite
from ledger.errors import BadRequest, Unavailable
from projections import patience
from projections import views as module
from projections.engine import Engine
from projections.query import Query
from projections.views import Views
from tests.projections.views_file import ask, change

LONG = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :last) SELECT count(*) FROM n"
ENDLESS = {"last": 10**15}


@pytest.fixture
async def views(engine, ledger):
    views = Views(engine.path, ledger.store.streams)
    await views.open()
    engine.on_changed = lambda changed: views.forget(changed, engine.others_wrote)
    yield views
    await views.close()


@pytest.fixture
def slow_reads(views, monkeypatch):
    """The queries that were done on the thread."""
    done, slowly = [], views._read_slowly

    async def note(text, parameters):
        done.append(text)
        return await slowly(text, parameters)

    monkeypatch.setattr(views, "_read_slowly", note)
    return done


def an_id(path, table):
    return ask(path, f"SELECT id FROM {table} WHERE deleted_us IS NULL ORDER BY 1 LIMIT 1")[0][0]


# --- long and short reads ---------------------------------------------------------------------------------------------


async def test_a_short_read_is_done_at_once_and_a_long_one_on_a_thread(views, slow_reads):
    assert await views.read(LONG, {"last": 10}) == [(10,)]
    assert slow_reads == []
    assert await views.read(LONG, {"last": 100_000}) == [(100_000,)]
    assert slow_reads == [LONG]
    assert await views.read(LONG, {"last": 10}) == [(10,)]
    assert slow_reads == [LONG]


@pytest.mark.parametrize("steps_max", [1, 100, 1000])
async def test_a_list_is_the_same_wherever_it_is_read(engine, ledger, views, slow_reads, steps_max, monkeypatch):
    queries = [Query(table=table, limit=20) for table in ("jobs", "runs", "batches")]
    expected = [await views.page(query) for query in queries]
    assert slow_reads == []
    monkeypatch.setattr(module, "STEPS_MAX", steps_max)
    hurried = Views(engine.path, ledger.store.streams)
    await hurried.open()
    assert [await hurried.page(query) for query in queries] == expected
    await hurried.close()


async def test_the_event_loop_goes_on_while_a_long_read_is_under_way(views):
    read = asyncio.create_task(views.read(LONG, {"last": 1_000_000}))
    turns = 0
    while not read.done():
        turns += 1
        assert (await views.read("SELECT :turns", {"turns": turns}))[0][0] == turns
        await asyncio.sleep(0)
    assert await read == [(1_000_000,)]
    assert turns > 10


async def test_a_read_that_takes_too_long_is_ended_and_the_next_is_answered(views, monkeypatch):
    monkeypatch.setattr(patience, "DEADLINE_S", 0.05)
    with pytest.raises(Unavailable, match="longer than"):
        await views.read(LONG, ENDLESS)
    monkeypatch.setattr(patience, "DEADLINE_S", 20)
    assert await views.read(LONG, {"last": 100_000}) == [(100_000,)]


async def test_a_read_whose_time_is_over_before_its_turn_comes_is_no_empty_answer(views, monkeypatch):
    # given a thread that another read holds for longer than a read may take
    go = threading.Event()
    held = asyncio.create_task(views._slow.run(lambda db: go.wait()))
    monkeypatch.setattr(patience, "DEADLINE_S", 0.0)
    late = asyncio.create_task(views.read("SELECT 1", {}, is_long=True))
    await asyncio.sleep(0)
    # when its turn comes
    go.set()
    # then it says so, and does not claim that there is nothing
    with pytest.raises(Unavailable, match="longer than"):
        await late
    await held


COUNT = "SELECT count(*) FROM jobs"


async def test_what_is_read_at_one_moment_is_of_one_moment_and_the_next_has_the_news(views, engine, ledger, history):
    async with views.moment() as reader:
        (before,) = await reader.read(COUNT, {})
        await history.extend(ledger, 200)
        await engine.catch_up()
        assert await reader.read(COUNT, {}) == [before]
    async with views.moment() as reader:
        assert (await reader.read(COUNT, {}))[0] > before


async def test_who_leaves_in_the_middle_of_a_moment_leaves_it_to_the_next(views):
    # given
    entered = asyncio.Event()

    async def stay():
        async with views.moment() as reader:
            entered.set()
            await reader.read(LONG, ENDLESS)

    gone = asyncio.create_task(stay())
    await entered.wait()
    waiting = asyncio.create_task(ask_at_a_moment(views))
    # when
    gone.cancel()
    # then
    assert await waiting == [(10,)]
    with pytest.raises(asyncio.CancelledError):
        await gone


async def ask_at_a_moment(views):
    async with views.moment() as reader:
        return await reader.read(LONG, {"last": 10})


async def test_a_caller_who_goes_away_leaves_no_read_that_holds_up_the_others(views, monkeypatch):
    monkeypatch.setattr(patience, "DEADLINE_S", 10)
    gone = asyncio.create_task(views.read(LONG, ENDLESS))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    try:
        async with asyncio.timeout(5):
            assert await views.read(LONG, {"last": 100_000}) == [(100_000,)]
    finally:
        await views._slow.interrupt()


async def test_a_query_that_is_wrong_is_an_error_and_no_slow_read(views, slow_reads):
    with pytest.raises(sqlite.OperationalError, match="no such table"):
        await views.read("SELECT 1 FROM nowhere", {})
    assert slow_reads == []


async def test_views_only_read(views):
    with pytest.raises(sqlite.OperationalError, match="readonly"):
        await views.read("DELETE FROM jobs", {})


# --- what is kept -----------------------------------------------------------------------------------------------------


def still(views, seconds=0.0):
    """Let the views' clock stand, so many seconds after the last look at the file."""
    now = views._looked_at + seconds
    views._clock = lambda: now


async def test_a_row_is_read_once_until_it_changes(engine, ledger, views, path):
    id = an_id(path, "jobs")
    first = views.row("jobs", id)
    assert views.row("jobs", id) is first
    views.forget({"jobs": ["job-of-somebody-else"]})
    assert views.row("jobs", id) is first
    views.forget({"jobs": [id]})
    assert views.row("jobs", id) is not first
    assert views.row("jobs", id) == first


async def test_a_row_is_only_found_in_the_view_of_its_kind(views, path):
    id = an_id(path, "batches")
    assert views.row("batches", id).kind == "batch"
    assert views.row("jobs", id) is None
    assert views.row("batches", id[:-1]) is None


async def test_a_change_by_this_process_drops_the_row_and_all_pages_at_once(engine, ledger, history, views, path):
    views.row("jobs", an_id(path, "jobs"))
    still(views)
    rows, pages = {}, 0
    for number in range(20):
        views.keep("page", number, 100, views.stamp)
        assert views.kept("page") == number
        for table in ("jobs", "runs", "batches"):
            rows |= {(table, id): views.row(table, id) for (id,) in ask(path, f"SELECT id FROM {table}")}
        before = ledger.size
        await history.extend(ledger, 3)
        if ledger.size == before:
            continue
        await engine.beat()
        assert views.kept("page") is None
        pages += 1
        for (table, id), row in rows.items():
            wire, etag = ask(path, f"SELECT wire, etag FROM {table} WHERE id = ?", id)[0]
            assert (views.row(table, id).wire, views.row(table, id).version) == (wire, etag)
            assert row.version <= etag
    assert pages > 10


async def test_a_change_by_this_process_leaves_other_rows_as_they_are_kept(engine, ledger, history, views, path):
    await history.extend(ledger, 3)
    await engine.beat()  # the first commit cannot know who wrote before it
    ids = [id for (id,) in ask(path, "SELECT id FROM jobs")]
    kept = {id: views.row("jobs", id) for id in ids}
    etags = dict(ask(path, "SELECT id, etag FROM jobs"))
    await history.extend(ledger, 3)
    await engine.beat()
    still(views, 1.0)
    same = [id for id, etag in ask(path, "SELECT id, etag FROM jobs") if etags.get(id) == etag]
    assert same
    assert all(views.row("jobs", id) is kept[id] for id in same)


@pytest.mark.parametrize("is_ours", [True, False])
async def test_kept_rows_outlast_the_moment_in_which_our_own_commit_is_under_way(views, engine, path, is_ours):
    # given: a row that is kept, and a file that changed while this process writes, or while it does not
    id = an_id(path, "jobs")
    views.is_told = lambda: engine.is_writing
    kept = views.row("jobs", id)
    change(path, "UPDATE jobs SET etag = 99 WHERE id = ?", id)
    engine.is_writing = is_ours
    # when
    still(views, 1.0)
    # then
    assert (views.row("jobs", id) is kept) == is_ours


async def test_what_another_process_changed_is_dropped_with_the_next_change_by_this_one(
    engine, ledger, history, views, path
):
    await history.extend(ledger, 3)
    await engine.beat()
    id = an_id(path, "jobs")
    still(views)
    views.row("jobs", id)
    change(path, "UPDATE jobs SET wire = ?, etag = 99 WHERE id = ?", b"{}", id)
    size = ledger.size
    while ledger.size == size:
        await history.extend(ledger, 1)
    await engine.beat()
    assert views.row("jobs", id).wire == ask(path, "SELECT wire FROM jobs WHERE id = ?", id)[0][0]


async def test_a_page_that_was_read_before_a_change_is_not_kept_after_it(views):
    views.notice()
    stamp = views.stamp
    views.forget({"jobs": []})
    views.keep("page", "older", 100, stamp)
    assert views.kept("page") is None


async def test_a_change_by_another_process_is_noticed_with_the_next_look(engine, views, path):
    id = an_id(path, "jobs")
    still(views, 1.0)
    before = views.row("jobs", id)
    views.keep("page", "kept", 100, views.stamp)
    change(path, "UPDATE jobs SET wire = ?, etag = 99 WHERE id = ?", b"{}", id)
    assert (views.row("jobs", id), views.kept("page")) == (before, "kept")
    still(views, module.READ_INTERVAL_S + 0.001)
    assert (views.row("jobs", id).wire, views.row("jobs", id).version) == (b"{}", 99)
    assert views.kept("page") is None


async def test_a_rebuild_by_another_process_is_noticed_too(engine, ledger, views, path):
    id = an_id(path, "jobs")
    expected = views.row("jobs", id)
    change(path, "UPDATE jobs SET wire = ? WHERE id = ?", b"{}", id)
    still(views, 1.0)
    assert views.row("jobs", id).wire == b"{}"
    other = Engine(ledger, path)
    await other.rebuild_only()
    await other.close()
    still(views, 1.0)
    assert views.row("jobs", id) == expected
    assert len((await views.page(Query(table="jobs"))).wires) > 0


async def test_pages_and_rows_are_kept_within_bounds(views, path, monkeypatch):
    monkeypatch.setattr(module, "PAGES_SIZE_MAX", 1000)
    monkeypatch.setattr(module, "ROWS_MAX", 3)
    views.notice()
    for number in range(50):
        views.keep(number, "x", 300, views.stamp)
        assert len(views._pages) <= 3
        assert views.kept(number) == "x"
    for (id,) in ask(path, "SELECT id FROM jobs"):
        assert views.row("jobs", id) is not None
        assert len(views._rows) <= 3


async def test_rows_are_kept_within_a_bound_in_bytes_however_few_they_are(views, path, monkeypatch):
    monkeypatch.setattr(module, "ROWS_SIZE_MAX", 1500)
    ids = [id for (id,) in ask(path, "SELECT id FROM jobs")]
    for id in ids * 2:
        largest = len(views.row("jobs", id).wire)
        assert views._rows_size == sum(len(row.wire) for row in views._rows.values()) <= 1500 + largest
    views.forget({"jobs": ids})
    assert (views._rows, views._rows_size) == ({}, 0)


async def test_the_position_is_that_of_the_view_that_is_furthest_behind(engine, ledger, views, path):
    assert views.position() == ledger.size
    change(path, "UPDATE projections SET position = 3 WHERE name = 'runs'")
    assert views.position() == 3


# --- cursors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("limit", [1, 3, 7])
async def test_pages_put_together_are_the_list_forwards_and_backwards(views, descending, limit):
    whole = Query(table="runs", descending=descending, limit=1000)
    wires = (await views.page(whole)).wires
    assert len(wires) > 8
    forwards, cursor = [], {}
    while True:
        page = await views.page(Query(table="runs", descending=descending, limit=limit, **cursor))
        assert page.more == (len(forwards) + len(page.wires) < len(wires))
        if not page.wires:
            break
        forwards, cursor = forwards + page.wires, {"after": page.last}
    assert forwards == wires
    backwards, cursor = [], {"before": (await views.page(whole)).last}
    while (page := await views.page(Query(table="runs", descending=descending, limit=limit, **cursor))).wires:
        backwards, cursor = page.wires + backwards, {"before": page.first}
    assert backwards == wires[:-1]


@pytest.mark.parametrize("which", ["after", "before"])
async def test_a_cursor_that_nobody_has_is_refused(views, which):
    with pytest.raises(BadRequest, match="is not an id in this list"):
        await views.page(Query(table="jobs", **{which: "job-00000000-0000-4000-8000-000000000000"}))
