"""Add to the golden log what it does not hold yet: ``python -m tests.golden.make``.

What stands there is never rewritten, for it stands for every log ever written. When the shape of a type changes, raise
its schema, write the upcast, and run this: it adds the new shape to a file of its own, ``events.v<schema>.jsonl``.
"""

import json
from pathlib import Path

import msgspec

from ledger import cloudevents, upcast
from ledger.events import TYPES, Recorded
from ledger.leaf import leaf_hash
from ledger.merkle import Frontier
from ledger.state import fold
from ledger.transitions import TERMINAL, chain

FOLDER = Path(__file__).parent
SOURCE = "jobledger.local/golden"
START_US = 1_600_000_000_000_000
USER = "user-00000000-0000-4000-8000-0000000000aa"
VALUES = {
    "by": USER.replace("aa", "bb"), "imputed": True, "request": {"digest": "ab" * 32, "events": 3}, "user_id": USER,
    "project_id": "project-1", "agent_id": "agent-1", "conversation_id": "conv-1", "base_template_id": "template-1",
    "background": True, "metadata": {"é \x01\"\\/ 🦉": [1, -0.5, 1e100, None, True], "n": -(2**63)},
    "request_config": {"deep": {"er": []}}, "callback_url": "https://example.com/hook?a=b", "timeout_s": 2.5,
    "batch_id": "job-00000000-0000-4000-8000-00000000b000", "runs": ["run-00000000-0000-4000-8000-00000000b001"],
    "stop_reason": "llm_api_error", "ttft_ns": 123_456_789, "total_duration_ns": 2**62,
    "error": {"type": "ValueError", "message": "no\nsuch tool", "traceback": "Traceback …"}, "asked": "expired",
    "found": "created", "reason": "asked for", "scopes": ["read", "write", "admin"], "token_sha256": "cd" * 32,
    "expires_us": START_US + 1, "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 10**12,
    "cached_input_tokens": 0, "cache_write_tokens": 4, "reasoning_tokens": 5, "step_count": 6},
    "id": "step-00000000-0000-4000-8000-00000000c001", "status": "failed", "origin": "web", "provider_id": "provider-1",
    "provider_name": "öpenai", "provider_category": "base", "model": "gpt-1", "model_handle": "öpenai/gpt-1",
    "model_endpoint": "https://example.com/v1", "context_window_limit": 8192, "prompt_tokens": 11,
    "completion_tokens": 12, "total_tokens": 23, "cached_input_tokens": 3, "cache_write_tokens": 4,
    "reasoning_tokens": 5, "prompt_tokens_details": {"cached_tokens": 3, "cache_creation_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 5}, "error_type": "RateLimit", "error_data": {"message": "429"},
    "tags": ["ä", "b"], "tid": "tid-1", "trace_id": "trace-1", "request_id": "req-1", "feedback": "negative",
    "step_start_ns": START_US * 1000, "step_ns": 10**9, "llm_request_start_ns": START_US * 1000 + 5,
    "llm_request_ns": 9 * 10**8, "tool_execution_ns": 10**6, "provider_request": {"model": "gpt-1"},
    "provider_response": {"choices": []},
    "number": 3, "duration_ns": 123_456_789, "status_code": 503, "due_us": START_US + 5_000_000,
    "message": {"id": "message-00000000-0000-4000-8000-00000000d001", "message_type": "assistant_message",
                "date": "2020-09-13T12:26:40Z", "content": "é \U0001f989", "mine": [1.50, None]},
}  # fmt: skip
"""A value for each field of every shape; a new field needs one here."""
SPECIAL = {"callback.attempted": {"error": "http_status"}, "callback.abandoned": {"reason": "exhausted"}}
"""Values of fields that have another meaning in a type."""


def files():
    """The golden logs by schema."""
    return {int(path.name.split(".")[1][1:]): path for path in sorted(FOLDER.glob("events.v*.jsonl"))}


def read(path):
    """The events of a golden log."""
    return [cloudevents.to_recorded(cloudevents.decode(line)) for line in path.read_bytes().splitlines()]


def fields_of(info):
    """The fields that an event of the type can fill: a stop reason goes with an end only."""
    named = [field.name for field in msgspec.structs.fields(info.shape)]
    return [name for name in named if name != "stop_reason" or info.status in TERMINAL or info.verb == "step"]


def lives(missing):
    """Lives that pass through each missing type, as (stream number, types); the shortest way to each."""
    for number, name in enumerate(missing, 1):
        info = TYPES[name]
        before = [] if info.kind == "access" else ["created"]
        if info.status is not None:
            before = list(chain(info.kind, None, info.status)[:-1])
        elif name == "access.revoked":
            before = ["granted"]
        elif info.kind == "callback":
            yield number, [*(f"job.{verb}" for verb in chain("job", None, "failed")), name]
            continue
        yield number, [f"{info.kind}.{verb}" for verb in before] + [name]


def data_of(info):
    values = {name: VALUES[name] for name in fields_of(info)} | SPECIAL.get(info.name, {})
    if info.status == "cancelled":
        values["stop_reason"] = "cancelled"
    return msgspec.json.encode(info.decode(msgspec.json.encode(values)))


def add(schema, missing):
    """Append lives through the missing types to the golden log of a schema, and what they must read as for ever."""
    path = FOLDER / f"events.v{schema}.jsonl"
    events = read(path) if path.exists() else []
    expected_path = FOLDER / f"expected.v{schema}.json"
    expected = json.loads(expected_path.read_text("utf-8")) if expected_path.exists() else {"facts": [], "states": {}}
    for number, names in lives(missing):
        kind = {"access": "token", "batch": "job"}.get(names[0].split(".")[0], names[0].split(".")[0])
        stream = f"{kind}-00000000-0000-4000-8000-{schema:04x}{len(events):04x}{number:04x}"
        for version, name in enumerate(names, 1):
            at = len(events) + 1
            events.append(
                Recorded(
                    at, stream, version, name, TYPES[name].schema, START_US + at, START_US + 10**6 + at, USER,
                    f"key {at}" if at % 3 == 0 else None, f"trace \t{at}" if at % 2 else None,
                    data_of(TYPES[name]), bytes([at % 256]) * 16,
                )
            )  # fmt: skip
        state = fold(event for event in events if event.stream == stream)
        expected["states"][stream] = state and json.loads(msgspec.json.encode(state))
    facts = [json.loads(msgspec.json.encode(upcast.fact(event))) for event in events[len(expected["facts"]) :]]
    expected["facts"] += facts
    frontier = Frontier()
    frontier.extend(leaf_hash(event) for event in events)
    expected["root"] = frontier.root().hex()
    path.write_bytes(b"".join(cloudevents.encode(event, SOURCE) + b"\n" for event in events))
    expected_path.write_text(text_of(expected), "utf-8")


def text_of(expected):
    """The expectations with one fact or state a line, so that a difference shows."""
    facts = ",\n".join(f"  {json.dumps(fact, ensure_ascii=False)}" for fact in expected["facts"])
    states = ",\n".join(
        f"  {json.dumps(stream)}: {json.dumps(state, ensure_ascii=False)}"
        for stream, state in expected["states"].items()
    )
    return f'{{"root": "{expected["root"]}",\n "facts": [\n{facts}\n ],\n "states": {{\n{states}\n }}}}\n'


def main():
    held = {(event.type, event.schema) for path in files().values() for event in read(path)}
    for schema in sorted({info.schema for info in TYPES.values()}):
        missing = [name for name, info in TYPES.items() if info.schema == schema and (name, schema) not in held]
        if missing:
            add(schema, missing)
            print(f"events.v{schema}.jsonl: added {', '.join(missing)}")


if __name__ == "__main__":
    main()
