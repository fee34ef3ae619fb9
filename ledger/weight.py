"""Tells light states from heavy ones, so that what a process keeps of thousands of them has a bound in bytes."""

from __future__ import annotations

from typing import Any, Final

from ledger.state import State

STATE_SIZE_MAX: Final = 8 * 1024
"""Bytes of memory of a state that is kept, beside a KiB of its own. Metadata is some hundred bytes as a rule, and may
be many MiB as patches add up: a state with so much is read back each time."""
_VALUE_SIZE: Final = 64
"""Bytes of a value of any kind, its place in what holds it included."""


def is_heavy(state: State) -> bool:
    """Tell whether a state is too large to be one of thousands that are kept; at most some 100 values are looked at."""
    if state.metadata is None and state.request_config is None and not state.runs:
        return False
    left = STATE_SIZE_MAX - _VALUE_SIZE * len(state.runs)
    rest: list[Any] = [state.metadata, state.request_config]
    while rest and left >= 0:
        value = rest.pop()
        if isinstance(value, dict):
            left -= 2 * _VALUE_SIZE * len(value)
            if left >= 0:
                rest += value
                rest += value.values()
        elif isinstance(value, list):
            left -= _VALUE_SIZE * len(value)
            if left >= 0:
                rest += value
        elif isinstance(value, str):
            left -= len(value)
    return left < 0
