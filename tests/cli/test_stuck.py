"""``stuck``: what never ended and is silent, the longest first, with its last sign; from the file alone."""

import asyncio

import pytest

import server.cli.stuck
from ledger import Ledger
from tests.cli.commandline import good, jobledger
from tests.cli.stories import ALICE, BATCH, BOB, HOSTILE, JOB, NOON_US, OBEYED, RUN, at

SLOW = "run-00000000-0000-4000-8000-0000000000c1"
NOW_US = NOON_US + 700_000_000


@pytest.fixture(autouse=True)
def now(monkeypatch):
    """The clock of the command: 700 seconds after noon, 606 after the last that the stories tell."""
    monkeypatch.setattr(server.cli.stuck, "wall_clock_us", lambda: NOW_US)


def listed(done):
    return [entry["id"] for entry in done.json]


async def tell(db, *events):
    async with Ledger.open(db) as ledger:
        for stream, type, data, seconds in events:
            await ledger.append(stream, type, data, actor=BOB, time_us=NOON_US + seconds * 1_000_000)


@pytest.mark.parametrize("views", ["none", "all", "behind"])
def test_the_longest_silent_come_first_with_their_last_sign(db, views):
    if views != "none":
        good("rebuild", "--db", db)
    begun = [(SLOW, "run.created", {"user_id": ALICE, "agent_id": "agent-1"}, 2), (SLOW, "run.running", {}, 3)]
    asyncio.run(tell(db, *begun, (SLOW, "run.step", {"id": SLOW.replace("run", "step")}, 50)))
    if views == "all":
        good("rebuild", "--db", db)
    done = good("stuck", "--json", "--db", db)
    assert listed(done) == [SLOW, BATCH, HOSTILE]
    first = done.json[0]
    assert (first["status"], first["since"], first["silent_s"]) == ("running", at(3), 650.0)
    assert first["last_sign_at"] == at(50)
    sign = first["last_sign"]
    assert (sign["stream"], sign["type"], sign["time"], sign["actor"]) == (SLOW, "run.step", at(50), BOB)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--for", "10m"], [BATCH, HOSTILE]),
        (["--for", "607s"], [BATCH]),
        (["--for", "0.2h"], []),
        (["--for", "1s", "--status", "created"], [BATCH, HOSTILE]),
        (["--for", "1s", "--status", "running", "--status", "pending"], []),
        (["--agent", "\u202egnp.exe"], [HOSTILE]),
        (["--agent", "nobody"], []),
        (["--limit", "1"], [BATCH]),
    ],
)
def test_filters_choose_among_them(db, arguments, found):
    assert listed(good("stuck", "--json", "--db", db, *arguments)) == found


def test_a_batch_is_as_silent_as_its_runs_and_names_the_last_sign_of_theirs(db):
    member = {"user_id": BOB, "agent_id": "agent-1", "batch_id": BATCH}
    asyncio.run(tell(db, (SLOW, "run.created", member, 95), (SLOW, "run.running", {}, 300)))
    assert BATCH not in listed(good("stuck", "--json", "--db", db))
    (batch,) = [each for each in good("stuck", "--json", "--db", db, "--for", "5m").json if each["id"] == BATCH]
    assert (batch["silent_s"], batch["last_sign"]["stream"], batch["last_sign"]["type"]) == (400.0, SLOW, "run.running")


def test_it_is_a_table_that_obeys_nothing(db):
    done = good("stuck", "--db", db)
    assert done.out.split()[:3] == ["id", "kind", "status"]
    assert "10 min 09 s" in done.out
    assert "batch.created" in done.out
    assert not {char for char in done.out if char in OBEYED}
    assert JOB not in done.out
    assert RUN not in done.out


def test_more_than_the_limit_is_told(db):
    assert "more than 1" in good("stuck", "--db", db, "--limit", "1").err


def test_nothing_stuck_is_said_and_good(db):
    assert good("stuck", "--db", db, "--for", "1d").out == "nothing is stuck\n"
    assert good("stuck", "--db", db, "--for", "1d", "--json").json == []


@pytest.mark.parametrize("length", ["", "10", "-5m", "5 m", "1w", "0s", "99999999d", "1e3s", "٣s", "\x1b[2Jm"])
def test_what_is_no_length_of_time_is_wrong_usage(db, length):
    done = jobledger("stuck", "--db", db, "--for", length)
    assert (done.code, done.raw) == (2, b"")
    assert "90s, 10m, 2h or 1d" in done.err
    assert "\x1b" not in done.err


def test_the_files_stay_as_they_are(db):
    before = {path.name: path.read_bytes() for path in db.parent.iterdir()}
    good("stuck", "--db", db)
    assert {path.name: path.read_bytes() for path in db.parent.iterdir() if path.name in before} == before
