"""Beats: what runs by the clock outlives a ledger or views that fail for a while, and mistakes of ours."""

import asyncio
import sqlite3

import pytest

from ledger import engine as sqlite
from ledger.errors import StoreFailed
from server import beats
from server.beats import BROKEN, BROKEN_RETRY_S, RETRY_S, beat
from tests.server.serving import serving, until


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
async def test_a_mistake_of_ours_is_told_and_counted_and_does_not_end_the_server(error, service, user, monkeypatch):
    # given a beat that a mistake breaks, in a server
    told, ended = [], []
    monkeypatch.setattr(beats.log, "exception", lambda event, **facts: told.append((event, facts)), raising=False)
    service.app.on_fatal = ended.append
    before = BROKEN.labels("expiry")._value.get()

    async def once():
        raise error

    monkeypatch.setattr(service.app.expiry, "beat", once)
    # when it beats
    service.app.start_beats()
    await until(lambda: told)
    # then it is told as what it is, and all else goes on
    assert told == [("beat.broken", {"beat": "expiry"})]
    assert f'jobledger_beats_broken_total{{beat="expiry"}} {before + 1}' in (await user.get("/metrics")).body.decode()
    assert not ended
    assert await beat("expiry", once) == BROKEN_RETRY_S


BEATS = {"hub": "streams", "connections": "connections", "fellows": "metrics"}
"""What beats beside the ledger, and what its beat is called."""


@pytest.mark.parametrize("name", BEATS)
async def test_a_mistake_in_looking_after_clients_does_not_end_the_server_either(ledger_file, monkeypatch, name):
    async with serving(ledger_file, ping_interval_s=0.01, shared=ledger_file.parent) as service:
        user, told, ended = await service.user(), [], []
        monkeypatch.setattr(beats.log, "exception", lambda event, **facts: told.append(facts["beat"]), raising=False)
        service.app.on_fatal = ended.append

        def mistaken():
            raise KeyError("id")

        monkeypatch.setattr(getattr(service.app, name), "beat", mistaken)
        service.app.start_beats()
        await until(lambda: told or ended)
        assert (told, ended) == ([BEATS[name]], [])
        assert (await user.get("/v1/jobs")).status == 200


async def test_a_stop_ends_a_beat():
    async def once():
        await asyncio.Event().wait()

    beating = asyncio.create_task(beat("expiry", once))
    await asyncio.sleep(0)
    beating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await beating
