"""The cluster scheduler's event log, all 40 parts of it: lives that began before it, ended oddly, or began twice."""

import csv
import gzip
import json
import os
import sqlite3
from collections import Counter

import pytest

from ledger import ids
from tests.cli.commandline import good
from tests.end_to_end.real_data import GOOGLE, needs_data
from tests.end_to_end.server_process import client, pages, serve

pytestmark = needs_data

JOBS = 54_042
RECORDS = 158_120
TWICE = "6253771429"
SUBMIT, SCHEDULE, FINISH = "0", "1", "4"
AGAIN = slice(3, 8)
# What the data's README counts as final states, but with one life for the job that had two: FAIL, not FINISH.
STATUSES = {
    "completed": 29_782 - 1,
    "failed": 670 + 1 + 9,  # FAIL, and EVICT
    "cancelled": 19_570,
    "expired": 3,
    "running": 4_008 - 1,
    "pending": 1,
}


@pytest.fixture(scope="module")
def records():
    """The files read on their own: name, line, fields and text of every record."""
    found = []
    for path in GOOGLE:
        with gzip.open(path, "rt") as lines:
            texts = lines.read().splitlines()
        found += [(path.name, number, row, texts[number - 1]) for number, row in enumerate(csv.reader(texts), 1)]
    return found


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """The ledger with all parts in it, what the import said, what it rejected, and a token."""
    folder = tmp_path_factory.mktemp("google")
    db, rejects = folder / "ledger.db", folder / "rejects.jsonl"
    command = ("import", "--json", "--db", db, "--format", "google-2011", "--rejects", rejects)
    tally = good(*command, *GOOGLE).json
    token = good("token", "create", "--db", db, "--scopes", "read,admin").out.strip()
    return db, tally, [json.loads(line) for line in rejects.read_text().splitlines()], token


def test_each_record_becomes_an_event_and_a_submit_two(imported, records):
    _, tally, *_ = imported
    submits = sum(fields[3] == SUBMIT for _, _, fields, _ in records)
    assert (len(GOOGLE), len(records)) == (40, RECORDS)
    assert (tally["appended"], tally["duplicate"], tally["rejected"]) == (RECORDS - 3 + submits - 1, 0, 3)


async def test_the_statuses_add_up(imported, records):
    db, _, _, token = imported
    async with serve(db) as server, client(server, token) as session:
        jobs = [job async for page in pages(session, "/v1/jobs/", limit=1000) for job in page]
    assert Counter(job["status"] for job in jobs) == STATUSES
    assert sum(STATUSES.values()) == JOBS
    assert {job["metadata"]["job_id"] for job in jobs} == {fields[2] for _, _, fields, _ in records}
    reasons = Counter((job["status"], job["metadata"].get("reason")) for job in jobs)
    assert (reasons["failed", "evicted"], reasons["expired", "lost"]) == (9, 3)


def test_an_id_has_one_life(imported):
    db, *_ = imported
    events = good("log", "--json", "--db", db, ids.derive("job", "google-2011", TWICE)).json
    assert [event["type"] for event in events] == ["job.created", "job.pending", "job.running", "job.failed"]


def test_the_second_life_is_in_the_rejects_with_its_lines_and_reasons(imported, records):
    _, _, rejects, _ = imported
    lives = [(name, number, fields[3], text) for name, number, fields, text in records if fields[2] == TWICE]
    second = lives[3:]
    assert [code for _, _, code, _ in second] == [SUBMIT, SCHEDULE, FINISH]
    assert [(each["file"], each["line"]) for each in rejects] == [(name, number) for name, number, _, _ in second]
    for reject, asked in zip(rejects, ("created", "running", "completed"), strict=True):
        assert f"from 'failed' to '{asked}'" in reject["reason"]


def test_a_reject_holds_the_text_of_its_line(imported, records):
    _, _, rejects, _ = imported
    texts = {(name, number): text for name, number, _, text in records}
    assert [each["text"] for each in rejects] == [texts[each["file"], each["line"]] for each in rejects]


def test_nothing_is_imputed_where_the_source_showed_every_step(imported):
    db, *_ = imported
    connection = sqlite3.connect(f"{db.as_uri()}?mode=ro", uri=True)
    imputed = connection.execute("SELECT position FROM events WHERE instr(data, ?)", (b'"imputed":true',)).fetchall()
    connection.close()
    assert imputed == []


@pytest.fixture(scope="module")
def again(imported):
    """What the import of some of the same files says the second time; the job that had two lives is in them."""
    db, *_ = imported
    return good("import", "--json", "--db", db, "--format", "google-2011", *GOOGLE[AGAIN]).json


def test_the_same_files_again_add_nothing_and_are_refused_as_before(again):
    assert (again["appended"], again["rejected"]) == (0, 3)


def test_the_same_files_again_have_as_many_duplicates_as_they_had_events(records, again):
    files = {path.name for path in GOOGLE[AGAIN]}
    lines = [fields[3] for name, _, fields, _ in records if name in files]
    assert again["duplicate"] == len(lines) - 3 + lines.count(SUBMIT) - 1


@pytest.mark.skipif("JOBLEDGER_WHOLE_DATA" not in os.environ, reason="takes long; other logs are verified so")
def test_the_views_are_a_fold_of_it_and_the_record_is_whole(imported):
    db, before, *_ = imported
    verdict = good("verify", "--json", "--views", "--db", db).json
    assert (verdict["ok"], verdict["size"], verdict["problems"]) == (True, before["appended"] + 1, [])
