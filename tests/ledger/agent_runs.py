"""Made-up records of agent runs, small and whole, as letta-evals and tau2-bench write them."""

import json
from uuid import UUID

from ledger.times import from_text

START = "2025-10-22T00:00:00"
START_US = from_text(START)
S = 1_000_000


def uuid(number):
    """The same id for the same number."""
    return str(UUID(int=number, version=4))


def at(second):
    return f"2025-10-22T00:{second // 60:02d}:{second % 60:02d}"


# --- letta-evals ------------------------------------------------------------------------------------------------------


def message(message_type, second, step=None, run=1, **fields):
    """A message with every field that the source writes, most of them null."""
    return {
        "id": f"message-{uuid(1000 + second)}",
        "date": f"{at(second)}Z",
        "name": None,
        "message_type": message_type,
        "otid": None,
        "sender_id": None,
        "step_id": None if step is None else f"step-{uuid(step)}",
        "is_err": None,
        "seq_id": None,
        "run_id": f"run-{uuid(run)}",
        **fields,
    }


def call(second, step, run=1, name="grep", tool_call_id="call-1"):
    told = {"name": name, "arguments": '{"pattern": "x"}', "tool_call_id": tool_call_id}
    return message("tool_call_message", second, step, run, tool_call=told, tool_calls=[told])


def answer(second, step, run=1, status="success", text="found", tool_call_id="call-1", **fields):
    told = {"tool_return": text, "status": status, "tool_call_id": tool_call_id, "stdout": None, "stderr": None}
    return message("tool_return_message", second, step, run, **told, **fields)


def conversation(run=1):
    """Two steps: a call of a tool with its answer, and the last word."""
    return [
        message("user_message", 0, run=run, content="Who owns the bird?"),
        message("assistant_message", 3, 11, run, content="I look it up."),
        call(3, 11, run),
        answer(4, 11, run),
        message("assistant_message", 9, 12, run, content="Monica.", otid="o-1", unknown={"kept": [1, 2.5]}),
    ]


def result(messages=None, run=1, **fields):
    return {
        "sample": {"id": 3, "input": "Who owns the bird?", "ground_truth": "Monica", "agent_args": {"tags": ["pets"]}},
        "submission": "Monica.",
        "submissions": {"rubric_check": "Monica."},
        "trajectory": [conversation(run) if messages is None else messages],
        "agent_id": f"agent-{uuid(7)}",
        "grade": {"score": 0.5, "rationale": "half right", "metadata": {"model": "judge"}},
        "grades": {"rubric_check": {"score": 0.5, "rationale": "half right"}},
        "model_name": "openai/gpt-oss-20b",
        "agent_usage": [{"prompt_tokens": 60, "completion_tokens": 5, "total_tokens": 65, "step_count": 2}],
        **fields,
    }


def line(messages=None, run=1, **fields):
    """One record of letta-evals."""
    return json.dumps({"type": "result", "result": result(messages, run, **fields)}).encode() + b"\n"


# --- tau2 -------------------------------------------------------------------------------------------------------------


def turn(role, second, content="text", **fields):
    """A message of the agent or the user; what a model wrote has its usage and the provider's answer."""
    return {
        "role": role,
        "content": content,
        "tool_calls": None,
        "timestamp": f"{at(second)}.250000",
        "usage": {"prompt_tokens": 100 + second, "completion_tokens": second},
        "raw_data": {"finish_reason": "stop", "index": 0},
        "errors": None,
        **fields,
    }


def calls(*names, requestor="assistant"):
    return [
        {"id": f"call-{name}", "name": name, "arguments": {"id": index}, "requestor": requestor}
        for index, name in enumerate(names)
    ]


def tool(name, second, content="found", error=False, requestor="assistant"):
    return {
        "id": f"call-{name}",
        "role": "tool",
        "content": content,
        "requestor": requestor,
        "error": error,
        "turn_idx": 5,
        "timestamp": f"{at(second)}.250000",
    }


def dialogue():
    """A greeting that no model wrote, a question, two tools for the agent and one for the user, and the end."""
    return [
        turn("assistant", 1, "Hi!", usage=None, raw_data=None),
        turn("user", 2, "My phone is dead."),
        turn("assistant", 3, None, tool_calls=calls("look", "check")),
        tool("look", 4),
        tool("check", 4, "Error: no such line", error=True),
        turn("user", 5, None, tool_calls=calls("reboot", requestor="user")),
        tool("reboot", 6, requestor="user"),
        turn("assistant", 7, "Now it works.", errors=["Invalid message format."]),
        turn("user", 8, "###STOP###"),
    ]


def simulation(number=1, messages=None, **fields):
    return {
        "id": uuid(number),
        "task_id": f"task {number}",
        "timestamp": at(10),
        "start_time": f"{at(0)}.500000",
        "end_time": f"{at(10)}.750000",
        "duration": 10.25,
        "termination_reason": "user_stop",
        "agent_cost": 0.01,
        "user_cost": 0.02,
        "reward_info": {"reward": 1.0, "reward_basis": ["DB"]},
        "messages": dialogue() if messages is None else messages,
        "trial": 0,
        "seed": 300,
        **fields,
    }


def experiment(*simulations, indent=2, **fields):
    """The lines of a file of tau2-bench."""
    told = {
        "timestamp": START,
        "info": {
            "git_commit": "abc",
            "num_trials": 1,
            "max_steps": 200,
            "max_errors": 10,
            "user_info": {"implementation": "user_simulator", "llm": "user-model", "llm_args": {"temperature": 0.0}},
            "agent_info": {"implementation": "llm_agent", "llm": "agent-model", "llm_args": {"temperature": 0.0}},
            "environment_info": {"domain_name": "telecom", "policy": "long", "tool_defs": None},
            "seed": 300,
        },
        "tasks": [{"id": "task 1"}],
        "simulations": list(simulations),
        **fields,
    }
    return json.dumps(told, indent=indent).encode().splitlines(keepends=True)
