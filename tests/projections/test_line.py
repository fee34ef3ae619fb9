"""The line of long reads: reads that overlap without end leave SQLite its moment to begin the write-ahead file anew."""

import asyncio

import pytest

from ledger.errors import StoreFailed, Unavailable
from projections import line as module
from projections.line import Line


@pytest.fixture
def wal(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WAL_SIZE_MAX", 10)
    return tmp_path / "ledger.views.db-wal"


async def test_a_full_line_refuses_the_next_and_has_room_again(wal):
    line = Line(wal, 2)
    with line.place(), line.place(), pytest.raises(Unavailable, match="2 long reads"), line.place():
        pytest.fail("there is no third place")
    with line.place():
        assert line.length == 1


async def test_while_the_file_is_small_reads_overlap(wal):
    line = Line(wal)
    line.empty = lambda: pytest.fail("nothing is to be emptied")
    async with line.turn(), line.turn():
        wal.write_bytes(b"x" * 10)
        async with line.turn():
            pass


@pytest.mark.parametrize("fault", [None, StoreFailed(reason="disk full")])
async def test_once_it_is_large_the_next_read_waits_and_the_file_is_emptied_while_nobody_reads(wal, fault):
    # given a read under way, and a large file
    line, emptied, order = Line(wal), [], []

    async def empty():
        emptied.append(line._reading)
        if fault:
            raise fault
        wal.write_bytes(b"")

    line.empty = empty

    async def read(name):
        async with line.turn():
            order.append(name)

    wal.write_bytes(b"x" * 11)
    line._gap_at_s = asyncio.get_running_loop().time() + 1000
    async with line.turn():
        line._gap_at_s = 0.0
        # when others come, then they wait
        others = [asyncio.create_task(read(name)) for name in "abc"]
        for _ in range(10):
            await asyncio.sleep(0)
        assert (order, emptied) == ([], [])
    # until it is done; then each has its turn, also where that failed, and there is no second gap at once
    await asyncio.gather(*others)
    assert (order, emptied) == (["a", "b", "c"], [0])
    wal.write_bytes(b"x" * 11)
    await read("d")
    assert emptied == [0]
    line._gap_at_s = 0.0
    await read("e")
    assert emptied == [0, 0]


async def test_a_read_that_goes_on_for_long_holds_up_the_others_for_a_while_only(wal, monkeypatch):
    monkeypatch.setattr(module, "GAP_WAIT_S", 0.01)
    line, emptied = Line(wal), []

    async def empty():
        emptied.append(line._reading)

    async with line.turn():
        line.empty = empty
        wal.write_bytes(b"x" * 11)
        async with line.turn():  # such as one within the other: it must not wait for itself
            assert emptied == [1]


async def test_who_leaves_while_a_gap_is_made_leaves_it_to_the_next(wal):
    line, emptied = Line(wal), []

    async def empty():
        emptied.append(line._reading)

    async def read():
        async with line.turn():
            pass

    async with line.turn():
        line.empty = empty
        wal.write_bytes(b"x" * 11)
        waiting = asyncio.create_task(read())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await read()
    assert emptied == [0]
    assert line._reading == 0
