"""The callbacks view: one row for each callback that was asked for, right after each event, gone when erased."""

import contextlib

import msgspec
import pytest

from ledger import Ledger, archive
from ledger.commands import Context
from ledger.decider import Abandon, Change, Create, Delete, Redeliver, Report
from ledger.events import Changed, Created
from projections import callbacks
from projections.callbacks import CALLBACKS, COLUMNS
from projections.engine import Engine
from tests.ledger.engines import ME, create
from tests.ledger.histories import ACTOR, START_US, Clock, birth, job, run
from tests.projections.random_histories import History
from tests.projections.views_file import ask

URL = "https://Receiver.example:8443/hook?of=me"
RUN = run()
WHO = {"kind": "run", "user_id": ACTOR, "project_id": "p", "url": URL, "receiver": "https://receiver.example:8443"}
DUE_US = START_US + 10**9
DELETE = Delete(id=RUN)
ERASURE = ("run.erased", {"reason": "asked for"})


@pytest.fixture
async def ledger(tmp_path):
    async with Ledger.open(tmp_path / "ledger.db", clock=Clock()) as opened:
        yield opened


@pytest.fixture
async def engine(ledger, path):
    engine = Engine(ledger, path)
    await engine.open()
    yield engine
    await engine.close()


def rows(path):
    return [dict(zip(COLUMNS, row, strict=True)) for row in ask(path, f"SELECT {', '.join(COLUMNS)} FROM callbacks")]


def start(id=RUN, status="running", **facts):
    facts = {"callback_url": URL, "project_id": "p", **facts}
    kind = "run" if id.startswith("run") else "job"
    return Create(id=id, kind=kind, facts=Created(**birth(kind, **facts)), status=status)


def attempt(error, status_code, due_us=None, owed_position=3):
    facts = {"owed_position": owed_position, "duration_ns": 5_000, "status_code": status_code}
    return Report(id=RUN, error=error, due_us=due_us, **facts)


END = Change(id=RUN, status="failed")
FAILED = attempt("http_status", 500, DUE_US)
WAITING = dict.fromkeys(
    ["sent_us", "status_code", "error", "status", "ended_position", "ended_version", "owed_position", "due_us",
     "attempts", "tries", "settled_us", "reason"]
)  # fmt: skip
OWED = WAITING | {
    "status": "owed", "ended_position": 3, "ended_version": 3, "owed_position": 3, "due_us": 0, "attempts": 0,
    "tries": 0,
}  # fmt: skip
AT = {name: START_US + number * 10**6 for number, name in enumerate(("started", "ended", "first", "second", "third"))}


def told(error, status_code, at, **more):
    return {"error": error, "status_code": status_code, "sent_us": AT[at] - 5, **more}


LIVES = [
    pytest.param([], WAITING, 1, id="waiting"),
    pytest.param([END], OWED, 3, id="owed"),
    pytest.param(
        [END, FAILED], OWED | told("http_status", 500, "first", attempts=1, tries=1, due_us=DUE_US), 4, id="tried"
    ),
    pytest.param(
        [END, attempt(None, 204)],
        OWED | told(None, 204, "first", attempts=1, tries=1, due_us=None, status="delivered", settled_us=AT["first"]),
        5, id="delivered",
    ),
    pytest.param(
        [END, FAILED, attempt("gone", 410)],
        OWED | told("gone", 410, "second", attempts=2, tries=2, due_us=None, status="abandoned",
                    settled_us=AT["second"], reason="gone"),
        6, id="abandoned",
    ),
    pytest.param(
        [END, Abandon(id=RUN, owed_position=3, reason="imported")],
        OWED | {"status": "abandoned", "reason": "imported", "settled_us": AT["first"], "due_us": None},
        4, id="given up untried",
    ),
    pytest.param(
        [END, attempt("timeout", None), Redeliver(id=RUN)],
        OWED | told("timeout", None, "first", attempts=1, owed_position=6), 6, id="queued again",
    ),
    pytest.param(
        [END, FAILED, Change(id=RUN, facts=Changed(ttft_ns=1)), DELETE],
        OWED | told("http_status", 500, "first", attempts=1, tries=1, due_us=DUE_US), 4,
        id="deleted, which moves nothing of it",
    ),
    pytest.param([ERASURE], None, None, id="erased while it waits"),
    pytest.param([END, FAILED, ERASURE], None, None, id="erased while it is owed"),
    pytest.param([END, attempt(None, 200), ERASURE], None, None, id="erased when delivered"),
]  # fmt: skip


async def live(ledger, commands):
    """A run and what commands (or events) lead to, each at a time of its own; yields after each."""
    await ledger.execute(start(), Context(actor=ACTOR, time_us=AT["started"]))
    yield
    for command, time_us in zip(commands, list(AT.values())[1:], strict=False):
        if isinstance(command, tuple):
            await ledger.append(RUN, *command, time_us=time_us)
        else:
            await ledger.execute(command, Context(actor=ACTOR, time_us=time_us))
        yield


async def lived(ledger, commands):
    async for _ in live(ledger, commands):
        pass


@pytest.mark.parametrize(("commands", "expected", "changed"), LIVES)
@pytest.mark.parametrize("how", ["at once", "after each", "from its row", "rebuilt"])
async def test_a_row_is_what_its_debt_is_and_what_the_last_attempt_told(
    ledger, engine, path, commands, expected, changed, how
):
    async for _ in live(ledger, commands):
        if how in ("after each", "from its row"):
            await engine.catch_up()
        if how == "from its row":  # nothing is remembered between batches
            engine._forget()
    await (engine.rebuild() if how == "rebuilt" else engine.catch_up())
    named = {"position": 1, "id": RUN, "changed_position": changed}
    assert rows(path) == ([] if expected is None else [{**WHO, **named, **expected}])


async def test_only_what_asked_for_a_callback_has_a_row(ledger, engine, path):
    await ledger.execute(start(run(1), "failed"), ME)
    await ledger.execute(start(run(2), "failed", callback_url=None), ME)
    await ledger.execute(start(job(3), "created", metadata={"callback_url": URL}, callback_url=None), ME)
    await ledger.execute(start(job(4), "created"), ME)
    batch = Create(id=job(5), kind="batch", facts=Created(**birth("batch", callback_url=URL)))
    await ledger.execute(batch, ME)
    await engine.catch_up()
    assert [(row["id"], row["kind"], row["status"]) for row in rows(path)] == [
        (run(1), "run", "owed"), (job(4), "job", None), (job(5), "batch", None)
    ]  # fmt: skip


async def test_a_callback_whose_name_was_written_with_escapes_has_a_row(ledger, engine, path):
    data = msgspec.json.encode(birth("run", callback_url=URL)).replace(b"callback_url", b"c\\u0061llback_url")
    line = b'{"specversion":"1.0","type":"run.created","subject":"%s","data":%s}' % (RUN.encode(), data)
    assert [part.appended async for part in archive.load(ledger, [line], "jobledger", "file")] == [1]
    await ledger.append(RUN, "run.failed", {})
    await engine.catch_up()
    assert (await ledger.state(RUN)).debt.is_owed
    assert [(row["url"], row["status"]) for row in rows(path)] == [(URL, "owed")]


async def test_an_erased_callback_stays_gone_when_the_views_are_rebuilt(ledger, engine, path):
    await lived(ledger, [END, FAILED, ERASURE])
    await engine.catch_up()
    assert rows(path) == []
    await engine.rebuild()
    assert rows(path) == []
    assert ask(path, "SELECT count(*) FROM runs") == [(1,)]


async def test_an_erasure_in_the_batch_of_what_it_erases_is_told_once_and_leaves_no_row(ledger, engine, path):
    changes = []
    engine.on_changed = lambda changed: changes.append(changed.get("callbacks"))
    await lived(ledger, [END, FAILED, ERASURE])
    await engine.catch_up()
    assert (changes, rows(path)) == ([[RUN]], [])


async def test_an_erasure_is_told_like_any_other_change(ledger, engine):
    changes = []
    engine.on_changed = lambda changed: changes.append(changed.get("callbacks"))
    await lived(ledger, [END])
    await engine.catch_up()
    await ledger.append(RUN, *ERASURE)
    await engine.catch_up()
    assert changes == [[RUN], [RUN]]


async def test_a_callback_is_due_only_while_it_is_owed_and_found_by_an_index(ledger, engine, path):
    await lived(ledger, [END])
    await engine.catch_up()
    due = "SELECT id FROM callbacks WHERE due_us <= 0"
    assert ask(path, due) == [(RUN,)]
    assert "USING INDEX callbacks_due" in str(ask(path, f"EXPLAIN QUERY PLAN {due} ORDER BY due_us"))
    await ledger.execute(attempt(None, 200), ME)
    await engine.catch_up()
    assert ask(path, due) == []


# --- what it costs ----------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def statements(engine):
    """What is asked of the table of callbacks meanwhile, in the live table or beside it."""
    seen = []
    await engine._connection.run(lambda db: db.set_trace_callback(seen.append))
    found = []
    yield found
    await engine._connection.run(lambda db: db.set_trace_callback(None))
    found += [text for text in seen if " callbacks" in text and not text.startswith(("CREATE", "DROP", "ALTER"))]


async def test_a_ledger_without_callbacks_costs_one_look_for_each_batch_and_no_row(ledger, engine, path):
    for number in range(50):
        await ledger.execute(create(run(number), "running"), ME)
    await engine.catch_up()
    async with statements(engine) as found:
        for number in range(50):
            await ledger.execute(Change(id=run(number), status="failed"), ME)
        await engine.catch_up()
    assert found == ["SELECT 1 FROM callbacks LIMIT 1"]
    async with statements(engine) as found:
        for number in range(50, 99):
            await ledger.execute(create(run(number), "failed"), ME)
        await engine.catch_up()
    assert found == ["SELECT 1 FROM callbacks LIMIT 1"]
    assert rows(path) == []


async def test_what_began_in_the_same_batch_or_is_remembered_is_not_looked_up(ledger, engine):
    await ledger.execute(start(run(1)), ME)
    await ledger.execute(create(run(2), "running"), ME)
    await engine.catch_up()
    for number in range(3, 30):
        await ledger.execute(create(run(number), "failed"), ME)
    await ledger.execute(Change(id=run(1), status="failed"), ME)
    async with statements(engine) as found:
        await engine.catch_up()
    assert [text for text in found if text.startswith("SELECT")] == []
    await ledger.execute(Change(id=run(2), status="failed"), ME)
    async with statements(engine) as found:
        await engine.catch_up()
    (looked,) = [text for text in found if text.startswith("SELECT")]
    assert f"IN ('{run(2)}')" in looked


@pytest.mark.parametrize("states_max", [0, 3, 20_000])
async def test_however_few_are_remembered_the_rows_are_the_same(tmp_path, monkeypatch, states_max):
    monkeypatch.setattr(callbacks, "STATES_MAX", states_max)
    found = []
    async with Ledger.in_memory() as ledger:
        history, kept = History(7), Engine(ledger, tmp_path / "kept.db", [CALLBACKS])
        await kept.open()
        for _ in range(30):
            await history.extend(ledger, 20)
            await kept.beat()
            assert len(kept._memories["callbacks"]) <= states_max + 30
        await kept.rebuild()
        fresh = Engine(ledger, tmp_path / "fresh.db", [CALLBACKS])
        await fresh.open()
        for engine in (kept, fresh):
            found.append(ask(engine.path, "SELECT * FROM callbacks ORDER BY 1"))
            await engine.close()
    assert found[0] == found[1]
    assert len(found[0]) > 20
