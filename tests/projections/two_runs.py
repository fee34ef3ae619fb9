"""Two runs for a diff, each told message by message."""

from __future__ import annotations

from typing import Any

import msgspec

from projections.diff import Diff, diff
from tests.ledger.histories import START_US, event, id_of

Told = dict[str, Any]


def user(text: str, **more: Any) -> Told:
    return {"message_type": "user_message", "content": text, **more}


def agent(text: str, **more: Any) -> Told:
    return {"message_type": "assistant_message", "content": text, **more}


def call(tool: str, arguments: Any, call_id: str = "c", **more: Any) -> Told:
    text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
    one = {"name": tool, "arguments": text, "tool_call_id": call_id}
    return {"message_type": "tool_call_message", "tool_call": one, **more}


def back(answer: Any, call_id: str = "c", status: str = "success", **more: Any) -> Told:
    text = answer if isinstance(answer, str) else msgspec.json.encode(answer).decode()
    kind = {"message_type": "tool_return_message", "tool_return": text, "status": status, "tool_call_id": call_id}
    return kind | more


def step(number: int, **said: Any) -> Told:
    """A step; its id is what messages name with ``step_id``."""
    return {"step": {"id": id_of("step", number), **said}}


def history(name: int, told: list[Told], metadata: Told | None = None) -> list[Any]:
    """The events of a run in which that was told, a second each; ids and times are its own."""
    run_id = id_of("run", name)
    created = {"user_id": "user-1", "agent_id": "agent-1", "metadata": metadata}
    happened: list[tuple[str, Told]] = [("created", created), ("running", {})]
    for number, each in enumerate(told):
        if "step" in each:
            happened.append(("step", each["step"]))
        else:
            happened.append(("message", {"message": {"id": id_of("message", 10_000 * name + number), **each}}))
    happened.append(("completed", {"stop_reason": "end_turn"}))
    return [
        event(f"run.{verb}", data, stream=run_id, version=version, position=name * 100_000 + version, time=time_us)
        for version, (verb, data) in enumerate(happened, 1)
        for time_us in [START_US + name * 60_000_000 + version * 1_000_000]
    ]


def compared(
    a: list[Told], b: list[Told], *, full: bool = False, metadata: tuple[Told | None, Told | None] = (None, None)
) -> Diff:
    found = diff(history(1, a, metadata[0]), history(2, b, metadata[1]), full=full)
    assert found is not None
    return found
