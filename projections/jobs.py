"""The jobs view: each job as the 19 properties that V1 clients read (seed 000, and ``user_id`` as V1 sent it)."""

from __future__ import annotations

from typing import Any

import msgspec

from ledger.scalars import JobOrRunId, JobStatus, JobType, Nanoseconds, StopReason, Time
from ledger.state import State
from ledger.times import to_text
from projections.resources import ResourceProjection


class Job(msgspec.Struct, frozen=True):
    """A job (or a batch) on the wire. Times are ISO 8601 UTC with microseconds and ``Z``; ``*_ns`` nanoseconds."""

    id: JobOrRunId
    user_id: str | None
    created_by_id: str | None
    last_updated_by_id: str | None
    created_at: Time
    updated_at: Time | None
    status: JobStatus
    completed_at: Time | None
    stop_reason: StopReason | None
    metadata: dict[str, Any] | None
    job_type: JobType
    background: bool | None
    agent_id: str | None
    callback_url: str | None
    callback_sent_at: Time | None
    callback_status_code: int | None
    callback_error: str | None
    ttft_ns: Nanoseconds | None
    total_duration_ns: Nanoseconds | None


_encode = msgspec.json.Encoder().encode


def render(state: State) -> bytes:
    """Return the wire bytes of a job; also of a run, where it is asked for as a job."""
    ended, sent = state.ended_us, state.callback_sent_us
    return _encode(
        Job(
            state.id,
            state.user_id,
            state.created_by,
            state.updated_by,
            to_text(state.created_us),
            to_text(state.changed_us),
            state.status,
            None if ended is None else to_text(ended),
            state.stop_reason,
            state.metadata,
            state.kind,
            state.background,
            state.agent_id,
            state.callback_url,
            None if sent is None else to_text(sent),
            state.callback_status_code,
            state.callback_error,
            state.ttft_ns,
            state.duration_ns,
        )
    )


JOBS = ResourceProjection("jobs", "job", 5, render)
