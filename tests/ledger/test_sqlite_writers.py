"""Several writers on one file, in this process and another: gap-free positions, unique versions, rules kept."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from ledger import Ledger, engine
from ledger.commands import Context
from ledger.decider import Change
from ledger.errors import InvalidTransition, StoreFailed
from ledger.events import Changed
from ledger.sqlite import SqliteStore
from ledger.verify import verify
from tests.ledger.engines import ME, create, log_of
from tests.ledger.histories import Clock, job, leaf_hash, root, run

JOBS = 30
OTHER = """
import asyncio, json, sys
from ledger import Ledger
from tests.ledger.test_sqlite_writers import race

async def main(path):
    async with Ledger.open(path) as ledger:
        print("ready", flush=True)
        sys.stdin.readline()
        print(json.dumps(await race(ledger, "expired", 2)))

asyncio.run(main(sys.argv[1]))
"""


async def race(ledger, status, number):
    """Try to end each job in this writer's way, with jobs of its own in between; return the jobs that it ended."""
    won = []
    for each in range(JOBS):
        own = ledger.execute(create(job(1000 * (number + 1) + each), "running"), ME)
        end = ledger.execute(Change(id=job(each), status=status), ME)
        receipt: Any = (await asyncio.gather(own, end, return_exceptions=True))[1]
        if not isinstance(receipt, InvalidTransition):
            won.append(receipt.state.id)
    return won


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


async def test_of_three_writers_in_two_processes_exactly_one_ends_each_job(path):
    async with Ledger.open(path) as first, Ledger.open(path) as second:
        await asyncio.gather(*(first.execute(create(job(each), "running"), ME) for each in range(JOBS)))
        other = await asyncio.create_subprocess_exec(
            sys.executable, "-c", OTHER, str(path), cwd=Path(__file__).parents[2],
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert other.stdout
        assert other.stdin
        assert await other.stdout.readline() == b"ready\n"
        other.stdin.write(b"go\n")
        mine, theirs, (output, _) = await asyncio.gather(
            race(first, "completed", 0), race(second, "cancelled", 1), other.communicate()
        )
        log = await log_of(first)
    winners = [*mine, *theirs, *json.loads(output)]
    assert sorted(winners) == [job(each) for each in range(JOBS)]
    ends = [event for event in log if event.type in {"job.completed", "job.cancelled", "job.expired"}]
    assert sorted(event.stream for event in ends) == sorted(winners)
    assert [event.position for event in log] == list(range(1, len(log) + 1))
    assert len({(event.stream, event.version) for event in log}) == len(log)
    assert len({event.stream for event in log}) == 4 * JOBS
    connection = engine.connect(path, read_only=True)
    verdict = verify(connection)
    connection.close()
    assert (verdict.problems, verdict.size) == ([], len(log))
    assert verdict.root == root([leaf_hash(event) for event in log]).hex()


async def test_a_writer_decides_by_the_file_and_not_by_what_it_remembers(path):
    async with Ledger.open(path) as first, Ledger.open(path) as second:
        await first.execute(create(run(), "running"), ME)
        for ledger, other in ((first, second), (second, first)):
            await ledger.execute(Change(id=run(), facts=_metadata(ledger is first)), ME)
            receipt = await other.execute(Change(id=run(), facts=_metadata(None)), ME)
            assert receipt.state == await other.state(run())
        await second.execute(Change(id=run(), status="failed"), ME)
        with pytest.raises(InvalidTransition) as refusal:
            await first.execute(Change(id=run(), status="completed"), ME)
        assert refusal.value.current_status == "failed"
        assert (await first.execute(create(run(2)), ME)).position == 9


def _metadata(value):
    return Changed(metadata={"first": value})


async def test_a_key_used_by_one_writer_is_known_to_the_other(path):
    asked = Context(actor="a", key="k1", digest="aa")
    async with Ledger.open(path) as first, Ledger.open(path) as second:
        receipts = await asyncio.gather(
            *(ledger.execute(create(job(), "pending"), asked) for ledger in (first, second) * 5)
        )
        assert {receipt.position for receipt in receipts} == {2}
        assert len(await log_of(second)) == 2


async def follow(ledger, until):
    return [event async for event in _up_to(ledger, until)]


async def _up_to(ledger, until):
    async for event in ledger.events():
        yield event
        if event.position == until:
            return


async def test_followers_of_both_writers_see_everything_of_both_in_order(path):
    async with Ledger.open(path) as first, Ledger.open(path) as second:
        followers = [asyncio.create_task(follow(ledger, 60)) for ledger in (first, second, first)]
        for each in range(10):
            await first.execute(create(job(each), "running"), ME)
            await asyncio.gather(
                *(ledger.execute(create(run(each * 3 + n)), ME) for n, ledger in enumerate([second] * 3))
            )
        async with asyncio.timeout(20):
            seen = await asyncio.gather(*followers)
            await asyncio.gather(first.wait_beyond(59), second.wait_beyond(59))
        assert seen == [await log_of(first)] * 3


async def test_listeners_hear_each_event_of_either_writer_once_and_in_order(path):
    heard: list[int] = []
    async with Ledger.open(path) as first, Ledger.open(path) as second:
        first.listen(lambda events: heard.extend(event.position for event in events))
        for each in range(10):
            await asyncio.gather(
                *(ledger.execute(create(run(each * 2 + n)), ME) for n, ledger in enumerate((first, second)))
            )
        async with asyncio.timeout(20):
            await first.wait_beyond(19)
    assert heard == list(range(1, 21))


async def test_a_look_at_the_file_that_fails_once_does_not_blind_the_followers(path):
    async with Ledger.open(path) as first, Ledger.open(path) as second:
        failed, store, scan = asyncio.Event(), cast(Any, first.store), first.store.scan

        async def fail_once(*_, **__):
            store.scan = scan
            failed.set()
            raise StoreFailed(reason="disk I/O error")

        store.scan = fail_once
        await second.execute(create(job(1)), ME)
        async with asyncio.timeout(20):
            await failed.wait()
        await second.execute(create(job(2)), ME)
        async with asyncio.timeout(3):
            await first.wait_beyond(1)


async def test_an_append_in_the_moment_of_opening_is_not_missed(path):
    async with Ledger.open(path) as second:

        async def open_store():
            store: Any = await SqliteStore.open(path)
            head = store.head

            async def head_and_then_an_append():
                store.head, found = head, await head()
                await second.execute(create(job(1)), ME)
                return found

            store.head = head_and_then_an_append
            return store

        async with Ledger(open_store, Clock(), 100) as first, asyncio.timeout(3):
            await first.wait_beyond(0)
