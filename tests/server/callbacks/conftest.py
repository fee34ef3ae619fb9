"""The zoo of receivers, in the loop of the test; and the loops that tests run on."""

import asyncio

import pytest
import uvloop

from tests.server.callbacks.zoo import opened

ON_BOTH_LOOPS = {"test_sender.py"}
"""Files whose tests meet what the loop makes of broken connections, which differs: the server runs on uvloop where it
can, other tests run on asyncio's own."""


def pytest_asyncio_loop_factories(item):
    loops = {"asyncio": asyncio.new_event_loop}
    return {**loops, "uvloop": uvloop.new_event_loop} if item.path.name in ON_BOTH_LOOPS else loops


@pytest.fixture
async def zoo():
    async with opened() as zoo:
        yield zoo
