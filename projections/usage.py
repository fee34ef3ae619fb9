"""What a run used: tokens summed over its steps, its time, its tools; derived from the rows of its steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from ledger.events import TokenUsage
from projections import steps
from projections.stepmetrics import within_64_bits
from projections.views import Views


class PromptTokensDetails(msgspec.Struct, frozen=True, kw_only=True):
    """How prompt tokens were served; null where no provider reported it."""

    cached_tokens: int | None
    cache_read_tokens: int | None
    cache_creation_tokens: int | None


class CompletionTokensDetails(msgspec.Struct, frozen=True, kw_only=True):
    """What completion tokens were spent on; null where no provider reported it."""

    reasoning_tokens: int | None


class UsageStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of a run: sums over its steps; where no step counts them, what the producer told of the whole run."""

    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    step_count: int
    cached_input_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    prompt_tokens_details: PromptTokensDetails | None
    completion_tokens_details: CompletionTokensDetails | None


class RunMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Time, steps and tools of a run. ``*_ns`` are nanoseconds; ``run_start_ns`` since 1970 UTC."""

    id: str
    agent_id: str | None
    project_id: str | None
    run_start_ns: int | None
    run_ns: int | None
    num_steps: int
    tools_used: list[str]
    base_template_id: str | None
    template_id: str | None = None


_COUNTED = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_input_tokens", "cache_write_tokens",
            "reasoning_tokens", "cached_tokens", "cache_read_tokens")  # fmt: skip
_SUMS = ", ".join(("count(*)", *(f"sum({name})" for name in _COUNTED)))
SUMS = f"SELECT {_SUMS} FROM steps WHERE run_id = :id"
"""Sums over all steps of the run ``:id``."""
SUMS_OF = f"SELECT run_id, {_SUMS} FROM steps WHERE run_id IN (SELECT value FROM json_each(:ids)) GROUP BY run_id"
"""The same of each of the runs ``:ids``, a JSON array, behind the run's id; of those without steps there is no row."""
TOLD = "SELECT usage FROM runs WHERE id = :id"
"""What the producer told of the whole run ``:id``."""
METRICS = (
    "SELECT id, agent_id, project_id, created_us, running_us, duration_ns, base_template_id, "
    "(SELECT count(*) FROM steps WHERE run_id = runs.id) FROM runs WHERE id = :id"
)
TOOLS = "SELECT tool FROM tools WHERE run_id = :id ORDER BY position, place"

_told = msgspec.json.Decoder(TokenUsage).decode


def usage(sums: Sequence[Any], told: bytes | None) -> UsageStatistics:
    """Return the usage of a run from a row of ``SUMS`` and one of ``TOLD``."""
    count, *numbers = sums
    summed = dict(zip(_COUNTED, numbers, strict=True))
    whole = TokenUsage() if told is None else _told(told)

    def of(name: str) -> int | None:
        value: int | None = summed[name]
        return value if value is not None else getattr(whole, name)

    written, reasoning = of("cache_write_tokens"), of("reasoning_tokens")
    cached = summed["cached_tokens"]
    if cached is None and summed["cache_read_tokens"] is None:
        cached = of("cached_input_tokens")
    prompt = PromptTokensDetails(
        cached_tokens=cached, cache_read_tokens=summed["cache_read_tokens"], cache_creation_tokens=written
    )
    is_told = any(value is not None for value in (cached, summed["cache_read_tokens"], written))
    nothing = 0 if not count else None
    sent, made, total = of("prompt_tokens"), of("completion_tokens"), of("total_tokens")
    if total is None and (sent is not None or made is not None):
        total = (sent or 0) + (made or 0)
    return UsageStatistics(
        prompt_tokens=_or(sent, nothing),
        completion_tokens=_or(made, nothing),
        total_tokens=_or(total, nothing),
        step_count=count or whole.step_count or 0,
        cached_input_tokens=of("cached_input_tokens"),
        cache_write_tokens=written,
        reasoning_tokens=reasoning,
        prompt_tokens_details=prompt if is_told else None,
        completion_tokens_details=None if reasoning is None else CompletionTokensDetails(reasoning_tokens=reasoning),
    )


def folded(known: Iterable[steps.State], told: bytes | None) -> UsageStatistics:
    """Return the usage of a run from its folded steps, and what the producer told of it whole."""
    rows = list(known)
    counts = ([count for step in rows if (count := getattr(step, name)) is not None] for name in _COUNTED)
    return usage([len(rows), *(sum(each) if each else None for each in counts)], told)


def _or(value: int | None, otherwise: int | None) -> int | None:
    return otherwise if value is None else value


def metrics(row: Sequence[Any], tools: Sequence[Sequence[str]]) -> RunMetrics:
    """Return the metrics of a run from a row of ``METRICS`` and those of ``TOOLS``."""
    id, agent_id, project_id, created_us, running_us, duration_ns, base_template_id, num_steps = row
    return RunMetrics(
        id=id,
        agent_id=agent_id,
        project_id=project_id,
        run_start_ns=within_64_bits((created_us if running_us is None else running_us) * 1000),
        run_ns=duration_ns,
        num_steps=num_steps,
        tools_used=[tool for (tool,) in tools],
        base_template_id=base_template_id,
    )


async def usage_of(views: Views, run_id: str) -> UsageStatistics:
    """Return what a run used so far."""
    sums = await views.read(SUMS, {"id": run_id})
    told = await views.read(TOLD, {"id": run_id})
    return usage(sums[0], told[0][0] if told else None)


async def metrics_of(views: Views, run_id: str) -> RunMetrics:
    """Return the metrics of a run that the views hold."""
    rows = await views.read(METRICS, {"id": run_id})
    return metrics(rows[0], await views.read(TOOLS, {"id": run_id}))
