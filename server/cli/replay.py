"""``jobledger replay``: a history one event at a time, by keys on a terminal and as plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.control import Control
from rich.text import Text

from ledger.errors import BadRequest
from ledger.times import to_text
from projections.report import report
from server.cli.frames import Frames
from server.cli.keyboard import keys, pressed
from server.cli.options import at_option, clean, db_option, json_option, out, point, run, say_json
from server.cli.reading import history
from server.cli.replayscreen import screen

NEXT: Final = ("n", " ", "\r", "\n", "\x1b[C", "\x1bOC")
BACK: Final = ("b", "\x1b[D", "\x1bOD")
FIRST: Final = ("\x1b[H", "\x1bOH", "\x1b[1~", "\x1b[7~")
LAST: Final = ("\x1b[F", "\x1bOF", "\x1b[4~", "\x1b[8~")
ENTER: Final = ("\r", "\n")
DELETE: Final = ("\x7f", "\b")
DIGITS_MAX: Final = 18


@click.command(short_help="Go through it one event at a time.")
@db_option
@json_option
@at_option
@click.option("--plain", is_flag=True, help="Lines, also on a terminal.")
@click.argument("id")
def replay(db: Path, as_json: bool, when: str | None, plain: bool, id: str) -> None:
    """Show the state after each event, and what changed: on a terminal one event at a time, else as lines.

    \b
    Keys: n, space, Enter or → next; b or ← back; g go to an event's number, or to a position of the log (p1042, or any
    number beyond the last event's); Home first; End last; e first error; q quit.

    \b
    Examples:
      jobledger replay run-6f9c…
      jobledger replay run-6f9c… --plain | less
    """
    _, events = run(history(db, id))
    frames = Frames(events, point(when, "--at"))
    console = out()
    if as_json:
        say_json([{"position": each.event.position, "type": each.event.type, "state": each.now, "changed": each.changed}
                  for each in frames])  # fmt: skip
    elif plain or not len(frames) or not (sys.stdin.isatty() and console.is_terminal) or console.is_dumb_terminal:
        _lines(console, frames)
    else:
        with pressed(sys.stdin.fileno()) as read:
            Player(frames, console, read).play()


def _lines(console: Console, frames: Frames) -> None:
    for _, event, now, changed, _ in frames:
        status = now["status"] if now else ""
        console.print(
            f"{event.position}  {to_text(event.time)}  {clean(event.type)}  by {clean(event.actor)}  → {status}"
        )
        for name, (before, after) in changed.items():
            old, new = (msgspec.json.encode(value).decode() for value in (before, after))
            console.print(f"    {name}: {clean(old)} → {clean(new)}")


class Player:
    """Goes through frames by keys. ``read``: what the terminal sends next; "" once it is gone."""

    def __init__(self, frames: Frames, console: Console, read: Callable[[], str]) -> None:
        self.number = 1
        self._frames = frames
        self._console = console
        self._keys = keys(read)
        self._notice = ""

    def play(self) -> None:
        """Show one screen after another until somebody quits; the terminal is then as it was."""
        with self._console.screen(hide_cursor=True) as shown:
            self._shown = shown
            self._draw()
            for key in self._keys:
                if key in ("q", "Q"):
                    return
                self._press(key)
                self._draw()

    def _press(self, key: str) -> None:
        self._notice = ""
        last = len(self._frames)
        if key in NEXT:
            self._go(self.number + 1)
        elif key in BACK:
            self._go(self.number - 1)
        elif key in FIRST:
            self._go(1)
        elif key in LAST:
            self._go(last)
        elif key == "g":
            self._ask()
        elif key == "e":
            self._go_to_error()

    def _go(self, number: int) -> None:
        last = len(self._frames)
        if number < 1:
            self._notice = "this is the first event"
        elif number > last:
            self._notice = "this is the last event; q quits"
        self.number = min(max(number, 1), last)

    def _go_to_error(self) -> None:
        try:
            first = report(self._frames.events).first_error
        except BadRequest:  # a history of no resource, such as that of a token
            first = None
        if first is None:
            self._notice = "there is no error"
            return
        self._go(self._frames.nearest(first.position))
        self._notice = f"first error: {first.type or first.kind}"

    def _ask(self) -> None:
        typed = ""
        while True:
            self._notice = f"go to event, or p and a position: {typed}_  (Enter goes, Esc does not)"
            self._draw()
            key = next(self._keys, "\x1b")
            if key in ENTER:
                break
            if key.startswith("\x1b"):
                self._notice = ""
                return
            if key in DELETE:
                typed = typed[:-1]
            elif len(typed) < DIGITS_MAX and (key in "0123456789" or (key == "p" and not typed)):
                typed += key
        self._notice = ""
        digits = typed.removeprefix("p")
        if digits:
            number = int(digits)
            is_number = digits == typed and number <= len(self._frames)
            self._go(number if is_number else self._frames.nearest(number))

    def _draw(self) -> None:
        width, height = self._console.size
        head, *rest = screen(self._frames[self.number], len(self._frames), width, height, self._notice)
        text = Text(no_wrap=True, overflow="crop", end="")
        text.append(head, "bold")
        for each in rest:
            text.append(f"\n{each}", "bold" if each.startswith("—") else "")
        self._console.control(Control.home())  # each screen is drawn over the one before
        self._shown.update(text)


COMMANDS = (replay,)
