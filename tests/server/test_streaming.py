"""Serving one stream, its connection and its source played: when a client is waited for, and when it is cut off."""

import asyncio

import pytest

from ledger.errors import StoreFailed
from server.hub import Channel, Hub, Part, Subscriber
from server.streaming import _Serving

STALL_S = 0.001


class Connection:
    """Transport and writer in one. ``sizes``: what waits to be taken, at each look; at 0 there is room again."""

    def __init__(self, *sizes):
        self.sizes = [*sizes]
        self.wire = b""
        self.looks = 0

    def get_write_buffer_size(self):
        self.looks += 1
        return self.sizes.pop(0) if len(self.sizes) > 1 else self.sizes[0]

    async def drain(self):
        if self.sizes != [0]:
            await asyncio.Event().wait()

    def is_closing(self):
        return False

    def write(self, data):
        self.wire += data


class Source:
    def __init__(self, *finals):
        self.finals = [*finals]

    async def is_over(self):
        return True

    async def read(self, after, known):
        return Part([], after, True)

    async def final(self):
        found = self.finals.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def serving_of(connection, source, channel):
    subscriber = Subscriber(connection, 0, is_chunked=False, is_allowed=lambda: True)
    channel.subscribers.add(subscriber)
    return _Serving(Hub(0), subscriber, channel, source, connection, STALL_S)


@pytest.mark.parametrize(
    ("sizes", "is_served"),
    [
        ((0,), True),
        ((90, 60, 30, 1, 0), True),  # each time it took something
        ((90, 60, 60, 0), False),
        ((90, 90, 0), False),
        ((90, 60, 70, 0), False),
    ],
)
async def test_a_client_is_cut_off_only_when_it_took_nothing_for_the_whole_of_the_limit(sizes, is_served):
    connection = Connection(*sizes)
    served = serving_of(connection, Source(b"end"), Channel("run", bytes)).run()
    if is_served:
        await served
        assert connection.wire == b"end"
    else:
        with pytest.raises(TimeoutError):
            await served
        assert connection.wire == b""


async def test_the_end_is_made_once_for_all_who_follow():
    channel, source, connections = Channel("run", bytes), Source(b"end"), [Connection(0) for _ in range(5)]
    await asyncio.gather(*(serving_of(each, source, channel).run() for each in connections))
    assert [each.wire for each in connections] == [b"end"] * 5
    assert source.finals == []


async def test_after_a_fault_the_end_is_made_anew():
    channel, source = Channel("run", bytes), Source(StoreFailed(reason="disk I/O error"), b"end")
    with pytest.raises(StoreFailed):
        await serving_of(Connection(0), source, channel).run()
    connection = Connection(0)
    await serving_of(connection, source, channel).run()
    assert connection.wire == b"end"
