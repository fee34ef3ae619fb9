"""Lists as of any point, filtered and paged, against brute force over histories that hold all that can go wrong.

Clocks jump back, times are equal, rows are deleted and erased, agents change, callbacks come and go, ends bring data.
"""

import asyncio
import random
from collections import Counter

import pytest

from ledger import Ledger, state, undo
from ledger.events import ERASURES
from ledger.transitions import ACTIVE, STOP_REASONS, statuses
from projections import past, search, takeback
from projections.engine import Engine
from projections.history import AsOf
from projections.jobs import render as as_job
from projections.living import CLASSES, OPEN, SPAN_OF, window
from projections.past import known_at
from projections.query import Filters, Query, moving_matches, within_matches
from projections.runs import render as as_run
from projections.views import Views
from tests.ledger.histories import id_of
from tests.projections.random_histories import AGENTS, SOURCES, USERS, History

KINDS = {"jobs": "job", "runs": "run", "batches": "batch"}
WHOLE_LOG = 100_000
QUERIES = 450


class World:
    """Views of a random history, and all its streams."""

    def __init__(self, runner, folder, seed):
        self.run, self.chance = runner.run, random.Random(seed)
        runner.run(self._make(folder, seed))

    async def _make(self, folder, seed):
        self.ledger = await Ledger.open(folder / "ledger.db").__aenter__()
        await History(seed).extend(self.ledger, 900)
        self.engine = Engine(self.ledger, folder / "views.db")
        await self.engine.open()
        self.views = Views(self.engine.path, self._streams)
        await self.views.open()
        self.log = await self.ledger.store.scan(0, WHOLE_LOG)
        self.streams, self.asked = {}, Counter()
        for event in self.log:
            self.streams.setdefault(event.stream, []).append(event)

    async def _streams(self, ids, **more):
        self.asked["folded"] += len(ids)
        return await self.ledger.store.streams(ids, **more)

    async def close(self):
        await self.views.close()
        await self.engine.close()
        await self.ledger.__aexit__(None, None, None)

    def born(self, kind):
        """The streams of a kind of which the views hold rows that are not erased, with their creation."""
        for stream, events in self.streams.items():
            if events[0].type == f"{kind}.created" and not any(event.type in ERASURES for event in events):
                yield stream, events


@pytest.fixture(scope="module", params=[1, 2, 3])
def world(request, tmp_path_factory):
    with asyncio.Runner() as runner:
        world = World(runner, tmp_path_factory.mktemp("past"), request.param)
        yield world
        runner.run(world.close())


def a_point(world):
    chance = world.chance
    if chance.random() < 0.5:
        return AsOf(position=chance.randint(0, len(world.log)))
    return AsOf(time_us=chance.choice(world.log).time + chance.choice([0, 0, -1, 1]))


def some_filters(world, table):
    """A few of all filters that go with a point."""
    chance, event = world.chance, world.chance.choice(world.log)
    known = statuses(KINDS[table])
    every = {
        "statuses": tuple(chance.sample(known, chance.randint(1, 3))),
        "active": chance.choice([True, False]),
        "agent_ids": tuple(chance.sample([*AGENTS, "nobody"], chance.choice([0, 1, 1, 2, 3]))),
        "source_id": chance.choice(SOURCES),
        "user_id": chance.choice(USERS),
        "project_id": "project-1",
        "stop_reason": chance.choice(["cancelled", "end_turn", "error", chance.choice(STOP_REASONS)]),
        "background": chance.choice([True, False]),
        "start_us": event.time,
        "end_us": event.time,
        "created_before_us": event.time,
        "created_after_us": event.time,
        "duration": (chance.choice(["gt", "lt", "eq"]), chance.choice([0, 10**9, 10**15])),
    }
    if table == "runs":
        every["step_count"] = (chance.choice(["eq", "gte", "lte"]), chance.randint(0, 3))
        every["tools"] = tuple(chance.sample(["look", "b", "run 🏃"], chance.randint(1, 2)))
    likely = ["statuses", "active", "agent_ids", "source_id", "step_count", "tools"]
    names = chance.sample([name for name in likely if name in every] * 3 + list(every), chance.choice([0, 1, 1, 2, 3]))
    return Filters(**{name: every[name] for name in names})


def matches(filters, then, events):
    tests = [
        filters.statuses is None or then.status in filters.statuses,
        not filters.active or then.status in ACTIVE,
        filters.user_id in (None, then.user_id),
        filters.project_id in (None, then.project_id),
        filters.background in (None, then.background),
        filters.start_us is None or then.created_us >= filters.start_us,
        filters.end_us is None or then.created_us <= filters.end_us,
        filters.created_before_us is None or then.created_us < filters.created_before_us,
        filters.created_after_us is None or then.created_us > filters.created_after_us,
        moving_matches(filters, then),
        within_matches(filters, events),
    ]
    return all(tests)


def expected(world, query, render):
    """The page by brute force: every stream folded to the point, filtered, sorted and sliced."""
    found = []
    for _, events in world.born(KINDS[query.table]):
        known = list(known_at(events, query.as_of))
        then = state.fold(known)
        if then is not None and then.deleted_us is None and matches(query.filters, then, known):
            found.append(then)
    found.sort(key=lambda then: (then.created_us, then.id), reverse=query.descending)
    keys = {id: (events[0].time, id) for id, events in world.streams.items()}
    sign = -1 if query.descending else 1
    for cursor, is_later in ((query.after, True), (query.before, False)):
        if cursor is not None:
            bound = keys[cursor]
            found = [
                then for then in found
                if (keys[then.id] != bound) and ((keys[then.id] > bound) == (is_later == (sign > 0)))
            ]  # fmt: skip
    page = found[-query.limit :] if query.backwards else found[: query.limit]
    return [render(then) for then in page], len(found) > query.limit


def ask(world, table):
    chance = world.chance
    ids = [stream for stream, _ in world.born(KINDS[table])]
    query = Query(
        table=table,
        filters=some_filters(world, table),
        descending=chance.random() < 0.6,
        after=chance.choice(ids) if chance.random() < 0.2 else None,
        before=chance.choice(ids) if chance.random() < 0.2 else None,
        limit=chance.choice([1, 2, 3, 8, 100]),
        as_of=a_point(world),
    )
    if query.filters.user_id is not None or query.filters.project_id is not None:  # whose cursors are refused
        query = Query(**{name: getattr(query, name) for name in ("table", "filters", "descending", "limit", "as_of")})
    shown = as_job if table == "runs" and chance.random() < 0.2 else None
    return query, shown


SETTINGS = {
    "as it is": {},
    "no undo": {(undo, "SIZE_MAX"): 0},
    "little undo": {(undo, "SIZE_MAX"): 150},
    "many alive": {(search, "LIVING_MAX"): 3, (past, "LIVING_MAX"): 3, (search, "ARMS_MAX"): 0},
    "narrow": {(past, "SPARE"): {"us": 1.0, "position": 1.0}},
}


@pytest.mark.parametrize("how", [how for how in SETTINGS if "undo" not in how])
def test_a_list_as_of_a_point_is_what_filter_sort_and_slice_over_the_folds_say(world, how, monkeypatch):
    for (module, name), value in SETTINGS[how].items():
        monkeypatch.setattr(module, name, value)
    check(world)


def check(world):
    rows = Counter()
    for _ in range(QUERIES):
        table = world.chance.choice(["runs", "runs", "jobs", "batches"])
        query, shown = ask(world, table)
        page = world.run(world.views.page(query, shown))
        wires, more = expected(world, query, shown or world.views._past._renders[table])
        assert page.wires == wires, query
        assert page.more == more, query
        rows[min(len(wires), 3)] += 1
    assert all(rows[count] > QUERIES / 30 for count in range(4)), rows


@pytest.mark.parametrize("how", ["no undo", "little undo"])
def test_what_a_row_cannot_tell_the_log_tells(how, tmp_path, monkeypatch):
    for (module, name), value in SETTINGS[how].items():
        monkeypatch.setattr(module, name, value)
    with asyncio.Runner() as runner:
        world = World(runner, tmp_path, 4)
        check(world)
        assert world.asked["folded"] > 100
        runner.run(world.close())


def test_of_a_usual_history_the_log_is_hardly_asked(tmp_path):
    with asyncio.Runner() as runner:
        world = World(runner, tmp_path, 5)
        shown = 0
        for position in range(0, len(world.log), 7):
            for table in KINDS:
                query = Query(table=table, limit=1000, as_of=AsOf(position=position))
                shown += len(runner.run(world.views.page(query)).wires)
        assert world.asked["folded"] < shown / 5
        runner.run(world.close())


# --- who was alive ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", CLASSES)
def test_a_life_of_a_class_is_shorter_than_two_to_the_class(unit):
    for length in [
        0,
        1,
        2,
        255,
        256,
        65_535,
        65_536,
        *(2**bits + more for bits in range(9, 60) for more in (-1, 0, 1)),
    ]:
        span = SPAN_OF[unit][length.bit_length()]
        assert span in CLASSES[unit]
        assert length < 2**span


def test_a_window_holds_about_as_many_as_are_wanted():
    at, classes = AsOf(position=10_000), CLASSES["position"]
    counts = [100 if span in (8, 12) else 0 for span in classes]
    assert window(at, counts, 50) == 10_000 - 120
    assert window(at, counts, 100 + 50) == 10_000 - 2048
    assert window(at, counts, 201) is None
    assert window(at, [50 if span == OPEN else 0 for span in classes], 10) is None


def test_of_many_that_began_at_once_no_more_are_read_than_are_wanted(tmp_path):
    # Given 400 runs that began at one moment, and ended an hour later
    with asyncio.Runner() as runner:

        async def tell():
            async with Ledger.open(tmp_path / "ledger.db", clock=lambda: 10**15) as ledger:
                for number in range(400):
                    run, began_us = id_of("run", number), 10**15 - 3600 * 10**6
                    for type, data, time_us in (
                        ("run.created", {"user_id": USERS[0], "agent_id": "a"}, began_us),
                        ("run.running", {}, began_us + 1),
                        ("run.completed", {}, 10**15 - 1),
                    ):
                        await ledger.append(run, type, data, time_us=time_us)
                engine = Engine(ledger, tmp_path / "views.db")
                await engine.open()
                views = Views(engine.path, ledger.store.streams)
                await views.open()
                many, read = [], views.read

                async def counted(*asked):
                    rows = await read(*asked)
                    many.append(len(rows))
                    return rows

                views._past._read = counted
                then = AsOf(time_us=10**15 - 3600 * 10**6 + 1_000)
                query = Query(table="runs", filters=Filters(statuses=("running",)), limit=1, as_of=then)
                # When a page of one is asked for, as of a moment after that
                page = await views.page(query)
                await views.close()
                await engine.close()
                return page, many

        page, many = runner.run(tell())
    # Then it is right, and few were read at once
    assert len(page.wires) == 1
    assert page.more
    assert max(many) < 20


HOSTILE = [
    None,
    "",
    '"',
    "\\",
    ',"stop_reason":null',
    '","completed_at":"x',
    {"status": "completed", "stop_reason": [None]},
]


@pytest.mark.parametrize("seed", range(3))
def test_a_wire_that_is_cut_is_the_one_that_is_taken_apart(seed, monkeypatch):
    # Given runs that ended, with anything in what their users told
    chance = random.Random(seed)
    for number in range(300):
        text = chance.choice([each for each in HOSTILE if not isinstance(each, dict)])
        run = state.State(1, id_of("run", number), "run", USERS[0], 10**15 + number)
        run.status, run.ended_us = chance.choice(["completed", "failed", "cancelled"]), 10**15 + 9
        run.agent_id, run.conversation_id, run.base_template_id = text, text, chance.choice([text, None])
        run.metadata = chance.choice([None, {}, {"a": chance.choice(HOSTILE), "completed_at": chance.choice(HOSTILE)}])
        run.request_config = chance.choice([None, {"stop_reason": chance.choice(HOSTILE), "ttft_ns": 5}])
        run.stop_reason, run.ttft_ns, run.duration_ns = chance.choice([None, "error"]), chance.choice([None, 7]), 9
        run.callback_url = chance.choice([None, None, 'https://x/?",\\"callback_url\\":null,'])
        wire = as_run(run)
        for status in ("created", "running"):
            asked = (AsOf(position=1), wire, takeback.UNENDED, status, None, 5, None)
            # When they are shown as before their end, then it is the same whichever way it is made
            cut = takeback.taken_back(*asked)
            with monkeypatch.context() as patch:
                patch.setattr(takeback, "_cut", lambda *_: None)
                assert cut == takeback.taken_back(*asked), wire


async def test_what_is_told_later_of_an_earlier_time_is_in_the_same_list_asked_again(tmp_path):
    began_us = 10**15
    async with Ledger.open(tmp_path / "ledger.db", clock=lambda: began_us + 10**9) as ledger:
        engine = Engine(ledger, tmp_path / "views.db")
        await engine.open()
        views = Views(engine.path, ledger.store.streams)
        await views.open()
        engine.on_changed = lambda changed: views.forget(changed, engine.others_wrote)
        engine.start()
        query = Query(table="runs", filters=Filters(statuses=("running",)), as_of=AsOf(time_us=began_us + 10))
        for number in range(3):
            # Given a list as of a time, when a run that was alive then is told of only now
            assert len((await views.page(query)).wires) == number
            run = id_of("run", number)
            await ledger.append(run, "run.created", {"user_id": USERS[0], "agent_id": "a"}, time_us=began_us)
            event = await ledger.append(run, "run.running", {}, time_us=began_us + 1)
            await engine.wait_for(event.position, 10)
        # Then it is in the list
        assert len((await views.page(query)).wires) == 3
        await views.close()
        await engine.close()
