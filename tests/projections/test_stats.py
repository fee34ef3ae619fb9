"""Counts are those of a brute-force fold, at any point, whatever the views file is like, and no file is written to."""

from collections import Counter

import pytest

from ledger import Ledger
from ledger import state as states
from ledger.errors import LedgerError, Unreadable
from ledger.ids import SYSTEM_USER
from ledger.transitions import STOP_REASONS, statuses
from projections import overlay
from projections.engine import Engine
from projections.history import AsOf
from projections.jobs import JOBS
from projections.past import fold_as_of
from projections.runs import RUNS
from projections.stats import stats
from tests.projections.random_histories import History
from tests.projections.test_outbox import cut, garbage, missing, nothing, without_a_checkpoint
from tests.projections.views_file import change, positions

ALL = 1_000_000
NAMES = {"job": "jobs", "run": "runs", "batch": "batches"}


async def views_made(ledger, path):
    views = Engine(ledger, path)
    await views.open()
    await views.close()


@pytest.fixture
def history():
    return History(1126)


@pytest.fixture
async def ledger(tmp_path, history):
    """A history of everything, erasures too; reasons also come by brought updates, before and after an end."""
    async with Ledger.open(tmp_path / "ledger.db") as opened:
        for _ in range(12):
            await history.extend(opened, 40)
            for id in history.chance.sample(history.ids, min(6, len(history.ids))):
                await amend(opened, id, history)
        yield opened


async def amend(ledger, id, history):
    """Bring an update with a stop reason, which commands may not give without an end; it may come too late for that."""
    state = await ledger.state(id)
    if state is not None:
        data = {"stop_reason": history.chance.choice(STOP_REASONS)}
        try:
            await ledger.append(id, f"{state.kind}.updated", data, actor=SYSTEM_USER, time_us=history._time())
        except LedgerError:
            assert state.deleted_us is not None or state.erased_position is not None


def counted(events, at):
    """The counts by folding every stream to the point."""
    streams = {}
    for event in events:
        streams.setdefault(event.stream, []).append(event)
    found = {kind: (Counter(), Counter()) for kind in NAMES}
    for stream in streams.values():
        last, then = states.fold(stream), fold_as_of(stream, at)
        if last is not None and then is not None and last.erased_position is None:
            found[then.kind][0][then.status] += 1
            found[then.kind][1][then.stop_reason] += 1
    return {
        NAMES[kind]: (
            by_status.total(),
            {status: by_status[status] for status in statuses(kind)},
            {reason: count for reason, count in by_reason.items() if reason is not None},
        )
        for kind, (by_status, by_reason) in found.items()
    }


async def found(ledger, path, at):
    told = await stats(ledger.store, path, at)
    return {
        name: (each.total, each.statuses, each.stop_reasons)
        for name, each in ((name, getattr(told, name)) for name in NAMES.values())
    }


def points(events, chance, count):
    """Points of both kinds: the ends, just before and after an event, and anywhere."""
    places = [0, 1, len(events), len(events) + 5, *(chance.randrange(len(events)) for _ in range(count))]
    times = [event.time + chance.choice((-1, 0, 1)) for event in chance.sample(events, count)]
    return [*(AsOf(position=place) for place in places), *(AsOf(time_us=time_us) for time_us in times)]


@pytest.mark.parametrize("views", ["at the end", "behind", "missing"])
async def test_counts_at_any_point_are_those_of_a_whole_fold(ledger, history, path, views):
    # given
    if views != "missing":
        await views_made(ledger, path)
    if views == "behind":
        await history.extend(ledger, 200)
    events = await ledger.store.scan(0, ALL)
    before = path.read_bytes() if path.exists() else None
    reasons = set()
    for at in points(events, history.chance, 40):
        # when
        told = await found(ledger, path, at)
        # then
        assert told == counted(events, at), at
        reasons |= {reason for _, _, by_reason in told.values() for reason in by_reason}
    assert len(reasons) > 5
    assert (path.read_bytes() if path.exists() else None) == before


@pytest.mark.parametrize("make", [garbage, nothing, cut, without_a_checkpoint, missing])
async def test_views_that_cannot_be_used_change_nothing(ledger, path, make):
    await views_made(ledger, path)
    make(path)
    at = AsOf(position=ledger.size)
    assert await found(ledger, path, at) == counted(await ledger.store.scan(0, ALL), at)


@pytest.mark.parametrize("batch", [3, 10_000])
async def test_counts_are_so_wherever_each_view_stopped(ledger, history, path, monkeypatch, batch):
    # given views of which one is of another fold, and all are behind
    monkeypatch.setattr(overlay, "BATCH", batch)
    await views_made(ledger, path)
    change(path, "UPDATE projections SET version = version - 1 WHERE name = 'runs'")
    change(path, "DELETE FROM runs")
    for _ in range(3):
        await history.extend(ledger, 25)
        at = AsOf(position=ledger.size)
        assert await found(ledger, path, at) == counted(await ledger.store.scan(0, ALL), at)
    assert max(positions(path).values()) < ledger.size


async def test_of_views_at_the_end_the_columns_are_asked_and_nothing_is_folded(ledger, path, monkeypatch):
    await views_made(ledger, path)
    at = AsOf(position=ledger.size)
    expected = counted(await ledger.store.scan(0, ALL), at)
    for name in ("apply", "needed"):
        monkeypatch.setattr(type(JOBS), name, None)
    monkeypatch.setattr(ledger.store, "streams", None)
    assert await found(ledger, path, at) == expected


async def test_what_was_erased_behind_the_views_is_counted_no_more_at_any_point(ledger, path):
    await views_made(ledger, path)
    at = AsOf(position=ledger.size)
    before = (await found(ledger, path, at))["runs"][0]
    states_ = [await ledger.state(row) for row in await runs_of(ledger)]
    gone = [state.id for state in states_ if state.erased_position is None and state.deleted_us is None][:3]
    for id in gone:
        await ledger.append(id, "run.erased", {"reason": "asked for"}, actor=SYSTEM_USER)
    assert (await found(ledger, path, at))["runs"][0] == before - 3


async def runs_of(ledger):
    return [event.stream for event in await ledger.store.scan(0, ALL, ["run.created"])]


async def test_an_empty_ledger_has_none(tmp_path):
    async with Ledger.open(tmp_path / "empty.db") as ledger:
        told = await stats(ledger.store, tmp_path / "empty.views.db", AsOf(position=0))
    assert (told.jobs.total, told.runs.total, told.batches.total) == (0, 0, 0)
    assert list(told.runs.statuses) == list(statuses("run"))


async def test_where_there_is_no_room_to_fold_it_says_so(ledger, path, monkeypatch):
    monkeypatch.setattr(RUNS, "create", lambda db, table: db.execute("this is no SQL"))
    with pytest.raises(Unreadable, match=r"jobs, runs and batches of the log.*syntax error"):
        await stats(ledger.store, path, AsOf(position=1))
