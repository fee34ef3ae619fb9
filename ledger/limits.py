"""What the values of a fact may be, however it came: by a command, a bulk append, an import or Python."""

from __future__ import annotations

from typing import get_args

import msgspec

from ledger import ids, messages, times
from ledger.errors import invalid
from ledger.events import Attempted, CallbackError, Changed, Created, Erased, Fact, Message, Requeued, RunUpdated, Step
from ledger.scalars import DURATION_MAX_NS, NAME_SIZE_MAX, TAGS_MAX, TIMEOUT_MAX_S, TOKENS_MAX, URL_SIZE_MAX

_STEP_TEXTS = (
    "agent_id", "project_id", "origin", "provider_id", "provider_name", "provider_category", "model", "model_handle",
    "model_endpoint", "error_type", "tid", "trace_id", "request_id",
)  # fmt: skip
_COUNTS = (
    "context_window_limit", "prompt_tokens", "completion_tokens", "total_tokens", "cached_input_tokens",
    "cache_write_tokens", "reasoning_tokens",
)  # fmt: skip
_STEP_TIMES = ("step_start_ns", "step_ns", "llm_request_start_ns", "llm_request_ns", "tool_execution_ns")
_DETAILS = ("cached_tokens", "cache_read_tokens", "cache_creation_tokens", "reasoning_tokens")


def check(fact: Fact, stream: str | None = None) -> None:
    """Raise ``InvalidInput`` for a value that no resource can have. ``stream``: whose event it is to be."""
    if isinstance(fact, Message):
        messages.check(bytes(fact.message), "data.message.", stream)
    elif isinstance(fact, Step):
        _check_step(fact)
    elif isinstance(fact, Changed):
        if isinstance(fact, RunUpdated) and fact.usage is not None:
            _check_counts(fact.usage, (*_COUNTS[1:], "step_count"), "usage.")
        _check_duration(fact.ttft_ns, "ttft_ns")
        _check_duration(fact.total_duration_ns, "total_duration_ns")
        _check_label(fact.agent_id, "agent_id")
    elif isinstance(fact, Created):
        ids.label(fact.user_id, "user_id")
        for name in ("project_id", "agent_id", "conversation_id", "base_template_id"):
            _check_label(getattr(fact, name), name)
        _check_callback_url(fact.callback_url)
        if fact.timeout_s is not None and not 0 < fact.timeout_s <= TIMEOUT_MAX_S:
            raise invalid("timeout_s", "must be a number of seconds above 0", f"up to {TIMEOUT_MAX_S:g}")
    elif isinstance(fact, Attempted):
        _check_attempt(fact)
    elif isinstance(fact, Requeued | Erased) and fact.reason is not None:
        ids.label(fact.reason, "reason", NAME_SIZE_MAX)


def _check_attempt(attempt: Attempted) -> None:
    _check_count(attempt.number, "number")
    _check_duration(attempt.duration_ns, "duration_ns")
    if attempt.status_code is not None and not 100 <= attempt.status_code <= 999:
        raise invalid("status_code", "is none of HTTP", "100 to 999")
    if attempt.error is None and (attempt.status_code is None or attempt.status_code // 100 != 2):
        raise invalid("error", "may be missing only where the answer was a 2xx", list(get_args(CallbackError)))
    if attempt.due_us is not None:
        times.check_range(attempt.due_us, "due_us")


def _check_step(step: Step) -> None:
    ids.parse(step.id, "step", where="step id")
    for name in _STEP_TEXTS:
        text = getattr(step, name)
        if text is not None:
            ids.label(text, name, NAME_SIZE_MAX)
    _check_counts(step, _COUNTS)
    for name in _STEP_TIMES:
        _check_duration(getattr(step, name), name)
    for name in ("prompt_tokens_details", "completion_tokens_details"):
        _check_details(getattr(step, name), name)
    for name in ("step_start_ns", "llm_request_start_ns"):
        if (start := getattr(step, name)) is not None:
            times.check_range(start // 1000, name)
    if step.tags is not None and len(step.tags) > TAGS_MAX:
        raise invalid("tags", f"are more than {TAGS_MAX}", f"at most {TAGS_MAX}")
    for tag in step.tags or ():
        ids.label(tag, "tags")


def _check_counts(counted: msgspec.Struct, names: tuple[str, ...], where: str = "") -> None:
    for name in names:
        _check_count(getattr(counted, name), where + name)


def _check_count(value: object, where: str) -> None:
    if value is not None and not (type(value) is int and 0 <= value <= TOKENS_MAX):
        raise invalid(where, "must be an integer from 0", f"0 to {TOKENS_MAX}")


def _check_details(details: dict[str, object] | None, where: str) -> None:
    for name in _DETAILS if details else ():
        _check_count((details or {}).get(name), f"{where}.{name}")


def _check_label(value: str | None, name: str) -> None:
    if value is not None:
        ids.label(value, name)


def _check_duration(value: int | None, name: str) -> None:
    if value is not None and not 0 <= value <= DURATION_MAX_NS:
        raise invalid(name, "must be nanoseconds from 0", f"0 to {DURATION_MAX_NS}")


def _check_callback_url(url: str | None) -> None:
    if url is None:
        return
    if len(url) > URL_SIZE_MAX or not url.startswith(("http://", "https://")) or any(ord(char) <= 32 for char in url):
        what = f"must be an http or https URL of at most {URL_SIZE_MAX} characters without blanks"
        raise invalid("callback_url", what, "https://…")
