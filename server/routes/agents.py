"""Cancel the runs of an agent or a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from aiohttp import web

from ledger import ids
from ledger.commands import is_cancellable
from ledger.decider import Command
from ledger.decider import cancel as cancel_command
from ledger.errors import NothingToCancel, invalid
from ledger.session import Session
from projections.query import Filters, Query
from server.exchange import Exchange, json_answer
from server.params import Params
from server.routing import Route

Outcome = Literal["cancelled", "failed"]
"""What became of each run: failed also means that it had ended before, or is not the agent's."""
DEFAULT = "default"
"""The conversation that an agent has when none was begun."""
RUNS_MAX = 1000
"""Runs that one request cancels; a further request takes the next ones."""


class CancelRuns(msgspec.Struct, forbid_unknown_fields=True):
    """Which runs to cancel; all active ones unless given."""

    run_ids: list[str] | None = None


async def cancel_agent(exchange: Exchange, agent_id: str) -> web.Response:
    """Cancel runs of an agent: ``{run_id: "cancelled" | "failed"}``."""
    return await _cancel(exchange, ids.label(agent_id, "agent_id"), "agent_id")


def agent_of(params: Params) -> str | None:
    """Return whose default conversation ``POST /v1/conversations/default/cancel`` means."""
    return params.text("agent_id")


async def cancel_conversation(exchange: Exchange, conversation_id: str) -> web.Response:
    """Cancel runs of a conversation: ``{run_id: "cancelled" | "failed"}``.

    As V1 had it, ``default`` with an agent, or the agent's id in the conversation's place, means all runs of the agent.
    """
    agent_id = exchange.asked(agent_of)
    if conversation_id == DEFAULT and agent_id is not None:
        return await _cancel(exchange, ids.label(agent_id, "agent_id"), "agent_id")
    if conversation_id.startswith("agent-"):
        return await cancel_agent(exchange, conversation_id)
    return await _cancel(exchange, ids.label(conversation_id, "conversation_id"), "conversation_id")


async def _cancel(exchange: Exchange, owner: str, field: str) -> web.Response:
    exchange.resource = f"{field.removesuffix('_id')}:{owner}"
    body = await exchange.body(CancelRuns)
    asked = body.run_ids if body.run_ids is not None else await _active(exchange, owner, field)
    if len(asked) > RUNS_MAX:
        raise invalid("run_ids", f"names {len(asked)} runs", f"at most {RUNS_MAX}")
    asked = list(dict.fromkeys(asked))
    context = exchange.context()
    if not asked and context.key is None:
        raise NothingToCancel(id=owner)
    mine: set[str] = set()

    def plan(session: Session) -> Sequence[Command]:
        for run in asked:
            state = session.state(run) if ids.is_id(run, "run") else None
            if (
                state is not None
                and getattr(state, field) == owner
                and exchange.sees(state)
                and state.deleted_us is None
            ):
                mine.add(run)
        active = [run for run in asked if run in mine and is_cancellable(session.state(run))]
        ended = [run for run in asked if run in mine and run not in active]
        return [cancel_command(run, by=exchange.caller.by) for run in (*ended, *active)]

    receipt = await exchange.app.ledger.execute_plan(plan, context, skip_refused=True)
    cancelled = {event.stream for event in receipt.events if event.type == "run.cancelled"}
    if body.run_ids is None:
        asked = asked if receipt.prior is None else sorted(cancelled)
        if not asked:
            raise NothingToCancel(id=owner)
    await exchange.wait_for_own(receipt.position)
    answer: dict[str, Outcome] = {run: "cancelled" if run in cancelled else "failed" for run in asked}
    return json_answer(answer, headers={"Ledger-Position": str(receipt.position)})


async def _active(exchange: Exchange, owner: str, field: str) -> list[str]:
    caller = exchange.caller
    filters = Filters(
        user_id=caller.owner_filter,
        project_id=caller.project_id,
        active=True,
        agent_ids=(owner,) if field == "agent_id" else None,
        conversation_id=owner if field == "conversation_id" else None,
    )
    await exchange.app.engine.wait_for(exchange.app.ledger.size, exchange.app.config.wait_timeout_s)
    return await exchange.app.views.ids(Query(table="runs", filters=filters, descending=False, limit=RUNS_MAX))


ROUTES = [
    Route(
        "POST",
        "/v1/agents/{agent_id}/messages/cancel",
        cancel_agent,
        "write",
        "Cancel an agent's runs",
        body=CancelRuns,
        answer=dict[str, Outcome],
    ),
    Route(
        "POST",
        "/v1/conversations/{conversation_id}/cancel",
        cancel_conversation,
        "write",
        "Cancel a conversation's runs",
        query=agent_of,
        body=CancelRuns,
        answer=dict[str, Outcome],
    ),
]
