"""Group commit on every engine: one answer each, whatever fails, stops, is full or is cancelled."""

import asyncio
from typing import Any

import pytest

from ledger.commands import Context
from ledger.decider import Change
from ledger.errors import Conflict, NotFound, QueueFull, StoreClosed, StoreFailed
from ledger.events import Created, Draft, draft
from tests.ledger.engines import ME, create, failing, log_of
from tests.ledger.histories import ACTOR, START_US, Clock, birth, job, leaf_hash, root


def staging(stream, then=None):
    """A work that creates a job, and then raises if told to."""

    def work(session):
        found = session.append([draft(stream, "job.created", Created(user_id=ACTOR), time=START_US, actor=ACTOR)])
        if then is not None:
            raise then
        return found[0]

    return work


# --- groups -----------------------------------------------------------------------------------------------------------


async def test_many_callers_share_a_commit_and_each_gets_the_own_answer(ledger):
    commits, transact = [], ledger.store.transact

    async def counted(works, now_us):
        commits.append(len(works))
        return await transact(works, now_us)

    ledger.store.transact = counted
    answers = await asyncio.gather(*(ledger.execute(create(job(number), "running"), ME) for number in range(300)))
    assert [answer.state.id for answer in answers] == [job(number) for number in range(300)]
    assert [[event.stream for event in answer.events] for answer in answers] == [[job(n)] * 3 for n in range(300)]
    assert sorted(event.position for answer in answers for event in answer.events) == list(range(1, 901))
    assert sum(commits) == 300
    assert len(commits) <= 3


class Sour(Exception):
    pass


@pytest.mark.parametrize("error", [Sour("bug of a caller"), NotFound(what="job", id="x"), KeyError("x")])
async def test_a_work_that_fails_leaves_no_trace_and_the_others_of_its_group_stay(ledger, error):
    works = [staging(job(number), then=error if number % 3 == 1 else None) for number in range(9)]
    found = await asyncio.gather(*(ledger.submit(work) for work in works), return_exceptions=True)
    assert [each is error for each in found] == [number % 3 == 1 for number in range(9)]
    log = await log_of(ledger)
    assert [event.stream for event in log] == [job(number) for number in (0, 2, 3, 5, 6, 8)]
    assert [event.position for event in log] == [1, 2, 3, 4, 5, 6]
    assert log == [each for each in found if each is not error]
    assert await ledger.state(job(1)) is None
    again = await ledger.execute(create(job(1)), ME)
    assert (again.state.version, again.position) == (1, 7)


async def test_a_work_that_fails_gives_back_versions_states_and_keys_to_the_next_of_its_group(ledger):
    await ledger.execute(create(job(), "running"), ME)

    def spoiled(session):
        ending = draft(job(), "job.failed", Created(user_id="x"), time=START_US + 10**9, actor="x", key="k1")
        session.append([ending])
        session.append([draft(job(), "job.deleted", Created(user_id="x"), time=START_US, actor="x")])
        raise Sour

    asked = Context(actor=ACTOR, key="k1", digest="aa")
    change = ledger.execute(Change(id=job(), status="completed"), asked)
    found: Any = await asyncio.gather(ledger.submit(spoiled), change, return_exceptions=True)
    spoilt, receipt = found
    assert isinstance(spoilt, Sour)
    assert (receipt.prior, receipt.state.status, receipt.state.version) == (None, "completed", 4)
    assert receipt.state == await ledger.state(job())
    assert ledger.size == 4


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param({"actor": "\udcff"}, id="actor is no Unicode"),
        pytest.param({"key": "\ud800"}, id="key is no Unicode"),
        pytest.param({"time_us": 2**63}, id="time is beyond 64 bits"),
        pytest.param({"time_us": 2**62}, id="time is beyond the calendar"),
        pytest.param({"data": {"user_id": "x", "metadata": {"n": 2**64}}}, id="integer is beyond 64 bits"),
        pytest.param({"data": {"user_id": "x", "metadata": {"n": "\ud800"}}}, id="text is no Unicode"),
    ],
)
async def test_an_event_that_no_log_can_hold_is_refused_to_its_caller_alone(ledger, wanted):
    spoilt = {"data": birth("job"), **wanted}
    found = await asyncio.gather(
        ledger.append(job(1), "job.created", birth("job")),
        ledger.append(job(2), "job.created", **spoilt),
        ledger.append(job(3), "job.created", birth("job")),
        return_exceptions=True,
    )
    assert isinstance(found[1], Exception)
    assert not isinstance(found[1], StoreFailed | StoreClosed)
    assert [event.stream for event in await log_of(ledger)] == [job(1), job(3)]
    await ledger.append(job(4), "job.created", birth("job"))


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({field: text}, id=f"{field} {text!a}")
        for field in ("stream", "actor", "key", "correlation")
        for text in ("\udcff", "\ud800")
    ]
    + [pytest.param({"time": 2**63}, id="time beyond 64 bits")],
)
async def test_a_work_of_a_caller_s_own_that_stages_such_an_event_fails_alone(ledger, facts):
    wanted = {"stream": job(2), "type": "job.created", "time": START_US, "actor": ACTOR, "data": b"{}"} | facts

    def spoilt(session):
        session.append([Draft(**wanted, fact=Created(user_id=ACTOR))])

    works = [staging(job(1)), spoilt, staging(job(3))]
    found = await asyncio.gather(*(ledger.submit(work) for work in works), return_exceptions=True)
    assert [isinstance(each, Exception) for each in found] == [False, True, False]
    assert [event.stream for event in await log_of(ledger)] == [job(1), job(3)]
    await ledger.submit(staging(job(4)))


# --- failures, cancellation, closing ----------------------------------------------------------------------------------


async def test_a_commit_that_fails_answers_everyone_and_records_nothing_of_anyone(ledger):
    await ledger.execute(create(job(0), "running"), ME)
    before = await log_of(ledger)
    with failing(ledger):
        asked = [ledger.execute(create(job(number)), ME) for number in range(1, 20)]
        ended = ledger.execute(Change(id=job(0), status="failed"), Context(actor=ACTOR, key="k1", digest="aa"))
        found = await asyncio.gather(*asked, ended, return_exceptions=True)
    assert {type(each) for each in found} == {StoreFailed}
    assert await log_of(ledger) == before
    assert ledger.size == 3


async def test_after_a_failed_commit_the_rules_go_by_the_log_and_not_by_what_was_lost(ledger):
    await ledger.execute(create(job(), "running"), ME)
    with failing(ledger), pytest.raises(StoreFailed):
        await ledger.execute(Change(id=job(), status="failed"), Context(actor=ACTOR, key="k1", digest="aa"))
    receipt = await ledger.execute(Change(id=job(), status="completed"), Context(actor=ACTOR, key="k1", digest="bb"))
    assert (receipt.state.status, receipt.state.version, receipt.position) == ("completed", 4, 4)
    log = await log_of(ledger)
    assert (await ledger.store.head()).frontier.root() == root([leaf_hash(event) for event in log])


async def test_that_writes_fail_is_known_from_the_first_that_does_until_something_is_written(open_ledger):
    async with open_ledger(Clock(*(START_US + each for each in range(10)))) as ledger:
        await ledger.execute(create(job(0)), ME)
        assert ledger.writer.trouble is None
        with failing(ledger):
            for _ in range(2):
                with pytest.raises(StoreFailed):
                    await ledger.execute(create(job(1)), ME)
                trouble = ledger.writer.trouble
                assert "full" in trouble.reason
                assert trouble.since_us == START_US + 1
        with pytest.raises(NotFound):  # it has nothing to write
            await ledger.execute(Change(id=job(9), status="pending"), ME)
        assert ledger.writer.trouble == trouble
        await ledger.execute(create(job(1)), ME)
        assert ledger.writer.trouble is None


async def test_a_probe_tells_whether_writes_fail_without_a_caller_who_writes(ledger):
    with failing(ledger):
        await ledger.writer.probe()
        assert "full" in ledger.writer.trouble.reason
    await ledger.writer.probe()
    assert ledger.writer.trouble is None
    assert ledger.size == 0


async def test_a_command_that_is_refused_by_the_rules_is_no_trouble(ledger):
    with pytest.raises(NotFound):
        await ledger.execute(Change(id=job(9), status="pending"), ME)
    assert ledger.writer.trouble is None


async def test_closing_answers_everyone_who_waits_and_then_takes_nothing(ledger):
    asked = [asyncio.create_task(ledger.execute(create(job(number)), ME)) for number in range(50)]
    await asyncio.sleep(0)
    await ledger.close_writer()
    answers = await asyncio.gather(*asked)
    assert [answer.state.id for answer in answers] == [job(number) for number in range(50)]
    with pytest.raises(StoreClosed):
        await ledger.execute(create(job(99)), ME)
    assert len(await log_of(ledger)) == 50


async def test_a_writer_that_is_cancelled_still_answers_everyone(ledger):
    asked = [asyncio.create_task(ledger.execute(create(job(number)), ME)) for number in range(5)]
    await asyncio.sleep(0)
    ledger._writer._task.cancel()
    async with asyncio.timeout(10):
        found = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(each) for each in found} == {StoreClosed}


async def test_a_full_queue_refuses_at_once_and_says_how_full_it_is(open_ledger):
    async with open_ledger(queue_max=3) as ledger:
        asked = (ledger.execute(create(job(number)), ME) for number in range(5))
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(each).__name__ for each in found] == ["Receipt"] * 3 + ["QueueFull"] * 2
        assert isinstance(found[4], QueueFull)
        assert (found[4].waiting, found[4].limit) == (3, 3)
        assert ledger.writer.waiting == 0
        await ledger.execute(create(job(4)), ME)
        assert [event.stream for event in await log_of(ledger)] == [job(0), job(1), job(2), job(4)]


async def test_a_caller_who_is_cancelled_leaves_nothing_half_done(ledger):
    asked = [asyncio.create_task(ledger.execute(create(job(number), "running"), ME)) for number in range(6)]
    for turn in range(4):  # cancelled before the writer begins, while it works, and after
        await asyncio.sleep(0)
        asked[turn].cancel()
    found = await asyncio.gather(*asked, return_exceptions=True)
    log = await log_of(ledger)
    for number, answer in enumerate(found):
        types = [event.type for event in log if event.stream == job(number)]
        whole = ["job.created", "job.pending", "job.running"]
        assert types == whole or (not types and isinstance(answer, asyncio.CancelledError))
    assert (await ledger.execute(create(job(9)), ME)).position == len(log) + 1


async def test_a_rule_that_refuses_in_a_group_is_told_to_its_caller_alone(ledger):
    await ledger.execute(create(job(), "running"), ME)
    ends = [ledger.execute(Change(id=job(), status=each), ME) for each in ("completed", "failed", "cancelled")]
    found = await asyncio.gather(*ends, return_exceptions=True)
    assert [isinstance(each, Conflict) for each in found] == [False, True, True]
    types = [event.type for event in await ledger.read(job(), 3)]
    assert types == ["job.completed", "job.refused", "job.refused"]
