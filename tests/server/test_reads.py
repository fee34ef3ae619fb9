"""Reads that are shared: begun once under a key, forgotten when they fail, kept within a bound."""

import asyncio

import pytest

from server import reads as shared
from server.reads import Reads


class Log:
    """What is read, held back until told; ``begun`` are the keys in the order in which reads began."""

    def __init__(self):
        self.begun = []
        self.go = asyncio.Event()
        self.fault = None

    async def read(self, key):
        self.begun.append(key)
        await self.go.wait()
        if self.fault is not None:
            raise self.fault
        return f"{key}!"


async def test_who_asks_for_the_same_gets_one_read_also_later_and_who_asks_for_another_gets_another():
    reads, log = Reads(), Log()
    asked = [asyncio.create_task(reads.get(key, log.read(key))) for key in "aabab"]
    await asyncio.sleep(0)
    log.go.set()
    assert await asyncio.gather(*asked) == ["a!", "a!", "b!", "a!", "b!"]
    assert await reads.get("a", log.read("a")) == "a!"
    assert log.begun == ["a", "b"]
    reads.clear()
    assert await reads.get("a", log.read("a")) == "a!"
    assert log.begun == ["a", "b", "a"]


async def test_a_read_that_fails_fails_for_all_who_wait_and_is_tried_again_by_the_next():
    reads, log = Reads(), Log()
    log.fault = OSError("disk")
    asked = [asyncio.create_task(reads.get("a", log.read("a"))) for _ in range(3)]
    await asyncio.sleep(0)
    log.go.set()
    assert [type(each) for each in await asyncio.gather(*asked, return_exceptions=True)] == [OSError] * 3
    log.fault = None
    assert await reads.get("a", log.read("a")) == "a!"


async def test_who_gives_up_does_not_end_the_read_of_the_others():
    reads, log = Reads(), Log()
    first, second = (asyncio.create_task(reads.get("a", log.read("a"))) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    log.go.set()
    assert await second == "a!"
    assert log.begun == ["a"]


async def test_only_the_newest_reads_are_kept():
    reads, log = Reads(), Log()
    log.go.set()
    for number in range(shared.KEPT_MAX + 1):
        await reads.get(number, log.read(number))
    assert len(reads._kept) == shared.KEPT_MAX
    assert await reads.get(shared.KEPT_MAX, log.read(None)) == f"{shared.KEPT_MAX}!"
    assert await reads.get(0, log.read("again")) == "again!"
