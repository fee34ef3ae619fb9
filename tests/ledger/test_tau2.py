"""tau2: what a simulation and its experiment become, that messages come back as they were, and what is rejected."""

import json

import msgspec
import pytest

from ledger import Ledger, archive
from ledger.events import TYPES
from ledger.formats import tau2
from ledger.ids import derive
from tests.ledger.agent_runs import START_US, S, calls, dialogue, experiment, simulation, tool, turn, uuid
from tests.ledger.engines import log_of
from tests.ledger.histories import Clock

RUN, JOB = f"run-{uuid(1)}", derive("job", "tau2", "results.json")


@pytest.fixture
async def ledger():
    async with Ledger.in_memory(clock=Clock()) as opened:
        yield opened


async def load(ledger, lines, source="results.json"):
    (outcome,) = [outcome async for outcome in archive.load(ledger, lines, "tau2", source)]
    return outcome


def told(log, stream=RUN):
    """Each event of a stream as (verb, seconds since the start, data)."""
    return [
        (TYPES[event.type].verb, (event.time - START_US) / S, msgspec.json.decode(event.data))
        for event in log
        if event.stream == stream
    ]


async def datas(ledger, verb, lines):
    """Import, and return what the run's events of one verb say."""
    outcome = await load(ledger, lines)
    assert outcome.rejects == ()
    return [data for found, _, data in told(await log_of(ledger)) if found == verb]


async def test_a_simulation_is_one_run_with_everything_that_happened_in_it(ledger):
    outcome = await load(ledger, experiment(simulation()))
    log = await log_of(ledger)
    assert [(verb, second) for verb, second, _ in told(log)] == [
        ("created", 0.5), ("running", 1.25),
        ("message", 1.25), ("step", 1.25),  # the greeting
        ("message", 2.25), ("step", 2.25),
        ("message", 3.25), ("message", 4.25), ("message", 4.25), ("step", 4.25),  # two tools of the agent
        ("message", 5.25), ("message", 6.25), ("step", 6.25),  # a tool of the user
        ("message", 7.25), ("step", 7.25),
        ("message", 8.25), ("step", 8.25),
        ("completed", 10.75),
    ]  # fmt: skip
    assert [event.key for event in log if event.key] == [f"tau2:{RUN}", f"tau2:{JOB}"]
    assert (outcome.appended, outcome.duplicate, outcome.rejects) == (len(log), 0, ())


async def test_an_experiment_is_a_job_from_its_first_start_to_its_last_end(ledger):
    later = simulation(
        2, start_time="2025-10-22T00:01:00", end_time="2025-10-22T00:02:00", termination_reason="agent_error"
    )
    await load(ledger, experiment(later, simulation()))
    job = told(await log_of(ledger), JOB)
    assert [(verb, second, data.get("imputed", False)) for verb, second, data in job] == [
        ("created", 0.5, False), ("pending", 0.5, True), ("running", 0.5, False), ("completed", 120, False)
    ]  # fmt: skip
    (metadata, _, _, counts) = [data.get("metadata") for _, _, data in job]
    assert (metadata["file"], metadata["timestamp"]) == ("results.json", "2025-10-22T00:00:00")
    assert metadata["info"] == {
        "git_commit": "abc", "num_trials": 1, "max_steps": 200, "max_errors": 10, "seed": 300, **PLAYERS
    }  # fmt: skip
    assert counts == {"simulations": 2, "runs": {"completed": 1, "failed": 1}}


PLAYERS = {
    "domain": "telecom",
    "agent": {"implementation": "llm_agent", "llm": "agent-model", "llm_args": {"temperature": 0.0}},
    "user": {"implementation": "user_simulator", "llm": "user-model", "llm_args": {"temperature": 0.0}},
}


async def test_a_run_names_its_job_and_task_at_the_beginning_and_its_reward_at_the_end(ledger):
    await load(ledger, experiment(simulation()))
    (created, *_, completed) = [data for _, _, data in told(await log_of(ledger))]
    assert created["agent_id"].startswith("agent-")
    assert created["metadata"] == {
        "file": "results.json", "job_id": JOB, "task_id": "task 1", "trial": 0, "seed": 300, **PLAYERS
    }  # fmt: skip
    assert completed["total_duration_ns"] == 10_250_000_000
    assert completed["metadata"] == {
        "termination_reason": "user_stop", "reward": 1.0, "reward_info": {"reward": 1.0, "reward_basis": ["DB"]},
        "agent_cost": 0.01, "user_cost": 0.02,
    }  # fmt: skip


async def test_each_message_comes_back_field_for_field_as_it_went_in(ledger):
    found = await datas(ledger, "message", experiment(simulation()))
    originals = [data["message"]["original"] for data in found]
    assert originals == dialogue()
    assert [list(each) for each in originals] == [list(each) for each in dialogue()]


async def test_messages_are_those_of_letta(ledger):
    found = [data["message"] for data in await datas(ledger, "message", experiment(simulation()))]
    shown = [
        {k: v for k, v in each.items() if k not in {"id", "step_id", "original"} and v is not None} for each in found
    ]
    look = {"name": "look", "arguments": '{"id":0}', "tool_call_id": "call-look"}
    check = {"name": "check", "arguments": '{"id":1}', "tool_call_id": "call-check"}
    reboot = {"name": "reboot", "arguments": '{"id":0}', "tool_call_id": "call-reboot"}
    assert [(each.pop("date")[17:26], each) for each in shown] == [
        ("01.250000", {"message_type": "assistant_message", "content": "Hi!"}),
        ("02.250000", {"message_type": "user_message", "content": "My phone is dead."}),
        ("03.250000", {"message_type": "tool_call_message", "tool_call": look, "tool_calls": [look, check]}),
        ("04.250000", returned("look")),
        ("04.250000", returned("check", "error", "Error: no such line")),
        ("05.250000", {"message_type": "tool_call_message", "tool_call": reboot, "tool_calls": [reboot]}),
        ("06.250000", returned("reboot")),
        ("07.250000", {"message_type": "assistant_message", "content": "Now it works."}),
        ("08.250000", {"message_type": "user_message", "content": "###STOP###"}),
    ]
    steps = [each["step_id"] for each in found]
    assert steps[2] == steps[3] == steps[4]
    assert steps[5] == steps[6]
    assert len(set(steps)) == 6


def returned(name, status="success", text="found"):
    return {
        "message_type": "tool_return_message", "name": name, "tool_return": text, "status": status,
        "tool_call_id": f"call-{name}",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param([turn("assistant", 1, None)], ("assistant_message", ""), id="content null"),
        pytest.param([turn("assistant", 1, "", tool_calls=[])], ("assistant_message", ""), id="no calls in the list"),
        pytest.param([turn("system", 1, "Be kind.")], ("system_message", "Be kind."), id="the system"),
        pytest.param([tool("look", 1, None)], ("tool_return_message", None), id="an answer without its call"),
    ],
)
async def test_unusual_messages_have_their_types(ledger, messages, expected):
    (data,) = await datas(ledger, "message", experiment(simulation(messages=messages)))
    assert (data["message"]["message_type"], data["message"].get("content")) == expected


async def test_each_message_that_a_model_wrote_is_a_step_with_its_tokens(ledger):
    found = await datas(ledger, "step", experiment(simulation()))
    assert len({step.pop("id") for step in found}) == 6
    assert [
        (step["model"], step.get("prompt_tokens"), step.get("completion_tokens"), step.get("tags")) for step in found
    ] == [
        ("agent-model", None, None, None),
        ("user-model", 102, 2, ["user_simulator"]),
        ("agent-model", 103, 3, None),
        ("user-model", 105, 5, ["user_simulator"]),
        ("agent-model", 107, 7, None),
        ("user-model", 108, 8, ["user_simulator"]),
    ]
    assert [step.get("provider_response") for step in found] == [None] + 5 * [{"finish_reason": "stop", "index": 0}]


async def test_a_user_that_no_model_played_has_no_steps(ledger):
    messages = [
        turn("user", 1, usage=None),
        turn("user", 2, None, usage=None, tool_calls=calls("look")),
        tool("look", 3),
    ]
    assert await datas(ledger, "step", experiment(simulation(messages=messages))) == []


TOOL_ERROR = {"tool": "look", "tool_call_id": "call-look", "message": "Error: no", "count": 1}


@pytest.mark.parametrize(
    ("errors", "answers", "expected"),
    [
        pytest.param(None, [tool("look", 2)], ("success", None, None), id="success"),
        pytest.param([], [tool("look", 2)], ("success", None, None), id="an empty list of errors"),
        pytest.param(["bad"], [tool("look", 2)], ("failed", "format_error", {"errors": ["bad"]}), id="asked again"),
        pytest.param(None, [tool("look", 2, "Error: no", True)], ("failed", "tool_error", TOOL_ERROR), id="a tool"),
        pytest.param(
            ["bad"],
            [tool("look", 2, "Error: no", True)],
            ("failed", "format_error", {"errors": ["bad"], **TOOL_ERROR}),
            id="both",
        ),
    ],
)
async def test_a_step_says_whether_and_why_it_failed(ledger, errors, answers, expected):
    messages = [turn("assistant", 1, None, tool_calls=calls("look"), errors=errors), *answers]
    (step,) = await datas(ledger, "step", experiment(simulation(messages=messages)))
    assert (step["status"], step.get("error_type"), step.get("error_data")) == expected


EMPTY = turn("assistant", 9, "", errors=["first", "You sent an empty message."])
FAILURES = [
    turn("assistant", 1, None, tool_calls=calls("a", "b")),
    tool("a", 2, "x", True),
    tool("b", 3, "Error: no", True),
]


@pytest.mark.parametrize(
    ("reason", "messages", "status", "stop_reason", "error"),
    [
        ("user_stop", dialogue(), "completed", "end_turn", None),
        ("agent_stop", dialogue(), "completed", "end_turn", None),
        ("max_steps", dialogue(), "completed", "max_steps", None),
        ("agent_error", [EMPTY], "failed", "invalid_llm_response", "You sent an empty message."),
        ("agent_error", [turn("user", 1)], "failed", "invalid_llm_response", "The agent sent an invalid message."),
        ("too_many_errors", FAILURES, "failed", "invalid_tool_call", "2 calls of tools failed; the last: Error: no"),
        ("too_many_errors", [turn("user", 1)], "failed", "invalid_tool_call", "0 calls of tools failed"),
    ],
)
async def test_a_run_ends_as_its_simulation_did(ledger, reason, messages, status, stop_reason, error):
    await load(ledger, experiment(simulation(messages=messages, termination_reason=reason)))
    verb, _, end = told(await log_of(ledger))[-1]
    assert (verb, end["stop_reason"]) == (status, stop_reason)
    assert end.get("error") == (None if error is None else {"type": reason, "message": error})


# --- again ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("indent", [None, 2, 4])
async def test_the_same_file_again_adds_nothing_however_it_is_indented(ledger, indent):
    first = await load(ledger, experiment(simulation(1), simulation(2)))
    second = await load(ledger, experiment(simulation(1), simulation(2), indent=indent))
    assert (second.appended, second.duplicate, second.rejects) == (0, first.appended, ())
    assert len(await log_of(ledger)) == first.appended == 2 * 18 + 4


async def test_a_simulation_that_changed_since_it_was_imported_is_a_reject(ledger):
    first = await load(ledger, experiment(simulation(1), simulation(2)))
    outcome = await load(ledger, experiment(simulation(1), simulation(2, seed=301)))
    assert (outcome.appended, outcome.duplicate) == (0, first.appended - 18)
    assert ["another request" in each.reason for each in outcome.rejects] == [True]


def test_ids_come_from_the_source_alone():
    one, two = (list(tau2.parse(experiment(simulation()), "f")) for _ in range(2))
    assert one == two


# --- hostile ----------------------------------------------------------------------------------------------------------


def deep(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


def with_message(**fields):
    """A simulation with one message changed: its second."""
    messages = dialogue()
    messages[1] |= fields
    return simulation(2, messages)


def without(name):
    return {k: v for k, v in simulation(2).items() if k != name}


HOSTILE = [
    pytest.param(7, "int", id="a number"),
    pytest.param(None, "null", id="null"),
    pytest.param({}, "`id`", id="nothing in it"),
    *(pytest.param(without(name), f"`{name}`", id=f"no {name}") for name in (
        "id", "start_time", "end_time", "termination_reason", "messages"
    )),
    pytest.param(simulation(2, id=7), "id", id="an id that is a number"),
    pytest.param(simulation(2, id="seven"), "not an id", id="an id that is no uuid"),
    pytest.param(simulation(1), "line 35 too", id="an id that the file had before"),
    pytest.param(simulation(2, start_time="yesterday"), "start_time", id="a bad start"),
    pytest.param(simulation(2, end_time="2025-13-01"), "end_time", id="a bad end"),
    pytest.param(simulation(2, start_time="0001-01-01T00:00:00+14:00"), "start_time", id="before the calendar"),
    pytest.param(simulation(2, duration=-1), "total_duration_ns", id="an end before the beginning"),
    pytest.param(simulation(2, duration=1e300), "infinity", id="a duration without end"),
    pytest.param(simulation(2, duration=1e12), "total_duration_ns", id="a duration beyond 64 bits"),
    pytest.param(simulation(2, duration="long"), "duration", id="a duration that is text"),
    pytest.param(simulation(2, seed=2**70), "64 bits", id="an integer beyond 64 bits"),
    pytest.param(simulation(2, termination_reason="boredom"), "'boredom'", id="an unknown end"),
    pytest.param(simulation(2, []) | {"messages": []}, "messages: are none", id="no messages"),
    pytest.param(simulation(2, messages={}), "messages", id="messages that are no list"),
    pytest.param(simulation(2, messages=[7]), "int", id="a message that is a number"),
    pytest.param(simulation(2, reward_info=deep(70)), "deeper than 64", id="deep"),
    pytest.param(with_message(raw_data={"deep": deep(61)}), "deeper than 64", id="a little too deep"),
    pytest.param(with_message(raw_data=[1]), "message 2", id="a provider's answer that is no object"),
    pytest.param(with_message(role="ghost"), "message 2", id="an unknown role"),
    pytest.param(with_message(timestamp=None), "message 2", id="no time"),
    pytest.param(with_message(timestamp="noon"), "message 2.timestamp", id="a bad time"),
    pytest.param(with_message(timestamp="9999-12-31T23:59:59-14:00"), "message 2.timestamp", id="after the calendar"),
    pytest.param(with_message(content=7), "message 2", id="content of a wrong type"),
    pytest.param(with_message(usage={"prompt_tokens": -1}), "prompt_tokens", id="fewer tokens than none"),
    pytest.param(with_message(usage={"prompt_tokens": 1.5}), "message 2", id="half a token"),
    pytest.param(with_message(tool_calls=[{"name": "look"}]), "message 2", id="a call without an id"),
    pytest.param(with_message(role="tool", id=None), "message 2.tool_call_id", id="an answer to no call"),
    pytest.param(with_message(role="tool", id="x", error="yes"), "message 2", id="an error that is no bool"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "reason"), HOSTILE)
async def test_a_simulation_that_makes_no_sense_is_rejected_by_its_line_whole_and_the_others_stay(
    ledger, record, reason
):
    lines = experiment(simulation(1), record, simulation(3))
    outcome = await load(ledger, lines)
    (reject,) = outcome.rejects
    assert reason in reject.reason
    assert json.dumps(record, indent=2).splitlines()[0].strip(" ,") in lines[reject.line - 1].decode()
    assert {event.stream for event in await log_of(ledger)} == {RUN, f"run-{uuid(3)}", JOB}
    assert len(await log_of(ledger)) == outcome.appended == 2 * 18 + 4


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        pytest.param([], "truncated", id="nothing"),
        pytest.param([b"no json"], "malformed", id="no json"),
        pytest.param([b"\xff\xfe"], "malformed", id="no text"),
        pytest.param(experiment(simulation())[:-1], "truncated", id="cut short"),
        pytest.param([b"[]"], "array", id="a list"),
        pytest.param([b"{}"], "`simulations`", id="no simulations"),
        pytest.param(experiment(), "no elements", id="an empty list of simulations"),
        pytest.param(experiment(simulations={}), "simulations", id="simulations that are no list"),
        pytest.param(experiment(simulation(), info=None), "info", id="no setup"),
        pytest.param(experiment(simulation(), info={}), "agent_info", id="no agent"),
        pytest.param([b"[" * 100_000], "deeper than 256", id="deep"),
    ],
)
async def test_a_file_that_is_no_experiment_is_one_reject_and_adds_nothing(ledger, lines, reason):
    outcome = await load(ledger, lines)
    assert [each.line for each in outcome.rejects] == [1]
    assert reason in outcome.rejects[0].reason
    assert await log_of(ledger) == []


async def test_a_file_too_large_to_hold_is_not_read_on(ledger, monkeypatch):
    monkeypatch.setattr(tau2, "DOCUMENT_SIZE_MAX", 2**20)
    read = []

    def endless():
        while True:
            read.append(b"x" * 2**16)
            yield read[-1]

    outcome = await load(ledger, endless())
    assert [(each.line, "MiB" in each.reason) for each in outcome.rejects] == [(1, True)]
    assert len(read) == 17


async def test_an_experiment_of_which_nothing_makes_sense_is_no_job(ledger):
    outcome = await load(ledger, experiment(7, 8))
    assert (outcome.appended, [each.line for each in outcome.rejects]) == (0, [35, 36])


async def test_records_of_many_bytes_are_spread_over_several_transactions(ledger, monkeypatch):
    monkeypatch.setattr(archive, "PART_SIZE", 5000)
    lines = experiment(*map(simulation, range(1, 8)))
    outcomes = [outcome async for outcome in archive.load(ledger, lines, "tau2", "f")]
    assert (len(outcomes), sum(outcome.lines for outcome in outcomes)) == (3, 8)
