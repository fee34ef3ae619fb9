"""One screen of a replay: an event, what it changed, and the state after it, within the terminal's width and height."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from rich.cells import cell_len, chop_cells, set_cell_size

from ledger.times import to_text
from projections.durations import gap_in_words
from server.cli.frames import Frame
from server.cli.options import clean
from server.cli.reading import data_of

HELP: Final = "n next · b back · g go to · Home first · End last · e first error · q quit"
VALUE_MAX: Final = 4_000
"""Characters of one value that are looked at: more than any screen shows."""
LEAST: Final = 8
"""Lines below which a terminal is taken to have so many; what it cannot show it cuts off."""


def screen(frame: Frame, count: int, width: int, height: int, notice: str = "") -> list[str]:
    """Return the lines of a screen, no more than ``height``, none wider than ``width``. ``notice``: the last line."""
    event = frame.event
    gap = gap_in_words(frame.gap_us / 1e6)
    head = [
        f"event {frame.number:,} of {count:,}, position {event.position:,}: {event.type}",
        f"{to_text(event.time)} {gap} by {event.actor}".replace("  ", " "),
    ]
    room = max(height, LEAST) - len(head) - 4  # three titles and the notice
    data, changed, state = (_wrapped(lines, width) for lines in (_data(frame), _changes(frame), _state(frame, width)))
    shown_data = _cut(data, max(room // 3, room - len(changed) - len(state)))
    room -= len(shown_data)
    shown_changed = _cut(changed, max(room // 2, room - len(state)))
    room -= len(shown_changed)
    body = [
        *head,
        "— data",
        *shown_data,
        "— changed",
        *shown_changed,
        "— state after it",
        *_cut(state, room),
    ]
    body += [""] * (height - 1 - len(body))
    lines = [*body[: height - 1], notice or HELP]
    return [_fitted(clean(each), width) for each in lines]


def _data(frame: Frame) -> list[str]:
    return [data_of(frame.event)[:VALUE_MAX]]


def _changes(frame: Frame) -> list[str]:
    if not frame.changed:
        return ["nothing"]
    return [f"{name}: {_value(old)} → {_value(new)}" for name, (old, new) in frame.changed.items()]


def _state(frame: Frame, width: int) -> list[str]:
    """Return what is known of the resource, short values together on one line."""
    if frame.now is None:
        return ["there is none"]
    lines = [""]
    for name, value in frame.now.items():
        if value is not None:
            told = f"{name}={_value(value)}"
            together = f"{lines[-1]}  {told}" if lines[-1] else told
            lines[-1:] = [together] if cell_len(clean(together)) <= width - 2 else [lines[-1], told]
    return [each for each in lines if each]


def _value(value: Any) -> str:
    return msgspec.json.encode(value)[:VALUE_MAX].decode("utf-8", "replace")


def _wrapped(lines: list[str], width: int) -> list[str]:
    """Return lines that fit the width, indented by two."""
    return [f"  {part}" for each in lines for part in chop_cells(clean(each), max(width - 2, 1))]


def _cut(lines: list[str], room: int) -> list[str]:
    if len(lines) <= room:
        return lines
    return [*lines[: max(room - 1, 0)], f"  … {len(lines) - max(room - 1, 0):,} more lines"]


def _fitted(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, width)
