"""Histories for the tests of reports: a run in which everything went wrong, and a hostile one."""

from __future__ import annotations

from pathlib import Path

from ledger import Ledger, ids
from tests.cli.stories import ALICE, NOON_US, TRAPS

WRONG = "run-00000000-0000-4000-8000-00000000000a"
EVIL = "run-00000000-0000-4000-8000-00000000000b"
LONG = "run-00000000-0000-4000-8000-00000000000c"
DEEP: object = 1
for depth in range(50):
    DEEP = {"a": DEEP} if depth % 2 else [DEEP]
MARKUP = (
    "<script>document.title='owned'</script><img src=http://evil.example/x onerror=\"document.title='owned'\">"
    "\"' onload=alert(1) </style></title></pre><svg/onload=alert(1)>&lt;{{7*7}}{% raw %}]]>--><!--"
)
"""What pages obey, and what template engines do."""
ODD = {"deep": DEEP, "total_cost": 2**63 - 1, "tiny_cost": 5e-324, "nothing": None, "\ufffd": ""}
"""What is hard to show: deep JSON, the largest integer, the smallest number, what a lone surrogate was made into."""
EVERYTHING = f"{TRAPS}{MARKUP}"


def step_id(number: int) -> str:
    return ids.derive("step", "test", str(number))


def said(type: str, number: int, step: int | None, **more: object) -> dict[str, object]:
    message = {"id": ids.derive("message", "test", str(number)), "message_type": type, **more}
    return {"message": message if step is None else {**message, "step_id": step_id(step)}}


def turn(number: int, tool: str, arguments: str, status: str, answer: str, **more: object) -> list[tuple[str, dict]]:  # type: ignore[type-arg]
    """A step that calls a tool."""
    call = {"name": tool, "arguments": arguments, "tool_call_id": f"call-{number}"}
    error = {} if status == "success" else {"error_type": "tool_error", "error_data": {"message": answer}}
    return [
        ("run.message", said("tool_call_message", 10 * number, number, tool_call=call)),
        (
            "run.message",
            said(
                "tool_return_message",
                10 * number + 1,
                number,
                tool_return=answer,
                status=status,
                tool_call_id=f"call-{number}",
            ),
        ),
        (
            "run.step",
            {"id": step_id(number), "status": "success" if status == "success" else "failed", **error, **more},
        ),
    ]


async def write(path: Path) -> None:
    """Write the runs into a new ledger, one event a second."""
    failed = {"stop_reason": "error", "error": {"type": "ValueError", "message": "no more tries"}}
    wrong = [
        ("run.created", {"user_id": ALICE, "agent_id": "agent-1", "metadata": {"task": "nightly", "agent_cost": 0.5}}),
        ("run.running", {}),
        *turn(1, "get_user", '{"id": 7}', "success", "Monica", model="m-1", prompt_tokens=1000, completion_tokens=20),
        *(event for number in range(2, 6) for event in turn(number, "find", '{"q": "x"}', "error", "no such file")),
        ("run.failed", failed),
    ]
    evil = [
        (
            "run.created",
            {"user_id": ALICE, "agent_id": f"\u202egnp.exe{MARKUP}", "metadata": {EVERYTHING: EVERYTHING, **ODD}},
        ),
        ("run.message", said("user_message", 1, None, content=EVERYTHING)),
        *turn(1, f"{EVERYTHING}{'t' * 7000}", EVERYTHING, "error", EVERYTHING, tags=[MARKUP], model=MARKUP[:60]),
        ("run.message", said("assistant_message", 2, None, content="M" * 5_000_000)),
        ("run.message", said("assistant_message", 3, None, content="[" * 50_000)),
        ("run.failed", {"stop_reason": "error", "error": {"type": EVERYTHING, "message": EVERYTHING}}),
        ("run.deleted", {"reason": EVERYTHING}),
    ]
    long = [
        ("run.created", {"user_id": ALICE, "agent_id": "agent-1"}),
        ("run.running", {}),
        *(event for number in range(1, 101) for event in turn(number, f"tool-{number}", "{}", "success", "done")),
        ("run.completed", {}),
    ]
    clock_us = NOON_US
    async with Ledger.open(path, clock=lambda: clock_us + 10**9, name=f"evil{MARKUP[:30]}") as ledger:
        for stream, events in ((WRONG, wrong), (EVIL, evil), (LONG, long)):
            for number, (type, data) in enumerate(events):
                await ledger.append(stream, type, data, actor=ALICE, time_us=NOON_US + number * 1_000_000)
