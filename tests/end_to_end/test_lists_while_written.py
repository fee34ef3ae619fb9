"""Paging through imported jobs to the end, by ``after``, while another client keeps adding jobs in between."""

import asyncio
import gzip
import random
from collections import Counter

import pytest

from ledger import ids
from ledger.times import to_text
from tests.cli.commandline import good
from tests.end_to_end.real_data import KTH, needs_data
from tests.end_to_end.server_process import client, pages, serve

pytestmark = needs_data

JOBS = 27_992
START_US, END_US = 843_480_031_000_000, 872_000_000_000_000


@pytest.fixture(scope="module")
def imported(kth, tmp_path_factory):
    """A copy of the imported ledger, to write to, and a token for it."""
    original, token = kth
    db = tmp_path_factory.mktemp("written") / "ledger.db"
    good("backup", "--db", original, db)
    return db, token


@pytest.fixture(scope="module")
def expected():
    """The ids of the jobs in the file, by its numbers (cleaning left gaps in them)."""
    with gzip.open(KTH, "rt") as lines:
        numbers = [line.split()[0] for line in lines if not line.startswith(";")]
    return {ids.derive("job", "KTH-SP2-1996-2.1-cln.swf", number) for number in numbers}


async def keep_creating(session, chance, created, more):
    """Create jobs with times all over the imported range, some at the same time, until cancelled."""
    while True:
        made = [{"id": ids.make("job"), "time": to_text(chance.randrange(START_US, END_US))} for _ in range(4)]
        made[-1]["time"] = made[0]["time"]
        responses = await asyncio.gather(*(session.post("/v1/jobs/", json=each) for each in made))
        assert {response.status for response in responses} == {201}
        created += [each["id"] for each in made]
        more.set()


@pytest.mark.parametrize(("order", "limit", "seed"), [("asc", 500, 1), ("desc", 500, 2), ("desc", 1000, 3)])
async def test_every_imported_job_is_seen_once_though_others_come_in_between(imported, expected, order, limit, seed):
    db, token = imported
    created, seen, keys, more = [], Counter(), [], asyncio.Event()
    async with serve(db) as server, client(server, token) as session:
        writer = asyncio.create_task(keep_creating(session, random.Random(seed), created, more))
        async for page in pages(session, "/v1/jobs/", limit=limit, order=order):
            seen.update(job["id"] for job in page)
            keys += [(job["created_at"], job["id"]) for job in page]
            more.clear()  # at least one more job between two pages
            async with asyncio.timeout(30):
                await more.wait()
        writer.cancel()
        outcome = await asyncio.gather(writer, return_exceptions=True)
    assert isinstance(outcome[0], asyncio.CancelledError), outcome
    assert len(created) > JOBS / limit
    assert {id: times for id, times in seen.items() if times != 1} == {}
    assert len(expected) == JOBS
    assert seen.keys() >= expected
    assert seen.keys() & set(created), "no new job fell on a page that was still to come"
    assert keys == sorted(keys, reverse=order == "desc")


async def test_pages_from_the_end_backwards_are_the_pages_from_the_start(imported):
    db, token = imported
    async with serve(db) as server, client(server, token) as session:
        forwards = [job["id"] async for page in pages(session, "/v1/jobs/", limit=1000) for job in page]
        cursor, backwards = forwards[-1], [forwards[-1]]
        while True:
            async with session.get("/v1/jobs/", params={"limit": 1000, "before": cursor}) as response:
                page = [job["id"] for job in await response.json()]
            if not page:
                break
            backwards, cursor = page + backwards, page[0]
    assert backwards == forwards
