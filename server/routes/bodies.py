"""Bodies that producers send (contract 4)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ledger import ids, limits
from ledger.decider import Change, Create
from ledger.events import Changed, Created, ErrorInfo, StopReason
from ledger.scalars import JobId, Label, Nanoseconds, RunId, Time, Timeout, Url
from server.exchange import Exchange

JobStatus = Literal["created", "pending", "running", "completed", "failed", "cancelled", "expired"]
RunStatus = Literal["created", "running", "completed", "failed", "cancelled"]


class _Producer(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    time: Time | None = None
    metadata: dict[str, Any] | None = None
    stop_reason: StopReason | None = None
    ttft_ns: Nanoseconds | None = None
    total_duration_ns: Nanoseconds | None = None
    error: ErrorInfo | None = None

    def changed(self, by: str | None, *, metadata: dict[str, Any] | None) -> Changed:
        """Return what the body says beside the status."""
        facts = Changed(
            by=by,
            stop_reason=self.stop_reason,
            metadata=metadata,
            ttft_ns=self.ttft_ns,
            total_duration_ns=self.total_duration_ns,
            error=self.error,
        )
        limits.check(facts)
        return facts


class CreateJob(_Producer, kw_only=True):
    """A new job; with a later ``status`` it walks the whole chain at once."""

    id: JobId | None = None
    status: JobStatus = "created"
    agent_id: Label | None = None
    background: bool | None = None
    callback_url: Url | None = None
    timeout_s: Timeout | None = None

    def command(self, exchange: Exchange) -> Create:
        """Return the command, with an id where the client chose none."""
        return create(self, "job", exchange)


class CreateRun(_Producer, kw_only=True):
    """A new run; with a later ``status`` it walks the whole chain at once."""

    agent_id: Label
    id: RunId | None = None
    status: RunStatus = "created"
    background: bool | None = None
    callback_url: Url | None = None
    timeout_s: Timeout | None = None
    conversation_id: Label | None = None
    base_template_id: Label | None = None
    request_config: dict[str, Any] | None = None

    def command(self, exchange: Exchange) -> Create:
        """Return the command, with an id where the client chose none."""
        return create(self, "run", exchange)


class ChangeJob(_Producer, kw_only=True):
    """What changes of a job; ``metadata`` is merged key by key, absent fields stay as they are."""

    status: JobStatus | None = None


class ChangeRun(_Producer, kw_only=True):
    """What changes of a run; ``metadata`` is merged key by key, absent fields stay as they are."""

    status: RunStatus | None = None


def create(body: CreateJob | CreateRun, kind: str, exchange: Exchange) -> Create:
    """Return the command that creates what a body describes."""
    caller = exchange.caller
    prefix = "run" if kind == "run" else "job"
    id = ids.make(prefix) if body.id is None else ids.parse(body.id, prefix)
    facts = Created(
        by=caller.by,
        user_id=caller.user_id,
        project_id=caller.project_id,
        background=body.background,
        metadata=body.metadata,
        request_config=getattr(body, "request_config", None),
        callback_url=body.callback_url,
        timeout_s=body.timeout_s,
        agent_id=body.agent_id,
        conversation_id=getattr(body, "conversation_id", None),
        base_template_id=getattr(body, "base_template_id", None),
    )
    limits.check(facts)
    if facts.callback_url is not None:
        exchange.app.config.callback_rules.check_url(facts.callback_url)
    return Create(id=id, kind=kind, facts=facts, status=body.status, end=body.changed(caller.by, metadata=None))


def change(body: ChangeJob | ChangeRun, id: str, exchange: Exchange) -> Change:
    """Return the command that changes what a body describes."""
    facts = body.changed(exchange.caller.by, metadata=body.metadata)
    return Change(id=id, status=body.status, facts=facts, etags=exchange.if_match())
