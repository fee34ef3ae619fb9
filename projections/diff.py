"""The diff of two runs: aligned turn by turn, where they first part, and how their calls, tools and steps differ.

Turns that say the same are aligned first, by a longest common subsequence; between two of them, those of one kind (the
same type and tool) are aligned in the same way and are ``changed``. Ids, times and steps do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, Final, Literal

import msgspec

from ledger.events import Recorded
from ledger.times import to_text
from projections.alignment import aligned
from projections.course import Course
from projections.differences import Difference, between, excerpts, parsed, shortened
from projections.sides import Side, StepPair, paired_steps, side
from projections.toolcalls import Call
from projections.turns import AGENT, TOOL, Turn, turns

CONTEXT: Final = 3
"""Equal turns shown before a divergence."""
Kind = Literal["equal", "changed", "only_a", "only_b"]


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """A call of a tool. ``arguments``: the JSON value, or text where it is none or long."""

    tool: str | None
    arguments: Any
    id: str | None


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a run, or a step without messages (type ``step``).

    ``number``: which message of the run it is, from 1. ``position``: of the log.
    """

    number: int
    position: int
    time: str
    type: str
    id: str | None
    step_id: str | None
    who: Literal["agent", "user", "system", "tool"]
    text: str
    calls: list[Used]
    tool: str | None
    status: str | None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the alignment; ``count`` rows from here on where equal ones are collapsed."""

    kind: Kind
    count: int = 1
    a: Said | None
    b: Said | None
    differs: list[Difference] = []


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """Where two runs part: what each did next, null where it did nothing more, or nothing before both agree again.

    ``before``: the last messages on which they agreed, as ``a`` has them.
    """

    a: Said | None
    b: Said | None
    differs: list[Difference]
    before: list[Said]


class Returned(msgspec.Struct, frozen=True, kw_only=True):
    """A call that both made, and that gave different things back: the environment differs."""

    call_a: Said
    call_b: Said
    tool: str | None
    differs: list[Difference]


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """How two runs differ. ``left_off``: entries of the lists that are not shown, because there are too many.

    ``first_divergence``: the first message that differs; ``first_divergent_action``: the first call of the agent.
    ``calls``: rows of calls that differ. ``returns``: equal calls with different returns.
    """

    a: Side
    b: Side
    first_divergence: Divergence | None
    first_divergent_action: Divergence | None
    equal: int
    changed: int
    only_a: int
    only_b: int
    rows: list[Row]
    calls: list[Row]
    returns: list[Returned]
    steps: list[StepPair]
    metadata: list[Difference]
    left_off: int = 0


_Pair = tuple[Turn | None, Turn | None, bool]
"""Two turns that stand beside each other, and whether they say the same."""


def diff(a_events: Sequence[Recorded], b_events: Sequence[Recorded], *, full: bool = False) -> Diff | None:
    """Return how two runs differ, from their events; None where one of them was never created.

    ``full``: every equal row, and texts whole. For 10,000 messages against 10,000 it takes a second or two, whatever
    they say, most of it reading them (``alignment`` has the bound).
    """
    a, b = Course(), Course()
    for course, events in ((a, a_events), (b, b_events)):
        for event in events:
            course.take(event)
    if a.run is None or b.run is None:
        return None
    pairs = list(_pairs(turns(a_events, a), turns(b_events, b)))
    kinds = [_kind(pair) for pair in pairs]
    return Diff(
        a=side(a, a_events),
        b=side(b, b_events),
        first_divergence=_divergence(pairs, lambda turn: True, full=full),
        first_divergent_action=_divergence(pairs, _is_action, full=full),
        equal=kinds.count("equal"),
        changed=kinds.count("changed"),
        only_a=kinds.count("only_a"),
        only_b=kinds.count("only_b"),
        rows=list(_rows(pairs, full=full)),
        calls=[
            _row(pair, full=full)
            for pair in pairs
            if not pair[2] and any(turn is not None and turn.calls for turn in pair[:2])
        ],
        returns=list(_returns(pairs, a, b, full=full)),
        steps=paired_steps([(one, other) for one, other, _ in pairs], (a, a_events), (b, b_events)),
        metadata=between("metadata", a.run.metadata or {}, b.run.metadata or {}, full=full),
    )


def limited(found: Diff, most: int) -> Diff:
    """Return a diff with so many entries of each list at most."""
    lists = {name: getattr(found, name) for name in ("rows", "calls", "returns", "steps", "metadata")}
    left_off = sum(max(0, len(each) - most) for each in lists.values())
    return msgspec.structs.replace(found, **{name: each[:most] for name, each in lists.items()}, left_off=left_off)


# --- which stands beside which ----------------------------------------------------------------------------------------


def _pairs(a: list[Turn], b: list[Turn]) -> Iterator[_Pair]:
    done_a = done_b = 0
    same = aligned([turn.token for turn in a], [turn.token for turn in b])
    for place_a, place_b in [*same, (len(a), len(b))]:
        yield from _gap(a[done_a:place_a], b[done_b:place_b])
        if place_a < len(a):
            yield a[place_a], b[place_b], True
        done_a, done_b = place_a + 1, place_b + 1


def _gap(a: list[Turn], b: list[Turn]) -> Iterator[_Pair]:
    """Yield what stands between two turns that are the same."""
    done_a = done_b = 0
    alike = aligned([turn.kind for turn in a], [turn.kind for turn in b]) if a and b else []
    for place_a, place_b in [*alike, (len(a), len(b))]:
        yield from ((turn, None, False) for turn in a[done_a:place_a])
        yield from ((None, turn, False) for turn in b[done_b:place_b])
        if place_a < len(a):
            yield a[place_a], b[place_b], False
        done_a, done_b = place_a + 1, place_b + 1


def _kind(pair: _Pair) -> Kind:
    a, b, is_same = pair
    if is_same:
        return "equal"
    if a is None:
        return "only_b"
    return "only_a" if b is None else "changed"


def _is_action(turn: Turn) -> bool:
    return turn.who == AGENT and bool(turn.calls)


# --- as it is shown ---------------------------------------------------------------------------------------------------


def _divergence(pairs: Sequence[_Pair], chosen: Callable[[Turn], bool], *, full: bool) -> Divergence | None:
    """Return the first place where the chosen turns are not the same: what each side did until they are again."""
    before: list[Turn] = []
    first: list[Turn | None] = [None, None]
    for pair in pairs:
        one, other = (turn if turn is not None and chosen(turn) else None for turn in pair[:2])
        if pair[2]:
            if first != [None, None] and one is not None:
                break
            if first == [None, None] and pair[0] is not None:
                before.append(pair[0])
        else:
            first = [first[0] or one, first[1] or other]
    a, b = first
    if a is None and b is None:
        return None
    return Divergence(
        a=_said(a, full=full),
        b=_said(b, full=full),
        differs=_differs(a, b, full=full),
        before=[said for turn in before[-CONTEXT:] if (said := _said(turn, full=full)) is not None],
    )


def _rows(pairs: Sequence[_Pair], *, full: bool) -> Iterator[Row]:
    number = 0
    while number < len(pairs):
        count = 1
        while not full and pairs[number][2] and number + count < len(pairs) and pairs[number + count][2]:
            count += 1
        yield _row(pairs[number], count, full=full)
        number += count


def _row(pair: _Pair, count: int = 1, *, full: bool) -> Row:
    a, b, is_same = pair
    differs = [] if is_same or a is None or b is None else _differs(a, b, full=full)
    shown_a, shown_b = _shown(a, b, full=full)
    return Row(kind=_kind(pair), count=count, a=shown_a, b=shown_b, differs=differs)


def _shown(a: Turn | None, b: Turn | None, *, full: bool) -> tuple[Said | None, Said | None]:
    """Return two turns; of long texts the part where they begin to differ."""
    if full or a is None or b is None:
        return _said(a, full=full), _said(b, full=full)
    one, other = excerpts(a.text, b.text)
    return _said(a, one), _said(b, other)


def _said(turn: Turn | None, text: str | None = None, *, full: bool = False) -> Said | None:
    if turn is None:
        return None
    whole: Callable[[Any], Any] = (lambda value: value) if full else shortened
    return Said(
        number=turn.number,
        position=turn.position,
        time=to_text(turn.time_us),
        type=turn.type,
        id=turn.id,
        step_id=turn.step_id,
        who=turn.who,  # type: ignore[arg-type]  # one of the words of ``turns``
        text=whole(turn.text) if text is None else text,
        calls=[Used(tool=whole(use.tool), arguments=whole(use.arguments), id=use.id) for use in turn.calls],
        tool=whole(turn.tool),
        status=turn.status,
    )


def _differs(a: Turn | None, b: Turn | None, *, full: bool) -> list[Difference]:
    """Return what differs between two turns; of two types, that they are, and nothing where one is missing."""
    if a is None or b is None:
        return []
    found: list[Difference] = []
    for name in ("type", "who", "tool", "status"):
        found += between(name, getattr(a, name), getattr(b, name), full=full)
    if a.type != b.type:
        return found
    found += between("return" if a.who == TOOL else "text", _words(a), _words(b), full=full)
    for number, (one, other) in enumerate(zip_longest(a.calls, b.calls)):
        tools = [msgspec.UNSET if use is None else use.tool for use in (one, other)]
        told = between("tool", *tools, full=full)
        if one is not None and other is not None and not told:
            told = between("arguments", one.arguments, other.arguments, full=full)
        place = f"[{number}]" if max(len(a.calls), len(b.calls)) > 1 else ""
        found += [msgspec.structs.replace(each, path=_joined(place, each.path)) for each in told]
    return found


def _joined(place: str, path: str) -> str:
    return f"{place}{'.' if place and path and not path.startswith('[') else ''}{path}"


def _words(turn: Turn) -> Any:
    return " ".join(turn.content.split()) if isinstance(turn.content, str) else turn.content


# --- what tools gave back ---------------------------------------------------------------------------------------------


def _returns(pairs: Sequence[_Pair], a: Course, b: Course, *, full: bool) -> Iterator[Returned]:
    """Yield the calls that both made, with the same arguments, and that gave different things back."""
    of_a, of_b = _answers(a), _answers(b)
    for one, other, is_same in pairs:
        if not is_same or one is None or other is None or not one.calls:
            continue
        for call_a, call_b in zip(of_a.get(one.position, []), of_b.get(other.position, []), strict=False):
            differs = between("status", _outcome(call_a), _outcome(call_b), full=full)
            differs += between("return", _answer(call_a), _answer(call_b), full=full)
            said_a, said_b = _said(one, full=full), _said(other, full=full)
            if differs and said_a is not None and said_b is not None:
                yield Returned(call_a=said_a, call_b=said_b, tool=call_a.name, differs=differs)


def _answers(course: Course) -> dict[int, list[Call]]:
    """Return the calls by the position of the message that made them."""
    found: dict[int, list[Call]] = {}
    for call in course.calls.all:
        found.setdefault(call.position, []).append(call)
    return found


def _outcome(call: Call) -> str:
    return {None: "open", True: "success", False: "error"}[call.succeeded]


def _answer(call: Call) -> Any:
    return parsed(call.answer) if call.answer[:1] in ("{", "[") else " ".join(call.answer.split())
