"""What happened in a run, as tests of its course tell it: each thing with its second."""

from tests.ledger.histories import START_US, event, id_of

SECOND = 1_000_000
A, B = id_of("step", 1), id_of("step", 2)


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
