"""What query parameters, path parameters and headers mean: the one place that says it, by name."""

from __future__ import annotations

from typing import Final

PARAMETERS: Final[dict[str, str]] = {
    "a": "The one run.",
    "active": "True: only those that are created or running.",
    "after": "Those that come later in the asked order than this one.",
    "agent_id": "Only those of this agent.",
    "agent_ids": "Only those of these agents.",
    "as_of": "Answer as of a point in history: a log position (what the ledger knew then) or a time (what had happened "
    "by then).",
    "ascending": "Used only where `order` is absent: true is asc. Deprecated.",
    "b": "The other run.",
    "background": "Only those that ran in the background (true), or only the others (false).",
    "before": "Those that come earlier in the asked order than this one.",
    "conversation_id": "Only those of this conversation.",
    "bucket": "How long the stretches of time are that counts are told by; auto chooses. Weeks begin on Monday, UTC.",
    "created_after": "Only those created after this time.",
    "created_before": "Only those created before this time.",
    "duration_operator": "How `duration_value` compares; gt unless said.",
    "duration_percentile": "Only those that took at least as long as this percentage of all that the filters let "
    "through.",
    "duration_value": "Compare the total duration with this, in nanoseconds.",
    "end_date": "Only those created at this time or earlier.",
    "error_type": "Only those with this type of error.",
    "feedback": "Only those with this feedback.",
    "folder_id": "Another name of `source_id`.",
    "from": "How many events the earlier tree has.",
    "full": "True: nothing is collapsed or shortened.",
    "has_feedback": "Only those with feedback (true), or only those without (false).",
    "job_type": "What to list, in the shape of a job; `job` unless said.",
    "kind": "Only those of this kind: of what failed, of the resources that say it, or of what is counted.",
    "limit": "How many to answer with, at most.",
    "model": "Only those of this model.",
    "new": "True: only causes that had never been seen before `since`.",
    "order": "By time, ascending or descending. Unless said: desc; for routes that end in /active, asc.",
    "order_by": "What to sort by, before the id; `created_at` unless said.",
    "position": "Which event, by its position in the log.",
    "project_id": "Only those of this project.",
    "query": 'What to look for: words that are all to be there, "phrases", `OR` between two of them, `-` before what '
    "must not be there, `*` behind the beginning of a word. Anything else only parts words.",
    "run_id": "Only this run.",
    "since": "Only what happened at this time or later, or after this position of the log.",
    "size": "How many events the tree has; all that there are unless said.",
    "source_id": "Only those whose `metadata.source_id` is this.",
    "start_date": "Only those created at this time or later.",
    "status": "Only those with one of these statuses.",
    "statuses": "Another name of `status`.",
    "step_count": "Compare the number of steps with this.",
    "step_count_operator": "How `step_count` compares; eq unless said.",
    "stop_reason": "Only those that stopped for this reason.",
    "stuck_for": "Only those that have not ended and of which nothing was heard for so many seconds: no change, step "
    "or message, nor of any run of a batch.",
    "subject": "Only events of this job, run, batch or token.",
    "tags": "Only those with one of these tags.",
    "template_family": "Only those of this base template.",
    "to": "How many events the later tree has; all that there are unless said.",
    "tool": "Only failures of one of these tools.",
    "tools_used": "Only those that called one of these tools.",
    "top": "How many agents and models to tell of: those with the most resources and tokens.",
    "trace_ids": "Only those with one of these trace ids.",
    "types": "Only events of these types.",
    "until": "Only what happened at this time or earlier.",
    "what": "Only where it is said there: in messages, errors, names of tools, metadata.",
}
"""Query parameters. A name means the same on every route; add yours here."""

POSITIONS: Final[dict[str, str]] = {
    "after": "Those that come after this position of the log, or this version of the history.",
    "before": "Those that come before this position of the log, or this version of the history.",
}
"""Parameters that are places in the log where they are integers."""

PATHS: Final[dict[str, str]] = {
    "agent_id": "Which agent.",
    "batch_id": "Which batch.",
    "conversation_id": "Which conversation.",
    "job_id": "Which job; a batch or run is shown as a job too.",
    "message_id": "Which message.",
    "run_id": "Which run.",
    "signature": "Which cause, by its signature.",
    "step_id": "Which step.",
    "token_id": "Which token.",
}
"""Path parameters: the placeholders of patterns."""


INFO: Final = """\
The whole history of AI-agent jobs, runs and batches, in one append-only log, behind the HTTP API of Letta V1.

Every change is an event, and none is ever changed; most reads can be asked `as_of` any point in history. A parameter
or field that a route does not know is refused. Times are ISO 8601; one without a zone is UTC. A trailing slash makes no
difference; `/v1/jobs…` is also `/api/jobs…`; every GET also answers HEAD."""

TOKEN: Final = "A token, `jl_…`, as the first `serve` prints it or `jobledger token create` makes it."  # noqa: S105

TAGS: Final[dict[str, str]] = {
    "agents": "Cancel the runs of an agent.",
    "batches": "Batches of runs: one run per request.",
    "conversations": "Cancel the runs of a conversation.",
    "events": "The whole log, as CloudEvents 1.0.",
    "failures": "Failures of runs, jobs, batches, steps and tools, grouped by cause.",
    "jobs": "Jobs: created, pending, running, then completed, failed, cancelled or expired.",
    "ledger": "How the ledger is.",
    "runs": "Runs of agents: created, running, then completed, failed or cancelled.",
    "search": "Full-text search of messages, errors, names of tools and metadata.",
    "server": "The server itself.",
    "stats": "Counts, rates and percentiles.",
    "steps": "Steps of runs.",
    "tokens": "Tokens and what they may do; for admins.",
}
TAG_OF_SEGMENT: Final[dict[str, str]] = {
    "_internal_runs": "runs",
    "docs": "server",
    "health": "server",
    "messages": "batches",
    "metrics": "server",
    "openapi.json": "server",
    "readyz": "server",
}
"""Headings of routes whose path does not begin with one."""

REQUEST_HEADERS: Final[dict[str, str]] = {
    "Idempotency-Key": "The same key and request gives the first answer again and appends nothing.",
    "If-Match": "Change only this version: an ETag, or a list of them.",
    "If-None-Match": "Answer 304 where this is still the version.",
    "Ledger-Position": "Wait until the views have this position of the log, as a write answered with it.",
    "X-Project-Id": "Limit the request to this project.",
    "user_id": "Act for this user; only an admin may act for another.",
}
ANSWER_HEADERS: Final[dict[str, str]] = {
    "Allow": "The methods that the path knows.",
    "ETag": "The version of the resource, in quotes.",
    "Idempotency-Replayed": "`true` where the answer is that of an earlier request with the same key.",
    "Ledger-Position": "The position of the log that the request led to.",
    "Link": 'The next page, `rel="next"`, while there is more.',
    "Location": "Where the new resource is.",
    "Retry-After": "Seconds to wait before another try.",
    "WWW-Authenticate": "`Bearer`.",
    "X-Request-Id": "The id of the request, the one sent or a new one; the server's log has it too.",
}
STATUSES: Final[dict[int, str]] = {
    200: "Done.",
    201: "Created.",
    304: "It is still the version that `If-None-Match` names.",
    400: "No JSON, a cursor of an unknown id, or contradictory parameters.",
    401: "No token that is in force.",
    403: "The token lacks the scope, or belongs to another user or project.",
    404: "There is no such resource, or it is another user's or project's.",
    405: "The path does not know the method.",
    408: "The body did not arrive in time.",
    409: "The rules do not allow the status, the id is taken, the key stands for another request, or there is nothing "
    "to cancel, or no callback to send.",
    410: "It was erased for good.",
    412: "`If-Match` does not name its version.",
    413: "The body is over the limit.",
    422: "Values that are not allowed; `details` lists each fault.",
    500: "Something went wrong in the server; its log has the request id.",
    503: "Not now; try again after `Retry-After` seconds.",
}


def parameter(name: str, schema: dict[str, object]) -> str:
    """Return what a query parameter means, empty where nothing is said of it."""
    if schema.get("type") == "integer" and name in POSITIONS:
        return POSITIONS[name]
    return PARAMETERS.get(name, "")
