"""What happened in a run, as tests of its course tell it: each thing with its second."""

import random

from tests.ledger.histories import START_US, event, id_of

SECOND = 1_000_000
NS = START_US * 1000
A, B = id_of("step", 1), id_of("step", 2)


def ns(at):
    return NS + round(at * 10**9)


def given(*happened, agent="agent-1"):
    """The events of a run that was created at second 0, each given as (second, verb, data)."""
    birth = (0, "created", {"user_id": "user-1", "agent_id": agent, "conversation_id": "conv-1"})
    return [
        event(f"run.{verb}", data, version=version, time=START_US + round(at * SECOND), schema=1 + (verb == "updated"))
        for version, (at, verb, data) in enumerate([birth, *happened], 1)
    ]


def running(at=0):
    return (at, "running", {})


def ended(at, status="completed", **data):
    return (at, status, data)


def step(at, id=A, **said):
    return (at, "step", {"id": id, **said})


def done(at, id=A, **said):
    return step(at, id, status="success", **said)


def said(at, type, message_id=1, **more):
    message = {"id": id_of("message", message_id), "message_type": type, **more}
    return (at, "message", {"message": message})


def user(at, **more):
    return said(at, "user_message", content="hello", **more)


def call(at, call_id="c", name="look", arguments="{}", **more):
    told = {"name": name, "arguments": arguments, "tool_call_id": call_id}
    return said(at, "tool_call_message", tool_call=told, **more)


def back(at, call_id="c", status="success", text="done", **more):
    return said(at, "tool_return_message", tool_return=text, status=status, tool_call_id=call_id, **more)


def garbled(seed):
    """The events of a run that a producer gone mad told, the same for the same seed."""
    chance = random.Random(seed)
    happened = [garbage(chance) for _ in range(60)]
    happened.insert(chance.randrange(60), running(chance.uniform(-9, 9)))
    if chance.random() < 0.7:
        happened.append(ended(chance.uniform(0, 99), chance.choice(["completed", "failed"])))
    return given(*happened)


def garbage(chance):
    """A step of a run, as no producer should tell it."""
    at = chance.choice([1, 2.5, chance.uniform(-1e6, 1e6)])
    id = id_of("step", chance.randrange(6))
    more = {"step_id": id} if chance.random() < 0.7 else {}
    more |= (
        {"date": chance.choice(["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2023-11-14"])}
        if chance.random() < 0.3
        else {}
    )
    more["message_id"] = chance.randrange(4)
    call_id = chance.choice(["c", "", "💥" * 3000, None])
    told = {
        "status": chance.choice(["pending", "success", "failed", "cancelled"]),
        "step_start_ns": chance.choice([0, -(2**63), 2**63 - 1, ns(1)]),
        "llm_request_start_ns": chance.choice([0, ns(chance.uniform(-9, 9))]),
        **{name: chance.choice([0, 2**63 - 1, 10**9]) for name in ("step_ns", "llm_request_ns")},
    }
    return chance.choice(
        [
            step(at, id, **{name: value for name, value in told.items() if chance.random() < 0.4}),
            call(at, call_id, chance.choice(["", None, "\x00\u2028" * 5000, "look"]), **more),
            back(at, call_id or "c", chance.choice(["success", "error"]), **more),
            user(at, **more),
            (at, "updated", {"ttft_ns": chance.choice([0, 2**63 - 1])}),
        ]
    )
