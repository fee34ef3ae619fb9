"""Every test of the log that asks for `ledger` is run on each engine."""

import pytest

from tests.ledger.engines import ENGINES, opener

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
