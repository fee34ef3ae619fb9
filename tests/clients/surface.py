"""The clients that are driven, and what each has for jobs, runs, steps and batches: every method, every parameter.

A release on PyPI never changes, so this cannot go out of date; a test compares it with what the clients have.
"""

from __future__ import annotations

from tests.clients.driving import Client

_1_12_1 = """
    runs.retrieve run_id
    runs.list active after agent_id agent_ids ascending background before conversation_id limit order order_by statuses
              stop_reason
    runs.messages.list run_id after before limit order order_by
    runs.messages.stream path_run_id agent_id batch_size include_pings otid poll_interval body_run_id starting_after
    runs.steps.list run_id after before limit order order_by
    runs.usage.retrieve run_id
    runs.trace.retrieve run_id limit
    steps.retrieve step_id
    steps.list after agent_id before end_date feedback has_feedback limit model order order_by project_id start_date
               tags trace_ids
    steps.messages.list step_id after before limit order order_by
    steps.metrics.retrieve step_id
    steps.trace.retrieve step_id
    steps.feedback.create step_id feedback tags
    agents.messages.cancel agent_id run_ids
    conversations.cancel conversation_id agent_id
"""
_1_6_5 = """
    runs.retrieve run_id
    runs.list active after agent_id agent_ids ascending background before limit order order_by statuses stop_reason
    runs.messages.list run_id after before limit order order_by
    runs.messages.stream run_id batch_size include_pings poll_interval starting_after
    runs.steps.list run_id after before limit order order_by
    runs.usage.retrieve run_id
    steps.retrieve step_id
    steps.list after agent_id before end_date feedback has_feedback limit model order order_by project_id start_date
               tags trace_ids
    steps.messages.list step_id after before limit order order_by
    steps.metrics.retrieve step_id
    steps.trace.retrieve step_id
    steps.feedback.create step_id feedback tags
    batches.create requests callback_url
    batches.retrieve batch_id
    batches.list after before limit order order_by
    batches.cancel batch_id
    batches.messages.list batch_id after agent_id before limit order order_by
    agents.messages.cancel agent_id run_ids
"""
_0_1_324 = """
    jobs.list source_id before after limit active ascending
    jobs.list_active source_id before after limit ascending
    jobs.retrieve job_id
    jobs.delete job_id
    jobs.cancel_job job_id
    runs.retrieve run_id
    runs.delete run_id
    runs.list agent_id agent_ids background stop_reason after before limit active ascending
    runs.list_active agent_id background
    runs.stream run_id starting_after include_pings poll_interval batch_size
    runs.messages.list run_id before after limit order
    runs.steps.list run_id before after limit order
    runs.usage.retrieve run_id
    steps.retrieve step_id
    steps.list before after limit order order_by start_date end_date model agent_id trace_ids feedback has_feedback
               tags project_id
    steps.messages.list step_id before after limit order order_by
    steps.metrics.retrieve step_id
    steps.trace.retrieve step_id
    steps.feedback.create step_id feedback tags
    batches.create requests callback_url
    batches.retrieve batch_id
    batches.list before after limit order order_by
    batches.cancel batch_id
    batches.messages.list batch_id before after limit order order_by agent_id
    agents.messages.cancel agent_id run_ids
"""


def _methods(table: str) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for word in table.split():
        if "." in word:
            last = word
            found[last] = frozenset()
        else:
            found[last] |= {word}
    return found


METHODS = {"1.12.1": _methods(_1_12_1), "1.6.5": _methods(_1_6_5), "0.1.324": _methods(_0_1_324)}
"""Each version's methods, each with its parameters."""
CLIENTS = [Client(version, asynchronous) for version in METHODS for asynchronous in (False, True)]

UNKNOWN_TYPES = {
    "1.12.1": frozenset[str](),
    "1.6.5": frozenset({"summary_message", "event_message"}),
    "0.1.324": frozenset({"summary_message", "event_message"}),
}
"""Types of messages that a client cannot know: 1.6.5 calls them ``summary`` and ``event``, 0.1.324 has none such."""


def takes(client: Client, method: str, *parameters: str) -> bool:
    """Tell whether a client has a method with these parameters."""
    methods = METHODS[client.version]
    return method in methods and methods[method] >= set(parameters)
