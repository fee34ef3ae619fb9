"""``kill -9`` in the middle of imports: what was recorded stays, whole, and the same import brings the rest, once."""

import contextlib
import gzip
import os
import random
import select
import signal
import sqlite3
import subprocess
import sys

import pytest

from projections.file import views_path
from tests.cli.commandline import good
from tests.end_to_end.real_data import KTH, needs_data

pytestmark = needs_data

JOBS = 4000
EVENTS = 4 * JOBS
IMPORT = """
import os
import sys
from ledger import archive
from projections import beside, engine, rebuild
from server.cli import main

archive.ROWS, batch, beside.WORTH_IT = (int(sys.argv.pop(1)) for _ in range(3))
engine.BATCH = rebuild.BATCH = batch
os.nice(19)
main()
"""
"""The command with transactions of a size of our choice, so that there are many moments to die in.

It gives way to the test that watches it, so that on a busy machine the kills do not come too late.
"""
NEVER = 10**9
"""More events than there are: the views are folded in the process that imports, after it."""
KILLS = 10


@pytest.fixture(scope="module")
def swf(tmp_path_factory):
    """The first jobs of a real log."""
    path = tmp_path_factory.mktemp("swf") / "first-jobs.swf"
    with gzip.open(KTH, "rt") as lines:
        head, jobs = [], []
        for line in lines:
            (head if line.startswith(";") else jobs).append(line)
            if len(jobs) == JOBS:
                break
    path.write_text("".join(head + jobs))
    return path


def start(db, swf, *, rows, batch, beside=NEVER):
    """Start an import with so many records, or events of views, a transaction; views are folded beside after some."""
    sizes = map(str, (rows, batch, beside))
    command = [sys.executable, "-c", IMPORT, *sizes, "import", "--db", str(db), "--format", "swf", str(swf)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)


def bury(process):
    """Read what the process said; end whoever of its family outlived it."""
    with contextlib.suppress(ProcessLookupError):  # none did
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def ask(path, question):
    """Ask a database that may not be there yet; 0 for no answer."""
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    except sqlite3.OperationalError:
        return 0
    try:
        return connection.execute(question).fetchone()[0] or 0
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()


def log_size(db):
    return ask(db, "SELECT size FROM head")


def views_size(db):
    return ask(views_path(db), "SELECT min(position) FROM projections")


def kill_when(process, reached, looks):
    """Kill the process after so many more looks at what it does once that reached something; tell whether it lived."""
    while True:
        try:
            process.wait(0.001)
        except subprocess.TimeoutExpired:
            looks -= reached()
            if looks > 0:
                continue
            process.kill()
        return process.wait() == -9


def leaves(db):
    connection = sqlite3.connect(f"{db.as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute("SELECT position, leaf FROM events ORDER BY position").fetchall()
    finally:
        connection.close()


def check(db, before):
    """The record is whole, all that was there still is, and the views equal a fresh fold of it."""
    verdict = good("verify", "--json", "--views", "--db", db).json
    after = leaves(db)
    assert (verdict["ok"], verdict["problems"], verdict["size"]) == (True, [], len(after))
    assert after[: len(before)] == before
    return after


def test_an_import_that_is_killed_ten_times_ends_with_every_event_once(swf, tmp_path):
    chance = random.Random(11)
    db, clean = tmp_path / "ledger.db", tmp_path / "clean.db"
    known, killed, sizes = [], 0, set()
    most = EVENTS // 2  # so that something is left for the last import where the machine is slow to kill
    thresholds = sorted(chance.randrange(most) for _ in range(KILLS))
    for number, threshold in enumerate(thresholds):
        process = start(
            db,
            swf,
            rows=chance.choice([20, 60, 250]),
            batch=chance.choice([500, 5000]),
            beside=chance.choice([1, NEVER]),
        )
        in_log, floor, looks = number % 3 > 0, len(known), chance.randrange(1, 8)
        wanted = max(threshold, floor + 1)

        def is_far(in_log=in_log, wanted=wanted, floor=floor):
            return log_size(db) >= wanted if in_log else log_size(db) > floor or views_size(db) > floor

        killed += kill_when(process, is_far, looks)
        bury(process)
        known = check(db, known)
        sizes.add(len(known))
    assert killed >= KILLS - 2  # on a busy machine one may have ended before it was looked at
    assert len(sizes) > KILLS // 2, f"the kills came at too few different moments: {sorted(sizes)}"
    tally = good("import", "--json", "--db", db, "--format", "swf", swf).json
    assert tally["appended"] == EVENTS - len(known) > 0
    assert tally["duplicate"] == len(known)
    assert len(check(db, known)) == EVENTS
    good("import", "--db", clean, "--format", "swf", swf)
    assert history(db) == history(clean)


def test_a_fold_of_the_views_that_is_killed_is_made_good_by_the_next(swf, tmp_path):
    db = tmp_path / "ledger.db"
    good("import", "--db", db, "--format", "swf", swf)
    known, chance = leaves(db), random.Random(12)
    for _ in range(2):
        for path in tmp_path.glob("ledger.views.db*"):
            path.unlink()
        process = start(db, swf, rows=4000, batch=200)
        assert kill_when(process, lambda: ask(views_path(db), ROWS_BESIDE), chance.randrange(1, 20))
        bury(process)
        assert views_size(db) < EVENTS
        check(db, known)
        assert views_size(db) == EVENTS


def test_a_killed_import_leaves_no_process_behind_that_keeps_others_from_the_views(swf, tmp_path):
    db = tmp_path / "ledger.db"
    process = start(db, swf, rows=20, batch=500, beside=1)
    try:
        assert kill_when(process, lambda: ask(views_path(db), ROWS_BESIDE), 1)
        heard, _, _ = select.select([process.stdout], [], [], PATIENCE_S)
        assert heard, "the process that folds the views beside the import still runs"
        assert process.stdout.read() == b""
    finally:
        bury(process)


PATIENCE_S = 5.0
"""How long a process may take to notice that it is alone."""
ROWS_BESIDE = "SELECT count(*) FROM sqlite_schema WHERE name = 'jobs__new'"
HISTORY = "SELECT stream, version, type, schema, time, actor, key, data FROM events ORDER BY stream, version"


def history(db):
    """What was recorded, but for when."""
    connection = sqlite3.connect(f"{db.as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute(HISTORY).fetchall()
    finally:
        connection.close()
