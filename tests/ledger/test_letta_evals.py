"""letta-evals: what a record becomes, that its messages stay as they are, and what is rejected."""

import json

import msgspec
import pytest

from ledger import Ledger, archive
from ledger.formats import RECORD_SIZE_MAX, TEXT_MAX, letta_evals
from tests.ledger.agent_runs import START_US, S, answer, call, conversation, line, message, result, uuid
from tests.ledger.engines import log_of
from tests.ledger.histories import Clock

RUN = f"run-{uuid(1)}"


@pytest.fixture
async def ledger():
    async with Ledger.in_memory(clock=Clock()) as opened:
        yield opened


async def load(ledger, lines, source="results.jsonl"):
    (outcome,) = [outcome async for outcome in archive.load(ledger, lines, "letta-evals", source)]
    return outcome


def told(log):
    """Each event as (verb, seconds since the start, data)."""
    return [
        (event.type.partition(".")[2], (event.time - START_US) / S, msgspec.json.decode(event.data)) for event in log
    ]


async def test_a_record_is_one_run_with_everything_that_happened_in_it(ledger):
    outcome = await load(ledger, [line()])
    log = await log_of(ledger)
    assert [(verb, second) for verb, second, _ in told(log)] == [
        ("created", 0), ("running", 0), ("message", 0), ("message", 3), ("message", 3), ("message", 4), ("step", 4),
        ("message", 9), ("step", 9), ("updated", 9), ("completed", 9),
    ]  # fmt: skip
    assert {event.stream for event in log} == {RUN}
    assert [event.key for event in log] == [None] * 10 + [f"letta-evals:{RUN}"]
    assert (outcome.appended, outcome.duplicate, outcome.rejects) == (11, 0, ())


async def test_each_message_stays_as_it_was_field_for_field_in_the_order_of_the_list(ledger):
    await load(ledger, [line()])
    found = [data["message"] for verb, _, data in told(await log_of(ledger)) if verb == "message"]
    assert found == conversation()
    assert [list(each) for each in found] == [list(each) for each in conversation()]


async def test_the_sample_is_known_at_the_beginning_and_the_grade_at_the_end(ledger):
    await load(ledger, [line()])
    (created, *_, completed) = [data for _, _, data in told(await log_of(ledger))]
    assert created["agent_id"] == f"agent-{uuid(7)}"
    assert created["metadata"] == {
        "file": "results.jsonl", "model": "openai/gpt-oss-20b", "sample_id": 3, "sample": result()["sample"]
    }  # fmt: skip
    assert completed["stop_reason"] == "end_turn"
    assert completed["metadata"] == {
        "submission": "Monica.", "grade": 0.5, "rationale": "half right", "grades": result()["grades"]
    }  # fmt: skip


FAILED = {"status": "failed", "error_type": "tool_error"}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param(conversation()[1:4], {"status": "success"}, id="all went well"),
        pytest.param(
            [call(3, 11), answer(4, 11, status="error", text="no file")],
            {**FAILED, "error_data": {"tool": "grep", "tool_call_id": "call-1", "message": "no file", "count": 1}},
            id="the tool of the call",
        ),
        pytest.param(
            [call(3, 11), answer(4, 11, status="error", text="no file", name="grep_files")],
            {
                **FAILED,
                "error_data": {"tool": "grep_files", "tool_call_id": "call-1", "message": "no file", "count": 1},
            },
            id="the tool that the answer names",
        ),
        pytest.param(
            [answer(4, 11, status="error", text="no call")],
            {**FAILED, "error_data": {"tool": None, "tool_call_id": "call-1", "message": "no call", "count": 1}},
            id="an answer without its call",
        ),
        pytest.param(
            [
                answer(4, 11, status="error", text="one", name="t"),
                answer(4, 11, status="error", text="two", name="u", tool_call_id="call-2"),
                answer(4, 11),
            ],
            {**FAILED, "error_data": {"tool": "t", "tool_call_id": "call-1", "message": "one", "count": 2}},
            id="the first of several",
        ),
        pytest.param(
            [answer(4, 11, status="error", text="e" * 9000, name="n" * 9000)],
            {
                **FAILED,
                "error_data": {
                    "tool": "n" * 499 + "…", "tool_call_id": "call-1", "message": "e" * 499 + "…", "count": 1
                },
            },
            id="garbage thousands of characters long",
        ),
    ],
)  # fmt: skip
async def test_a_step_is_failed_where_a_tool_gave_an_error_back(ledger, messages, expected):
    outcome = await load(ledger, [line([message("user_message", 0, content="?"), *messages])])
    assert outcome.rejects == ()
    (step,) = [data for verb, _, data in told(await log_of(ledger)) if verb == "step"]
    assert step == {"id": f"step-{uuid(11)}", "model": "openai/gpt-oss-20b", **expected}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            [{"prompt_tokens": 60, "completion_tokens": 5, "run_ids": None}],
            {"prompt_tokens": 60, "completion_tokens": 5},
        ),
        ([{"prompt_tokens": 60}, {"prompt_tokens": 1, "step_count": 2}], {"prompt_tokens": 61, "step_count": 2}),
        ([{}], {}),
        ([], None),
        (None, None),
    ],
)
async def test_usage_is_of_the_whole_run_and_none_is_made_up(ledger, usage, expected):
    await load(ledger, [line(agent_usage=usage)])
    found = [data for verb, _, data in told(await log_of(ledger)) if verb == "updated"]
    assert found == ([] if expected is None else [{"usage": expected}])


async def test_a_message_without_a_date_was_said_with_the_one_before_it(ledger):
    undated = {name: value for name, value in message("assistant_message", 5, content="…").items() if name != "date"}
    await load(ledger, [line([*conversation(), undated])])
    assert [second for verb, second, _ in told(await log_of(ledger)) if verb == "message"][-1] == 9


# --- again ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["results.jsonl", "copy.jsonl"])
async def test_the_same_records_again_add_nothing_and_count_as_what_they_had_led_to(ledger, source):
    lines = [line(), line(run=2, agent_usage=None), b"\n"]
    first = await load(ledger, lines)
    second = await load(ledger, lines, source)
    assert (second.appended, second.duplicate, second.rejects) == (0, first.appended, ())
    assert len(await log_of(ledger)) == first.appended == 21


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(line(submission="Otto."), id="another answer"),
        pytest.param(line([*conversation()[:1], *conversation()[2:]]), id="a message less"),
    ],
)
async def test_a_record_that_changed_since_it_was_imported_is_a_reject(ledger, changed):
    await load(ledger, [line()])
    outcome = await load(ledger, [changed])
    assert (outcome.appended, outcome.duplicate) == (0, 0)
    assert "another request" in outcome.rejects[0].reason


async def test_a_run_that_somebody_recorded_here_is_not_told_a_second_time(ledger):
    async with ledger.run(agent_id="agent-1", id=RUN):
        before = await log_of(ledger)
    outcome = await load(ledger, [line()])
    assert [each.reason for each in outcome.rejects] == ["Cannot transition from 'completed' to 'created'."]
    assert len(await log_of(ledger)) == len(before) + 1


# --- hostile ----------------------------------------------------------------------------------------------------------


def changed(place, value):
    """A record with one message changed: its second, of the assistant."""
    messages = conversation(run=2)
    messages[1][place] = value
    return line(messages, run=2)


def said(**fields):
    """A record with one message, the user's."""
    return line([message("user_message", 0, run=2, **{"content": "?", **fields})])


def without(name):
    """A record that lacks a field of its result."""
    return json.dumps({"type": "result", "result": {k: v for k, v in result(run=2).items() if k != name}}).encode()


HOSTILE = [
    pytest.param(b"{", "not JSON", id="no json"),
    pytest.param(b"\xff\xfe\x00", "not JSON", id="no text"),
    pytest.param(b"[1]", "array", id="a list"),
    pytest.param(b"7", "int", id="a number"),
    pytest.param(b"{}", "`type`", id="nothing in it"),
    pytest.param(b'{"type":"result"}', "null", id="a result without its content"),
    pytest.param(b'{"type":"header","config":{}}', "'header'", id="another type of line"),
    pytest.param(b"[" * 100_000, "deeper than 64", id="deep"),
    pytest.param(b'{"type":' + b'{"a":' * 70 + b"1" + b"}" * 71, "deeper than 64", id="a little too deep"),
    pytest.param(b'"' + b"x" * RECORD_SIZE_MAX + b'"', "more than 64 MiB", id="huge"),
    pytest.param(without("agent_id"), "`agent_id`", id="no agent"),
    pytest.param(without("trajectory"), "`trajectory`", id="no trajectory"),
    pytest.param(line([], run=2), "no messages", id="no messages"),
    pytest.param(line(run=2, trajectory=[]), "no messages", id="no turns"),
    pytest.param(line(run=2, trajectory=[[7]]), "int", id="a message that is a number"),
    pytest.param(line(run=2, agent_id=""), "agent_id", id="an agent without a name"),
    pytest.param(line(run=2, agent_id=5), "agent_id", id="an agent that is a number"),
    pytest.param(line(run=2, model_name="m" * 2000), "model", id="a model's name too long"),
    pytest.param(line(run=2, grade=0.5), "grade", id="a grade that is a number"),
    pytest.param(line(run=2, submission=2**70), "64 bits", id="an integer beyond 64 bits"),
    pytest.param(line(run=2, agent_usage=[{"prompt_tokens": -1}]), "prompt_tokens", id="fewer tokens than none"),
    pytest.param(line(run=2, agent_usage=[{"prompt_tokens": 10**15}]), "prompt_tokens", id="too many tokens"),
    pytest.param(line(run=2, agent_usage=[{"prompt_tokens": "1"}]), "prompt_tokens", id="tokens that are text"),
    pytest.param(changed("run_id", f"run-{uuid(3)}"), "names 2 runs", id="two runs in one record"),
    pytest.param(said(run_id=None), "names 0 runs", id="no run"),
    pytest.param(said(run_id="run-7"), "not an id", id="a run's id that is none"),
    pytest.param(said(run_id=7), "not an id", id="a run's id that is a number"),
    pytest.param(changed("date", "yesterday"), "message 2.date", id="a bad date"),
    pytest.param(changed("date", "9999-12-31T23:59:59-14:00"), "message 2.date", id="a date past the calendar"),
    pytest.param(said(date=None), "message 1.date", id="no date at all"),
    pytest.param(changed("id", "message-1"), "message 2.id", id="a bad message id"),
    pytest.param(changed("step_id", "step-1"), "message 2.step_id", id="a bad step id"),
    pytest.param(changed("message_type", "poem"), "message 2.message_type", id="an unknown type of message"),
    pytest.param(changed("content", 5), "message 2.content", id="content of a wrong type"),
    pytest.param(changed("unknown", 2**64), "unknown: is an integer", id="an integer beyond 64 bits in a message"),
    pytest.param(
        line([{k: v for k, v in conversation(2)[0].items() if k != "id"}], run=2), "message 1.id", id="no message id"
    ),
    pytest.param(line(), "line 1 too", id="a run that the file told before"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "reason"), HOSTILE)
async def test_a_record_that_makes_no_sense_is_rejected_by_its_line_whole_and_the_others_stay(ledger, record, reason):
    outcome = await load(ledger, [line(), b"\n", record, line(run=9)])
    (reject,) = outcome.rejects
    assert reject.line == 3
    assert reason in reject.reason
    assert reject.text == record[: 4 * TEXT_MAX].decode("utf-8", "replace").strip()[:TEXT_MAX]
    assert {event.stream for event in await log_of(ledger)} == {RUN, f"run-{uuid(9)}"}
    assert len(await log_of(ledger)) == outcome.appended == 22


def test_ids_and_keys_come_from_the_record_alone():
    one, two = (list(letta_evals.parse([line()], source)) for source in ("a", "b"))
    assert [(row.stream, row.key) for row in one] == [(row.stream, row.key) for row in two]
