"""A diff of two runs in the terminal: in two columns where there is room, else one under the other, with signs.

``=`` equal, ``~`` changed, ``-`` only in a, ``+`` only in b; within changed texts ``[-words-]`` are of a, ``{+words+}``
of b.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from projections.alignment import aligned
from projections.diff import Diff, Divergence, Row, Said
from projections.differences import Difference, shortened
from projections.sides import Side, StepSide
from server.cli.options import clean, table

WIDE: Final = 100
"""Columns of a terminal from which on there is room for two texts side by side."""
SIGNS: Final = {"equal": "=", "changed": "~", "only_a": "-", "only_b": "+"}
STYLES: Final = {"equal": "dim", "changed": "yellow", "only_a": "red", "only_b": "green"}
NOTHING: Final = "—"


def show(console: Console, found: Diff) -> None:
    """Print a diff: first of all where the two part."""
    is_wide = console.is_terminal and console.width >= WIDE
    for name, side in (("a", found.a), ("b", found.b)):
        console.print(f"{name}  {side.id}")
    console.print()
    _parting(console, "First divergence", found.first_divergence)
    _parting(console, "First divergent action", found.first_divergent_action)
    console.print(_sides(found.a, found.b))
    counts = f"{found.equal:,} equal, {found.changed:,} changed, {found.only_a:,} only in a, {found.only_b:,} only in b"
    _heading(console, f"Messages: {counts}")
    _rows(console, found.rows, is_wide=is_wide)
    _returns(console, found)
    _steps(console, found)
    if found.metadata:
        _heading(console, "Metadata that differs")
        console.print(_differences(found.metadata))
    if found.left_off:
        _heading(console, f"{found.left_off:,} more rows are not shown; --full shows everything")


def _heading(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, style="bold"))


# --- where they part --------------------------------------------------------------------------------------------------


def _parting(console: Console, name: str, found: Divergence | None) -> None:
    if found is None:
        console.print(Text(f"{name}: none", style="bold"))
        return
    where = [f"message {side.number} of {letter}" for letter, side in (("a", found.a), ("b", found.b)) if side]
    what = ", ".join(dict.fromkeys(f"{each.what} {each.path}".strip() for each in found.differs[:3]))
    console.print(Text(clean(f"{name}: {', '.join(where)}{f' ({what})' if what else ''}"), style="bold"))
    for said in found.before:
        _say(console, "", _line(said), "dim")
    _two(console, found.a, found.b, "changed" if found.a and found.b else "only_a" if found.a else "only_b")
    missing = "b" if found.b is None else "a" if found.a is None else None
    if missing:
        console.print(f"    {missing} has nothing like it here")
    console.print()


def _two(console: Console, a: Said | None, b: Said | None, kind: str) -> None:
    """Print two messages, one under the other."""
    of_a, of_b = _marked(a, b)
    for sign, said, text in (("-", a, of_a), ("+", b, of_b)):
        if said is not None:
            _say(console, sign, _line(said, text), STYLES["only_a" if sign == "-" else "only_b"])


def _say(console: Console, sign: str, text: str, style: str) -> None:
    """Print a sign, and a text behind it that is folded under itself."""
    if not console.is_terminal:
        console.print(f"  {sign or ' '} {text}")
        return
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=3, justify="right")
    grid.add_column(overflow="fold")
    grid.add_row(sign, text, style=style)
    console.print(grid)


def _line(said: Said, text: str | None = None) -> str:
    return clean(f"#{said.number} {said.who}: {_words(said) if text is None else text}")


def _words(said: Said) -> str:
    """Return what a message says on one line."""
    if said.calls:
        return "; ".join(f"{use.tool or NOTHING} {_json(use.arguments)}" for use in said.calls)
    if said.type == "step":
        return f"step {said.tool or ''} {said.status or ''} {said.text}"
    text = " ".join(said.text.split())
    failed = " (error)" if said.status == "error" else ""
    return f"{said.tool}{failed} → {text}" if said.tool else f"{text or NOTHING}{failed}"


def _json(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _marked(a: Said | None, b: Said | None) -> tuple[str | None, str | None]:
    """Return two texts with the words marked that the other does not have; unmarked where they share few."""
    if a is None or b is None:
        return None, None
    one, other = _words(a).split(), _words(b).split()
    same = aligned(one, other)
    if 2 * len(same) < min(len(one), len(other)):
        return None, None
    return (
        _mark(one, {place for place, _ in same}, "[-", "-]"),
        _mark(other, {place for _, place in same}, "{+", "+}"),
    )


def _mark(words: Sequence[str], same: set[int], begin: str, end: str) -> str:
    parts = []
    for is_same, places in groupby(range(len(words)), lambda place: place in same):
        text = " ".join(words[place] for place in places)
        parts.append(text if is_same else f"{begin}{text}{end}")
    return " ".join(parts)


# --- the runs as wholes -----------------------------------------------------------------------------------------------


def _sides(a: Side, b: Side) -> Table:
    rows = table("", "a", "b")
    for name, one, other in zip(_NAMES, _cells(a), _cells(b), strict=True):
        if (one, other) != (NOTHING, NOTHING):
            rows.add_row(name, clean(one), clean(other))
    return rows


_NAMES: Final = (
    "status", "stop reason", "error", "reward", "grade", "duration", "queued", "first token", "tokens in, out", "steps",
    "messages", "tool calls", "models", "agent", "created",
)  # fmt: skip


def _cells(side: Side) -> tuple[str, ...]:
    error = ": ".join(each for each in (side.error_type, side.error_message) if each)
    usage = side.usage
    return (
        side.status,
        side.stop_reason or NOTHING,
        str(shortened(error)) or NOTHING,
        _known(side.reward),
        _known(side.grade),
        _seconds(side.total_duration_ns),
        _seconds(side.queue_ns),
        _seconds(side.ttft_ns),
        f"{_known(usage.prompt_tokens)}, {_known(usage.completion_tokens)}",
        f"{usage.step_count:,}",
        f"{side.messages:,}",
        f"{side.tool_calls:,}",
        ", ".join(side.models) or NOTHING,
        side.agent_id or NOTHING,
        side.created_at,
    )


def _known(value: float | str | None) -> str:
    if value is None:
        return NOTHING
    return f"{value:,}" if isinstance(value, int) else str(value)


def _seconds(duration_ns: int | None) -> str:
    return NOTHING if duration_ns is None else f"{duration_ns / 1e9:,.3f} s"


# --- message by message -----------------------------------------------------------------------------------------------


def _rows(console: Console, rows: Sequence[Row], *, is_wide: bool) -> None:
    if is_wide:
        console.print(_columns(rows))
        return
    for row in rows:
        style = STYLES[row.kind]
        if row.kind == "equal" and row.a is not None and row.b is not None:
            _say(console, "=", f"{_equal(row, row.a)}{_elsewhere(row.a, row.b)}", style)
        elif row.kind == "changed":
            if what := _what(row):
                _say(console, "~", what, style)
            _two(console, row.a, row.b, row.kind)
        else:
            _two(console, row.a, row.b, row.kind)


def _equal(row: Row, said: Said) -> str:
    more = f" … {row.count:,} alike" if row.count > 1 else ""
    return f"{_line(said)}{more}"


def _elsewhere(a: Said, b: Said) -> str:
    return "" if a.number == b.number else f"  (b #{b.number})"


def _what(row: Row) -> str:
    """Return where two messages differ, where that is more than what they say."""
    if all(each.what in ("text", "return") and not each.path for each in row.differs):
        return ""
    return clean(", ".join(dict.fromkeys(f"{each.what} {each.path}".strip() for each in row.differs)))


def _columns(rows: Sequence[Row]) -> Table:
    made = table("", "a", "b")
    made.columns[1].ratio = made.columns[2].ratio = 1
    made.expand = True
    made.show_lines = False
    for row in rows:
        texts = _marked(row.a, row.b) if row.kind == "changed" else (None, None)
        cells = [
            "" if said is None else _equal(row, said) if row.kind == "equal" else _line(said, text)
            for said, text in zip((row.a, row.b), texts, strict=True)
        ]
        made.add_row(SIGNS[row.kind], *cells, style=STYLES[row.kind])
    return made


# --- what else differs ------------------------------------------------------------------------------------------------


def _returns(console: Console, found: Diff) -> None:
    if not found.returns:
        return
    _heading(console, "Equal calls with different returns: the environment differs")
    for each in found.returns:
        console.print(f"  {_line(each.call_a)}{_elsewhere(each.call_a, each.call_b)}")
        console.print(_differences(each.differs))


def _differences(found: Sequence[Difference]) -> Table:
    rows = table("", "a", "b")
    for each in found:
        name = f"{each.what}{'' if each.path.startswith('[') or not each.path else '.'}{each.path}"
        sides = (NOTHING if value is msgspec.UNSET else _json(value) for value in (each.a, each.b))
        rows.add_row(clean(f"  {name}"), *map(clean, sides))
    return rows


def _steps(console: Console, found: Diff) -> None:
    if not found.steps:
        return
    _heading(console, "Steps, by which messages stand beside each other")
    rows = table("a", "who", "tokens", "time", "b", "who", "tokens", "time")
    for pair in found.steps:
        rows.add_row(*_step(pair.a), *_step(pair.b))
    console.print(rows)


def _step(step: StepSide | None) -> tuple[str, ...]:
    if step is None:
        return "", "", "", ""
    failed = f" {step.error_type or step.status}" if step.status == "failed" else ""
    tokens = f"{_known(step.prompt_tokens)}, {_known(step.completion_tokens)}"
    return clean(f"{step.number}{failed}"), step.who, tokens, _seconds(step.duration_ns)
