"""Bodies that producers send (contract 4)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ledger import ids
from ledger.decider import Change, Create
from ledger.errors import invalid
from ledger.events import Changed, Created, ErrorInfo, StopReason
from server.exchange import Exchange

URL_SIZE_MAX = 2048
"""Characters of a callback URL."""
TIMEOUT_MAX_S = 10 * 365 * 86400.0
"""Ten years: beyond any job, and far from overflowing microseconds."""
DURATION_MAX_NS = 2**63 - 1

JobStatus = Literal["created", "pending", "running", "completed", "failed", "cancelled", "expired"]
RunStatus = Literal["created", "running", "completed", "failed", "cancelled"]


class _Producer(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    time: str | None = None
    metadata: dict[str, Any] | None = None
    stop_reason: StopReason | None = None
    ttft_ns: int | None = None
    total_duration_ns: int | None = None
    error: ErrorInfo | None = None

    def changed(self, by: str | None, *, metadata: dict[str, Any] | None) -> Changed:
        """Return what the body says beside the status."""
        for name in ("ttft_ns", "total_duration_ns"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= DURATION_MAX_NS:
                raise invalid(name, "must be nanoseconds from 0", f"0 to {DURATION_MAX_NS}")
        return Changed(
            by=by,
            stop_reason=self.stop_reason,
            metadata=metadata,
            ttft_ns=self.ttft_ns,
            total_duration_ns=self.total_duration_ns,
            error=self.error,
        )


class CreateJob(_Producer, kw_only=True):
    """``POST /v1/jobs/``."""

    id: str | None = None
    status: JobStatus = "created"
    agent_id: str | None = None
    background: bool | None = None
    callback_url: str | None = None
    timeout_s: float | None = None

    def command(self, exchange: Exchange) -> Create:
        """Return the command, with an id where the client chose none."""
        return create(self, "job", exchange)


class CreateRun(_Producer, kw_only=True):
    """``POST /v1/runs/``."""

    agent_id: str
    id: str | None = None
    status: RunStatus = "created"
    background: bool | None = None
    callback_url: str | None = None
    timeout_s: float | None = None
    conversation_id: str | None = None
    base_template_id: str | None = None
    request_config: dict[str, Any] | None = None

    def command(self, exchange: Exchange) -> Create:
        """Return the command, with an id where the client chose none."""
        return create(self, "run", exchange)


class ChangeJob(_Producer, kw_only=True):
    """``PATCH /v1/jobs/{id}``."""

    status: JobStatus | None = None


class ChangeRun(_Producer, kw_only=True):
    """``PATCH /v1/runs/{id}``."""

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
        callback_url=_callback_url(body.callback_url),
        timeout_s=_timeout(body.timeout_s),
        agent_id=_label(body, "agent_id"),
        conversation_id=_label(body, "conversation_id"),
        base_template_id=_label(body, "base_template_id"),
    )
    return Create(id=id, kind=kind, facts=facts, status=body.status, end=body.changed(caller.by, metadata=None))


def change(body: ChangeJob | ChangeRun, id: str, exchange: Exchange) -> Change:
    """Return the command that changes what a body describes."""
    facts = body.changed(exchange.caller.by, metadata=body.metadata)
    return Change(id=id, status=body.status, facts=facts, etags=exchange.if_match())


def _label(body: CreateJob | CreateRun, name: str) -> str | None:
    value: str | None = getattr(body, name, None)
    return None if value is None else ids.label(value, name)


def _callback_url(url: str | None) -> str | None:
    if url is None:
        return None
    if len(url) > URL_SIZE_MAX or not url.startswith(("http://", "https://")) or any(ord(char) <= 32 for char in url):
        what = f"must be an http or https URL of at most {URL_SIZE_MAX} characters without blanks"
        raise invalid("callback_url", what, "https://…")
    return url


def _timeout(timeout_s: float | None) -> float | None:
    if timeout_s is not None and not 0 < timeout_s <= TIMEOUT_MAX_S:
        raise invalid("timeout_s", "must be a number of seconds above 0", f"up to {TIMEOUT_MAX_S:g}")
    return timeout_s
