"""Steps: one end each, whoever asks first; what is known of them grows; books agree with the log in every process."""

import asyncio
import contextlib
import itertools
import random

import msgspec
import pytest

from ledger import Ledger, steps
from ledger.commands import Context, Note
from ledger.errors import Erased, InvalidInput, InvalidTransition, LedgerError, NotFound, StoreFailed
from ledger.events import Step
from tests.ledger.engines import ENGINES, ME, failing, opener
from tests.ledger.histories import ACTOR, Clock, birth, job, run

STATUSES = ("pending", "success", "failed", "cancelled")
ENDS = STATUSES[1:]


def step(number=1):
    return f"step-00000000-0000-4000-8000-{number:012x}"


def told(number=1, **facts):
    return Note(Step(id=step(number), **facts))


@pytest.fixture(params=ENGINES)
async def ledger(request, tmp_path):
    async with opener(request.param, tmp_path)() as opened:
        await opened.append(run(), "run.created", birth("run"))
        yield opened


async def book_of(ledger, stream=None):
    """What the log says, and what a writer's transaction believes; they must be the same."""
    stream = stream or run()
    believed = await ledger.submit(lambda session: dict(session.book(stream)))
    assert believed == steps.fold(await ledger.read(stream))
    return believed


# --- the rule ---------------------------------------------------------------------------------------------------------

RULE = {
    (None, None): "pending", (None, "pending"): "pending", (None, "success"): "success",
    (None, "failed"): "failed", (None, "cancelled"): "cancelled",
    ("pending", None): "pending", ("pending", "pending"): "pending", ("pending", "success"): "success",
    ("pending", "failed"): "failed", ("pending", "cancelled"): "cancelled",
    ("success", None): "success", ("failed", None): "failed", ("cancelled", None): "cancelled",
    **{(found, asked): None for found in ENDS for asked in STATUSES},
}  # fmt: skip
"""(what a step is, what is said of it) → what it is then; None: refused."""


def test_the_rule_is_a_table_over_all_pairs():
    assert set(RULE) == set(itertools.product([None, *STATUSES], [None, *STATUSES]))
    assert set(steps.ALLOWED) == {None, *STATUSES}
    assert set(steps.STATUSES) == set(STATUSES)
    assert set(ENDS) == steps.ENDED


@pytest.mark.parametrize(("found", "asked"), RULE)
async def test_a_step_moves_as_the_table_says(ledger, found, asked):
    # given
    if found is not None:
        await ledger.record(run(), [told(status=found)], ME)
    size = ledger.size
    # when, then
    expected = RULE[found, asked]
    if expected is None:
        with pytest.raises(InvalidTransition) as refusal:
            await ledger.record(run(), [told(status=asked)], ME)
        assert (refusal.value.current_status, refusal.value.requested_status) == (found, asked)
        assert (refusal.value.id, refusal.value.allowed) == (step(), [])
        assert ledger.size == size
        assert await book_of(ledger) == {step(): found}
    else:
        await ledger.record(run(), [told(status=asked)], ME)
        assert await book_of(ledger) == {step(): expected}


@pytest.mark.parametrize(("found", "asked"), RULE)
async def test_append_keeps_the_same_rule(ledger, found, asked):
    data = {"id": step(), "model": "m"}
    if found is not None:
        await ledger.append(run(), "run.step", {**data, "status": found})
    refused = pytest.raises(InvalidTransition) if RULE[found, asked] is None else contextlib.nullcontext()
    with refused:
        await ledger.append(run(), "run.step", {**data, **({"status": asked} if asked else {})})
    assert await book_of(ledger) == {step(): RULE[found, asked] or found}


async def test_steps_of_one_id_in_two_runs_are_two_steps(ledger):
    await ledger.append(run(2), "run.created", birth("run"))
    await ledger.record(run(), [told(status="success")], ME)
    await ledger.record(run(2), [told(status="pending")], ME)
    assert await book_of(ledger) == {step(): "success"}
    assert await book_of(ledger, run(2)) == {step(): "pending"}


@pytest.mark.parametrize("feedback", ["positive", "negative", None])
@pytest.mark.parametrize("more", [{}, {"tags": ["a"]}, {"by": ACTOR}])
async def test_feedback_on_no_step_is_not_found(ledger, feedback, more):
    with pytest.raises(NotFound) as error:
        await ledger.record(run(), [told(feedback=feedback, **more)], ME)
    assert (error.value.what, error.value.id) == ("step", step())
    assert await book_of(ledger) == {}
    await ledger.record(run(), [told(), told(feedback=feedback, **more)], ME)
    assert await book_of(ledger) == {step(): "pending"}


@pytest.mark.parametrize("facts", [{}, {"tags": ["a"]}, {"model": "m"}, {"feedback": "positive", "model": "m"}])
async def test_a_step_of_which_little_is_known_is_pending(ledger, facts):
    await ledger.record(run(), [told(**facts)], ME)
    assert await book_of(ledger) == {step(): "pending"}


async def test_steps_of_no_run_a_deleted_one_and_an_erased_one_are_refused(ledger):
    with pytest.raises(NotFound):
        await ledger.record(run(2), [told()], ME)
    await ledger.append(job(), "job.created", birth("job"))
    with pytest.raises(NotFound):
        await ledger.record(job(), [told()], ME)
    await ledger.append(run(3), "run.created", birth("run"))
    await ledger.append(run(3), "run.deleted", {})
    with pytest.raises(NotFound):
        await ledger.record(run(3), [told()], ME)
    await ledger.append(run(4), "run.created", birth("run"))
    erased = await ledger.append(run(4), "run.erased", {"reason": "asked"})
    with pytest.raises(Erased) as error:
        await ledger.record(run(4), [told()], ME)
    assert error.value.position == erased.position


@pytest.mark.parametrize(
    ("facts", "where"),
    [
        ({"id": "step-1"}, "step id"),
        ({"id": step() + "\n"}, "step id"),
        ({"model": ""}, "model"),
        ({"model": "x" * 1025}, "model"),
        ({"error_type": "a\x1b[31m"}, "error_type"),
        ({"trace_id": "a\x9b"}, "trace_id"),
        ({"prompt_tokens": -1}, "prompt_tokens"),
        ({"total_tokens": 10**12 + 1}, "total_tokens"),
        ({"context_window_limit": -5}, "context_window_limit"),
        ({"prompt_tokens_details": {"cached_tokens": -1}}, "prompt_tokens_details.cached_tokens"),
        ({"prompt_tokens_details": {"cache_creation_tokens": True}}, "prompt_tokens_details.cache_creation_tokens"),
        ({"completion_tokens_details": {"reasoning_tokens": 1.5}}, "completion_tokens_details.reasoning_tokens"),
        ({"step_ns": -1}, "step_ns"),
        ({"step_ns": 2**63}, "step_ns"),
        ({"llm_request_ns": -1}, "llm_request_ns"),
        ({"step_start_ns": 2**63}, "step_start_ns"),
        ({"tags": ["a"] * 101}, "tags"),
        ({"tags": [""]}, "tags"),
        ({"tags": ["a\x00"]}, "tags"),
        ({"error_data": {"n": 2**63}}, "data.error_data.n"),
        ({"error_data": {"n": "\ud800"}}, "data"),
    ],
)
async def test_a_value_that_no_step_can_have_is_named_and_nothing_is_recorded(ledger, facts, where):
    with pytest.raises(InvalidInput) as error:
        await ledger.record(run(), [told(2), Note(Step(**{"id": step(), **facts}))], ME)
    assert error.value.faults[0]["where"] == where
    assert ledger.size == 1
    assert await book_of(ledger) == {}


# --- the books --------------------------------------------------------------------------------------------------------


async def test_a_work_that_fails_takes_its_steps_back(ledger):
    await ledger.record(run(), [told(1, status="pending")], ME)
    await book_of(ledger)
    with pytest.raises(InvalidTransition):
        await ledger.record(run(), [told(1, status="failed"), told(2, status="success"), told(2, status="success")], ME)
    assert await book_of(ledger) == {step(1): "pending"}
    assert [event.version for event in await ledger.read(run())] == [1, 2]
    await ledger.record(run(), [told(1, status="success"), told(2, status="failed")], ME)
    assert await book_of(ledger) == {step(1): "success", step(2): "failed"}


async def test_works_of_one_commit_see_each_other_s_steps_but_not_those_of_one_that_failed(ledger):
    def work(number, status, then=None):
        return ledger.record(run(), [told(number, status=status), *([then] if then else [])], ME)

    bad = told(9, feedback="positive")
    answers = await asyncio.gather(
        work(1, "success", bad), work(1, "failed"), work(1, "success"), work(2, "success", bad), work(2, "pending"),
        return_exceptions=True,
    )  # fmt: skip
    assert [type(answer).__name__ for answer in answers] == [
        "NotFound", "Receipt", "InvalidTransition", "NotFound", "Receipt"
    ]  # fmt: skip
    assert await book_of(ledger) == {step(1): "failed", step(2): "pending"}


async def test_a_commit_that_fails_leaves_the_books_as_they_were(ledger):
    await ledger.record(run(), [told(1, status="pending")], ME)
    with failing(ledger), pytest.raises(StoreFailed):
        await ledger.record(run(), [told(1, status="success")], ME)
    assert await book_of(ledger) == {step(1): "pending"}
    await ledger.record(run(), [told(1, status="failed")], ME)
    assert await book_of(ledger) == {step(1): "failed"}


async def test_two_hundred_ends_of_one_step_have_one_winner(ledger):
    await ledger.record(run(), [told(status="pending")], ME)
    asked = [random.Random(7).choice(ENDS) for _ in range(200)]
    answers = await asyncio.gather(
        *(ledger.record(run(), [told(status=status)], ME) for status in asked), return_exceptions=True
    )
    won = [status for status, answer in zip(asked, answers, strict=True) if not isinstance(answer, Exception)]
    lost = [answer for answer in answers if isinstance(answer, Exception)]
    assert len(won) == 1
    assert {(type(answer), answer.current_status) for answer in lost} == {(InvalidTransition, won[0])}
    assert await book_of(ledger) == {step(): won[0]}
    assert ledger.size == 3


async def test_another_process_s_steps_count_at_once(tmp_path):
    async with Ledger.open(tmp_path / "l.db") as one, Ledger.open(tmp_path / "l.db") as two:
        await one.append(run(), "run.created", birth("run"))
        await one.record(run(), [told(status="pending")], ME)
        assert await book_of(two) == {step(): "pending"}
        await two.record(run(), [told(status="success")], ME)
        with pytest.raises(InvalidTransition) as refusal:
            await one.record(run(), [told(status="failed")], ME)
        assert refusal.value.current_status == "success"
        assert await book_of(one) == await book_of(two) == {step(): "success"}


async def test_two_processes_that_race_for_many_ends_give_each_step_one(tmp_path):
    async with Ledger.open(tmp_path / "l.db") as one, Ledger.open(tmp_path / "l.db") as two:
        await one.append(run(), "run.created", birth("run"))
        await one.record(run(), [told(number) for number in range(30)], ME)
        asked = [(ledger, number, end) for ledger in (one, two) for number in range(30) for end in ENDS]
        random.Random(3).shuffle(asked)
        answers = await asyncio.gather(
            *(ledger.record(run(), [told(number, status=end)], ME) for ledger, number, end in asked),
            return_exceptions=True,
        )
        won = {number: end for (_, number, end), answer in zip(asked, answers, strict=True)
               if not isinstance(answer, Exception)}  # fmt: skip
        assert sum(not isinstance(answer, Exception) for answer in answers) == len(won) == 30
        assert all(isinstance(answer, InvalidTransition) for answer in answers if isinstance(answer, Exception))
        expected = {step(number): end for number, end in won.items()}
        assert await book_of(one) == await book_of(two) == expected


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_books_agree_with_the_log_after_any_works_good_and_bad(tmp_path, seed):
    chance = random.Random(seed)
    async with Ledger.open(tmp_path / "l.db") as one, Ledger.open(tmp_path / "l.db") as two:
        for number in (1, 2):
            await one.append(run(number), "run.created", birth("run"))
        for _ in range(15):
            works = []
            for _ in range(chance.randint(1, 6)):
                notes = [
                    told(chance.randrange(5), status=chance.choice([None, *STATUSES]),
                         **chance.choice([{}, {"feedback": "positive"}, {"prompt_tokens": -1}]))
                    for _ in range(chance.randint(1, 3))
                ]  # fmt: skip
                works.append(chance.choice([one, two]).record(run(chance.choice([1, 2])), notes, ME))
            found = await asyncio.gather(*works, return_exceptions=True)
            assert all(not isinstance(each, Exception) or isinstance(each, LedgerError) for each in found)
            for ledger in (one, two):
                for number in (1, 2):
                    await book_of(ledger, run(number))
        ended = [event for event in await one.read(run()) if b'"status":"success"' in (event.data or b"")]
        named = [msgspec.json.decode(event.data)["id"] for event in ended]
        assert len(named) == len(set(named)) > 0


async def test_a_key_that_was_used_answers_with_the_first_events_and_appends_nothing(ledger):
    context = Context(actor=ACTOR, key="k", digest="d")
    notes = [told(1, status="success"), told(2, status="failed")]
    first = await ledger.record(run(), notes, context)
    again = await ledger.record(run(), notes, context)
    assert [event.position for event in again.events] == [event.position for event in first.events] == [2, 3]
    assert again.prior.position == 3
    assert ledger.size == 3


async def test_the_time_of_a_note_is_its_own_then_the_context_s_then_now():
    clock = Clock(start=10**15)
    async with Ledger.in_memory(clock=clock) as ledger:
        await ledger.append(run(), "run.created", birth("run"))
        context = Context(actor=ACTOR, time_us=5)
        await ledger.record(run(), [Note(Step(id=step()), 7), told()], context)
        await ledger.record(run(), [told()], ME)
        times = [event.time for event in await ledger.read(run())]
        assert times[1:3] == [7, 5]
        assert times[3] > 10**15
