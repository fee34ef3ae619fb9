"""Taking notice of what others appended: whoever asks has it afterwards, however many ask at once."""

import asyncio

import pytest

from ledger import Ledger
from ledger.errors import StoreFailed

JOB = "job-00000000-0000-4000-8000-000000000001"


@pytest.fixture
async def two(tmp_path, monkeypatch):
    """Two ledgers on one file, which look only when they are told to."""
    monkeypatch.setattr("ledger.ledger.WATCH_INTERVAL_S", 3600.0)
    async with Ledger.open(tmp_path / "ledger.db") as first, Ledger.open(tmp_path / "ledger.db") as second:
        yield first, second


async def grow(ledger):
    return await ledger.append(JOB, "job.created", {"user_id": "user-00000000-0000-4000-8000-00000000000a"})


async def test_whoever_asks_while_another_still_reads_has_what_was_appended_too(two):
    here, there = two
    reading, go_on = asyncio.Event(), asyncio.Event()
    scan = here.store.scan

    async def slowly(*asked, **more):
        reading.set()
        await go_on.wait()
        return await scan(*asked, **more)

    here.store.scan = slowly
    await grow(there)
    first = asyncio.create_task(here.refresh())
    await reading.wait()
    second = asyncio.create_task(here.refresh())
    await asyncio.sleep(0)
    assert not second.done()
    go_on.set()
    await second
    assert here.size == there.size == 1
    await first


async def test_a_file_that_cannot_be_read_is_looked_at_now_and_then_and_what_was_asked_for_is_not_forgotten(
    two, monkeypatch
):
    # given a ledger that looks all the time, and is told that there is more in a file that fails
    here, there = two
    monkeypatch.setattr("ledger.ledger.WATCH_RETRY_S", 0.0)
    turn, looks, fails = asyncio.Event(), [], True
    refresh = here.refresh

    async def look(*, surely=False):
        looks.append(surely)
        turn.set()
        if fails:
            raise StoreFailed(reason="disk gone")
        await refresh(surely=surely)

    here.refresh = look
    await grow(there)
    here._nudge.set()
    for _ in range(3):
        await turn.wait()
        turn.clear()
    # when the file is back, then it looks as surely as it was asked to
    fails = False
    await here.wait_beyond(0)
    assert looks[:4] == [True] * 4
    # and while it fails, it waits between two looks for longer than usual
    monkeypatch.setattr("ledger.ledger.WATCH_RETRY_S", 3600.0)
    fails, here.watch_interval_s = True, 0.0
    here._nudge.set()
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(looks) == 5


async def test_what_could_not_be_read_once_is_read_by_the_next_who_asks(two):
    here, there = two
    scan = here.store.scan

    async def fails(*_, **__):
        raise StoreFailed(reason="disk gone")

    here.store.scan = fails
    await grow(there)
    with pytest.raises(StoreFailed):
        await here.refresh()
    here.store.scan = scan
    await here.refresh()
    assert here.size == 1
