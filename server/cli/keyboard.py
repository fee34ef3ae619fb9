"""Keys of a terminal, one by one, as they are pressed; the terminal is as it was afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import termios
import tty
from collections.abc import Callable, Iterator
from typing import Any, Final

KEY: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Za-z]|.", re.DOTALL)
"""One key of what a terminal sends at once: an escape sequence, or a character."""
ENDS: Final = frozenset({"\x03", "\x04"})
"""Ctrl-C and Ctrl-D, which come as keys like any other."""
SENT_MAX: Final = 1024
"""Bytes that are read at once; what was pasted comes in several parts."""


@contextlib.contextmanager
def pressed(terminal: int) -> Iterator[Callable[[], str]]:
    """Yield what reads from a terminal without waiting for the end of a line; "" once it is gone.

    Its modes are set once and not for each key: what is pressed while something is drawn would be lost. Who ends the
    process by SIGTERM gets the terminal back, too.
    """
    modes = termios.tcgetattr(terminal)
    changed = termios.tcgetattr(terminal)
    changed[tty.LFLAG] &= ~(termios.ICANON | termios.ECHO | termios.ISIG)
    before = signal.signal(signal.SIGTERM, _end)
    try:
        termios.tcsetattr(terminal, termios.TCSADRAIN, changed)
        yield lambda: os.read(terminal, SENT_MAX).decode("utf-8", "replace")
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, modes)
        signal.signal(signal.SIGTERM, before)


def _end(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


def keys(read: Callable[[], str]) -> Iterator[str]:
    """Yield keys one by one until the terminal is gone, or Ctrl-C or Ctrl-D ends it."""
    while sent := read():
        for key in KEY.findall(sent):
            if key in ENDS:
                return
            yield key
