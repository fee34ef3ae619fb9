"""Beats: what runs by the clock outlives a ledger or views that fail for a while, and no mistake of ours."""

import sqlite3

import pytest

from ledger import engine as sqlite
from ledger.errors import StoreFailed
from server.beats import RETRY_S, beat


async def test_a_beat_says_how_long_to_wait_for_the_next():
    async def once():
        return 7.5

    assert await beat("expiry", once) == 7.5


@pytest.mark.parametrize("error", [
    StoreFailed(reason="disk full"),
    sqlite.OperationalError("interrupted"),
])  # fmt: skip
async def test_a_beat_that_the_ledger_or_the_views_failed_is_made_again(error):
    async def once():
        raise error

    assert await beat("expiry", once) == RETRY_S


@pytest.mark.parametrize("error", [KeyError("id"), RuntimeError("ours"), sqlite3.Warning("ours")])
async def test_a_mistake_of_ours_is_not_hidden_by_the_next_beat(error):
    async def once():
        raise error

    with pytest.raises(type(error)):
        await beat("expiry", once)
