"""Every fact that the ledger can hold: shapes of event data, and the envelope of a recorded event.

An event's ``type`` is ``<kind>.<verb>``; the verb names the shape of ``data``. A type's name and
meaning never change. A changed shape raises ``SCHEMA`` of its verb and comes with an upcast.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from ledger import jsontext
from ledger.errors import invalid
from ledger.scalars import Name, Nanoseconds, StepId, Tags, Tokens
from ledger.transitions import KINDS, LEGAL

StopReason = Literal[
    "end_turn", "error", "llm_api_error", "invalid_llm_response", "invalid_tool_call", "max_steps",
    "max_tokens_exceeded", "no_tool_call", "tool_rule", "cancelled", "insufficient_credits",
    "requires_approval", "context_window_overflow_in_system_prompt",
]  # fmt: skip
Scope = Literal["read", "write", "admin"]
StepStatus = Literal["pending", "success", "failed", "cancelled"]
CallbackError = Literal[
    "invalid_url",  # not http or https, no host, with userinfo, or not to be parsed
    "address_refused",  # the rules of addresses said no
    "name_not_resolved",
    "connection_failed",  # refused, unreachable, or reset while connecting
    "tls_failed",
    "timeout",  # in any phase
    "connection_lost",  # reset or closed before a whole head of an answer
    "invalid_response",  # no HTTP, or a head beyond the limits
    "redirect",  # 3xx: never followed
    "http_status",  # any other status that is not 2xx or 410
    "gone",  # 410: the receiver wants no more
    "interrupted",  # the server stopped meanwhile
]
"""Why an attempt did not deliver. The list is closed: a callback must not tell of a network what nobody may ask."""
AbandonReason = Literal["gone", "exhausted", "imported"]


class Request(msgspec.Struct, frozen=True):
    """The request that an idempotency key stood for, so that its first answer can be given again.

    ``digest``: SHA-256 of what was asked, hex. ``events``: how many events the append had; the one that holds
    the key is its last.
    """

    digest: str
    events: int


class Fact(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, forbid_unknown_fields=True):
    """What every fact may say: ``by`` an admin acting for the actor; ``imputed`` when the source never said it."""

    by: str | None = None
    imputed: bool = False
    request: Request | None = None


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What went wrong, as the producer saw it; shown as ``metadata.error``."""

    type: str | None = None
    message: str | None = None
    traceback: str | None = None


class Created(Fact, frozen=True, kw_only=True):
    """A resource began to exist. ``user_id`` owns it; ``timeout_s`` counts from ``running``."""

    user_id: str
    project_id: str | None = None
    agent_id: str | None = None
    conversation_id: str | None = None
    base_template_id: str | None = None
    background: bool | None = None
    metadata: dict[str, Any] | None = None
    request_config: dict[str, Any] | None = None
    callback_url: str | None = None
    timeout_s: float | None = None
    batch_id: str | None = None
    runs: list[str] | None = None


class Changed(Fact, frozen=True, kw_only=True):
    """A status was reached, or (``updated``) something else changed. Absent fields stay as they were.

    ``metadata`` is merged key by key. ``ttft_ns`` and ``total_duration_ns`` are nanoseconds.
    """

    stop_reason: StopReason | None = None
    metadata: dict[str, Any] | None = None
    agent_id: str | None = None
    ttft_ns: int | None = None
    total_duration_ns: int | None = None
    error: ErrorInfo | None = None


NOTHING: Final = Changed()
"""What most status changes say beyond their type; shared, so that folds can pass it over."""


class TokenUsage(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, forbid_unknown_fields=True):
    """Tokens of a whole run, for producers that count them there and not by the step. Absent: not reported."""

    prompt_tokens: Tokens | None = None
    completion_tokens: Tokens | None = None
    total_tokens: Tokens | None = None
    cached_input_tokens: Tokens | None = None
    cache_write_tokens: Tokens | None = None
    reasoning_tokens: Tokens | None = None
    step_count: Tokens | None = None


class RunUpdated(Changed, frozen=True, kw_only=True):
    """Something else than the status of a run changed. ``usage`` replaces what was said of it before."""

    usage: TokenUsage | None = None


class Step(Fact, frozen=True, kw_only=True):
    """A step of a run began, went on or ended: absent fields stay as they were (the Step of letta-client 1.12.1).

    ``*_ns`` are nanoseconds; ``*_start_ns`` since 1970 UTC. ``provider_request`` and ``provider_response`` are what was
    sent to the model's provider and what came back. ``feedback`` null takes feedback back.
    """

    id: StepId
    status: StepStatus | None = None
    agent_id: Name | None = None
    project_id: Name | None = None
    origin: Name | None = None
    provider_id: Name | None = None
    provider_name: Name | None = None
    provider_category: Name | None = None
    model: Name | None = None
    model_handle: Name | None = None
    model_endpoint: Name | None = None
    context_window_limit: Tokens | None = None
    prompt_tokens: Tokens | None = None
    completion_tokens: Tokens | None = None
    total_tokens: Tokens | None = None
    cached_input_tokens: Tokens | None = None
    cache_write_tokens: Tokens | None = None
    reasoning_tokens: Tokens | None = None
    prompt_tokens_details: dict[str, Any] | None = None
    completion_tokens_details: dict[str, Any] | None = None
    stop_reason: StopReason | None = None
    error_type: Name | None = None
    error_data: dict[str, Any] | None = None
    tags: Tags | None = None
    tid: Name | None = None
    trace_id: Name | None = None
    request_id: Name | None = None
    feedback: Literal["positive", "negative"] | msgspec.UnsetType | None = msgspec.UNSET
    step_start_ns: Nanoseconds | None = None
    step_ns: Nanoseconds | None = None
    llm_request_start_ns: Nanoseconds | None = None
    llm_request_ns: Nanoseconds | None = None
    tool_execution_ns: Nanoseconds | None = None
    provider_request: dict[str, Any] | None = None
    provider_response: dict[str, Any] | None = None


class Message(Fact, frozen=True, kw_only=True):
    """Something was said in a run: one part of the LettaMessage union, with every field that it came with.

    Make it with ``ledger.messages``, which checks it.
    """

    message: msgspec.Raw


class Refused(Fact, frozen=True, kw_only=True):
    """Somebody asked for a status that the rules did not allow; nothing changed."""

    asked: str
    found: str


class Deleted(Fact, frozen=True, kw_only=True):
    """The resource is hidden from reads; its history stays."""

    reason: str | None = None


class Erased(Fact, frozen=True, kw_only=True):
    """The payloads of the stream's earlier events are gone for good; their digests stay."""

    reason: str


class Attempted(Fact, frozen=True, kw_only=True):
    """A callback was sent: ``status_code`` of the answer, and ``error`` unless that was a 2xx.

    The event's time is when the answer's head or the error came, ``duration_ns`` after it was sent. ``due_us``: when it
    is due again, microseconds since 1970; absent when it is not, or when somebody queued it again meanwhile.
    """

    number: int
    duration_ns: int
    status_code: int | None = None
    error: CallbackError | None = None
    due_us: int | None = None


class Delivered(Fact, frozen=True, kw_only=True):
    """A callback was answered with a 2xx: nothing is owed any more."""


class Abandoned(Fact, frozen=True, kw_only=True):
    """A callback was given up.

    ``gone``: the receiver answered 410; ``exhausted``: the last attempt of the schedule failed; ``imported``: what
    another ledger recorded owes nothing here.
    """

    reason: AbandonReason


class Requeued(Fact, frozen=True, kw_only=True):
    """Somebody asked for a callback to be sent again: it is owed anew, at once, with the whole schedule before it."""

    reason: str | None = None


class Granted(Fact, frozen=True, kw_only=True):
    """A token came into force; only the SHA-256 (hex) of it is kept. ``expires_us``: microseconds since 1970."""

    user_id: str
    scopes: list[Scope]
    token_sha256: str
    project_id: str | None = None
    expires_us: int | None = None


class Revoked(Fact, frozen=True, kw_only=True):
    """A token is no longer in force."""

    reason: str | None = None


class TypeInfo(msgspec.Struct, frozen=True):
    """What the ledger knows of one event type. ``status`` is what the resource has after it, where it sets one."""

    name: str
    kind: str
    verb: str
    status: str | None
    shape: type[Fact]
    schema: int
    decode: Any


SCHEMA: Final = 1
"""The version of shapes that never changed."""
_CHANGED_SHAPES: Final = {"run.updated": 2}
"""The version of the others; each comes with an upcast. run.updated 2: ``usage``."""

_DECODE: Final[dict[type[Fact], Any]] = {
    shape: msgspec.json.Decoder(shape).decode
    for shape in (
        Created, Changed, RunUpdated, Step, Message, Refused, Deleted, Erased, Attempted, Delivered, Abandoned,
        Requeued, Granted, Revoked,
    )
}  # fmt: skip


def _shapes() -> dict[str, TypeInfo]:
    found: dict[str, TypeInfo] = {}

    def add(kind: str, verb: str, status: str | None, shape: type[Fact]) -> None:
        name = f"{kind}.{verb}"
        found[name] = TypeInfo(name, kind, verb, status, shape, _CHANGED_SHAPES.get(name, SCHEMA), _DECODE[shape])

    for kind in KINDS:
        for status in LEGAL[kind]:
            if status is not None:
                add(kind, status, status, Created if status == "created" else Changed)
        add(kind, "updated", None, RunUpdated if kind == "run" else Changed)
        add(kind, "refused", None, Refused)
        add(kind, "deleted", None, Deleted)
        add(kind, "erased", None, Erased)
    add("run", "step", None, Step)
    add("run", "message", None, Message)
    add("callback", "attempted", None, Attempted)
    add("callback", "delivered", None, Delivered)
    add("callback", "abandoned", None, Abandoned)
    add("callback", "requeued", None, Requeued)
    add("access", "granted", None, Granted)
    add("access", "revoked", None, Revoked)
    return found


TYPES: Final[dict[str, TypeInfo]] = _shapes()
"""Every event type by its name."""
QUIET: Final = frozenset({"run.step", "run.message"})
"""Types that tell what happened within a run: they leave the run, as a resource, as it was."""
ERASURES: Final = frozenset(name for name, info in TYPES.items() if info.verb == "erased")
"""Types that erase the data of what stands before them in their stream, in the transaction that records them."""
CALLBACK_TYPES: Final = frozenset(name for name, info in TYPES.items() if info.kind == "callback")
"""Types that tell what became of a callback; they stand in the stream of the job, batch or run that owes it."""


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """One event of the log, as stored. Times are integer microseconds since 1970 UTC; ``data`` is compact JSON.

    ``data`` and ``salt`` are None once erased; ``digest`` then keeps SHA-256(salt + data), hex.
    """

    position: int
    stream: str
    version: int
    type: str
    schema: int
    time: int
    recorded: int
    actor: str
    key: str | None
    correlation: str | None
    data: bytes | None
    salt: bytes | None
    digest: str | None = None


class Draft(msgspec.Struct, frozen=True, gc=False):
    """One event that is to be appended: what the ledger does not add by itself."""

    stream: str
    type: str
    time: int
    actor: str
    fact: Fact
    data: bytes
    key: str | None = None
    correlation: str | None = None
    schema: int = SCHEMA


_encode = msgspec.json.Encoder().encode


def draft(
    stream: str,
    type: str,
    fact: Fact,
    *,
    time: int,
    actor: str,
    key: str | None = None,
    correlation: str | None = None,
) -> Draft:
    """Make a draft of today's schema from a fact.

    Raises ``InvalidInput`` for what no log can hold: text that is no Unicode, integers beyond 64 bits.
    """
    if fact is NOTHING:
        data = b"{}"
    else:
        try:
            data = _encode(fact)
        except UnicodeEncodeError as error:
            raise invalid("data", "holds text that is no Unicode") from error
        jsontext.check_bounds(data, "data", jsontext.DEPTH_MAX + 1)  # a message in it may be as deep as a request
        jsontext.check_long_integers(data, "data")
    return Draft(stream, type, time, actor, fact, data, key, correlation, TYPES[type].schema)
