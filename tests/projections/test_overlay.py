"""Views as they stand at the end of the log, from the files alone: all of them, under their own names, by any SQL."""

import pytest

from ledger import Ledger
from projections import overlay
from projections.engine import PROJECTIONS, Engine
from tests.projections.random_histories import History
from tests.projections.test_outbox import cut, garbage, missing, nothing, without_a_checkpoint
from tests.projections.views_file import contents

TABLES = [projection.name for projection in PROJECTIONS]


def known(rows, table):
    """Rows without what only lists as of a point need, which an overlay is not for."""
    return sorted((row[:-1] if table in ("jobs", "runs", "batches") else row for row in rows), key=repr)


async def views_made(ledger, path):
    views = Engine(ledger, path)
    await views.open()
    await views.close()


async def at_the_end(ledger, path):
    """Every row of every view, as the reader of an overlay has them."""

    async def question(at_end):
        reader = await at_end.reader(PROJECTIONS)
        return {table: known(await reader.read(f"SELECT * FROM {table}", {}), table) for table in TABLES}

    return await overlay.ask(ledger.store, path, "views", question)


@pytest.mark.parametrize("make", [None, missing, garbage, nothing, cut, without_a_checkpoint])
@pytest.mark.parametrize(("steps", "seed"), [(0, 1), (1, 2), (40, 3), (400, 4)])
async def test_all_views_are_those_of_a_whole_fold_however_far_behind_the_file_is(tmp_path, make, steps, seed):
    # given
    path, history = tmp_path / "ledger.views.db", History(seed)
    async with Ledger.open(tmp_path / "ledger.db") as ledger:
        await history.extend(ledger, 400)
        await views_made(ledger, path)
        await history.extend(ledger, steps)
        if make:
            make(path)
        before = path.read_bytes() if path.exists() else None
        # when
        found = await at_the_end(ledger, path)
        # then
        await views_made(ledger, tmp_path / "whole.db")
        whole = contents(tmp_path / "whole.db")
    assert found == {table: known(whole[table], table) for table in TABLES}
    assert (path.read_bytes() if path.exists() else None) == before
