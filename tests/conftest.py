"""Every test of the log that asks for `ledger` is run on each engine; the files of tests are in memory."""

import os

import pytest

from tests.ledger.engines import ENGINES, opener
from tests.scratch import MEMORY

if MEMORY is not None:  # each commit waits for its disk otherwise, and a busy disk makes minutes of seconds
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)

pytest.register_assert_rewrite("tests.clients.calls")  # whose checks are the asserts of its tests


LONGEST = ("test_bench.py", "test_docs.py", "test_bench_callbacks.py", "test_callbacks_under_fire.py")
"""Files whose few tests take longest, which begin first, so that no worker is left alone with one at the end."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(params=ENGINES)
def open_ledger(request, tmp_path):
    return opener(request.param, tmp_path)


@pytest.fixture
async def ledger(open_ledger):
    async with open_ledger() as opened:
        yield opened
