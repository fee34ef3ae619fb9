"""Every call that a client is asked to make, each with what it must see: one row each, in tables by kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Any, Literal, NamedTuple

from tests.clients.driving import Client, Seen
from tests.clients.story import (
    AGENTS,
    ALL_STEPS,
    BATCH,
    BATCH_MESSAGES,
    BATCHER,
    BATCHES,
    BROKEN,
    COMPACTED,
    ENDED,
    FULL_STEP,
    JOBS,
    LISTED_ONLY,
    MESSAGES,
    METRICS,
    PROVIDER,
    READER,
    REQUESTS,
    RICH,
    RUNS,
    SOURCES,
    STEP_IDS,
    STEPS,
    TALK,
    TOLD,
    at,
    in_order,
    live_message,
    own,
    spoken_in_turns,
)
from tests.clients.surface import UNKNOWN_TYPES, takes

Rows = list[dict[str, Any]]
Check = Callable[[Seen], None]


class Call(NamedTuple):
    """One call: as which user, and what must come of it. ``take``: one value, all rows of a list, a stream's chunks."""

    name: str
    method: str
    arguments: dict[str, Any]
    check: Check
    token: str = READER
    take: Literal["value", "rows", "chunks"] = "value"


def calls(client: Client) -> list[Call]:
    """Return the calls of a client, in their order: those that change something come last."""
    made = [*paging(client), *filtered(client), *objects(client), *streams(client), *changes(client), *refusals(client)]
    made = [call for call in made if takes(client, call.method, *call.arguments)]
    names = [call.name for call in made]
    assert len(set(names)) == len(names), f"two calls have one name: {sorted(names)}"
    return made


# --- lists ------------------------------------------------------------------------------------------------------------

OVER = [{**run, "status": "completed", "stop_reason": "end_turn"} for run in ENDED]
EVERY_RUN = in_order([*RUNS, RICH, BROKEN, *OVER])
STEP_MESSAGES = [message for message in MESSAGES[TALK] if message.get("step_id") == STEP_IDS[3]]
SPOKEN = list({message["id"]: message for _, message in spoken_in_turns()}.values())
ACTIVE = {"created", "running"}
LISTS: list[tuple[str, dict[str, Any], Rows, bool, str]] = [
    ("jobs.list", {}, JOBS, True, READER),
    ("jobs.list_active", {}, [job for job in JOBS if job["status"] in ACTIVE], False, READER),
    ("runs.list", {}, EVERY_RUN, True, READER),
    ("runs.messages.list", {"run_id": TALK}, MESSAGES[TALK], False, READER),
    ("runs.steps.list", {"run_id": TALK}, STEPS[TALK], True, READER),
    ("steps.list", {}, ALL_STEPS, True, READER),
    ("steps.messages.list", {"step_id": STEP_IDS[3]}, STEP_MESSAGES, False, READER),
    ("batches.list", {}, BATCHES, True, BATCHER),
    ("batches.messages.list", {"batch_id": BATCH}, SPOKEN, True, BATCHER),
]
"""Each list with its rows in ascending order, and whether it shows them in descending order when not asked."""


def paging(client: Client) -> Iterator[Call]:
    """Page through each list in both orders, from its beginning, and back from its last row and from one within."""
    for method, arguments, rows, _, token in LISTS:
        limits = (1, 4, 1000) if len(rows) < 10 or "messages" in method else (4, 1000)
        for descending in (False, True):
            asked = rows[::-1] if descending else rows
            order = _order(client, method, descending)
            for limit in limits:
                page = {**arguments, **order, "limit": limit}
                name = f"{method} {'desc' if descending else 'asc'} by {limit}"
                yield Call(name, method, page, _forth(asked), token, "rows")
            for place, cursor in (("the end", asked[-1]["id"]), ("within", asked[len(asked) // 2]["id"])):
                earlier = list(takewhile(lambda row, cursor=cursor: row["id"] != cursor, asked))
                page = {**arguments, **order, "limit": 3, "before": cursor}
                name = f"{method} {'desc' if descending else 'asc'} before {place}"
                yield Call(name, method, page, _back(earlier), token, "rows")


def _order(client: Client, method: str, descending: bool) -> dict[str, Any]:
    if takes(client, method, "order"):
        return {"order": "desc" if descending else "asc"}
    return {"ascending": not descending}


def _forth(rows: Rows) -> Check:
    def check(seen: Seen) -> None:
        assert seen.error is None, seen.error
        assert [row["id"] for row in seen.rows] == [row["id"] for row in rows]
        assert seen.pages[-1] == 0, "only an empty page is the end"

    return check


def _back(rows: Rows) -> Check:
    """Each page is in the asked order and stands before the page that came before it."""

    def check(seen: Seen) -> None:
        assert seen.error is None, seen.error
        found, end = [], len(seen.rows)
        for size in reversed(seen.pages):
            found += seen.rows[end - size : end]
            end -= size
        assert [row["id"] for row in found] == [row["id"] for row in rows]

    return check


FILTERS: list[tuple[str, dict[str, Any], Callable[[dict[str, Any]], bool]]] = [
    ("jobs.list", {"source_id": SOURCES[1]}, lambda job: job["metadata"]["source_id"] == SOURCES[1]),
    ("jobs.list", {"active": True}, lambda job: job["status"] in ACTIVE),
    ("jobs.list", {"active": False}, lambda job: True),
    ("jobs.list_active", {"source_id": SOURCES[0]}, lambda job: job["metadata"]["source_id"] == SOURCES[0]),
    ("runs.list", {}, lambda run: True),
    ("runs.list", {"ascending": True}, lambda run: True),
    ("runs.list", {"active": True}, lambda run: run["status"] in ACTIVE),
    ("runs.list", {"active": False}, lambda run: True),
    ("runs.list", {"agent_id": AGENTS[0]}, lambda run: run["agent_id"] == AGENTS[0]),
    ("runs.list", {"agent_ids": AGENTS[1:]}, lambda run: run["agent_id"] in AGENTS[1:]),
    ("runs.list", {"agent_ids": [AGENTS[1]]}, lambda run: run["agent_id"] == AGENTS[1]),
    ("runs.list", {"background": True}, lambda run: run.get("background") is True),
    ("runs.list", {"background": False}, lambda run: run.get("background") is False),
    ("runs.list", {"conversation_id": "conv-2"}, lambda run: run.get("conversation_id") == "conv-2"),
    ("runs.list", {"statuses": ["failed", "created"]}, lambda run: run["status"] in {"failed", "created"}),
    ("runs.list", {"stop_reason": "llm_api_error"}, lambda run: run["stop_reason"] == "llm_api_error"),
    ("runs.list", {"order_by": "created_at"}, lambda run: True),
    ("runs.list", {"agent_id": AGENTS[0], "stop_reason": "end_turn", "background": True},
        lambda run: (run["agent_id"], run["stop_reason"], run.get("background")) == (AGENTS[0], "end_turn", True)),
    ("runs.messages.list", {"run_id": TALK, "order_by": "created_at"}, lambda message: True),
    ("runs.steps.list", {"run_id": TALK, "order_by": "created_at"}, lambda step: True),
    ("steps.list", {"order_by": "created_at"}, lambda step: True),
    ("steps.list", {"agent_id": "agent-own"}, lambda step: step.get("agent_id") == "agent-own"),
    ("steps.list", {"agent_id": RUNS[7]["agent_id"]}, lambda step: step in STEPS[TALK] and "agent_id" not in step),
    ("steps.list", {"project_id": "project-own"}, lambda step: step.get("project_id") == "project-own"),
    ("steps.list", {"model": "model-1"}, lambda step: step["model"] == "model-1"),
    ("steps.list", {"feedback": "negative"}, lambda step: step.get("feedback") == "negative"),
    ("steps.list", {"has_feedback": True}, lambda step: "feedback" in step),
    ("steps.list", {"has_feedback": False}, lambda step: "feedback" not in step),
    ("steps.list", {"tags": ["tag-3", "full"]}, lambda step: bool({"tag-3", "full"} & {*step.get("tags", ())})),
    ("steps.list", {"trace_ids": ["trace-0", "trace-8"]}, lambda step: step.get("trace_id") in {"trace-0", "trace-8"}),
    ("steps.list", {"start_date": at(42)}, lambda step: step["time"] >= at(42)),
    ("steps.list", {"end_date": at(42)}, lambda step: step["time"] <= at(42)),
    ("steps.list", {"start_date": at(41), "end_date": "2026-11-21T11:11:00+00:30"},
        lambda step: step["time"] == at(41)),
    ("steps.messages.list", {"step_id": STEP_IDS[3], "order_by": "created_at"}, lambda message: True),
    ("steps.messages.list", {"step_id": STEP_IDS[4]}, lambda message: False),
    ("batches.list", {"order_by": "created_at"}, lambda batch: True),
    ("batches.messages.list", {"batch_id": BATCH, "order_by": "created_at"}, lambda message: True),
    ("batches.messages.list", {"batch_id": BATCH, "agent_id": AGENTS[1]},
        lambda message: message in BATCH_MESSAGES[AGENTS[1]]),
]  # fmt: skip
"""What a list is asked for beside its pages, and which of its rows are to be seen, in the order it has by itself."""


def filtered(client: Client) -> Iterator[Call]:
    """Ask each list for some of its rows."""
    known = {method: (rows, descending, token) for method, _, rows, descending, token in LISTS}
    for method, arguments, wanted in FILTERS:
        rows, descending, token = known[method]
        rows = [row for row in rows if wanted(row)]
        descending = descending and not arguments.get("ascending")
        said = {name: value for name, value in arguments.items() if name not in ("run_id", "step_id", "batch_id")}
        check = _forth(rows[::-1] if descending else rows)
        yield Call(f"{method} with {said}", method, arguments, check, token, "rows")
    active = [run for run in EVERY_RUN if run["status"] in ACTIVE]
    for name, value in (("agent_id", AGENTS[0]), ("background", True)):
        wanted_rows = [{"id": run["id"]} for run in active if run.get(name) == value]
        yield Call(f"runs.list_active {name}", "runs.list_active", {name: value}, _is_list(wanted_rows))
    for method, arguments, rows, _, token in LISTS:
        if takes(client, method, "after"):  # one page by hand, where the client would go on by itself
            after = {**arguments, **_order(client, method, descending=False), "after": rows[1]["id"]}
            yield Call(f"{method} after", method, after, _forth(rows[2:]), token, "rows")


# --- single objects ---------------------------------------------------------------------------------------------------


def _shows(kind: str | None = None, **fields: Any) -> Check:
    """Check a value by its class and fields; those not named may be anything."""

    def check(seen: Seen) -> None:
        assert seen.error is None, seen.error
        assert len(seen.requests) == 1
        assert kind in (None, seen.value["class"])
        assert {name: seen.value.get(name) for name in fields} == fields

    return check


def _is(value: Any) -> Check:
    def check(seen: Seen) -> None:
        assert seen.error is None, seen.error
        assert seen.value == value

    return check


def _is_list(rows: Rows) -> Check:
    def check(seen: Seen) -> None:
        assert seen.error is None, seen.error
        assert [{name: found[name] for name in row} for found, row in zip(seen.value, rows, strict=True)] == rows

    return check


USAGE = {
    "prompt_tokens": sum(step["prompt_tokens"] for step in STEPS[TALK]),
    "completion_tokens": sum(step["completion_tokens"] for step in STEPS[TALK]),
    "total_tokens": sum(step["prompt_tokens"] + step["completion_tokens"] for step in STEPS[TALK]),
    "prompt_tokens_details": None,
    "completion_tokens_details": None,
}
FULL_USAGE = {
    "prompt_tokens": 812,
    "completion_tokens": 64,
    "total_tokens": 876,
    "prompt_tokens_details": {"cached_tokens": 500, "cache_read_tokens": None, "cache_creation_tokens": 12},
    "completion_tokens_details": {"reasoning_tokens": 32},
}
_SAID = {"id", "status", "agent_id", "conversation_id", "background", "metadata", "stop_reason", "base_template_id",
         "request_config", "callback_url", "ttft_ns", "total_duration_ns"}  # fmt: skip


def objects(client: Client) -> Iterator[Call]:
    """Read single objects: in every status, with everything and with nothing."""
    for job in {job["status"]: job for job in JOBS}.values():
        said = {name: job[name] for name in ("id", "status", "metadata", "background", "agent_id")}
        yield Call(
            f"jobs.retrieve that is {job['status']}", "jobs.retrieve", {"job_id": job["id"]}, _shows("Job", **said)
        )
    for name, run in (*{run["status"]: run for run in RUNS}.items(), ("told in full", RICH)):
        said = {key: value for key, value in run.items() if key in _SAID}
        yield Call(f"runs.retrieve that is {name}", "runs.retrieve", {"run_id": run["id"]}, _shows("Run", **said))
    broken = {"status": "failed", "stop_reason": "error", "metadata": {"error": BROKEN["error"]}}
    yield Call("runs.retrieve that is broken", "runs.retrieve", {"run_id": BROKEN["id"]}, _shows("Run", **broken))
    for run_id, usage in ((TALK, USAGE), (TOLD, FULL_USAGE), (COMPACTED, {"total_tokens": 0})):
        yield Call(f"runs.usage.retrieve {run_id}", "runs.usage.retrieve", {"run_id": run_id}, _shows(None, **usage))
    for limit in ({}, {"limit": 2}):
        yield Call(f"runs.trace.retrieve {limit}", "runs.trace.retrieve", {"run_id": TALK, **limit}, _spans(**limit))
    full = {name: value for name, value in FULL_STEP.items() if name != "time"}
    few = {"id": STEP_IDS[1], "run_id": TALK, "status": "failed", "agent_id": RUNS[7]["agent_id"], "tags": []}
    trace = {"request_json": PROVIDER["provider_request"], "response_json": PROVIDER["provider_response"],
             "step_id": full["id"]}  # fmt: skip
    for method, id, check in (
        ("steps.retrieve", full["id"], _shows("Step", run_id=TOLD, **full)),
        ("steps.retrieve", STEP_IDS[1], _shows("Step", **few)),
        ("steps.metrics.retrieve", full["id"], _shows(None, id=full["id"], run_id=TOLD, **METRICS)),
        ("steps.metrics.retrieve", STEP_IDS[1], _shows(None, id=STEP_IDS[1], llm_request_ns=None)),
        ("steps.trace.retrieve", full["id"], _shows("ProviderTrace", **trace)),
        ("steps.trace.retrieve", STEP_IDS[1], _is(None)),
    ):
        yield Call(f"{method} {'full' if id == full['id'] else 'few'}", method, {"step_id": id}, check)
    batch = {"id": BATCH, "job_type": "batch", "status": "running", "created_at": None}
    del batch["created_at"]
    yield Call("batches.retrieve", "batches.retrieve", {"batch_id": BATCH}, _shows("BatchJob", **batch), BATCHER)
    said = [_as_told(client, message) for message in MESSAGES[TALK]]
    yield Call("messages in full", "runs.messages.list", {"run_id": TALK}, _rows_are(said), READER, "rows")


def _as_told(client: Client, message: dict[str, Any]) -> dict[str, Any]:
    if message["message_type"] in UNKNOWN_TYPES[client.version]:
        return {"run_id": TALK, **message}
    kind = "".join(word.capitalize() for word in message["message_type"].split("_"))
    return {"class": kind, "run_id": TALK, **message}


def _rows_are(rows: Rows) -> Check:
    def check(seen: Seen) -> None:
        assert seen.error is None, seen.error
        for found, row in zip(seen.rows, rows, strict=True):
            assert {name: _plain_date(found.get(name)) for name in row} == row

    return check


def _plain_date(value: Any) -> Any:
    """Return a date that a client wrote without the fraction of zero as the server says it."""
    return f"{value[:-1]}.000000Z" if isinstance(value, str) and len(value) == 20 and value.endswith("Z") else value


def _spans(limit: int | None = None) -> Check:
    """Check that a trace begins with the run, and has its steps below it, or is as short as was asked."""

    def check(seen: Seen) -> None:
        assert seen.error is None, seen.error
        root, *below = seen.value
        assert root["attributes"]["jobledger.run.id"] == TALK
        if limit is None:
            steps = [span for span in below if span["name"].startswith("chat ")]
            assert {span["attributes"]["jobledger.step.id"] for span in steps} == set(STEP_IDS)
            assert {span["parent_span_id"] for span in steps} == {root["span_id"]}
        else:
            assert len(seen.value) == limit

    return check


# --- streams ----------------------------------------------------------------------------------------------------------

LIVE = "live"
"""The name of the call that follows a run which is going on."""


def streams(client: Client) -> Iterator[Call]:
    """Read ended runs from the beginning and from a place within; follow one until it ends."""
    method = "runs.stream" if takes(client, "runs.stream") else "runs.messages.stream"
    run = "path_run_id" if takes(client, method, "path_run_id") else "run_id"
    said = MESSAGES[TOLD]
    listed_only = {message["message_type"] for message in LISTED_ONLY}
    streamable = [message for message in MESSAGES[COMPACTED] if message["message_type"] not in listed_only]
    assert 0 < len(streamable) < len(MESSAGES[COMPACTED])
    before = 2 + len(STEPS[TOLD])  # the events of the run before its first message: created, running, the steps
    options = {"include_pings": True, "poll_interval": 0.1, "batch_size": 2}
    for name, id, arguments, check in (
        ("from the beginning", TOLD, {}, _streamed(said)),
        ("with options", TOLD, options, _streamed(said)),
        ("for an agent", TOLD, {"agent_id": "agent-told", "otid": "otid-1", "body_run_id": TOLD}, _streamed(said)),
        ("from before the first", TOLD, {"starting_after": before}, _streamed(said)),
        ("from within", TOLD, {"starting_after": before + 5}, _streamed(said[5:])),
        ("from the last", TOLD, {"starting_after": before + len(said)}, _streamed([])),
        ("with a compaction, which it leaves out", COMPACTED, {}, _streamed(streamable)),
    ):
        yield Call(f"stream {name}", method, {run: id, **arguments}, check, READER, "chunks")
    live = [live_message(client, number) for number in (0, 1)]
    follow = {run: own(client, "run", "live"), "include_pings": True}
    yield Call(LIVE, method, follow, _streamed(live, "max_steps"), client.name, "chunks")


def _streamed(rows: Rows, stop_reason: str = "end_turn") -> Check:
    """Check that a stream has these messages, numbered and with their run, then how it ended and what it used."""

    def check(seen: Seen) -> None:
        assert seen.error is None, seen.error
        assert [status for *_, status in seen.requests] == [200]
        run_id = seen.requests[0][1].split("/")[3]
        *chunks, stop, usage = [chunk for chunk in seen.rows if chunk["message_type"] != "ping"]
        assert _names(chunks) == _names(rows)
        assert [chunk["run_id"] for chunk in chunks] == [run_id] * len(rows)
        numbers = [chunk["seq_id"] for chunk in chunks]
        assert numbers == sorted(set(numbers))
        assert (stop["message_type"], stop["stop_reason"]) == ("stop_reason", stop_reason)
        assert (usage["message_type"], usage["run_ids"]) == ("usage_statistics", [run_id])

    return check


def _names(rows: Rows) -> list[tuple[str, str]]:
    return [(row["message_type"], row["id"]) for row in rows]


# --- what changes something -------------------------------------------------------------------------------------------


def changes(client: Client) -> Iterator[Call]:
    """Create, cancel, delete, and say what one thinks of a step."""

    def mine(kind: str, label: str) -> str:
        return own(client, kind, label)

    runs = {label: mine("run", label) for label in ("agent 1", "agent 2", "named", "named ended", "conversation")}
    named = [runs["named"], runs["named ended"]]
    batch = {"requests": REQUESTS, "callback_url": "https://receiver.invalid/batch"}
    feedback = {"step_id": mine("step", "feedback")}
    rows: list[tuple[str, str, dict[str, Any], Check]] = [
        ("cancel", "jobs.cancel_job", {"job_id": mine("job", "cancel")},
            _shows("Job", id=mine("job", "cancel"), status="cancelled", stop_reason="cancelled")),
        ("delete", "jobs.delete", {"job_id": mine("job", "delete")}, _shows("Job", id=mine("job", "delete"))),
        ("delete", "runs.delete", {"run_id": mine("run", "delete")}, _shows("Run", id=mine("run", "delete"))),
        ("create", "batches.create", batch,
            _shows("BatchJob", status="running", job_type="batch", callback_url=batch["callback_url"])),
        ("cancel", "batches.cancel", {"batch_id": mine("job", "batch")}, lambda seen: None),
        ("cancelled", "batches.retrieve", {"batch_id": mine("job", "batch")},
            _shows("BatchJob", status="cancelled", stop_reason="cancelled")),
        ("named", "agents.messages.cancel", {"agent_id": "agent-named", "run_ids": named},
            _is(dict(zip(named, ("cancelled", "failed"), strict=True)))),
        ("all", "agents.messages.cancel", {"agent_id": "agent-all"},
            _is({runs["agent 1"]: "cancelled", runs["agent 2"]: "cancelled"})),
        ("not named", "runs.retrieve", {"run_id": mine("run", "not named")}, _shows("Run", status="running")),
        ("cancelled", "runs.retrieve", {"run_id": runs["agent 2"]}, _shows("Run", status="cancelled")),
        ("all", "conversations.cancel", {"conversation_id": "conv-cancel"}, _is({runs["conversation"]: "cancelled"})),
        ("an agent's own", "conversations.cancel", {"conversation_id": "default", "agent_id": "agent-direct"},
            _is({mine("run", "default"): "cancelled"})),
        ("positive", "steps.feedback.create", {**feedback, "feedback": "positive", "tags": ["nice", "quick"]},
            _shows("Step", id=feedback["step_id"], feedback="positive", tags=["nice", "quick"])),
        ("taken back", "steps.feedback.create", {**feedback, "feedback": None},
            _shows("Step", feedback=None, tags=["nice", "quick"])),
        ("negative", "steps.feedback.create", {**feedback, "feedback": "negative"},
            _shows("Step", feedback="negative", tags=["nice", "quick"])),
        ("after feedback", "steps.retrieve", feedback, _shows("Step", feedback="negative", tags=["nice", "quick"])),
    ]  # fmt: skip
    yield from (
        Call(f"{method} {name}", method, arguments, check, client.name) for name, method, arguments, check in rows
    )


def refusals(client: Client) -> Iterator[Call]:
    """Ask for what cannot be."""
    none = {kind: own(client, kind, "none") for kind in ("job", "run", "step")}
    rows: list[tuple[str, dict[str, Any], int]] = [
        ("jobs.cancel_job", {"job_id": own(client, "job", "cancel")}, 409),
        ("jobs.cancel_job", {"job_id": own(client, "job", "delete")}, 404),
        ("jobs.retrieve", {"job_id": own(client, "job", "delete")}, 404),
        ("jobs.delete", {"job_id": none["job"]}, 404),
        ("runs.retrieve", {"run_id": none["run"]}, 404),
        ("runs.delete", {"run_id": none["run"]}, 404),
        ("runs.usage.retrieve", {"run_id": none["run"]}, 404),
        ("runs.trace.retrieve", {"run_id": none["run"]}, 404),
        ("steps.retrieve", {"step_id": none["step"]}, 404),
        ("steps.trace.retrieve", {"step_id": none["step"]}, 404),
        ("steps.metrics.retrieve", {"step_id": none["step"]}, 404),
        ("steps.feedback.create", {"step_id": none["step"], "feedback": "positive"}, 404),
        ("batches.cancel", {"batch_id": own(client, "job", "batch")}, 409),
        ("batches.cancel", {"batch_id": none["job"]}, 404),
        ("batches.retrieve", {"batch_id": none["job"]}, 404),
        ("agents.messages.cancel", {"agent_id": "agent-all"}, 409),
        ("agents.messages.cancel", {"agent_id": "agent-named", "run_ids": []}, 409),
        ("conversations.cancel", {"conversation_id": "conv-cancel"}, 409),
        ("conversations.cancel", {"conversation_id": "default", "agent_id": "agent-direct"}, 409),
    ]
    for method, arguments, status in rows:
        name = f"refused {method} {status} {len(arguments)}"
        yield Call(name, method, arguments, _refused(status), client.name)


def _refused(status: int) -> Check:
    def check(seen: Seen) -> None:
        assert seen.error is not None, seen.value
        assert seen.error["status"] == status, seen.error
        assert [answer for *_, answer in seen.requests] == [status], "a refusal costs one request"

    return check
