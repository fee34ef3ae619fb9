"""What query parameters, path parameters and headers mean: the one place that says it, by name."""

from __future__ import annotations

from typing import Final

PARAMETERS: Final[dict[str, str]] = {
    "active": "True: only those that are created or running.",
    "after": "Those that come later in the asked order than this one.",
    "agent_id": "Only those of this agent.",
    "agent_ids": "Only those of these agents.",
    "as_of": "Answer as of a point in history: a log position (what the ledger knew then) or a time (what had happened "
    "by then).",
    "ascending": "Used only where `order` is absent: true is asc. Deprecated.",
    "background": "Only those that ran in the background (true), or only the others (false).",
    "before": "Those that come earlier in the asked order than this one.",
    "conversation_id": "Only those of this conversation.",
    "created_after": "Only those created after this time.",
    "created_before": "Only those created before this time.",
    "duration_operator": "How `duration_value` compares; gt unless said.",
    "duration_percentile": "Only those that took at least as long as this percentage of all that the filters let "
    "through.",
    "duration_value": "Compare the total duration with this, in nanoseconds.",
    "end_date": "Only those created at this time or earlier.",
    "feedback": "Only those with this feedback.",
    "folder_id": "Another name of `source_id`.",
    "has_feedback": "Only those with feedback (true), or only those without (false).",
    "job_type": "What to list, in the shape of a job; `job` unless said.",
    "limit": "How many to answer with, at most.",
    "model": "Only those of this model.",
    "order": "By time, ascending or descending. Unless said: desc; for routes that end in /active, asc.",
    "order_by": "What to sort by, before the id; `created_at` unless said.",
    "project_id": "Only those of this project.",
    "run_id": "Only this run.",
    "source_id": "Only those whose `metadata.source_id` is this.",
    "start_date": "Only those created at this time or later.",
    "status": "Only those with one of these statuses.",
    "statuses": "Another name of `status`.",
    "step_count": "Compare the number of steps with this.",
    "step_count_operator": "How `step_count` compares; eq unless said.",
    "stop_reason": "Only those that stopped for this reason.",
    "subject": "Only events of this job, run, batch or token.",
    "tags": "Only those with one of these tags.",
    "template_family": "Only those of this base template.",
    "tools_used": "Only those that called one of these tools.",
    "trace_ids": "Only those with one of these trace ids.",
    "types": "Only events of these types.",
}
"""Query parameters. A name means the same on every route; add yours here."""

POSITIONS: Final[dict[str, str]] = {
    "after": "Those that come after this position of the log, or this version of the history.",
    "before": "Those that come before this version of the history.",
}
"""Parameters that are places in the log where they are integers."""

PATHS: Final[dict[str, str]] = {
    "agent_id": "Which agent.",
    "batch_id": "Which batch.",
    "conversation_id": "Which conversation.",
    "job_id": "Which job; a batch or run is shown as a job too.",
    "message_id": "Which message.",
    "run_id": "Which run.",
    "step_id": "Which step.",
    "token_id": "Which token.",
}
"""Path parameters: the placeholders of patterns."""


def parameter(name: str, schema: dict[str, object]) -> str:
    """Return what a query parameter means, empty where nothing is said of it."""
    if schema.get("type") == "integer" and name in POSITIONS:
        return POSITIONS[name]
    return PARAMETERS.get(name, "")
