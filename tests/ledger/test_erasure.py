"""Erasure: the data is gone from every way of reading and from the file, and every proof still holds."""

import asyncio
import contextlib
import random

import msgspec
import pytest

from ledger import Ledger, engine
from ledger.commands import Context
from ledger.decider import Change, Delete
from ledger.errors import AlreadyExists, Erased, InvalidInput, NotFound
from ledger.events import Changed
from ledger.leaf import leaf_hash
from ledger.merkle import Frontier
from ledger.sqlite import SqliteStore
from ledger.verify import verify
from tests.ledger.engines import ENGINES, ME, create, failing, log_of, opener
from tests.ledger.histories import ACTOR, Clock, job, run
from tests.ledger.leftovers import holds

SECRET = "the one that must go"


@pytest.fixture(params=ENGINES)
def open_ledger(request, tmp_path):
    return opener(request.param, tmp_path)


@pytest.fixture
async def ledger(open_ledger):
    async with open_ledger() as opened:
        yield opened


async def told(ledger, stream=None, text=SECRET):
    """A job that says the text in its metadata and in an update; return its events."""
    stream = stream or job(1)
    await ledger.execute(create(stream, "running", metadata={"text": text}), ME)
    change = Change(id=stream, facts=Changed(metadata={"more": text * 3}))
    await ledger.execute_plan(lambda _: (change,), Context(actor=ACTOR, key=f"key of {stream}", digest="d"))
    return await ledger.read(stream)


# --- what is left -----------------------------------------------------------------------------------------------------


async def test_an_erasure_leaves_envelopes_and_digests_and_the_whole_tree(ledger):
    before = await told(ledger)
    await ledger.execute(create(job(2), metadata={"text": "stays"}), ME)
    root = (await ledger.store.head()).frontier.root()
    # when
    event = await ledger.erase(job(1), "asked for", actor=ACTOR)
    # then
    after = await ledger.read(job(1))
    assert [(each.data, each.salt) for each in after[:-1]] == [(None, None)] * 4
    assert [leaf_hash(each) for each in after[:-1]] == [leaf_hash(each) for each in before]
    kept = [msgspec.structs.replace(each, data=None, salt=None, digest=None) for each in (*before, *after[:-1])]
    assert kept[: len(before)] == kept[len(before) :]
    assert after[-1] == event
    assert (event.type, event.actor, msgspec.json.decode(event.data)) == ("job.erased", ACTOR, {"reason": "asked for"})
    frontier = Frontier()
    frontier.extend(leaf_hash(each) for each in (await log_of(ledger))[:-1])
    assert frontier.root() == root
    frontier.append(leaf_hash(event))
    assert (await ledger.store.head()).frontier.root() == frontier.root()
    assert (await ledger.state(job(2))).metadata == {"text": "stays"}


async def test_no_way_of_reading_shows_the_data_again(ledger):
    await told(ledger)
    await ledger.erase(job(1), "asked for")
    store = ledger.store
    found = [
        *(await store.stream(job(1))),
        *(await store.streams([job(1)]))[job(1)],
        *(await store.scan(0, 100)),
        *(await store.scan(0, 100, {"job.created", "job.updated"})),
        *(await store.facts(0, 100)),
        *(await ledger.next_batch(0)),
        await store.by_key(f"key of {job(1)}"),
    ]
    found += [event async for batch in store.batches() for event in batch]
    assert len(found) > 20
    assert not any(SECRET.encode() in (event.data or b"") for event in found)


async def test_a_follower_that_is_behind_gets_what_is_left(ledger):
    await told(ledger)
    await ledger.erase(job(1), "asked for")
    events = []
    async for event in ledger.events():
        events.append(event)
        if len(events) == ledger.size:
            break
    assert [event.data for event in events[:-1]] == [None] * 4


async def test_another_process_that_follows_forgets_the_data_too(tmp_path):
    path = tmp_path / "ledger.db"
    async with Ledger.open(path, clock=Clock()) as one, Ledger.open(path, clock=Clock()) as other:
        await told(one)
        await other.refresh(surely=True)
        assert SECRET.encode() in (await other.next_batch(0))[0].data
        await one.erase(job(1), "asked for")
        await other.refresh(surely=True)
        assert [event.data for event in await other.next_batch(0)][:-1] == [None] * 4
        assert (await other.state(job(1))).erased_position == 5


async def test_what_was_erased_can_be_neither_changed_nor_erased_nor_made_again(ledger):
    await told(ledger)
    event = await ledger.erase(job(1), "asked for")
    for command in (Change(id=job(1), status="completed"), Delete(id=job(1))):
        with pytest.raises(Erased) as refusal:
            await ledger.execute(command, ME)
        assert refusal.value.position == event.position
    with pytest.raises(Erased):
        await ledger.erase(job(1), "again")
    with pytest.raises(AlreadyExists):
        await ledger.execute(create(job(1)), ME)
    with pytest.raises(NotFound):
        await ledger.erase(job(7), "asked for")
    assert ledger.size == event.position


async def test_a_key_whose_first_answer_was_erased_says_so(ledger):
    await told(ledger)
    event = await ledger.erase(job(1), "asked for")
    change = Change(id=job(1), facts=Changed(metadata={"more": SECRET * 3}))
    with pytest.raises(Erased) as refusal:
        await ledger.execute_plan(lambda _: (change,), Context(actor=ACTOR, key=f"key of {job(1)}", digest="d"))
    assert refusal.value.position == event.position
    assert ledger.size == event.position


async def test_an_erased_event_that_somebody_appends_erases_just_so(ledger):
    await told(ledger)
    await ledger.append(job(1), "job.erased", {"reason": "by an import"})
    assert [event.data for event in await ledger.read(job(1))][:-1] == [None] * 4


async def test_an_erasure_that_is_not_committed_erases_nothing(ledger):
    before = await told(ledger)
    with failing(ledger), contextlib.suppress(Exception):
        await ledger.erase(job(1), "asked for")
    assert await ledger.read(job(1)) == before
    await ledger.erase(job(1), "asked for")
    assert (await ledger.read(job(1)))[0].data is None


async def test_a_work_that_fails_behind_its_erasure_erases_nothing_of_what_others_wrote(ledger):
    before = await told(ledger)

    def work(session):
        session.append([_draft("job.erased", {"reason": "x"})])
        raise InvalidInput([{"where": "w", "what": "x", "allowed": None}])

    outcomes = await asyncio.gather(ledger.submit(work), ledger.execute(create(job(2)), ME), return_exceptions=True)
    assert isinstance(outcomes[0], InvalidInput)
    assert await ledger.read(job(1)) == before


def _draft(type, data):
    from ledger.events import TYPES, draft

    return draft(job(1), type, msgspec.convert(data, TYPES[type].shape), time=1, actor=ACTOR)


# --- no byte of it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
async def test_no_byte_of_what_was_erased_is_left_in_the_files_and_all_of_the_rest_is(tmp_path, seed):
    """Many streams of all sizes, from the first page of the file on, erased in any order, while others are written."""
    path, chance = tmp_path / "ledger.db", random.Random(seed)
    texts = {}
    async with Ledger.open(path, clock=Clock()) as ledger:
        for number in range(300):
            stream = chance.choice([job, run])(number)
            texts[stream] = f"<{seed} text {number:06d}>"
            await told(ledger, stream, texts[stream] * chance.choice([1, 1, 3, 40, 2_000]))
        gone = chance.sample(sorted(texts), 120)
        for number, stream in enumerate(gone):
            await ledger.erase(stream, "asked for")
            if number % 10 == 0:
                await told(ledger, job(1_000 + number), "other")
        assert await ledger.scrub()
        content = b"".join(each.read_bytes() for each in tmp_path.iterdir())
        assert [stream for stream in gone if texts[stream].encode() in content] == []
        assert all(texts[stream].encode() in content for stream in texts.keys() - gone)
        size = ledger.size
    with contextlib.closing(engine.connect(path, read_only=True)) as connection:
        verdict = verify(connection)
    assert (verdict.problems, verdict.size, verdict.erased) == ([], size, len(gone) * 4 - _jobless(gone))


def _jobless(streams):
    """Runs have no pending, so one event less."""
    return sum(stream.startswith("run") for stream in streams)


async def test_the_write_ahead_log_is_emptied_once_nobody_reads_an_older_state(tmp_path):
    path = tmp_path / "ledger.db"
    async with Ledger.open(path, clock=Clock()) as ledger:
        await told(ledger)
        with contextlib.closing(engine.connect(path, read_only=True)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM events").fetchone()
            await ledger.erase(job(1), "asked for")
            assert await ledger.scrub(timeout_s=0.0) is False
            assert "ledger.db-wal" in holds(tmp_path, SECRET)
            reader.execute("COMMIT")
        assert await ledger.scrub() is True
        assert holds(tmp_path, SECRET) == []
        assert await ledger.scrub() is True


async def test_what_a_killed_process_left_in_the_write_ahead_log_is_gone_once_the_ledger_is_opened(tmp_path):
    # given: the files as they are after the commit of an erasure and before anything else
    path, left = tmp_path / "ledger.db", tmp_path / "left"
    left.mkdir()
    async with Ledger.open(path, clock=Clock()) as ledger:
        await told(ledger)
        await ledger.erase(job(1), "asked for")
        for each in ("ledger.db", "ledger.db-wal"):
            (left / each).write_bytes((tmp_path / each).read_bytes())
    assert holds(left, SECRET) == ["ledger.db-wal"]
    # when
    async with Ledger.open(left / "ledger.db", clock=Clock()) as again:
        # then
        assert holds(left, SECRET) == []
        assert again.size == 5


async def test_a_ledger_that_only_reads_cannot_scrub(tmp_path):
    async with Ledger.open(tmp_path / "ledger.db", clock=Clock()) as ledger:
        await told(ledger)
    store = await SqliteStore.open(tmp_path / "ledger.db", read_only=True)
    assert await store.erased() == 0
    with pytest.raises(Exception, match="closed"):
        await store.scrub()
    await store.close()


# --- verified ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("statement", "what"), [
    ("UPDATE events SET data = CAST(x'7b' || data AS BLOB) WHERE position = 2", "not all of its data is blank"),
    ("UPDATE events SET salt = randomblob(16) WHERE position = 2", "leaf hash"),
    ("UPDATE erasures SET digest = printf('%064d', 0) WHERE position = 2", "leaf hash"),
    ("DELETE FROM erasures WHERE position = 2", "leaf hash"),
    ("UPDATE events SET actor = 'x' WHERE position = 2", "leaf hash"),
])  # fmt: skip
async def test_what_is_done_to_an_erased_event_is_found_and_named(tmp_path, statement, what):
    path = tmp_path / "ledger.db"
    async with Ledger.open(path, clock=Clock()) as ledger:
        await told(ledger)
        await ledger.erase(job(1), "asked for")
    with contextlib.closing(engine.connect(path, read_only=False)) as connection:
        assert verify(connection).problems == []
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(statement)
        problems = verify(connection).problems
    assert {problem.position for problem in problems} == {2}
    assert any(what in problem.problem for problem in problems)
