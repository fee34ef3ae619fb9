"""One contract for every log engine, kept through ``Ledger``: numbering, keys, versions, reading, following, hashes."""

import asyncio
from itertools import pairwise

import pytest

from ledger.commands import Context
from ledger.decider import Change
from ledger.errors import IdempotencyConflict, InvalidTransition, StoreClosed, StoreFailed, VersionMismatch
from ledger.events import Created, draft
from tests.ledger.engines import ME, create, failing, log_of, scramble
from tests.ledger.histories import ACTOR, START_US, Clock, birth, job, leaf_hash, root

NASTY = ["plain", 'quote " backslash \\ slash /', "é ß 漢字 \u2028\u2029 🦉", "\ufeff\uffff", "\x00\x01\t\n\r\x1f\x7f"]
LABELS = NASTY[:-1]  # what names somebody or something has no control characters


# --- numbering --------------------------------------------------------------------------------------------------------


async def test_positions_have_no_gaps_and_versions_count_within_each_stream(ledger):
    await scramble(ledger, seed=1)
    log = await log_of(ledger)
    assert len(log) > 30
    assert [event.position for event in log] == list(range(1, len(log) + 1))
    for stream in {event.stream for event in log}:
        versions = [event.version for event in log if event.stream == stream]
        assert versions == list(range(1, len(versions) + 1))
    assert ledger.size == len(log) == (await ledger.store.head()).size


async def test_recorded_never_decreases_though_the_clock_jumps_back(open_ledger):
    times = [500, 400, 900, 100, 901, 0]
    async with open_ledger(Clock(*(START_US + each for each in times))) as ledger:
        for number in range(len(times)):
            await ledger.execute(create(job(number)), ME)
        log = await log_of(ledger)
    assert [event.time - START_US for event in log] == times
    assert [event.recorded - START_US for event in log] == [500, 500, 900, 900, 901, 901]
    assert all(before.recorded <= after.recorded for before, after in pairwise(log))


async def test_what_was_recorded_is_read_back_the_same_by_every_way_of_reading(ledger):
    await scramble(ledger, seed=2)
    await ledger.append(job(50), "job.created", birth("job"), key="the key", actor="someone")
    log = await log_of(ledger)
    store = ledger.store
    streams: dict[str, list] = {event.stream: [] for event in log}
    for event in log:
        streams[event.stream].append(event)
    assert await store.by_key("the key") == log[-1]
    assert await store.by_key("another key") is None
    assert await store.streams([*streams, job(99)]) == streams
    for without in (["job.created"], {"job.created", "job.pending", "run.created"}, ["job.created' OR '1"]):
        loud = {each: [event for event in events if event.type not in without] for each, events in streams.items()}
        found = await store.streams([*streams, job(99)], without)
        assert found == {each: events for each, events in loud.items() if events}
    assert await store.births([*streams, job(99)]) == {each: events[0].position for each, events in streams.items()}
    longest = max(streams.values(), key=len)
    for after in (0, 1, len(longest)):
        assert await store.stream(longest[0].stream, after) == await ledger.read(longest[0].stream, after)
        assert await store.stream(longest[0].stream, after) == longest[after:]
    assert await store.stream(longest[0].stream, 1, 1) == longest[1:2]
    for size_max in (1, len(log[0].data) + 1, sum(len(event.data) for event in log)):
        for found, whole in (
            (await store.stream(longest[0].stream, 1, None, size_max), longest[1:]),
            (await store.scan(0, len(log), None, size_max), log),
        ):
            assert found == whole[: len(found)]
            assert sum(len(event.data) for event in found[:-1]) < size_max
            assert len(found) == len(whole) or sum(len(event.data) for event in found) >= size_max
    types = ["job.created", "run.refused"]
    assert await store.scan(3, 7, types) == [each for each in log[3:] if each.type in types][:7]
    assert await store.scan(3, 7) == log[3:10]
    assert [event async for batch in store.batches(5, 4) for event in batch] == log[5:]
    facts = [(each.position, each.stream, each.version, each.type, each.schema, each.time) for each in log]
    assert [(*each,) for each in map(_facts_of, await store.facts(2, 9))] == facts[2:11]
    assert [each.data for each in await store.facts(2, 9)] == [each.data for each in log[2:11]]


def _facts_of(event):
    return event.position, event.stream, event.version, event.type, event.schema, event.time


# --- idempotency keys -------------------------------------------------------------------------------------------------


async def test_the_same_key_and_request_gets_the_first_answer_again_and_adds_nothing(ledger):
    asked = Context(actor=ACTOR, key="k1", digest="aa")
    first = await ledger.execute(create(job(), "running"), asked)
    await ledger.execute(Change(id=job(), status="completed"), ME)
    again = await ledger.execute(create(job(), "running"), asked)
    assert (first.prior, again.prior) == (None, first.events[-1])
    assert (again.position, again.events, again.state) == (first.position, first.events, first.state)
    assert again.state.status == "running"
    assert ledger.size == 4


async def test_the_same_key_with_another_request_is_a_conflict(ledger):
    await ledger.execute(create(job(1)), Context(actor=ACTOR, key="k1", digest="aa"))
    with pytest.raises(IdempotencyConflict) as refusal:
        await ledger.execute(create(job(2)), Context(actor=ACTOR, key="k1", digest="bb"))
    assert refusal.value.key == "k1"
    assert ledger.size == 1


async def test_a_refusal_under_a_key_is_refused_again_though_the_rules_allow_it_by_now(ledger):
    await ledger.execute(create(job()), ME)
    asked = Context(actor=ACTOR, key="k1", digest="aa")
    refusals = []
    for _ in range(2):
        with pytest.raises(InvalidTransition) as refusal:
            await ledger.execute(Change(id=job(), status="running"), asked)
        refusals.append(refusal.value)
        if len(refusals) == 1:
            await ledger.execute(Change(id=job(), status="pending"), ME)
    assert refusals[0].facts == refusals[1].facts
    assert (refusals[1].current_status, refusals[1].allowed) == ("created", ["pending"])
    assert [event.type for event in await log_of(ledger)] == ["job.created", "job.refused", "job.pending"]


async def test_callers_that_use_one_key_at_the_same_time_share_one_append(ledger):
    asked = Context(actor=ACTOR, key="k1", digest="aa")
    answers = await asyncio.gather(*(ledger.execute(create(job(), "pending"), asked) for _ in range(20)))
    assert ledger.size == 2
    assert {answer.position for answer in answers} == {2}
    assert sum(answer.prior is None for answer in answers) == 1


async def test_an_event_appended_again_under_its_key_is_the_first_one(ledger):
    wanted = {"actor": ACTOR, "time_us": START_US, "key": "k1"}
    first = await ledger.append(job(1), "job.created", birth("job"), **wanted)
    assert await ledger.append(job(1), "job.created", birth("job"), **wanted) == first
    with pytest.raises(IdempotencyConflict):
        await ledger.append(job(2), "job.created", birth("job"), **wanted)
    assert ledger.size == 1


async def test_an_event_without_a_time_is_the_same_event_when_its_key_comes_again_later(ledger):
    first = await ledger.append(job(), "job.created", birth("job"), key="k1")
    assert await ledger.append(job(), "job.created", birth("job"), key="k1") == first


# --- expected versions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "fits"),
    [(None, True), (2, True), (0, False), (1, False), (3, False), (-1, False), (2**70, False)],
)
async def test_an_append_that_expects_a_version_finds_just_that_one_or_adds_nothing(ledger, expected, fits):
    await ledger.execute(create(job(), "pending"), ME)
    asked = ledger.append(job(), "job.running", {}, time_us=START_US, expected_version=expected)
    if fits:
        assert (await asked).version == 3
    else:
        with pytest.raises(VersionMismatch) as refusal:
            await asked
        assert (refusal.value.current, refusal.value.expected) == (2, expected)
        assert ledger.size == 2


async def test_of_many_who_expect_the_same_version_exactly_one_appends(ledger):
    await ledger.execute(create(job()), ME)
    asked = [
        ledger.append(job(), "job.updated", {"metadata": {"by": each}}, expected_version=1, time_us=START_US)
        for each in range(10)
    ]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert sorted(type(each).__name__ for each in found) == ["Recorded", *["VersionMismatch"] * 9]
    assert ledger.size == 2


# --- following --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 2, 7])
async def test_a_follower_sees_every_event_above_its_mark_in_order_and_live(ledger, after):
    seen = []

    async def follow():
        async for event in ledger.events(after):
            seen.append(event)
            if event.position == 40:
                return

    for number in range(5):
        await ledger.execute(create(job(number)), ME)
    follower = asyncio.create_task(follow())
    for number in range(5, 40):
        await ledger.execute(create(job(number)), ME)
    async with asyncio.timeout(10):
        await follower
    assert seen == (await log_of(ledger))[after:]


@pytest.mark.parametrize(("name", "limit"), [("TAIL_MAX", 3), ("TAIL_SIZE_MAX", 400), ("TAIL_SIZE_MAX", 1)])
async def test_what_is_kept_for_followers_is_bounded_and_who_is_further_behind_misses_nothing(
    ledger, monkeypatch, name, limit
):
    monkeypatch.setattr(f"ledger.ledger.{name}", limit)
    for number in range(10):
        await ledger.execute(create(job(number)), ME)
        kept = {"TAIL_MAX": len(ledger._tail), "TAIL_SIZE_MAX": sum(len(event.data) for event in ledger._tail)}[name]
        assert kept <= limit
        assert kept == (len(ledger._tail) if name == "TAIL_MAX" else ledger._tail_size)
    log = await log_of(ledger)
    for after in range(10):
        assert await ledger.next_batch(after) == log[after:]


async def test_a_listener_has_an_event_before_its_writer_is_answered(ledger):
    heard: list[int] = []
    ledger.listen(lambda events: heard.extend(event.position for event in events))
    for number in range(5):
        receipt = await ledger.execute(create(job(number)), ME)
        assert heard[-1] == receipt.position


# --- what came by imports ---------------------------------------------------------------------------------------------


def bringing(*numbers, marks=True, fails=False):
    """The work that appends a job of each number, from elsewhere where ``marks``, and then perhaps fails."""

    def work(session):
        first = session.size + 1
        for number in numbers:
            fact = Created(**birth("job"))
            session.append([draft(job(number), "job.created", fact, time=START_US, actor=ACTOR)])
        if marks:
            session.mark_imported(first)
        if fails:
            raise ValueError("the work failed")

    return work


async def marked(ledger):
    """Every position that is marked, those beyond both ends of the log included."""
    return await ledger.store.imported(range(-2, (await ledger.store.head()).size + 5))


async def test_what_was_imported_is_known_by_its_position_among_all_others(ledger):
    expected = set()
    assert await marked(ledger) == expected
    for at, numbers in enumerate(([1, 2, 3], [4], [5, 6], [7], [8])):
        is_brought = at % 2 == 0
        await ledger.submit(bringing(*numbers, marks=is_brought))
        expected |= set(numbers) if is_brought else set()
        assert await marked(ledger) == expected
    assert expected == {1, 2, 3, 5, 6, 8}
    assert await ledger.store.imported([]) == set()
    assert await ledger.store.imported([6, 2, 6, 4]) == {2, 6}
    await ledger.submit(bringing())
    assert await marked(ledger) == expected


async def test_writers_in_one_transaction_with_an_import_are_not_taken_for_it(ledger):
    works = [
        bringing(1, marks=False),
        bringing(2, 3),
        bringing(4, 5, fails=True),  # and with it its mark
        bringing(6, marks=False),
        bringing(7, 8, 9),
        bringing(10),
        bringing(11, marks=False),
        bringing(12, fails=True),
        bringing(),
    ]
    await ledger.store.transact(works, START_US)
    log = await log_of(ledger)
    assert [event.stream for event in log] == [job(number) for number in (1, 2, 3, 6, 7, 8, 9, 10, 11)]
    brought = {event.position for event in log if event.stream in {job(number) for number in (2, 3, 7, 8, 9, 10)}}
    assert await marked(ledger) == brought == {2, 3, 5, 6, 7, 8}


async def test_an_import_whose_commit_failed_marks_nothing_of_what_is_written_instead(ledger):
    with failing(ledger), pytest.raises(StoreFailed):
        await ledger.submit(bringing(1, 2))
    await ledger.submit(bringing(3, 4, marks=False))
    assert await marked(ledger) == set()


async def test_the_lease_of_a_duty_is_held_until_the_store_is_closed(open_ledger):
    async with open_ledger() as ledger:
        store = ledger.store
        assert [store.lease(name) for name in ("a", "b", "a", "b")] == [True] * 4
    assert [store.lease(name) for name in ("a", "b", "c")] == [False] * 3
    async with open_ledger() as ledger:
        assert ledger.store.lease("a")


# --- whether writes succeed -------------------------------------------------------------------------------------------


async def test_a_probe_changes_nothing_of_the_log_and_what_is_written_next_goes_on(ledger):
    await ledger.execute(create(job()), ME)
    log, head = await log_of(ledger), await ledger.store.head()
    ledger.store.grown()
    for _ in range(3):
        await ledger.store.probe()
    after = await ledger.store.head()
    assert await log_of(ledger) == log
    assert (after[:2], after.frontier.root()) == (head[:2], head.frontier.root())
    assert ledger.store.grown() in (None, 1)
    assert (await ledger.execute(Change(id=job(), status="pending"), ME)).position == 2


async def test_a_probe_of_a_store_that_refuses_writes_fails_and_the_next_one_does_not(ledger):
    with failing(ledger), pytest.raises(StoreFailed, match="full"):
        await ledger.store.probe()
    await ledger.store.probe()
    assert (await ledger.execute(create(job()), ME)).position == 1


async def test_a_store_that_is_closed_cannot_be_probed(open_ledger):
    async with open_ledger() as ledger:
        store = ledger.store
    with pytest.raises(StoreClosed):
        await store.probe()


# --- tamper evidence --------------------------------------------------------------------------------------------------


async def stored_leaves(ledger):
    if hasattr(ledger.store, "before_commit"):
        return ledger.store._log.leaves
    rows = await ledger.store.call(lambda c: c.execute("SELECT leaf FROM events ORDER BY position").fetchall())
    return [row[0] for row in rows]


async def test_every_leaf_and_the_root_are_what_the_contract_says_of_any_text(ledger):
    for number, name in enumerate(LABELS):
        for text in NASTY:
            data = birth("job", metadata={"t": text, text: 1})
            stream = job(10 * number + NASTY.index(text))
            await ledger.append(stream, "job.created", data, actor=name, key=f"{name} {stream}")
            await ledger.execute(Change(id=stream, status="pending"), Context(actor=name, correlation=name))
    log = await log_of(ledger)
    leaves = [leaf_hash(event) for event in log]
    assert len(set(leaves)) == 2 * len(NASTY) * len(LABELS)
    assert await stored_leaves(ledger) == leaves
    assert (await ledger.store.head()).frontier.root() == root(leaves)


async def test_the_root_is_right_at_every_size_past_the_first_stored_nodes(ledger):
    leaves = []
    for number in range(29):
        receipt = await ledger.execute(create(job(number), "running"), ME)
        leaves += [leaf_hash(event) for event in receipt.events]
        assert (await ledger.store.head()).frontier.root() == root(leaves)
    await asyncio.gather(*(ledger.execute(create(job(number), "running"), ME) for number in range(100, 200)))
    leaves = [leaf_hash(event) for event in await log_of(ledger)]
    assert len(leaves) == 387
    assert (await ledger.store.head()).frontier.root() == root(leaves)


async def test_each_event_has_sixteen_random_bytes_of_its_own(ledger):
    await asyncio.gather(*(ledger.execute(create(job(number), "running"), ME) for number in range(100)))
    salts = [event.salt for event in await log_of(ledger)]
    assert {len(salt) for salt in salts} == {16}
    assert len(set(salts)) == 300
