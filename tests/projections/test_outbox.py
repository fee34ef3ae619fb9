"""The outbox is what a fold of the whole log says, whatever the views file is like, and no file is written to."""

import random

import pytest

from ledger import Ledger, archive, cloudevents
from ledger import state as states
from ledger.errors import Unreadable
from ledger.ids import SYSTEM_USER
from projections import outbox, overlay
from projections.callbacks import CALLBACKS
from projections.engine import Engine
from projections.outbox import STATUSES
from tests.projections.random_histories import History
from tests.projections.views_file import change, positions

ALL = 1_000_000


async def views_made(ledger, path):
    views = Engine(ledger, path)
    await views.open()
    await views.close()


@pytest.fixture
async def ledger(tmp_path, history):
    """A history with something of every kind: also what an import brought, and what was erased."""
    async with Ledger.open(tmp_path / "ledger.db") as opened:
        await history.extend(opened, 250)
        await brought(opened, tmp_path / "other.db", seed=8)
        yield opened


async def brought(ledger, path, seed):
    """Import the export of another history; it owes nothing here."""
    async with Ledger.open(path) as other:
        await History(seed).extend(other, 200)
        events = await other.store.scan(0, ALL)
        lines = [cloudevents.encode(event, other.name) for event in events if not event.type.startswith("access")]
    async for part in archive.load(ledger, lines, "jobledger", "other"):
        assert part.appended


async def streams(ledger):
    found = {}
    for event in await ledger.store.scan(0, ALL):
        found.setdefault(event.stream, []).append(event)
    return found


async def expected(ledger):
    """What each callback is, by folding every stream: id, status, due time, settled time, attempts, and its place."""
    imported = await ledger.store.imported(range(1, ledger.size + 1))
    rows = []
    for id, events in (await streams(ledger)).items():
        state = states.fold(events)
        if state is None or state.callback_url is None or state.erased_position is not None:
            continue
        debt, born = state.debt, events[0].position
        last = (state.callback_sent_us, state.callback_status_code, state.callback_error)
        if debt is None:
            rows.append(((2, -born), (id, "waiting", None, None, None, 0, *last)))
        elif debt.is_owed and debt.owed_position not in imported:
            place = (0, debt.due_us, debt.owed_position)
            rows.append((place, (id, "owed", None, debt.due_us, None, debt.attempts, *last)))
        else:
            status, reason = ("abandoned", "imported") if debt.is_owed else (debt.status, debt.reason)
            place = (1, debt.settled_us is None, -(debt.settled_us or 0), -debt.ended_position)
            rows.append((place, (id, status, reason, None, debt.settled_us, debt.attempts, *last)))
    return [row for _, row in sorted(rows)]


async def found(ledger, path, status=None, limit=ALL):
    rows = []
    for each in await outbox.entries(ledger.store, path, status, limit):
        debt, last = each.debt, (each.sent_us, each.status_code, each.error)
        if debt is None:
            rows.append((each.id, "waiting", None, None, None, 0, *last))
        else:
            rows.append((each.id, debt.status, debt.reason, debt.due_us, debt.settled_us, debt.attempts, *last))
    return rows


# --- whatever the views are like --------------------------------------------------------------------------------------


def missing(path):
    for ending in ("", "-wal", "-shm"):
        path.with_name(f"{path.name}{ending}").unlink(missing_ok=True)


def fresh(path):
    assert path.exists()


def garbage(path):
    missing(path)
    path.write_bytes(random.Random(1).randbytes(100_000))


def nothing(path):
    missing(path)
    path.write_bytes(b"")


def cut(path):
    raw = path.read_bytes()
    missing(path)
    path.write_bytes(raw[: len(raw) // 2])


def of_an_older_fold(path):
    change(path, f"UPDATE projections SET version = {CALLBACKS.version - 1} WHERE name = 'callbacks'")
    change(path, "DELETE FROM callbacks")


def of_another_log(path):
    change(path, "UPDATE projections SET leaf = zeroblob(32) WHERE name = 'callbacks'")
    change(path, "DELETE FROM callbacks")


def ahead_of_the_log(path):
    change(path, "UPDATE projections SET position = position + 1000000 WHERE name = 'callbacks'")
    change(path, "DELETE FROM callbacks")


def without_a_checkpoint(path):
    change(path, "DELETE FROM projections")


def without_the_table(path):
    change(path, "DROP TABLE callbacks")


def without_a_column(path):
    change(path, "ALTER TABLE callbacks DROP COLUMN tries")


KINDS = [missing, fresh, garbage, nothing, cut, of_an_older_fold, of_another_log, ahead_of_the_log]
KINDS += [without_a_checkpoint, without_the_table, without_a_column]


@pytest.mark.parametrize("behind", [False, True], ids=["at the end", "behind"])
@pytest.mark.parametrize("make", KINDS)
async def test_the_list_is_that_of_a_whole_fold_and_the_views_stay_as_they_are(ledger, history, path, make, behind):
    # given
    await views_made(ledger, path)
    if behind:
        await history.extend(ledger, 300)
    make(path)
    before = path.read_bytes() if path.exists() else None
    # when
    rows = await found(ledger, path)
    # then
    assert rows == await expected(ledger)
    assert {status for _, status, *_ in rows} == set(STATUSES)
    assert (path.read_bytes() if path.exists() else None) == before


async def test_fresh_views_are_used_and_not_folded_again(ledger, path):
    await views_made(ledger, path)
    change(path, "UPDATE callbacks SET url = 'https://from.the.views/'")
    rows = await outbox.entries(ledger.store, path, None, ALL)
    assert {row.url for row in rows} == {"https://from.the.views/"}


@pytest.mark.parametrize("step", [1, 7, 60])
@pytest.mark.parametrize("batch", [3, 10_000])
async def test_it_is_so_wherever_the_views_stopped(ledger, history, path, monkeypatch, step, batch):
    monkeypatch.setattr(overlay, "BATCH", batch)
    await views_made(ledger, path)
    for _ in range(8):
        await history.extend(ledger, step)
        assert await found(ledger, path) == await expected(ledger)
    assert positions(path)["callbacks"] < ledger.size


@pytest.mark.parametrize("before", [False, True], ids=["in the views", "behind them"])
async def test_what_was_erased_is_gone(ledger, path, before):
    # given
    if before:
        await views_made(ledger, path)
    gone = [row[0] for row in await found(ledger, path)][::3]
    for id in gone:
        kind = (await ledger.state(id)).kind
        await ledger.append(id, f"{kind}.erased", {"reason": "asked for"}, actor=SYSTEM_USER)
    if not before:
        await views_made(ledger, path)
    # when, then
    rows = await found(ledger, path)
    assert rows == await expected(ledger)
    assert not {id for id, *_ in rows} & set(gone)


# --- which, in which order, how many ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [None, *STATUSES])
async def test_a_list_has_what_it_is_asked_for_from_its_beginning(ledger, history, path, status):
    await views_made(ledger, path)
    await history.extend(ledger, 100)
    wanted = [row for row in await expected(ledger) if status in (None, row[1])]
    assert len(wanted) > 3
    for limit in (1, 2, len(wanted) - 1, len(wanted), ALL):
        assert await found(ledger, path, status, limit) == wanted[:limit]


async def test_what_was_given_up_here_is_told_from_when_on_and_without_imports(ledger, history, path):
    # given
    await views_made(ledger, path)
    await history.extend(ledger, 100)
    lost = [(at, id) for id, status, reason, _, at, *_ in await expected(ledger) if status == "abandoned"]
    here = sorted((row[4], row[0]) for row in await expected(ledger) if row[1] == "abandoned" and row[2] != "imported")
    assert 1 < len(here) < len(lost)
    # when, then
    for since_us in (-1, here[len(here) // 2][0], here[-1][0], here[-1][0] + 1):
        told = await outbox.abandoned_here(ledger.store, path, since_us)
        assert sorted(told) == sorted(id for at, id in here if at >= since_us)


async def test_an_empty_ledger_has_none(tmp_path):
    async with Ledger.open(tmp_path / "empty.db") as ledger:
        assert await outbox.entries(ledger.store, tmp_path / "empty.views.db", None, 10) == []


async def test_where_there_is_no_room_to_fold_it_says_so(ledger, path, monkeypatch):
    monkeypatch.setattr(CALLBACKS, "create", lambda db, table: db.execute("this is no SQL"))
    with pytest.raises(Unreadable, match="syntax error"):
        await outbox.entries(ledger.store, path, None, 10)
