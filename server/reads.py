"""Reads of the log that many clients of one channel need at the same time, done once for all of them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")
KEPT_MAX = 16
"""Results that are kept: each is some 256 KiB, or one message where that is longer."""


class Reads(Generic[T]):
    """The newest reads, those under way included. A key must name all that the result depends on."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, asyncio.Future[T]] = OrderedDict()

    async def get(self, key: Hashable, read: Coroutine[Any, Any, T]) -> T:
        """Return the result of the read, or of the one that was begun before under the same key."""
        future = self._kept.get(key)
        if future is None:
            future = self._kept[key] = asyncio.ensure_future(read)
            if len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)
        else:
            read.close()
        try:
            return await asyncio.shield(future)
        except BaseException:
            if self._kept.get(key) is future:
                del self._kept[key]  # the next one tries again
            raise

    def clear(self) -> None:
        """Keep nothing of what was read so far."""
        self._kept.clear()
