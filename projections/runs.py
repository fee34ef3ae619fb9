"""The runs view: each run as the 17 properties that V1 clients read (seed 001)."""

from __future__ import annotations

from typing import Any

import msgspec

from ledger.scalars import Nanoseconds, RunId, RunStatus, StopReason, Time
from ledger.state import State
from ledger.times import to_text
from projections.resources import ResourceProjection


class Run(msgspec.Struct, frozen=True):
    """A run on the wire. Times are ISO 8601 UTC with microseconds and ``Z``; ``*_ns`` nanoseconds."""

    id: RunId
    status: RunStatus
    created_at: Time
    completed_at: Time | None
    agent_id: str
    conversation_id: str | None
    base_template_id: str | None
    background: bool | None
    metadata: dict[str, Any] | None
    request_config: dict[str, Any] | None
    stop_reason: StopReason | None
    callback_url: str | None
    callback_sent_at: Time | None
    callback_status_code: int | None
    callback_error: str | None
    ttft_ns: Nanoseconds | None
    total_duration_ns: Nanoseconds | None


_encode = msgspec.json.Encoder().encode


def render(state: State) -> bytes:
    """Return the wire bytes of a run."""
    ended, sent = state.ended_us, state.callback_sent_us
    return _encode(
        Run(
            state.id,
            state.status,
            to_text(state.created_us),
            None if ended is None else to_text(ended),
            state.agent_id or "",
            state.conversation_id,
            state.base_template_id,
            state.background,
            state.metadata,
            state.request_config,
            state.stop_reason,
            state.callback_url,
            None if sent is None else to_text(sent),
            state.callback_status_code,
            state.callback_error,
            state.ttft_ns,
            state.duration_ns,
        )
    )


RUNS = ResourceProjection(
    "runs",
    "run",
    5,
    render,
    (
        ("conversation", "(conversation_id, created_us, id)", "conversation_id IS NOT NULL"),
        ("batch", "(batch_id)", "batch_id IS NOT NULL"),
        ("duration", "(ifnull(duration_ns, -1), id)", ""),
        ("told", "(created_us, id)", "usage IS NOT NULL"),
    ),
)
