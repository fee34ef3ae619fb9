"""Loops: an agent that makes the same tool calls with the same arguments again and again."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec

from ledger import jsontext
from ledger.errors import InvalidInput
from projections.excerpts import Excerpt, excerpt, line
from projections.spans import short
from projections.toolcalls import Call

CYCLE_MAX: Final = 4
"""Calls of the longest cycle that is looked for."""
ROUNDS_MIN: Final = 3
"""How many times in a row make a loop: twice is asking again."""
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder(order="sorted").encode


class LoopCall(msgspec.Struct, frozen=True):
    """One call of a cycle."""

    tool: str
    arguments: Excerpt


class Loop(msgspec.Struct, frozen=True, kw_only=True):
    """The same calls over and over: ``count`` times the whole cycle.

    ``positions`` are those of all its calls in the log, ``steps`` the numbers of the steps that made them.
    ``same_answer``: whether each call of the cycle was answered with the same text every time.
    """

    name: str
    calls: list[LoopCall]
    count: int
    positions: list[int]
    steps: list[int]
    same_answer: bool


def identity(call: Call) -> bytes:
    """Return what calls of one tool with equal arguments have in common; arguments are compared as JSON values."""
    return sha256(msgspec.json.encode(call.name) + b"\n" + _canonical(call.arguments)).digest()


def loops(calls: Sequence[Call], identities: Sequence[bytes], numbers: dict[str, int], full: bool) -> list[Loop]:
    """Return the loops in the calls of a run. ``numbers``: of its steps, by id."""
    found = []
    start = 0
    while start < len(calls):
        cycle, covered = _longest(identities, start)
        if not cycle:
            start += 1
            continue
        found.append(_loop(calls[start : start + covered], cycle, numbers, full))
        start += covered
    return found


def _longest(identities: Sequence[bytes], start: int) -> tuple[int, int]:
    """Return the length of the cycle that begins at ``start`` and how many calls it covers; zeros for none."""
    best = (0, 0)
    for cycle in range(1, CYCLE_MAX + 1):
        at = start + cycle
        while at < len(identities) and identities[at] == identities[at - cycle]:
            at += 1
        covered = at - start
        if covered >= cycle * ROUNDS_MIN and covered > best[1]:
            best = (cycle, covered)
    return best


def _loop(calls: Sequence[Call], cycle: int, numbers: dict[str, int], full: bool) -> Loop:
    members = [LoopCall(short(call.name or "?"), excerpt(call.arguments, full)) for call in calls[:cycle]]
    steps = list(dict.fromkeys(numbers[call.step_id] for call in calls if call.step_id in numbers))
    count = len(calls) // cycle
    named = ", ".join(f"{call.tool}({line(call.arguments.text, 60)})" for call in members)
    where = f", steps {steps[0]}–{steps[-1]}" if len(steps) > 1 else f", step {steps[0]}" if steps else ""
    return Loop(
        name=f"{named} {count} times in a row{where}",
        calls=members,
        count=count,
        positions=[call.position for call in calls],
        steps=steps,
        same_answer=all(call.answer == calls[index % cycle].answer for index, call in enumerate(calls)),
    )


def _canonical(arguments: str) -> bytes:
    raw = arguments.encode()
    try:
        jsontext.check_bounds(raw)
        return _encode(_plain(_decode(raw)))
    except (InvalidInput, ValueError):  # models write what is no JSON, or nested too deep: then by its text
        return b"\0" + raw


def _plain(value: Any) -> Any:
    """Return a JSON value with one spelling for equal numbers: 1.0 is 1."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
