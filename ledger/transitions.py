"""The statuses and the one table of legal moves (contract 1, seed 002)."""

from __future__ import annotations

from typing import Final

Kind = str
"""``job``, ``batch`` or ``run``: what a resource is, and the first part of its event types."""

KINDS: Final = ("job", "batch", "run")
TERMINAL: Final = frozenset({"completed", "failed", "cancelled", "expired"})
ACTIVE: Final = ("created", "running")
"""What ``active`` means in lists, as seed 002 says: pending is found by its status."""

STOP_REASONS: Final = (
    "end_turn", "error", "llm_api_error", "invalid_llm_response", "invalid_tool_call", "max_steps",
    "max_tokens_exceeded", "no_tool_call", "tool_rule", "cancelled", "insufficient_credits",
    "requires_approval", "context_window_overflow_in_system_prompt",
)  # fmt: skip
"""The 13 values of seed 000."""

_ENDS: Final = ("completed", "failed", "cancelled", "expired")
_JOB: Final[dict[str | None, tuple[str, ...]]] = {
    None: ("created",),
    "created": ("pending",),
    "pending": ("running",),
    "running": _ENDS,
    "completed": (),
    "failed": (),
    "cancelled": (),
    "expired": (),
}
_RUN: Final[dict[str | None, tuple[str, ...]]] = {
    None: ("created",),
    "created": ("running", "failed", "cancelled"),
    "running": ("completed", "failed", "cancelled"),
    "completed": (),
    "failed": (),
    "cancelled": (),
}
LEGAL: Final[dict[Kind, dict[str | None, tuple[str, ...]]]] = {"job": _JOB, "batch": _JOB, "run": _RUN}
_STEPS: Final[dict[Kind, tuple[str, ...]]] = {
    "job": ("created", "pending", "running"),
    "batch": ("created", "pending", "running"),
    "run": ("created", "running"),
}


def statuses(kind: Kind) -> tuple[str, ...]:
    """Return all statuses that a resource of the kind can have, in the order of a life."""
    return tuple(status for status in LEGAL[kind] if status is not None)


def allowed(kind: Kind, found: str | None) -> tuple[str, ...]:
    """Return the statuses that may follow ``found`` (None: the resource does not exist yet)."""
    return LEGAL[kind][found]


def chain(kind: Kind, found: str | None, asked: str) -> tuple[str, ...]:
    """Return the whole chain of statuses from just after ``found`` to ``asked``, by way of ``running``.

    Empty when no such chain exists: ``found`` is terminal, or comes after ``asked``.
    """
    steps = _STEPS[kind] + ((asked,) if asked in TERMINAL else ())
    if asked not in LEGAL[kind] or asked not in steps or (found is not None and found not in steps):
        return ()
    start = 0 if found is None else steps.index(found) + 1
    return steps[start : steps.index(asked) + 1]


def _check_complete() -> None:
    for kind, table in LEGAL.items():
        known = set(statuses(kind))
        named = {after for followers in table.values() for after in followers}
        if named != known or None not in table or any(table[end] for end in known & TERMINAL):
            raise AssertionError(f"the transition table of {kind} is not complete")
        if any(not table[status] for status in known - TERMINAL):
            raise AssertionError(f"the transition table of {kind} has a dead end that is not terminal")


_check_complete()
