"""Where the time of a step went, and what its provider was sent: from what was said of it, else from its events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ledger.jsontext import INT_MAX, INT_MIN
from ledger.times import to_text

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class StepMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of a step went. ``*_ns`` are nanoseconds; ``*_start_ns`` since 1970 UTC."""

    id: str
    run_id: str | None
    agent_id: str | None
    provider_id: str | None
    project_id: str | None
    step_start_ns: int | None
    step_ns: int | None
    llm_request_start_ns: int | None
    llm_request_ns: int | None
    tool_execution_ns: int | None
    base_template_id: str | None
    template_id: str | None = None


class ProviderTrace(msgspec.Struct, frozen=True, kw_only=True):
    """What was sent to the model's provider in a step, and what came back."""

    id: str
    step_id: str
    run_id: str
    agent_id: str | None
    request_json: dict[str, Any]
    response_json: dict[str, Any]
    created_at: str
    latency_ms: int | None


DETAILS = (
    "steps.id, steps.run_id, coalesce(steps.agent_id, runs.agent_id), coalesce(steps.project_id, runs.project_id), "
    "runs.base_template_id, steps.began_us, steps.ended_us, steps.said"
)
"""What metrics and the provider's trace of a step are made of, from ``steps`` joined with ``runs``."""


def metrics(row: Sequence[Any]) -> StepMetrics:
    """Return the metrics of a step from a row of ``DETAILS``: what was said, else what its events' times tell."""
    id, run_id, agent_id, project_id, base_template_id, began_us, ended_us, raw = row
    said = _decode(raw)
    start, length = said.get("step_start_ns"), said.get("step_ns")
    seen_ns = None if ended_us is None or ended_us == began_us else (ended_us - began_us) * 1000
    if start is None:
        start = ended_us * 1000 - length if ended_us is not None and length is not None else began_us * 1000
        start = within_64_bits(start)
    return StepMetrics(
        id=id,
        run_id=run_id,
        agent_id=agent_id,
        provider_id=said.get("provider_id"),
        project_id=project_id,
        step_start_ns=start,
        step_ns=seen_ns if length is None else length,
        llm_request_start_ns=said.get("llm_request_start_ns"),
        llm_request_ns=said.get("llm_request_ns"),
        tool_execution_ns=said.get("tool_execution_ns"),
        base_template_id=base_template_id,
    )


def within_64_bits(value: int) -> int | None:
    """Return an integer that clients can hold, None for one beyond: nanoseconds reach from 1677 to 2262."""
    return value if INT_MIN <= value <= INT_MAX else None


def provider_trace(row: Sequence[Any]) -> ProviderTrace | None:
    """Return the provider's trace of a step from a row of ``DETAILS``; None when the producer recorded none."""
    id, run_id, agent_id, _, _, began_us, _, raw = row
    said = _decode(raw)
    if "provider_request" not in said and "provider_response" not in said:
        return None
    spent_ns = said.get("llm_request_ns")
    return ProviderTrace(
        id=f"provider_trace-{id.partition('-')[2]}",
        step_id=id,
        run_id=run_id,
        agent_id=agent_id,
        request_json=said.get("provider_request", {}),
        response_json=said.get("provider_response", {}),
        created_at=to_text(began_us),
        latency_ms=None if spent_ns is None else round(spent_ns / 1e6),
    )
