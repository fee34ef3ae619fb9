"""The dispatcher: everything owed is sent, each attempt once, until it is delivered or given up by rule."""

import asyncio
import json
import time

import pytest
from standardwebhooks.webhooks import Webhook

from ledger import Ledger, archive
from ledger.decider import Change, Delete, Redeliver
from ledger.errors import StoreFailed
from ledger.events import Changed
from ledger.times import to_text
from projections.file import views_path
from server import beats
from server.callbacks import delivery
from server.callbacks import dispatcher as subject
from server.callbacks.lanes import Lanes, Limits, Ready
from server.callbacks.schedule import Schedule
from server.callbacks.sender import Outcome
from tests.ledger.histories import START_US, id_of, job, run
from tests.server.callbacks.rig import FAILED, GONE, GOOD, URL, WAITS_S, Answers, Late, rig
from tests.server.callbacks.signed import secret
from tests.server.serving import until


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


# --- what is sent -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (kind, status)
        for kind in ("job", "batch", "run")
        for status in ("completed", "failed", "cancelled", "expired")
        if (kind, status) != ("run", "expired")
    ],
)
async def test_every_end_sends_what_v1_receivers_expect(path, kind, status):
    id = run() if kind == "run" else job()
    async with rig(path) as served:
        await served.end(id, kind, status, metadata={"n": [1, "é"]})
        await served.beat()
        (sent,) = served.sent
        ended = await served.ledger.state(id)
    assert sent.url == URL
    body = json.loads(sent.body)
    assert body.pop("completed_at").endswith("Z")
    assert body == {
        **({"run_id": id} if kind == "run" else {}),
        "job_id": id,
        "status": status,
        "metadata": {"n": [1, "é"]},
    }
    assert (ended.callback_status_code, ended.callback_error) == (200, None)
    assert ended.debt.status == "delivered"


async def test_an_end_by_a_clock_behind_that_of_a_message_is_sent_as_the_run_shows_it(path):
    # given a run whose end was told by a clock behind that of what was said in it (simulator, seed 42)
    async with rig(path) as served:
        await served.begin(run(), "run")
        said = {"message": {"id": id_of("message", 1), "message_type": "assistant_message", "content": "done"}}
        await served.ledger.append(run(), "run.message", said, time_us=START_US + 60_000_000)
        await served.does(Change(id=run(), status="completed"))
        # when its callback is sent
        await served.beat()
        (sent,) = served.sent
        ended = await served.ledger.state(run())
    # then it ended no earlier than that, as on the run itself
    assert json.loads(sent.body)["completed_at"] == to_text(ended.ended_us) == to_text(START_US + 60_000_000)


async def test_what_is_sent_is_signed_with_the_time_of_its_sending(path):
    async with rig(path, clock=Late(start=time.time_ns() // 1000)) as served:
        await served.end(job())
        await served.beat()
        (sent,) = served.sent
    assert Webhook(secret(1)).verify(sent.body, sent.headers) == json.loads(sent.body)


async def test_a_resource_without_a_callback_url_or_without_an_end_sends_nothing(path):
    async with rig(path) as served:
        await served.end(job(1), url=None)
        await served.begin(job(2))
        await served.beat()
        assert served.sent == []


async def test_a_repeat_is_the_same_body_under_the_same_id_with_a_fresh_time_whatever_was_said_meanwhile(path):
    clock = Late(start=START_US)
    async with rig(path, Answers(FAILED, GOOD), clock) as served:
        await served.end(job(), metadata={"n": 1})
        await served.beat()
        await served.does(Change(id=job(), facts=Changed(metadata={"n": 2})))
        clock.advance(WAITS_S[0] * 1.2)
        await served.beat()
        first, second = served.sent
        assert await served.types(job()) == ["attempted", "attempted", "delivered"]
        assert served.counted("jobledger_callbacks_recovered_total") == 1
    assert first.body == second.body
    assert first.id == second.id
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) in (12, 13)


# --- when it is sent again --------------------------------------------------------------------------------------------


async def test_a_failure_waits_for_its_time_and_the_last_one_gives_up(path):
    clock = Late(start=START_US)
    async with rig(path, Answers(FAILED), clock) as served:
        await served.end(job())
        for attempts, wait_s in enumerate(WAITS_S, 1):
            await served.beat()
            assert len(served.sent) == attempts
            due_us = (await served.debt(job())).due_us
            assert wait_s <= (due_us - clock.now) / 1e6 + 0.01
            assert (due_us - clock.now) / 1e6 <= wait_s * 1.2
            clock.now = due_us - 100
            await served.beat()
            assert len(served.sent) == attempts
            clock.now = due_us
        await served.beat()
        assert (await served.types(job()))[-2:] == ["attempted", "abandoned"]
        debt = await served.debt(job())
        assert (debt.status, debt.reason, debt.attempts, debt.due_us) == ("abandoned", "exhausted", 3, None)
        clock.advance(1e7)
        await served.beat()
        assert len(served.sent) == 3
        assert served.counted("jobledger_callbacks_abandoned_total", reason="exhausted") == 1
        assert served.counted("jobledger_callback_attempts_total", outcome="http_status") == 3
        assert len({sent.id for sent in served.sent}) == 1


async def test_gone_is_never_sent_again(path):
    clock = Late(start=START_US)
    async with rig(path, Answers(GONE), clock) as served:
        await served.end(job())
        await served.beat()
        clock.advance(1e7)
        await served.beat()
        assert len(served.sent) == 1
        assert (await served.debt(job())).reason == "gone"


@pytest.mark.parametrize(("header", "least_s"), [("5000", 5000), ("1", WAITS_S[0]), ("soon", WAITS_S[0])])
async def test_retry_after_is_honoured_where_it_asks_for_more_than_the_schedule(path, header, least_s):
    clock = Late(start=START_US)
    busy = Outcome(429, "http_status", 1_000_000, header)
    async with rig(path, Answers(busy, GOOD), clock) as served:
        await served.end(job())
        await served.beat()
        wait_s = ((await served.debt(job())).due_us - clock.now) / 1e6
        assert least_s - 0.01 <= wait_s <= least_s * 1.2
        clock.advance(wait_s + 1)
        await served.beat()
        assert (await served.debt(job())).status == "delivered"


async def test_a_beat_says_when_the_next_one_is_worth_while(path):
    clock = Late(start=START_US)
    async with rig(path, Answers(FAILED), clock, Schedule((0.3,))) as served:
        assert await served.beat() == subject.INTERVAL_S
        await served.end(job())
        await served.beat()
        assert 0 < await served.beat() <= 0.36


async def test_without_a_schedule_the_first_failure_gives_up(path):
    async with rig(path, Answers(FAILED), schedule=Schedule(())) as served:
        await served.end(job())
        await served.beat()
        assert (await served.debt(job())).reason == "exhausted"


# --- again, because somebody asks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [GOOD, GONE, FAILED])
async def test_what_is_queued_again_is_sent_again_at_once_under_the_same_id(path, outcome):
    async with rig(path, Answers(outcome, GOOD), schedule=Schedule(())) as served:
        await served.end(job())
        await served.beat()
        await served.does(Redeliver(id=job()))
        await served.beat()
        first, second = served.sent
        assert first.id == second.id
        assert await served.types(job()) == [
            "attempted", "delivered" if outcome is GOOD else "abandoned", "requeued", "attempted", "delivered",
        ]  # fmt: skip


async def test_what_is_queued_again_during_a_retry_that_fails_is_sent_again_at_once(path):
    clock = Late(start=START_US)
    sender = Answers(FAILED, FAILED, GOOD)
    async with rig(path, sender, clock) as served:
        await served.end(job())
        await served.beat()
        clock.advance(WAITS_S[0] * 1.2)
        sender.hold = asyncio.Event()
        sender.arrived.clear()
        await served.start()
        await sender.arrived.wait()
        await served.does(Redeliver(id=job()))
        sender.hold.set()
        await served.settle()
        await served.beat()
        assert len(served.sent) == 3
        assert await served.types(job()) == ["attempted", "requeued", "attempted", "attempted", "delivered"]


async def test_a_deleted_job_still_owes_its_callback(path):
    async with rig(path) as served:
        await served.end(job())
        await served.does(Delete(id=job()))
        await served.beat()
        assert await served.types(job()) == ["attempted", "delivered"]


# --- once -------------------------------------------------------------------------------------------------------------


async def test_what_is_under_way_or_waits_for_its_turn_is_not_started_twice(path):
    async with rig(path, Answers(None), lanes=Lanes(Limits(prompt_per_host=2))) as served:
        for number in range(5):
            await served.end(job(number))
        await served.engine.wait_for(served.ledger.size)
        for _ in range(4):
            served.dispatcher._search_at_s = 0.0
            served.dispatcher.wake([job(number) for number in range(5)])
            await served.dispatcher.beat()
        await until(lambda: len(served.sent) == 2)
        assert len({sent.id for sent in served.sent}) == len(served.sent) == 2


async def test_what_was_found_before_an_attempt_and_taken_after_it_is_not_sent(path):
    """A search may be reading the views while an attempt ends."""
    async with rig(path, Answers(FAILED)) as served:
        await served.end(job())
        found = Ready(job(), URL, "https://receiver.example", (await served.debt(job())).owed_position, 0)
        await served.beat()
        assert await served.dispatcher._take([found]) == 1
        served.dispatcher._start()
        await served.settle()
        assert len(served.sent) == 1
        assert await served.types(job()) == ["attempted"]


async def test_of_two_servers_on_one_file_one_sends_and_the_other_takes_over_when_it_stops(path):
    async with rig(path, clock=(clock := Late(start=START_US))) as one, rig(path, clock=clock) as other:
        await one.end(job(1))
        await other.ledger.refresh(surely=True)
        await one.beat()
        await other.ledger.refresh(surely=True)
        await other.beat()
        assert (len(one.sent), len(other.sent)) == (1, 0)
    async with rig(path, clock=clock) as later:
        await later.end(job(2))
        await later.beat()
        assert [json.loads(sent.body)["job_id"] for sent in later.sent] == [job(2)]


async def test_a_search_finds_what_nobody_told_of(path):
    async with Ledger.open(path) as ledger:
        await (writer := _Writer(ledger)).end(job(1))
        await writer.end(job(2))
    async with rig(path) as served:
        await served.beat()
        assert len(served.sent) == 2


class _Writer:
    """A process that records and sends nothing."""

    def __init__(self, ledger):
        self.ledger = ledger

    async def end(self, id, **facts):
        async with self.ledger.job(id=id, callback_url=URL, **facts):
            pass


async def test_a_search_that_took_hours_because_the_machine_slept_puts_the_next_one_off_by_seconds(path, monkeypatch):
    async with rig(path) as served:
        read, now_s = served.views.read, served.dispatcher._loop.time()

        async def slept(*arguments):
            monkeypatch.setattr(served.dispatcher._loop, "time", lambda: now_s + 8 * 3600.0)
            return await read(*arguments)

        monkeypatch.setattr(served.views, "read", slept)
        served.dispatcher._search_at_s = 0.0
        assert await served.dispatcher._search(served.ledger.clock()) <= subject.SEARCH_PAUSE_MAX_S
        assert served.dispatcher._search_at_s <= now_s + 8 * 3600.0 + subject.SEARCH_PAUSE_MAX_S
        monkeypatch.undo()


async def test_more_than_one_search_takes_is_sent_all_the_same(path, monkeypatch):
    monkeypatch.setattr(subject, "READY_MAX", 8)
    monkeypatch.setattr(subject, "EACH_MAX", 3)
    monkeypatch.setattr(subject, "NEWS_MAX", 2)
    async with rig(path) as served:
        for number in range(40):
            await served.end(job(number), url=f"https://receiver{number % 3}.example/hook")
        for _ in range(40):
            await served.beat()
        assert len({sent.id for sent in served.sent}) == len(served.sent) == 40


# --- never ------------------------------------------------------------------------------------------------------------


async def test_rebuilding_the_views_sends_nothing_again(path):
    async with rig(path) as served:
        await served.end(job())
        await served.beat()
        await served.engine.rebuild()
        await served.beat()
        assert len(served.sent) == 1
    views_path(path).unlink()
    async with rig(path) as again:
        await again.beat()
        assert again.sent == []


async def exported(path):
    async with Ledger.open(path, read_only=True) as ledger:
        return [line async for lines in archive.dump(ledger.store) for line in lines]


async def imported(path, lines, **options):
    async with Ledger.open(path) as ledger:
        async for _ in archive.load(ledger, lines, "jobledger", "export.jsonl", **options):
            pass
        return (await ledger.store.head()).frontier.root()


async def test_what_was_imported_is_given_up_unless_it_is_asked_for(path, tmp_path):
    async with rig(path, Answers(None)) as served:
        await served.end(job(1))
        await served.end(job(2), url=None)
    lines = await exported(path)
    for name, options, sends in (("kept", {}, 0), ("owed", {"owes_callbacks": True}, 1)):
        copy = tmp_path / f"{name}.db"
        root = await imported(copy, lines, **options)
        async with Ledger.open(path, read_only=True) as ledger:
            assert root == (await ledger.store.head()).frontier.root()
        async with rig(copy) as served:
            for _ in range(3):
                await served.beat()
            assert len(served.sent) == sends
            if not sends:
                assert (await served.debt(job(1))).reason == "imported"
                await served.does(Redeliver(id=job(1)))
                await served.beat()
                assert len(served.sent) == 1


# --- our own faults ---------------------------------------------------------------------------------------------------


async def test_an_attempt_that_a_stop_cuts_off_is_recorded_and_sent_again_by_the_next_server(path):
    async with rig(path, Answers(None)) as served:
        await served.end(job())
        await served.start()
        await served.sender.arrived.wait()
        (first,) = served.sent
    async with rig(path) as again:
        debt = await again.debt(job())
        assert (debt.attempts, debt.tries, debt.is_owed) == (1, 0, True)
        again.ledger.clock.advance(10)
        await again.beat()
        (second,) = again.sent
        assert first.id == second.id
        assert await again.types(job()) == ["attempted", "attempted", "delivered"]


async def test_an_outcome_that_cannot_be_recorded_is_recorded_when_it_can_be(path, monkeypatch):
    monkeypatch.setattr(delivery, "RECORD_RETRY_S", 0.0)
    async with rig(path) as served:
        await served.end(job())
        failures = iter([StoreFailed(reason="the disk is full")] * 3)
        execute = served.ledger.execute_plan

        async def failing(*arguments, **options):
            if (error := next(failures, None)) is not None:
                raise error
            return await execute(*arguments, **options)

        monkeypatch.setattr(served.ledger, "execute_plan", failing)
        await served.beat()
        assert len(served.sent) == 1
        assert await served.types(job()) == ["attempted", "delivered"]


async def test_a_log_that_cannot_be_read_costs_an_attempt_its_turn_and_not_the_debt(path, monkeypatch):
    async with rig(path) as served:
        await served.end(job())
        failures = iter([StoreFailed(reason="I/O error")])
        streams = served.ledger.store.streams

        async def failing(*arguments, **options):
            if (error := next(failures, None)) is not None:
                raise error
            return await streams(*arguments, **options)

        monkeypatch.setattr(served.ledger.store, "streams", failing)
        await served.beat()
        assert served.sent == []
        await served.beat()
        assert len(served.sent) == 1


async def test_a_url_that_nothing_can_be_sent_to_fails_as_any_attempt_does(path):
    async with rig(path, Answers(Outcome(None, "invalid_url", 0)), schedule=Schedule(())) as served:
        await served.end(job())
        await served.beat()
        state = await served.ledger.state(job())
        assert (state.callback_error, state.callback_status_code) == ("invalid_url", None)
        assert state.debt.reason == "exhausted"


@pytest.mark.parametrize("place", ["views", "store"])
async def test_a_search_that_fails_is_made_again_and_ends_no_server(path, monkeypatch, place):
    # given: views or a store that fail once, when a debt is there to be found
    async with rig(path) as served:
        await served.end(job())
        await served.engine.wait_for(served.ledger.size)
        failed = asyncio.Event()
        owner, name = (served.views, "read") if place == "views" else (served.ledger.store, "imported")
        real = getattr(owner, name)

        async def failing(*arguments):
            if not failed.is_set():
                failed.set()
                raise StoreFailed(reason="I/O error")
            return await real(*arguments)

        monkeypatch.setattr(owner, name, failing)
        monkeypatch.setattr(beats, "RETRY_S", 0.0)
        # when
        running = asyncio.create_task(served.dispatcher.run())
        await failed.wait()
        await served.sender.arrived.wait()
        # then
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await served.settle()
        assert await served.types(job()) == ["attempted", "delivered"]


async def test_a_live_server_sends_at_once_and_counts_the_delay(path):
    async with rig(path) as served:
        running = asyncio.create_task(served.dispatcher.run())
        await served.end(job())
        await served.sender.arrived.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await served.settle()
        assert served.counted("jobledger_callback_delivery_delay_seconds_count") == 1
        assert served.counted("jobledger_callback_attempts_total", outcome="delivered") == 1
