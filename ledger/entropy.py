"""Random bytes for ids and salts, taken from the system some hundred pieces at a time: a call costs more than bytes."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable


class Entropy:
    """A stock of 16-byte pieces of the system's randomness; each is given out once, also when a process forks."""

    SIZE = 16

    def __init__(self, source: Callable[[int], bytes] | None = None, stock: int = 512) -> None:
        """``source``: other bytes than the system's."""
        self._source = source
        self._stock = stock * self.SIZE
        self._bytes = b""
        self._next = 0
        _stocks.add(self)

    def take(self) -> bytes:
        """Return the next 16 random bytes."""
        start = self._next
        if start >= len(self._bytes):
            source = self._source or os.urandom  # looked up each time, so that a simulation's bytes are its seed's
            self._bytes, start = source(self._stock), 0
        self._next = start + self.SIZE
        return self._bytes[start : self._next]

    def empty(self) -> None:
        """Throw the stock away."""
        self._bytes = b""
        self._next = 0


_stocks: weakref.WeakSet[Entropy] = weakref.WeakSet()


def empty_all() -> None:
    """Throw all stocks of this process away."""
    for stock in _stocks:
        stock.empty()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=empty_all)  # parent and child would give out the same bytes
