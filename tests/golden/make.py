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
    "expires_us": START_US + 1,
}  # fmt: skip
"""A value for each field of every shape; a new field needs one here."""


def files():
    """The golden logs by schema."""
    return {int(path.name.split(".")[1][1:]): path for path in sorted(FOLDER.glob("events.v*.jsonl"))}


def read(path):
    """The events of a golden log."""
    return [cloudevents.to_recorded(cloudevents.decode(line)) for line in path.read_bytes().splitlines()]


def fields_of(info):
    """The fields that an event of the type can fill: a stop reason goes with an end only."""
    named = [field.name for field in msgspec.structs.fields(info.shape)]
    return [name for name in named if name != "stop_reason" or info.status in TERMINAL]


def lives(missing):
    """Lives that pass through each missing type, as (stream number, types); the shortest way to each."""
    for number, name in enumerate(missing, 1):
        info = TYPES[name]
        before = [] if info.kind == "access" else ["created"]
        if info.status is not None:
            before = list(chain(info.kind, None, info.status)[:-1])
        elif name == "access.revoked":
            before = ["granted"]
        yield number, [f"{info.kind}.{verb}" for verb in before] + [name]


def data_of(info):
    values = {name: VALUES[name] for name in fields_of(info)}
    if info.status == "cancelled":
        values["stop_reason"] = "cancelled"
    return msgspec.json.encode(msgspec.convert(values, info.shape))


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
