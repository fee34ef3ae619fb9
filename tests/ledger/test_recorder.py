"""The producer's side in Python: however a block ends, its run says so."""

import asyncio

import msgspec
import pytest

from ledger import Ledger
from ledger.commands import Context
from ledger.decider import Change
from ledger.errors import AlreadyExists, InvalidInput, InvalidTransition, StoreFailed
from ledger.ids import is_id
from ledger.recorder import TRACEBACK_SIZE_MAX
from tests.ledger.engines import failing
from tests.ledger.histories import ACTOR, Clock, job, run


@pytest.fixture
async def ledger():
    async with Ledger.in_memory(clock=Clock()) as opened:
        yield opened


async def types(ledger, stream):
    return [event.type for event in await ledger.read(stream)]


async def data(ledger, stream, at=-1):
    return msgspec.json.decode((await ledger.read(stream))[at].data)


async def test_a_block_that_ends_well_is_a_completed_run(ledger):
    async with ledger.run(agent_id="agent-1", actor=ACTOR, metadata={"task": "nightly"}, timeout_s=5) as found:
        assert (found.state.status, found.state.agent_id, found.state.timeout_s) == ("running", "agent-1", 5)
        assert (await ledger.state(found.id)).status == "running"
    assert await types(ledger, found.id) == ["run.created", "run.running", "run.completed"]
    assert found.state == await ledger.state(found.id)
    assert (found.state.status, found.state.stop_reason, found.state.user_id) == ("completed", "end_turn", ACTOR)
    assert found.state.metadata == {"task": "nightly"}


async def test_a_job_walks_its_whole_way_and_keeps_the_id_that_was_chosen(ledger):
    async with ledger.job(id=job(7)) as found:
        assert found.id == job(7)
    assert await types(ledger, job(7)) == ["job.created", "job.pending", "job.running", "job.completed"]


async def test_an_exception_is_a_failed_run_with_its_type_message_and_traceback_and_goes_on(ledger):
    def inner():
        raise ValueError("no such tool")

    with pytest.raises(ValueError, match="no such tool"):
        async with ledger.run(agent_id="a") as found:
            inner()
    error = (await data(ledger, found.id))["error"]
    assert (error["type"], error["message"]) == ("ValueError", "no such tool")
    assert error["traceback"].startswith("Traceback (most recent call last):")
    assert "in inner" in error["traceback"]
    assert error["traceback"].rstrip().endswith("ValueError: no such tool")
    assert (found.state.status, found.state.stop_reason) == ("failed", "error")
    assert found.state.metadata["error"] == error


async def test_of_a_traceback_without_end_the_end_is_kept(ledger):
    with pytest.raises(ValueError, match="the end"):
        async with ledger.run(agent_id="a") as found:
            raise ValueError("x" * TRACEBACK_SIZE_MAX + "the end")
    text = (await data(ledger, found.id))["error"]["traceback"]
    assert len(text) == TRACEBACK_SIZE_MAX
    assert text.rstrip().endswith("the end")


@pytest.mark.parametrize("message", ["\udcff", "a \ud800 b", "\x00\x1f", "🦉"])
async def test_an_exception_whose_text_is_no_unicode_is_recorded_like_any_other(ledger, message):
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - its text is the matter
        async with ledger.run(agent_id="a") as found:
            raise ValueError(message)
    assert raised.value.args == (message,)
    assert (await ledger.state(found.id)).status == "failed"


async def test_a_cancelled_task_is_a_cancelled_run(ledger):
    entered, never = asyncio.Event(), asyncio.Event()

    async def work():
        async with ledger.run(agent_id="a", id=run(3)):
            entered.set()
            await never.wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await types(ledger, run(3)) == ["run.created", "run.running", "run.cancelled"]
    assert (await ledger.state(run(3))).stop_reason == "cancelled"


async def test_a_run_that_somebody_else_cancelled_does_not_pass_for_completed(ledger):
    with pytest.raises(InvalidTransition) as refusal:
        async with ledger.run(agent_id="a") as found:
            await ledger.cancel(found.id, actor="somebody")
    assert (refusal.value.current_status, refusal.value.requested_status) == ("cancelled", "completed")
    assert await types(ledger, found.id) == ["run.created", "run.running", "run.cancelled", "run.refused"]


@pytest.mark.parametrize(
    ("error", "asked"), [(ValueError("mine"), "failed"), (asyncio.CancelledError("mine"), "cancelled")]
)
async def test_an_exception_is_not_hidden_by_a_run_that_somebody_else_ended(ledger, error, asked):
    async def ended_meanwhile():
        async with ledger.run(agent_id="a", id=run(3)):
            await ledger.execute(Change(id=run(3), status="completed"), Context(actor="somebody"))
            raise error

    with pytest.raises(type(error), match="mine") as raised:
        await ended_meanwhile()
    (note,) = raised.value.__notes__
    assert note == f"{run(3)} was not recorded as {asked}: Cannot transition from 'completed' to '{asked}'."
    assert (await ledger.state(run(3))).status == "completed"


async def test_an_update_merges_and_tells_the_state(ledger):
    async with ledger.run(agent_id="a", metadata={"a": 1}) as found:
        state = await found.update(metadata={"b": 2}, ttft_ns=5)
        assert (state.metadata, state.ttft_ns, state.status) == ({"a": 1, "b": 2}, 5, "running")
        assert found.state == state


async def test_a_block_is_not_entered_when_its_id_is_taken(ledger):
    async with ledger.job(id=job()):
        pass
    with pytest.raises(AlreadyExists):
        async with ledger.job(id=job()):
            pytest.fail("the block must not run")
    assert len(await ledger.read(job())) == 4


@pytest.mark.parametrize("chosen", ["run-1", "RUN-00000000-0000-4000-8000-000000000001", run(1) + "\n", job(1), "x"])
async def test_a_chosen_id_is_a_run_s_own_or_nothing_is_recorded(ledger, chosen):
    with pytest.raises(InvalidInput):
        async with ledger.run(agent_id="a", id=chosen):
            pytest.fail("the block must not run")
    with pytest.raises(InvalidInput):
        await ledger.append(chosen, "run.created", {"user_id": ACTOR, "agent_id": "a"})
    assert ledger.size == 0


async def test_a_block_is_not_entered_when_nothing_can_be_recorded(ledger):
    with failing(ledger), pytest.raises(StoreFailed):
        async with ledger.job(id=job()):
            pytest.fail("the block must not run")
    assert await ledger.read(job()) == []


async def test_many_blocks_at_once_each_record_their_own_end(ledger):
    async def one(number):
        async with ledger.run(agent_id="a", id=run(number), metadata={"n": number}):
            await asyncio.sleep(0)
            if number % 2:
                raise ValueError(number)

    await asyncio.gather(*(one(number) for number in range(40)), return_exceptions=True)
    for number in range(40):
        state = await ledger.state(run(number))
        assert (state.status, state.metadata["n"]) == ("failed" if number % 2 else "completed", number)


# --- steps and messages -----------------------------------------------------------------------------------------------

STEP = "step-00000000-0000-4000-8000-000000000001"
HELLO = {"message_type": "assistant_message", "content": "hello"}
DATED = {**HELLO, "date": "2020-01-01T00:00:00Z"}
DATED_US = 1_577_836_800_000_000


async def test_a_step_is_recorded_with_what_is_said_of_it_under_an_id_that_is_told(ledger):
    async with ledger.run(agent_id="a", actor=ACTOR) as found:
        id = await found.step(model="m", prompt_tokens=812, completion_tokens=64)
        assert await data(ledger, found.id) == {
            "id": id, "status": "success", "model": "m", "prompt_tokens": 812, "completion_tokens": 64,
        }  # fmt: skip
        assert is_id(id, "step")
        assert (await ledger.read(found.id))[-1].actor == ACTOR
        assert found.state.version == 3


async def test_a_step_may_begin_go_on_and_end_once(ledger):
    async with ledger.run(agent_id="a") as found:
        assert await found.step(STEP, status="pending") == STEP
        assert await found.step(STEP, status=None, model="m") == STEP
        assert await found.step(STEP, status="failed", error_type="E", error_data={"a": 1}) == STEP
        assert await found.step(STEP, status=None, prompt_tokens=5, feedback="positive") == STEP
        with pytest.raises(InvalidTransition) as refusal:
            await found.step(STEP)
        assert (refusal.value.current_status, refusal.value.requested_status) == ("failed", "success")
    assert (await types(ledger, found.id))[2:] == ["run.step"] * 4 + ["run.completed"]


async def test_messages_are_recorded_in_order_with_ids_that_are_told_all_or_none(ledger):
    async with ledger.run(agent_id="a", id=run(1)) as found:
        made = await found.message(HELLO, {**HELLO, "id": "message-00000000-0000-4000-8000-000000000001"}, HELLO)
        assert len(set(made)) == 3
        events = (await ledger.read(run(1)))[2:]
        assert [msgspec.json.decode(event.data)["message"]["id"] for event in events] == made
        assert len({event.recorded for event in events}) == 1
        assert await found.message() == []
        for bad in ({}, {**HELLO, "content": 5}, {**HELLO, "run_id": run(2)}, {**HELLO, "content": "\ud800"}):
            with pytest.raises(InvalidInput):
                await found.message(HELLO, bad)
        assert len(await ledger.read(run(1))) == 5


async def test_a_message_s_time_is_its_date_and_a_step_s_is_now(ledger):
    async with ledger.run(agent_id="a") as found:
        await found.message(DATED, HELLO)
        await found.step()
        async with found.batch() as batch:
            batch.message(DATED)
    times = [event.time for event in (await ledger.read(found.id))[2:6]]
    assert (times[0], times[3]) == (DATED_US, DATED_US)
    assert min(times[1:3]) > DATED_US


async def test_a_batch_is_recorded_in_one_append_when_its_block_ends(ledger):
    async with ledger.run(agent_id="a") as found:
        async with found.batch() as batch:
            begun = batch.step(status="pending")
            said = batch.message({**HELLO, "step_id": begun})
            assert batch.step(begun, status="success", model="m") == begun
            assert len(await ledger.read(found.id)) == 2
        events = (await ledger.read(found.id))[2:]
        assert [event.type for event in events] == ["run.step", "run.message", "run.step"]
        assert len({event.recorded for event in events}) == 1
        assert msgspec.json.decode(events[1].data)["message"]["id"] == said
        assert found.state.version == 5
        size = ledger.size
        async with found.batch():
            pass
        assert ledger.size == size


async def fill(recorder, *messages, steps=(), error=None):
    """A block of a batch, which may end with an exception."""
    async with recorder.batch() as batch:
        for id in steps:
            batch.step(id)
        for message in messages:
            batch.message(message)
        if error is not None:
            raise error


async def test_nothing_of_a_batch_is_recorded_when_its_block_raises_or_one_thing_in_it_is_refused(ledger):
    async with ledger.run(agent_id="a") as found:
        with pytest.raises(ValueError, match="mine"):
            await fill(found, HELLO, steps=[STEP], error=ValueError("mine"))
        with pytest.raises(InvalidInput):
            await fill(found, HELLO, {}, steps=[STEP])
        with pytest.raises(InvalidTransition):
            await fill(found, HELLO, steps=[STEP, STEP])
        assert len(await ledger.read(found.id)) == 2
        await fill(found, HELLO, steps=[STEP])
        assert len(await ledger.read(found.id)) == 4


@pytest.mark.parametrize(
    ("facts", "where"),
    [
        ({"colour": 1}, "unknown field `colour`"), ({"prompt_tokens": "3"}, "prompt_tokens"),
        ({"status": "done"}, "status"), ({"id": "step-1"}, "step id"), ({"model": ""}, "model"),
    ],
)  # fmt: skip
async def test_what_a_step_cannot_be_is_named_and_the_block_goes_on(ledger, facts, where):
    async with ledger.run(agent_id="a") as found:
        with pytest.raises(InvalidInput, match=where):
            await found.step(**facts)
    assert await types(ledger, found.id) == ["run.created", "run.running", "run.completed"]


async def test_a_job_has_no_steps_and_messages_and_says_so(ledger):
    async with ledger.job() as found:
        with pytest.raises(InvalidInput, match="is no run: only runs have steps and messages"):
            await found.step()
        with pytest.raises(InvalidInput, match="is no run: only runs have steps and messages"):
            await found.message(HELLO)
        with pytest.raises(InvalidInput, match="is no run: only runs have steps and messages"):
            await fill(found, steps=[STEP])
    assert (await ledger.state(found.id)).status == "completed"


async def test_late_messages_and_steps_of_an_ended_run_are_kept_and_leave_it_as_it_was(ledger):
    async with ledger.run(agent_id="a") as found:
        pass
    before = await ledger.state(found.id)
    await found.message(HELLO)
    await found.step()
    after = await ledger.state(found.id)
    assert (after.status, after.etag, after.ended_us) == (before.status, before.etag, before.ended_us)
    assert (before.version, after.version) == (3, 5)


async def test_the_usage_of_a_whole_run_is_told_by_an_update_and_a_job_has_none(ledger):
    async with ledger.run(agent_id="a") as found:
        state = await found.update(usage={"prompt_tokens": 5, "step_count": 2})
        assert msgspec.json.decode(state.usage) == {"prompt_tokens": 5, "step_count": 2}
        assert await data(ledger, found.id) == {"usage": {"prompt_tokens": 5, "step_count": 2}}
        for bad in ({"prompt_tokens": -1}, {"step_count": 10**12 + 1}, {"colour": 1}, 5):
            with pytest.raises(InvalidInput):
                await found.update(usage=bad)
        assert (await found.update(metadata={"a": 1})).usage == state.usage
    async with ledger.job() as found:
        with pytest.raises(InvalidInput):
            await found.update(usage={"prompt_tokens": 5})
