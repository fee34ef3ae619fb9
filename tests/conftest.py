"""Every test of the log that asks for `ledger` is run on each engine."""

import pytest

from tests.ledger.engines import ENGINES, opener

pytest.register_assert_rewrite("tests.clients.calls")  # whose checks are the asserts of its tests


@pytest.fixture(params=ENGINES)
def open_ledger(request, tmp_path):
    return opener(request.param, tmp_path)


@pytest.fixture
async def ledger(open_ledger):
    async with open_ledger() as opened:
        yield opened
