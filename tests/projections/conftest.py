"""A ledger with a random history and an engine that keeps its views."""

import pytest

from ledger import Ledger
from projections.engine import Engine
from tests.projections.random_histories import History


@pytest.fixture
async def ledger(tmp_path):
    async with Ledger.open(tmp_path / "ledger.db") as opened:
        yield opened


@pytest.fixture
def history():
    return History(31)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.views.db"


@pytest.fixture
async def engine(ledger, history, path):
    """It has applied a first part of the history, and applies more when told."""
    await history.extend(ledger, 80)
    engine = Engine(ledger, path)
    await engine.open()
    yield engine
    await engine.close()


@pytest.fixture
def fresh(ledger, tmp_path):
    """Fold the log into a file of its own; return what is in it."""
    from tests.projections.views_file import contents

    async def fold():
        target = tmp_path / f"fresh-{ledger.size}.db"
        engine = Engine(ledger, target)
        await engine.open()
        await engine.close()
        return contents(target)

    return fold
