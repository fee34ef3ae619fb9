"""What the server is told before the clients look: every row and when it happened, known to the last field.

``READER`` has jobs and runs with steps and messages, ``BATCHER`` batches; both are only read. Each client has a user of
its own beside them, whose resources it may change.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.clients.driving import Client
from tests.clients.surface import CLIENTS
from tests.end_to_end.server_process import Server
from tests.end_to_end.server_process import client as session_of

READER, BATCHER = "reader", "batcher"
_chance = random.Random(324)


def make_id(kind: str) -> str:
    return f"{kind}-{uuid.UUID(int=_chance.getrandbits(128), version=4)}"


def own(client: Client, kind: str, label: str) -> str:
    """Return the id of a resource that one client may change."""
    return f"{kind}-{uuid.uuid5(uuid.NAMESPACE_URL, f'{client.name}/{label}')}"


def at(minute: int, second: int = 0) -> str:
    return f"2026-11-21T{10 + minute // 60:02}:{minute % 60:02}:{second:02}.000000Z"


def in_order(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return jobs, runs or batches as lists have them in ascending order."""
    return sorted(rows, key=lambda row: (row["time"], row["id"]))


# --- jobs and runs: two to a minute, so that the order within a minute is that of their ids ---------------------------

AGENTS = ("agent-ada", "agent-bob", "agent-cy")
SOURCES = ("source-a", "source-b")
STOPS = {"completed": "end_turn", "failed": "llm_api_error", "cancelled": "cancelled"}
JOB_STATUSES = ("created", "pending", "running", "completed", "failed", "cancelled", "expired")
RUN_STATUSES = ("created", "running", "completed", "failed", "cancelled")

JOBS = in_order(
    {
        "id": make_id("job"),
        "time": at(number // 2),
        "status": JOB_STATUSES[number % 7],
        "metadata": {"source_id": SOURCES[number % 2], "number": number},
        "background": number % 3 == 0,
        "agent_id": AGENTS[number % 3],
    }
    for number in range(17)
)
RUNS = in_order(
    {
        "id": make_id("run"),
        "time": at(number // 2),
        "status": (status := RUN_STATUSES[number % 5]),
        "agent_id": AGENTS[number % 3],
        "conversation_id": f"conv-{number % 4}",
        "background": number % 2 == 0,
        "metadata": {"number": number, "text": "größer 🙂"},
        "stop_reason": STOPS.get(status),
    }
    for number in range(23)
)
RICH = {
    "id": make_id("run"),
    "time": at(20),
    "status": "running",
    "agent_id": "agent-rich",
    "conversation_id": "conv-rich",
    "base_template_id": "template-1",
    "background": True,
    "metadata": {"nested": {"list": [1, 2.5, None, True, "x"]}},
    "request_config": {
        "use_assistant_message": True,
        "assistant_message_tool_name": "send_message",
        "assistant_message_tool_kwarg": "message",
        "include_return_message_types": ["assistant_message", "tool_call_message"],
    },
    "callback_url": "https://receiver.invalid/hook",
    "ttft_ns": 120_000_000,
    "stop_reason": None,
}
BROKEN = {
    "id": make_id("run"),
    "time": at(21),
    "status": "failed",
    "agent_id": "agent-rich",
    "stop_reason": "error",
    "total_duration_ns": 5_000_000_000,
    "error": {"type": "ValueError", "message": "no", "traceback": "Traceback …"},
}

# --- messages: of all types, some in parts ----------------------------------------------------------------------------

CALL = {"name": "search", "arguments": '{"q":"x"}', "tool_call_id": "call-1"}
RETURN = {"type": "tool", "tool_call_id": "call-1", "status": "success", "tool_return": "found", "stdout": ["log"]}
STREAMABLE: list[dict[str, Any]] = [
    {"message_type": "system_message", "content": "You are."},
    {"message_type": "user_message", "content": "Hello", "name": "ann", "otid": "otid-1", "sender_id": "identity-1"},
    {"message_type": "user_message", "content": [{"type": "text", "text": "Look:"}, {
        "type": "image", "source": {"type": "url", "url": "https://pictures.invalid/1.png"}}]},
    {"message_type": "reasoning_message", "reasoning": "Hm.", "source": "reasoner_model", "signature": "s"},
    {"message_type": "hidden_reasoning_message", "state": "redacted", "hidden_reasoning": "xxx"},
    {"message_type": "tool_call_message", "tool_call": CALL, "tool_calls": [CALL]},
    {"message_type": "tool_return_message", "tool_return": "found", "status": "success", "tool_call_id": "call-1",
     "stdout": ["a line"], "stderr": [], "tool_returns": [RETURN]},
    {"message_type": "approval_request_message", "tool_call": CALL, "tool_calls": [CALL]},
    {"message_type": "approval_response_message", "approve": False, "approval_request_id": "message-1", "reason": "no",
     "approvals": [{"type": "approval", "approve": False, "tool_call_id": "call-1", "reason": "no"}, RETURN]},
    {"message_type": "assistant_message", "content": [{"type": "text", "text": "Done."}], "is_err": False},
]  # fmt: skip
"""Messages that the clients can also read from a stream."""
LISTED_ONLY: list[dict[str, Any]] = [
    {"message_type": "summary_message", "summary": "They met.", "compaction_stats": {
        "trigger": "context_window_exceeded", "context_window": 8000, "messages_count_before": 9,
        "messages_count_after": 2, "context_tokens_before": 7000, "context_tokens_after": 800}},
    {"message_type": "event_message", "event_type": "compaction", "event_data": {"by": "half"}},
]  # fmt: skip
"""Messages that only lists may show: the clients' streams know nothing of them."""


def messages(*kinds: Sequence[dict[str, Any]], step_id: str | None = None) -> list[dict[str, Any]]:
    """Return messages of these kinds, then one of three parts, each with an id and some with a date."""
    made = [{**message, "id": make_id("message")} for kind in kinds for message in kind]
    shared = make_id("message")
    made += [{**STREAMABLE[number], "id": shared} for number in (3, 5, 9)]
    for number, message in enumerate(made):
        if number % 2:
            message["date"] = at(30, number)
        if step_id:
            message["step_id"] = step_id
    return made


TALK, TOLD, COMPACTED = RUNS[7]["id"], make_id("run"), make_id("run")
"""A run that is listed, with every type of message; two ended runs that are streamed, the second with a compaction."""
ENDED = [{"id": id, "time": at(22), "status": "running", "agent_id": "agent-told"} for id in (TOLD, COMPACTED)]
"""They are told as running; when everything was said in them they end."""
STEP_IDS = [make_id("step") for _ in range(11)]
MESSAGES = {
    TALK: messages(STREAMABLE, LISTED_ONLY) + messages(STREAMABLE, step_id=STEP_IDS[3]),
    TOLD: messages(STREAMABLE),
    COMPACTED: messages(STREAMABLE[:2], LISTED_ONLY),
}

# --- steps: two begin at the same time, then the order is that in which they were told --------------------------------


def _step(number: int) -> dict[str, Any]:
    step: dict[str, Any] = {
        "id": STEP_IDS[number],
        "time": at(40 + number // 2),
        "status": ("success", "failed", "cancelled", "pending")[number % 4],
        "model": f"model-{number % 2}",
        "prompt_tokens": 100 + number,
        "completion_tokens": 10 + number,
    }
    if number % 3 == 0:
        step |= {"feedback": ("positive", "negative")[number % 2], "tags": [f"tag-{number}", "all"]}
    if number % 4 == 0:
        step |= {"trace_id": f"trace-{number}", "agent_id": "agent-own", "project_id": "project-own"}
    return step


FULL_STEP = {
    "id": make_id("step"), "time": at(50), "status": "success", "origin": "api", "provider_id": "provider-1",
    "provider_name": "openai", "provider_category": "byok", "model": "gpt", "model_handle": "openai/gpt",
    "model_endpoint": "https://models.invalid/v1", "context_window_limit": 8000, "prompt_tokens": 812,
    "completion_tokens": 64, "total_tokens": 876, "cached_input_tokens": 500, "cache_write_tokens": 12,
    "reasoning_tokens": 32, "prompt_tokens_details": {"cached_tokens": 500},
    "completion_tokens_details": {"reasoning_tokens": 32}, "stop_reason": "end_turn", "error_type": "Late",
    "error_data": {"message": "late"}, "tags": ["full"], "tid": "tid-1", "trace_id": "trace-full",
    "request_id": "request-1", "feedback": "positive", "agent_id": "agent-full", "project_id": "project-full",
}  # fmt: skip
METRICS = {"step_start_ns": 1_795_305_600_000_000_000, "step_ns": 3_000_000_000,
           "llm_request_start_ns": 1_795_305_600_100_000_000, "llm_request_ns": 2_000_000_000,
           "tool_execution_ns": 700_000_000}  # fmt: skip
PROVIDER = {"provider_request": {"model": "gpt", "input": []}, "provider_response": {"output": [{"text": "hi"}]}}
STEPS = {TALK: [_step(number) for number in range(11)], TOLD: [FULL_STEP]}
ALL_STEPS = [*STEPS[TALK], *STEPS[TOLD]]

# --- batches ----------------------------------------------------------------------------------------------------------

BATCHES = in_order({"id": make_id("job"), "time": at(number // 2)} for number in range(7))
REQUESTS = [{"agent_id": agent, "messages": [{"role": "user", "content": "Hello"}]} for agent in AGENTS[:2]]
BATCH = BATCHES[2]["id"]
BATCH_MESSAGES = {agent: messages(STREAMABLE, LISTED_ONLY) for agent in AGENTS[:2]}
"""What was said in the batch's runs, by their agents: in turns, one part of the first, one of the second."""


def spoken_in_turns() -> list[tuple[str, dict[str, Any]]]:
    """Return the messages of the batch in the order in which the server is told them."""
    turns = zip(*(BATCH_MESSAGES[agent] for agent in AGENTS[:2]), strict=True)
    return [pair for turn in turns for pair in zip(AGENTS, turn, strict=False)]


# --- telling the server -----------------------------------------------------------------------------------------------


def runs_of(client: Client) -> list[dict[str, Any]]:
    """Return the runs that a client may change: which of them it cancels is in the table of its calls."""
    label_agent_conversation_status = [
        ("delete", "agent-delete", None, "running"),
        ("agent 1", "agent-all", None, "running"),
        ("agent 2", "agent-all", None, "created"),
        ("agent ended", "agent-all", None, "completed"),
        ("named", "agent-named", None, "running"),
        ("named ended", "agent-named", None, "failed"),
        ("not named", "agent-named", None, "running"),
        ("conversation", "agent-talks", "conv-cancel", "running"),
        ("default", "agent-direct", None, "running"),
        ("other conversation", "agent-talks", "conv-other", "running"),
        ("feedback", "agent-step", None, "running"),
        ("live", "agent-live", None, "running"),
    ]
    return [
        {"id": own(client, "run", label), "agent_id": agent, "conversation_id": conversation, "status": status}
        for label, agent, conversation, status in label_agent_conversation_status
    ]


@dataclass
class Teller:
    """Tells the server the story, over HTTP, as producers do."""

    server: Server
    tokens: dict[str, str] = field(default_factory=dict)
    sessions: dict[str, aiohttp.ClientSession] = field(default_factory=dict)

    async def send(self, user: str, path: str, body: Any, method: str = "POST") -> Any:
        async with self.sessions[user].request(method, path, json=body) as response:
            assert response.status in (200, 201), f"{method} {path}: {await response.text()}"
            return await response.json()

    async def tell(self) -> None:
        """Make a user for each client and for what all read, and tell everything."""
        self.sessions["admin"] = session_of(self.server, self.server.token)
        for user in (READER, BATCHER, *(client.name for client in CLIENTS)):
            granted = await self.send("admin", "/v1/tokens", {"user_id": f"user-{uuid.uuid4()}"})
            self.tokens[user] = granted["token"]
            self.sessions[user] = session_of(self.server, granted["token"])
        await asyncio.gather(self._runs(), self._batches(), *map(self._own, CLIENTS))

    async def _runs(self) -> None:
        for job in JOBS:
            await self.send(READER, "/v1/jobs/", job)
        for run in (*RUNS, RICH, BROKEN, *ENDED):
            await self.send(READER, "/v1/runs/", run)
        for run_id, steps in STEPS.items():
            detailed = [{**step, **METRICS, **PROVIDER} if step is FULL_STEP else step for step in steps]
            await self.send(READER, f"/v1/runs/{run_id}/steps", detailed)
        for run_id, said in MESSAGES.items():
            await self.send(READER, f"/v1/runs/{run_id}/messages", said[:3])
            for message in said[3:]:
                await self.send(READER, f"/v1/runs/{run_id}/messages", message)
        for run_id in (TOLD, COMPACTED):
            await self.send(READER, f"/v1/runs/{run_id}", {"status": "completed", "stop_reason": "end_turn"}, "PATCH")

    async def _batches(self) -> None:
        for batch in BATCHES:
            await self.send(BATCHER, "/v1/messages/batches", {**batch, "requests": REQUESTS})
        async with self.sessions[BATCHER].get("/v1/runs/?limit=1000") as response:
            listed = await response.json()
        run_of = {run["agent_id"]: run["id"] for run in listed if run["metadata"]["batch_id"] == BATCH}
        for agent, message in spoken_in_turns():
            await self.send(BATCHER, f"/v1/runs/{run_of[agent]}/messages", message)

    async def _own(self, client: Client) -> None:
        for run in runs_of(client):
            await self.send(client.name, "/v1/runs/", run)
        for label in ("cancel", "delete"):
            await self.send(client.name, "/v1/jobs/", {"id": own(client, "job", label), "status": "running"})
        await self.send(client.name, "/v1/messages/batches", {"id": own(client, "job", "batch"), "requests": REQUESTS})
        step = {"id": own(client, "step", "feedback"), "status": "success"}
        await self.send(client.name, f"/v1/runs/{own(client, 'run', 'feedback')}/steps", step)
        await self.send(client.name, f"/v1/runs/{own(client, 'run', 'live')}/messages", live_message(client, 0))

    async def go_on(self, client: Client) -> None:
        """Say something more in the run that a client follows live, and end it."""
        run = f"/v1/runs/{own(client, 'run', 'live')}"
        await self.send(client.name, f"{run}/messages", live_message(client, 1))
        await self.send(client.name, run, {"status": "completed", "stop_reason": "max_steps"}, "PATCH")

    async def close(self) -> None:
        for session in self.sessions.values():
            await session.close()


def live_message(client: Client, number: int) -> dict[str, Any]:
    """Return what is said in the run that a client follows live: 0 before it looks, 1 when it has seen that."""
    id = own(client, "message", f"live {number}")
    return {"message_type": "assistant_message", "id": id, "content": f"part {number}"}
