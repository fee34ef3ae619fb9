"""A simulated process: what belongs to it, how long it lives yet, and what is let go when it dies."""

from __future__ import annotations

import contextvars
import os
from collections.abc import Callable
from typing import Any

PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)
"""Whose code runs: each callback carries it along in its context."""


class Process:
    """One process of the machine. Files and locks that it holds are named here, for the kernel lets go of them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_alive = True
        self.turns_left: int | None = None
        """After how many of its callbacks it dies; None: it lives."""
        self.statements_left: int | None = None
        """Likewise statements that it gives to SQLite, so that it dies in the middle of transactions."""
        self.is_dying = False
        self.ended_well = False
        """Whether it stopped by itself, with all that it had taken on recorded."""
        self.faults = 0
        """Faults of the disk that it met."""
        self.connections: dict[int, Any] = {}
        self.locks: dict[int, str] = {}
        self.on_death: list[Callable[[], None]] = []
        self.context = contextvars.copy_context()
        self.context.run(PROCESS.set, self)

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def is_over(self) -> bool:
        """Tell, after each callback, whether the process dies now."""
        if self.turns_left is not None:
            self.turns_left -= 1
            self.is_dying = self.is_dying or self.turns_left <= 0
        return self.is_dying

    def has_last_statement(self) -> bool:
        """Tell, with each statement, whether the process dies at it."""
        if self.statements_left is None:
            return False
        self.statements_left -= 1
        return self.statements_left < 0

    def spare(self) -> None:
        """Let it live after all."""
        self.turns_left = self.statements_left = None

    def die(self) -> None:
        """Let go of what it held: open transactions are rolled back, locks are free."""
        self.is_alive = False
        for told in self.on_death:
            told()
        for connection in list(self.connections.values()):
            connection.abandon()
        self.connections.clear()
        for handle, path in self.locks.items():
            if _path_of(handle) == path:
                os.close(handle)
        self.locks.clear()


def _path_of(handle: int) -> str | None:
    try:
        return os.readlink(f"/proc/self/fd/{handle}")
    except OSError:
        return None


def locked(process: Process, handle: int) -> None:
    """Note that a process took a lock by a file handle."""
    path = _path_of(handle)
    if path is not None:
        process.locks[handle] = path
