"""One contract for every projection: live, rebuilt and as of the head are the same rows; so it is as of any point."""

import itertools
import random
from collections import Counter

import msgspec
import pytest

import projections.engine
import projections.rebuild
from ledger import Ledger, state
from ledger import engine as sqlite
from ledger.events import CALLBACK_TYPES, ERASURES, TYPES
from projections import resources
from projections.engine import PROJECTIONS, Engine
from projections.history import AsOf
from projections.query import Query
from projections.resources import COLUMNS, NEWEST, STATE_COLUMNS, ResourceProjection
from projections.views import Views
from tests.projections.random_histories import History, shares

SEEDS = [2, 3]
STEPS = 260
WHOLE_LOG = 100_000
RESOURCES = [projection for projection in PROJECTIONS if isinstance(projection, ResourceProjection)]


def by_name(projection):
    return projection.name


@pytest.fixture(params=PROJECTIONS, ids=by_name)
def projection(request):
    return request.param


@pytest.fixture(params=["memory", "sqlite"])
def open_ledger(request, tmp_path):
    return Ledger.in_memory if request.param == "memory" else lambda: Ledger.open(tmp_path / "ledger.db")


@pytest.fixture
def batch_size(monkeypatch):
    """Set how many events go into one transaction."""

    def set_size(size):
        monkeypatch.setattr(projections.engine, "BATCH", size)
        monkeypatch.setattr(projections.rebuild, "BATCH", size)

    return set_size


async def apply_in(engine, sizes, batch_size):
    """Let the engine apply what there is, so many events at a time."""
    for size in sizes:
        batch_size(size)
        if not await engine.beat():
            break


def rows(path, table):
    """The rows of a view as dicts, and its checkpoint, by the file alone."""
    connection = sqlite.connect(path, read_only=True)
    try:
        cursor = connection.execute(f"SELECT * FROM {table} ORDER BY 1")
        names = [column[0] for column in cursor.description]
        found = [dict(zip(names, row, strict=True)) for row in cursor]
        return found, connection.execute("SELECT * FROM projections WHERE name = ?", (table,)).fetchone()
    finally:
        connection.close()


def totals(path, projection):
    """What the parts of a projection that add up hold, however it is spread over rows."""
    connection = sqlite.connect(path, read_only=True)
    try:
        return projection.totals(connection)
    finally:
        connection.close()


async def streams_of(ledger, kind):
    """The log by streams, of those that began as the kind."""
    found = {}
    for event in await ledger.store.scan(0, WHOLE_LOG):
        found.setdefault(event.stream, []).append(event)
    return {stream: events for stream, events in found.items() if events[0].type == f"{kind}.created"}


async def folded_rows(ledger, projection):
    """The rows that the log as of its head must have."""
    streams = await streams_of(ledger, projection.kind)
    folded = [state.as_of(events, position=ledger.size) for events in streams.values()]
    ordered = sorted(folded, key=lambda each: each.created_position)
    newest = itertools.accumulate((each.created_us for each in ordered), max)
    return [row_of(projection, each) | {NEWEST: newest_us} for each, newest_us in zip(ordered, newest, strict=True)]


def row_of(projection, folded):
    """The row that a folded state must have, in the words of the columns."""
    source = (folded.metadata or {}).get("source_id")
    named = dict(zip(STATE_COLUMNS, msgspec.structs.astuple(folded), strict=False))
    if named["background"] is not None:
        named["background"] = int(named["background"])

    def span(unit):
        end = named[f"ended_{unit}"] if named[f"ended_{unit}"] is not None else named[f"deleted_{unit}"]
        bits = 62 if end is None else (end - named[f"created_{unit}"]).bit_length()
        return 62 if bits > {"us": 46, "position": 38}[unit] else max({"us": 16, "position": 8}[unit], bits)

    return named | {
        "source_id": source if isinstance(source, str) else None,
        "expires_us": None if folded.deleted_us is not None else folded.deadline_us,
        "span_us": span("us"),
        "span_position": span("position"),
        "wire": projection.render(folded),
    }


# --- live == rebuild == as of the head --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("states_max", [4, 50_000])
async def test_live_equals_rebuild_equals_the_fold(
    projection, open_ledger, seed, states_max, tmp_path, monkeypatch, batch_size
):
    monkeypatch.setattr(resources, "STATES_MAX", states_max)
    chance, history = random.Random(seed), History(seed)
    paths = {how: tmp_path / f"{how}.db" for how in ("batches", "one by one", "rebuilt", "caught up")}
    async with open_ledger() as ledger:
        live, single = (Engine(ledger, paths[how], [projection]) for how in ("batches", "one by one"))
        for engine in (live, single):
            await engine.open()
        for _ in range(5):
            await history.extend(ledger, STEPS // 5)
            await apply_in(live, shares(chance, 60), batch_size)
            await apply_in(single, itertools.repeat(1), batch_size)
        for how in ("rebuilt", "caught up"):
            batch_size(chance.randint(5, 40))
            engine = Engine(ledger, paths[how], [projection])
            await engine.open()
            if how == "rebuilt":
                await engine.rebuild()
            await engine.close()
        for engine in (live, single):
            await engine.close()
        head = ledger.size
        expected = await folded_rows(ledger, projection) if projection in RESOURCES else None
    beside = {how: totals(path, projection) for how, path in paths.items()}
    assert all(each == beside["rebuilt"] for each in beside.values())
    assert bool(beside["rebuilt"]) == bool(projection.sums)
    found = {how: rows(path, projection.name) for how, path in paths.items()}
    for how, (made, checkpoint) in found.items():
        assert len(made) > 10
        assert made == (expected or found["rebuilt"][0]), how
        assert checkpoint == found["rebuilt"][1], how
        assert checkpoint[:3] == (projection.name, projection.version, head)


@pytest.mark.parametrize("kind", [projection.kind for projection in RESOURCES])
async def test_the_histories_hold_every_kind_of_event_and_clocks_that_jump(kind):
    types, backwards = Counter(), 0
    for seed in (*SEEDS, 3, 4):
        async with Ledger.in_memory() as ledger:
            await History(seed).extend(ledger, STEPS)
            for events in (await streams_of(ledger, kind)).values():
                types.update(event.type for event in events)
                backwards += any(later.time < earlier.time for earlier, later in itertools.pairwise(events))
    known = {name for name, info in TYPES.items() if info.kind == kind}
    assert types.keys() == known | CALLBACK_TYPES
    assert backwards > 10


async def test_all_projections_together_are_what_each_is_alone(tmp_path, batch_size):
    async with Ledger.in_memory() as ledger:
        together = Engine(ledger, tmp_path / "together.db")
        await together.open()
        history, chance = History(9), random.Random(9)
        for _ in range(5):
            await history.extend(ledger, 100)
            await apply_in(together, shares(chance, 60), batch_size)
        await together.close()
        for projection in PROJECTIONS:
            alone = Engine(ledger, tmp_path / f"{projection.name}.db", [projection])
            await alone.open()
            await alone.close()
            assert rows(together.path, projection.name) == rows(alone.path, projection.name)
            assert totals(together.path, projection) == totals(alone.path, projection)


# --- as of any point --------------------------------------------------------------------------------------------------


def known_at(events, at):
    """What was known or had happened then, in the contract's words: an event's time is never before those before it."""
    if at.position is not None:
        return [event for event in events if event.position <= at.position]
    reached = itertools.accumulate((event.time for event in events), max)
    return [event for event, time_us in zip(events, reached, strict=True) if time_us <= at.time_us]


def listed(projection, streams, at):
    """The list as of a point, oldest first, folded from scratch; of what was erased since, nothing is left to show."""
    left = [events for events in streams.values() if not any(event.type in ERASURES for event in events)]
    folded = [state.fold(known_at(events, at)) for events in left]
    alive = [each for each in folded if each is not None and each.deleted_us is None]
    return [projection.render(each) for each in sorted(alive, key=lambda each: (each.created_us, each.id))]


def points(log, chance):
    """Every position, and times: of events, just before and after them, and out of range on both sides."""
    yield from (AsOf(position=position) for position in range(len(log) + 1))
    times = {event.time for event in log}
    near = chance.sample(sorted(times), min(60, len(times)))
    yield from (AsOf(time_us=time_us + offset) for time_us in near for offset in (-1, 0, 1))
    yield from (AsOf(time_us=time_us) for time_us in (0, -1, min(times) - 1, max(times) + 1, 2**60))


@pytest.mark.parametrize("projection", RESOURCES, ids=by_name)
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_view_as_of_any_point_is_the_fold_of_what_was_known_then(projection, seed, tmp_path):
    history, chance = History(seed), random.Random(seed)
    async with Ledger.open(tmp_path / "ledger.db") as ledger:
        await history.extend(ledger, 250)
        engine = Engine(ledger, tmp_path / "views.db", [projection])
        await engine.open()
        views = Views(engine.path, ledger.store.streams)
        await views.open()
        streams, log = await streams_of(ledger, projection.kind), await ledger.store.scan(0, WHOLE_LOG)
        sizes = set()
        for at in points(log, chance):
            page = await views.page(Query(table=projection.name, descending=False, limit=1000, as_of=at))
            assert page.wires == listed(projection, streams, at), at
            sizes.add(len(page.wires))
        head = Query(table=projection.name, descending=False, limit=1000)
        assert (await views.page(head)).wires == listed(projection, streams, AsOf(position=len(log)))
        assert len(sizes) > 4
        await views.close()
        await engine.close()


@pytest.mark.parametrize("projection", RESOURCES, ids=by_name)
async def test_as_of_a_point_every_stream_folds_as_the_log_itself_says(projection, tmp_path):
    async with Ledger.in_memory() as ledger:
        await History(4).extend(ledger, 200)
        for events in (await streams_of(ledger, projection.kind)).values():
            for event in events:
                for at in (AsOf(position=event.position), AsOf(time_us=event.time), AsOf(time_us=event.time - 1)):
                    folded = state.as_of(events, position=at.position, time_us=at.time_us)
                    assert folded == state.fold(known_at(events, at))


def test_every_column_of_a_row_is_compared():
    assert set(COLUMNS) == {*STATE_COLUMNS, "source_id", "expires_us", "span_us", "span_position", "wire"}
