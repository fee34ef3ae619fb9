"""Leases on one file: one holder among all stores and processes, whatever becomes of the one that has it."""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ledger.sqlite import SqliteStore

ROOT = Path(__file__).parents[2]
HOLDER = """
import asyncio, sys
from ledger.sqlite import SqliteStore

async def main(path):
    store = await SqliteStore.open(path)
    while True:
        print(store.lease("callbacks"), flush=True)
        if not sys.stdin.readline():
            return await store.close()

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
async def path(tmp_path):
    await (await SqliteStore.open(tmp_path / "ledger.db")).close()
    return tmp_path / "ledger.db"


@asynccontextmanager
async def opened(path, **options):
    store = await SqliteStore.open(path, **options)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def holder(path):
    """A process that asks for the lease when it starts, and again with every line; with the last it closes its store.

    Yields the process and what asks.
    """
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", HOLDER, str(path), cwd=ROOT, **pipes)

    async def ask():
        process.stdin.write(b"again\n")
        return (await process.stdout.readline()).strip()

    try:
        yield process, (await process.stdout.readline()).strip() == b"True", ask
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_of_two_stores_on_one_file_one_has_the_lease_until_it_is_closed(path):
    async with opened(path) as first, opened(path) as second:
        assert [first.lease("callbacks"), second.lease("callbacks"), first.lease("callbacks")] == [True, False, True]
        await first.close()
        assert [first.lease("callbacks"), second.lease("callbacks")] == [False, True]


async def test_leases_of_two_names_are_independent(path):
    async with opened(path) as first, opened(path) as second:
        assert (first.lease("callbacks"), second.lease("sweeps")) == (True, True)
        assert (first.lease("sweeps"), second.lease("callbacks")) == (False, False)


async def test_leases_of_two_ledgers_are_independent(path, tmp_path):
    async with opened(path) as first, opened(tmp_path / "other.db") as second:
        assert (first.lease("callbacks"), second.lease("callbacks")) == (True, True)


@pytest.mark.parametrize("way", ["a link to the file", "a link to the folder", "a relative path", "by way of .."])
async def test_a_ledger_that_is_reached_another_way_has_the_same_lease(path, tmp_path, way, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if way == "a link to the file":
        other = tmp_path / "elsewhere" / "alias.db"
        other.parent.mkdir()
        other.symlink_to(path)
    elif way == "a link to the folder":
        (tmp_path / "alias").symlink_to(tmp_path)
        other = tmp_path / "alias" / "ledger.db"
    else:
        (tmp_path / "elsewhere").mkdir()
        other = Path("ledger.db") if way == "a relative path" else tmp_path / "elsewhere" / ".." / "ledger.db"
    async with opened(path) as first, opened(other) as second:
        assert (await second.head()).size == 0
        assert (first.lease("callbacks"), second.lease("callbacks")) == (True, False)
        await first.close()
        assert second.lease("callbacks")


async def test_a_store_that_only_reads_gets_no_lease_and_takes_none_away(path):
    async with opened(path, read_only=True) as reader, opened(path) as writer:
        assert reader.lease("callbacks") is False
        assert writer.lease("callbacks") is True


async def test_a_lease_passes_on_from_a_process_that_closes_its_store(path):
    async with opened(path) as store, holder(path) as (process, has, ask):
        assert (has, store.lease("callbacks"), await ask()) == (True, False, b"True")
        process.stdin.write_eof()
        assert await process.wait() == 0
        assert store.lease("callbacks") is True


async def test_a_lease_passes_on_from_a_process_that_is_killed(path):
    async with opened(path) as store, holder(path) as (process, has, _):
        assert (has, store.lease("callbacks")) == (True, False)
        os.kill(process.pid, signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
        assert store.lease("callbacks") is True


async def test_a_process_that_waits_gets_the_lease_when_it_is_let_go(path):
    async with opened(path) as store:
        assert store.lease("callbacks")
        async with holder(path) as (_, has, ask):
            assert (has, await ask()) == (False, b"False")
            await store.close()
            assert await ask() == b"True"


async def test_a_lease_does_not_stay_with_children_of_a_process_that_ended(path):
    async with opened(path) as first, opened(path) as second:
        assert first.lease("callbacks")
        child = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
        await first.close()
        assert second.lease("callbacks") is True
        await child.communicate(b"")
