"""Admission: how much a server takes on at once; who asks for more is told to come again, and memory stays flat."""

from __future__ import annotations

from typing import Final

from ledger.errors import Unavailable

BULK_SHARE: Final = 0.75
"""Of the bytes that bodies may hold, what those of bulk appends may have: single commands go on beside them."""
BULK_RETRY_AFTER_S: Final = 5
"""When a body that found no room may come again: about what the largest takes to be appended."""

LARGE: Final = 64 * 1024
"""Bytes from which on an answer is counted: 2,000 requests under way with smaller ones make 128 MiB at most."""
LARGE_RETRY_AFTER_S: Final = 5
"""When who asks for a large answer and found no room may come again."""


class Bodies:
    """The bytes of bodies that requests hold at once, from their arrival until they are answered.

    ``size_max``: of all together. ``command_size_max``: a body beyond it is bulk, and has its whole length reserved.
    """

    def __init__(self, size_max: int, command_size_max: int) -> None:
        self.size_max = size_max
        self.size = 0
        self._command_size_max = command_size_max

    def take(self, body_size: int, more: int) -> None:
        """Count ``more`` bytes in for a body that then is ``body_size`` long. Raises ``Unavailable`` without room."""
        is_bulk = body_size > self._command_size_max
        if self.size + more > (self.size_max * BULK_SHARE if is_bulk else self.size_max):
            raise Unavailable(
                reason="the bodies of other requests fill the memory that there is for them",
                retry_after_s=BULK_RETRY_AFTER_S,
            )
        self.size += more

    def give_back(self, size: int) -> None:
        """Count bytes out."""
        self.size -= size

    def reserved(self, declared: int | None) -> int:
        """Return how much of a body of a declared length is counted in before it arrives: all of it where it is bulk.

        So one of two large bodies that do not fit side by side is refused at once, and not in its middle.
        """
        return declared if declared is not None and declared > self._command_size_max else 0


class Answers:
    """The bytes that answers are made of, as far as they are large: from when they are read until the client has them.

    ``size_max``: of all together; one alone may always be made.
    """

    def __init__(self, size_max: int) -> None:
        self.size_max = size_max
        self.size = 0

    def take(self, size: int) -> int:
        """Count bytes in; return how many those are: none of a small answer. Raises ``Unavailable`` without room."""
        if size < LARGE:
            return 0
        if self.size and self.size + size > self.size_max:
            raise Unavailable(
                reason="large answers to other requests fill the memory that there is for them",
                retry_after_s=LARGE_RETRY_AFTER_S,
            )
        self.size += size
        return size

    def give_back(self, size: int) -> None:
        """Count bytes out."""
        self.size -= size
