"""A batch log of the Parallel Workloads Archive: through import, HTTP and verification.

Its first 30,000 jobs; with JOBLEDGER_WHOLE_DATA=1 in the environment all of them, which takes two minutes.
"""

import gzip
import os
import sqlite3
from collections import Counter

import pytest

from ledger import ids
from tests.cli.commandline import good
from tests.end_to_end.real_data import SDSC, needs_data
from tests.end_to_end.server_process import client, pages, serve

pytestmark = needs_data

IS_WHOLE = os.environ.get("JOBLEDGER_WHOLE_DATA") == "1"
JOBS = 243_306 if IS_WHOLE else 30_000
IDS_AT_ONCE = 1000


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The log, or its beginning under the same name, which its ids come from."""
    if IS_WHOLE:
        return SDSC
    path = tmp_path_factory.mktemp("swf") / SDSC.name
    with gzip.open(SDSC, "rt") as lines, gzip.open(path, "wt", compresslevel=1) as beginning:
        jobs = 0
        for line in lines:
            beginning.write(line)
            jobs += not line.startswith(";")
            if jobs == JOBS:
                break
    return path


@pytest.fixture(scope="module")
def rows(file):
    """The file, read on its own: (job number, run, requested time, status) of each row."""
    with gzip.open(file, "rt") as lines:
        fields = [[int(float(each)) for each in line.split()] for line in lines if not line.startswith(";")]
    return [(row[0], row[3], row[8], row[10]) for row in fields]


@pytest.fixture(scope="module")
def events(rows):
    """How many it must become: created, pending, running and the end of each; what is open never ran."""
    is_open = sum(status == -1 for _, _, _, status in rows)
    return 4 * (len(rows) - is_open) + 2 * is_open


@pytest.fixture(scope="module")
def imported(tmp_path_factory, file):
    """The ledger with the whole log in it, what the import said, and a token to read it with, one event more."""
    db = tmp_path_factory.mktemp("sdsc") / "ledger.db"
    tally = good("import", "--json", "--db", db, "--format", "swf", file).json
    token = good("token", "create", "--db", db, "--scopes", "read,admin").out.strip()
    return db, tally, token


def test_each_row_becomes_its_events(imported, rows, events):
    _, tally, _ = imported
    assert (len(rows), tally.pop("events_per_s") > 0) == (JOBS, True)
    assert tally == {"appended": events, "duplicate": 0, "rejected": 0}
    assert not IS_WHOLE or events == 973_220


async def test_every_job_is_read_over_http_as_the_file_tells_it(imported, rows):
    db, _, token = imported
    found = {}
    async with serve(db) as server, client(server, token) as session:
        async for page in pages(session, "/v1/jobs/", limit=IDS_AT_ONCE):
            found |= {job["metadata"]["job_number"]: (job["id"], job["status"], job["stop_reason"]) for job in page}
    statuses = Counter(status for _, status, _ in found.values())
    assert sum(statuses.values()) == JOBS
    assert min(statuses["completed"], statuses["cancelled"], statuses["expired"]) > 100
    if IS_WHOLE:
        assert (statuses["completed"], statuses["pending"]) == (195_586, 2)
        assert statuses["cancelled"] + statuses["expired"] == 47_718
    assert found == {number: (job_id(number), *told(run, asked, end)) for number, run, asked, end in rows}


def test_what_the_file_never_showed_is_marked_as_imputed(imported, rows):
    db, *_ = imported
    connection = sqlite3.connect(f"{db.as_uri()}?mode=ro", uri=True)
    count = "SELECT type, count(*) FROM events WHERE instr(data, ?) GROUP BY type"
    found = connection.execute(count, (b'"imputed":true',)).fetchall()
    never_ran = sum(run <= 0 and status != -1 for _, run, _, status in rows)
    assert never_ran > (10_000 if IS_WHOLE else 100)
    assert found == [("job.running", never_ran)]
    connection.close()


def test_the_same_file_again_adds_nothing(imported, file, events):
    db, *_ = imported
    tally = good("import", "--json", "--db", db, "--format", "swf", file).json
    tally.pop("events_per_s")
    assert tally == {"appended": 0, "duplicate": events, "rejected": 0}


def test_the_whole_record_is_verified(imported, events):
    db, *_ = imported
    verdict = good("verify", "--json", "--db", db).json
    assert (verdict["ok"], verdict["size"], verdict["erased"], verdict["problems"]) == (True, events + 1, 0, [])


def job_id(number):
    return ids.derive("job", "SDSC-BLUE-2000-4.2-cln.swf", str(number))


def told(run, asked, status):
    """The mapping of the data's README, in a few words."""
    if status == 5:
        return ("expired", None) if 0 < asked <= run else ("cancelled", "cancelled")
    return {1: ("completed", "end_turn"), 0: ("failed", "error"), -1: ("pending", None)}[status]
