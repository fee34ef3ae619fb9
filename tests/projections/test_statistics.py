"""Statistics are those of a brute-force fold: for all filters, from views and from files, whatever was taken in."""

import itertools

import pytest

from ledger import Ledger
from ledger.errors import InvalidInput
from ledger.ids import SYSTEM_USER
from projections import overlay, tally
from projections.engine import Engine
from projections.period import BUCKETS, DAY_US, period
from projections.statistics import KINDS, READS, Asked, statistics
from projections.tallied import Whose
from projections.tally import HOUR_US
from projections.views import Views
from tests.projections.random_histories import AGENTS, USERS, History
from tests.projections.sums_oracle import World, check
from tests.projections.views_file import ask

ALL = 1_000_000


@pytest.fixture(autouse=True, params=[3, 1000], ids=["few notes", "many notes"])
def notes_max(request, monkeypatch):
    """How many changes are only noted: hardly any, or all of these histories."""
    monkeypatch.setattr(tally, "NOTES_MAX", request.param)
    if request.param == 3:
        monkeypatch.setattr(tally, "SHARE", 0)


@pytest.fixture
async def ledger(tmp_path):
    async with Ledger.open(tmp_path / "ledger.db") as opened:
        await History(612).extend(opened, 900)
        yield opened


@pytest.fixture
async def world(ledger):
    return World(await ledger.store.scan(0, ALL))


async def made(ledger, path):
    engine = Engine(ledger, path)
    await engine.open()
    await engine.close()


@pytest.fixture
async def views(ledger, path):
    """The views of the ledger."""
    await made(ledger, path)
    opened = Views(path, ledger.store.streams)
    await opened.open()
    yield opened
    await opened.close()


async def from_views(ledger, path, asked):
    views = Views(path, ledger.store.streams)
    await views.open()
    try:
        return await statistics(views, asked)
    finally:
        await views.close()


async def from_files(ledger, path, asked):
    async def question(at_end):
        return await statistics(await at_end.reader(READS), asked)

    return await overlay.ask(ledger.store, path, "statistics", question)


def whoses():
    for user, project, agent in itertools.product(
        (None, *USERS[:2]), (None, "project-1"), (None, AGENTS[0], "nobody's")
    ):
        yield Whose(user, project, agent)


def periods(world):
    """Open ones, whole days, and cut anywhere: within an hour too, and empty ones."""
    times = sorted(state.created_us for state in world.states)
    middle, late = times[len(times) // 2], times[len(times) * 3 // 4]
    day = middle // DAY_US * DAY_US
    hour = middle // HOUR_US * HOUR_US
    yield from (period(None, None), period(middle, None), period(None, middle), period(middle, late))
    yield from (period(day, day + DAY_US), period(day, None), period(day - 9 * DAY_US + 1, day + 30 * DAY_US - 1))
    yield from (period(hour, hour + HOUR_US), period(middle, middle + 1), period(middle, middle), period(late, middle))


async def test_statistics_of_views_are_those_of_a_fold(ledger, world, views):
    for number, (whose, span) in enumerate(itertools.product(whoses(), periods(world))):
        kinds = (tuple(KINDS), ("run",), ("job", "batch"))[number % 3]
        asked = Asked(kinds=kinds, whose=whose, period=span, top=(10, 1, 0)[number % 3])
        check(await statistics(views, asked), world, asked)


async def test_buckets_are_those_of_the_calendar(ledger, world, views):
    spans = list(periods(world))
    for whose, size in itertools.product((Whose(), Whose(USERS[0]), Whose(agent_id=AGENTS[1])), BUCKETS):
        for span in spans[::3]:
            asked = Asked(whose=whose, period=span, bucket=size)
            told = await statistics(views, asked)
            assert told.bucket == size
            check(told, world, asked)


@pytest.mark.parametrize("behind", [True, False])
async def test_the_files_alone_say_the_same_where_views_are_behind_or_missing(ledger, path, tmp_path, behind):
    history = History(613)
    async with Ledger.open(tmp_path / "other.db") as other:
        await history.extend(other, 400)
        if behind:
            await made(other, path)
            await history.extend(other, 400)
        world = World(await other.store.scan(0, ALL))
        before = path.read_bytes() if behind else None
        whose_ = (Whose(), Whose(USERS[0]), Whose(agent_id=AGENTS[2]))
        for whose, span in itertools.product(whose_, list(periods(world))[::3]):
            asked = Asked(whose=whose, period=span)
            check(await from_files(other, path, asked), world, asked)
        assert (path.read_bytes() if path.exists() else None) == before


async def test_live_views_say_so_after_every_batch(tmp_path, path):
    history = History(614)
    async with Ledger.open(tmp_path / "live.db") as ledger:
        engine = Engine(ledger, path)
        await engine.open()
        for _ in range(15):
            await history.extend(ledger, 20)
            await engine.catch_up()
            asked = Asked()
            check(await from_views(ledger, path, asked), World(await ledger.store.scan(0, ALL)), asked)
        await engine.close()


async def test_no_name_of_what_was_erased_is_left_in_the_sums(tmp_path, path):
    agent, model = "agent-that-is-secret", "model-that-is-secret"
    run = "run-00000000-0000-4000-8000-000000000001"
    step = {"id": "step-00000000-0000-4000-8000-000000000001", "model": model, "total_tokens": 7}
    async with Ledger.open(tmp_path / "erased.db") as ledger:
        engine = Engine(ledger, path)
        await engine.open()
        await ledger.append(run, "run.created", {"user_id": SYSTEM_USER, "agent_id": agent}, actor=SYSTEM_USER)
        await ledger.append(run, "run.step", step, actor=SYSTEM_USER)
        await engine.catch_up()
        assert (await from_views(ledger, path, Asked())).models[0].model == model
        await ledger.append(run, "run.erased", {"reason": "asked for"}, actor=SYSTEM_USER)
        await engine.catch_up()
        told = await from_views(ledger, path, Asked())
        await engine.close()
    assert (told.runs.total, told.runs.agents, told.models, told.tokens.steps) == (0, [], [], 0)
    for table in ("runs_tally", "runs_notes", "steps_tokens"):
        assert ask(path, f"SELECT * FROM {table}") == []


async def test_too_many_hours_are_refused_with_what_to_do(tmp_path, path):
    async with Ledger.open(tmp_path / "long.db") as ledger:
        for day in (0, 100):
            id = f"job-00000000-0000-4000-8000-{day:012}"
            await ledger.append(id, "job.created", {"user_id": SYSTEM_USER}, actor=SYSTEM_USER, time_us=day * DAY_US)
        await made(ledger, path)
        with pytest.raises(InvalidInput, match="62 days"):
            await from_views(ledger, path, Asked(bucket="hour"))
        assert (await from_views(ledger, path, Asked())).bucket == "week"


@pytest.mark.parametrize("size", BUCKETS)
async def test_what_was_before_1970_counts_in_its_own_hour_and_day(tmp_path, path, size):
    async with Ledger.open(tmp_path / "old.db") as ledger:
        for number, time_us in enumerate((-DAY_US - 1, -DAY_US, -HOUR_US - 1, -1, 0, 1, HOUR_US, DAY_US)):
            run = f"run-00000000-0000-4000-8000-{number:012}"
            step = {"id": f"step-00000000-0000-4000-8000-{number:012}", "total_tokens": 1 + number}
            birth = {"user_id": USERS[number % 2], "agent_id": "agent-1"}
            await ledger.append(run, "run.created", birth, actor=SYSTEM_USER, time_us=time_us)
            await ledger.append(run, "run.step", step, actor=SYSTEM_USER, time_us=time_us)
        await made(ledger, path)
        world = World(await ledger.store.scan(0, ALL))
        for whose in (Whose(), Whose(USERS[0]), Whose(agent_id="agent-1")):
            for span in (period(None, None), period(-DAY_US, 1), period(-1, None)):
                asked = Asked(kinds=("run",), whose=whose, period=span, bucket=size)
                check(await from_views(ledger, path, asked), world, asked)


async def test_an_empty_ledger_has_nothing_to_tell(tmp_path, path):
    async with Ledger.open(tmp_path / "empty.db") as ledger:
        await made(ledger, path)
        told = await from_views(ledger, path, Asked())
    assert (told.jobs.total, told.runs.buckets, told.batches.duration_ns.p50, told.models) == (0, [], None, [])
    assert set(told.jobs.rates.values()) == {None}
