"""What the values of a fact may be, however it came: by a command, a bulk append, an import or Python."""

from __future__ import annotations

from ledger import ids
from ledger.errors import invalid
from ledger.events import Changed, Created, Fact

URL_SIZE_MAX = 2048
"""Characters of a callback URL."""
TIMEOUT_MAX_S = 10 * 365 * 86400.0
"""Ten years: beyond any job, and far from overflowing microseconds."""
DURATION_MAX_NS = 2**63 - 1
"""What SQLite and clients hold in an integer; 292 years."""


def check(fact: Fact) -> None:
    """Raise ``InvalidInput`` for a value that no resource can have."""
    if isinstance(fact, Changed):
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
