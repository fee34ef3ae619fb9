"""Verification: quiet on clean ledgers, and a finger on the first bad position of every broken one."""

import asyncio
import contextlib
import random
from hashlib import sha256
from itertools import pairwise

import msgspec
import pytest

from ledger import Ledger, engine
from ledger.commands import Context
from ledger.decider import Change, Delete
from ledger.events import CALLBACK_TYPES, Changed
from ledger.leaf import leaf_hash
from ledger.merkle import Frontier
from ledger.verify import PROBLEMS_MAX, verify
from tests.ledger import histories
from tests.ledger.engines import ME, create, log_of, scramble
from tests.ledger.histories import START_US, Clock, event, job, run
from tests.projections.random_histories import History

COLUMNS = "position, stream, version, type, schema, time, recorded, actor, key, correlation, data, salt, digest"
LAST = 10  # the version of job 99
SIZE = 600  # two stored tree nodes, and some


async def fill(path):
    """Make a ledger of 600 events; return its root as the contract says."""
    async with Ledger.open(path, clock=Clock()) as ledger:
        await scramble(ledger, seed=5, rounds=10)
        await ledger.append(histories.id_of("token", 1), "access.revoked", {})
        number = 100
        while ledger.size < SIZE - 10:
            number += 1
            await ledger.execute(
                create(job(number)), Context(actor="é", key=f"key {number}", digest="", correlation="c")
            )
        await ledger.execute(create(job(99), "pending"), ME)
        while ledger.size < SIZE:
            await ledger.append(job(99), "job.updated", {"metadata": {"at": ledger.size}})
        return histories.root([histories.leaf_hash(found) for found in await log_of(ledger)]).hex()


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    path = tmp_path_factory.mktemp("clean") / "ledger.db"
    return path, asyncio.run(fill(path))


@pytest.fixture
def raw(clean, tmp_path):
    """The clean ledger as a copy of our own, its guards gone: what somebody with the file in hand can do."""
    with contextlib.closing(engine.connect(clean[0], read_only=True)) as source:
        source.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))
    with contextlib.closing(engine.connect(tmp_path / "copy.db", read_only=False)) as connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        for index in ("events_by_stream", "events_by_key"):
            connection.execute(f"DROP INDEX {index}")
        yield connection


def first_bad(connection):
    verdict = verify(connection)
    assert verdict.ok is (not verdict.problems)
    assert [each.position for each in verdict.problems] == sorted(each.position for each in verdict.problems)
    return verdict.problems[0].position if verdict.problems else None


def bytes_flipped(value, at):
    return value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]


# --- clean ------------------------------------------------------------------------------------------------------------


def test_a_clean_ledger_is_clean_and_its_root_is_the_contract_s(clean, raw):
    verdict = verify(raw)
    assert (verdict.ok, verdict.size, verdict.erased, verdict.problems) == (True, SIZE, 0, [])
    assert verdict.root == clean[1]


def test_an_empty_ledger_is_clean(raw):
    for table in ("events", "tree"):
        raw.execute(f"DELETE FROM {table}")
    raw.execute("UPDATE head SET size = 0, recorded = 0, frontier = x''")
    verdict = verify(raw)
    assert (verdict.ok, verdict.size, verdict.root) == (True, 0, histories.root([]).hex())


def test_progress_is_told_batch_by_batch_and_ends_at_the_size(raw, monkeypatch):
    monkeypatch.setattr("ledger.scan.BATCH", 250)
    monkeypatch.setattr("ledger.scan.BATCH_FIRST", 250)
    steps = []
    assert verify(raw, lambda done, size: steps.append((done, size))).ok
    assert steps == [(250, SIZE), (500, SIZE), (SIZE, SIZE)]


def test_a_verification_reads_only(raw):
    raw.execute("PRAGMA query_only = ON")  # every write would be an error
    assert verify(raw).ok
    assert not raw.in_transaction


async def test_a_ledger_that_grows_meanwhile_is_verified_as_it_was_at_the_start(tmp_path):
    async with Ledger.open(tmp_path / "ledger.db") as ledger:
        await scramble(ledger, seed=6)
        size = ledger.size
        with contextlib.closing(engine.connect(tmp_path / "ledger.db", read_only=True)) as connection:
            connection.execute("BEGIN")
            connection.execute("SELECT size FROM head").fetchone()
            connection.execute("COMMIT")
            assert verify(connection).size == size


# --- one row was touched ----------------------------------------------------------------------------------------------

AT = [1, 2, 255, 256, 257, 512, SIZE - 1, SIZE]
CHANGES = [
    ("stream", "'job-00000000-0000-4000-8000-00000000ffff'"),
    ("version", "version + 1"),
    ("type", "'job.failed'"),
    ("type", "'job.created '"),
    ("schema", "schema + 1"),
    ("time", "time + 1"),
    ("time", "-time"),
    ("recorded", "recorded + 1"),
    ("actor", "actor || ' '"),
    ("key", "'another'"),
    ("correlation", "coalesce(correlation, '') || 'x'"),
    ("data", "x'7b7d20'"),
    ("data", "cast('{}' || data AS BLOB)"),
    ("salt", "x'00'"),
    ("salt", "cast(salt || data AS BLOB)"),
    ("leaf", "x'00'"),
    ("leaf", "zeroblob(32)"),
    ("data", "NULL"),
    ("salt", "NULL"),
    ("digest", f"'{'0' * 64}'"),
]


@pytest.mark.parametrize("position", AT)
@pytest.mark.parametrize(("field", "value"), CHANGES, ids=[f"{field} = {value[:30]}" for field, value in CHANGES])
def test_a_field_that_was_changed_is_told_at_its_position(raw, field, value, position):
    raw.execute(f"UPDATE events SET {field} = {value} WHERE position = ?", (position,))
    assert first_bad(raw) == position


def test_a_single_bit_anywhere_in_data_salt_or_leaf_is_told(raw):
    chance = random.Random(8)
    for position in chance.sample(range(1, SIZE + 1), 40):
        field = chance.choice(["data", "salt", "leaf"])
        (value,) = raw.execute(f"SELECT {field} FROM events WHERE position = ?", (position,)).fetchone()
        spoilt = bytes_flipped(value, chance.randrange(len(value)))
        raw.execute(f"UPDATE events SET {field} = ? WHERE position = ?", (spoilt, position))
        assert first_bad(raw) == position
        raw.execute(f"UPDATE events SET {field} = ? WHERE position = ?", (value, position))
    assert first_bad(raw) is None


@pytest.mark.parametrize("field", ["actor", "stream", "key", "correlation"])
def test_text_that_is_no_unicode_is_told_at_its_position(raw, field):
    raw.execute(f"UPDATE events SET {field} = cast(x'ff' AS TEXT) WHERE position = 57")
    assert first_bad(raw) == 57


# --- rows are gone or out of place ------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [1, 2, 256, 300, SIZE - 1])
def test_a_row_that_was_dropped_is_told_at_the_first_behind_it(raw, position):
    raw.execute("DELETE FROM events WHERE position = ?", (position,))
    assert first_bad(raw) in {position, position + 1}


@pytest.mark.parametrize("count", [1, 2, 88, 400])
def test_a_tail_that_was_cut_is_told_at_the_first_that_is_missing(raw, count):
    raw.execute("DELETE FROM events WHERE position > ?", (SIZE - count,))
    assert first_bad(raw) == SIZE - count + 1


def test_a_log_that_was_emptied_is_told(raw):
    raw.execute("DELETE FROM events")
    assert first_bad(raw) == 1


@pytest.mark.parametrize(("one", "other"), [(3, 4), (100, 400), (SIZE - 1, SIZE)])
def test_rows_that_were_swapped_are_told_at_the_first(raw, one, other):
    for source, target in ((one, -1), (other, one), (-1, other)):
        raw.execute("UPDATE events SET position = ? WHERE position = ?", (target, source))
    assert first_bad(raw) == one


def test_a_row_moved_to_the_end_is_told(raw):
    raw.execute("UPDATE events SET position = ? WHERE position = 10", (SIZE + 1,))
    assert first_bad(raw) in {10, 11}


@pytest.mark.parametrize("position", [0, -5, SIZE + 1, SIZE + 9])
def test_a_row_that_was_slipped_in_is_told(raw, position):
    others = COLUMNS.removeprefix("position, ")
    slipped = f"INSERT INTO events (position, {others}, leaf) SELECT ?, {others}, leaf FROM events WHERE position = 5"
    raw.execute(slipped, (position,))
    assert first_bad(raw) == (1 if position < 1 else SIZE + 1)  # where it stands, or the gap before it


# --- the head and the tree --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("size = size - 1", id="a size too small"),
        pytest.param("size = size + 1", id="a size too large"),
        pytest.param("size = 0, frontier = x''", id="said to be empty"),
        pytest.param("frontier = x''", id="no frontier"),
        pytest.param("frontier = zeroblob(length(frontier))", id="another frontier"),
        pytest.param("recorded = recorded - 1", id="recorded before the last event"),
        pytest.param("recorded = recorded + 1", id="recorded after the last event"),
    ],
)
def test_a_head_that_was_tampered_with_is_told(raw, change):
    raw.execute(f"UPDATE head SET {change}")
    assert first_bad(raw) in {SIZE, SIZE + 1}


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DELETE FROM ledger", "the ledger has no name"),
        ("DROP TABLE ledger", "the name of the ledger cannot be read: no such table: ledger"),
        ("UPDATE ledger SET name = CAST(x'ff' AS TEXT)", "the name of the ledger cannot be read: "),
    ],
)
def test_a_name_that_cannot_be_read_is_told_before_what_no_longer_agrees_with_it(raw, statement, problem):
    raw.execute(statement)
    assert verify(raw).problems[0].problem.startswith(problem)


def test_a_head_that_is_gone_is_told(raw):
    raw.execute("DELETE FROM head")
    assert first_bad(raw) is not None


@pytest.mark.parametrize(
    ("statement", "position"),
    [
        ("UPDATE tree SET hash = zeroblob(32) WHERE idx = 0", 1),
        ("UPDATE tree SET hash = zeroblob(32) WHERE idx = 1", 257),
        ("UPDATE tree SET hash = x'' WHERE idx = 1", 257),
        ("DELETE FROM tree WHERE idx = 1", 257),
        ("DELETE FROM tree", 1),
        ("INSERT INTO tree (level, idx, hash) VALUES (8, 2, zeroblob(32))", 513),
        ("INSERT INTO tree (level, idx, hash) VALUES (16, 0, zeroblob(32))", 1),
    ],
)
def test_a_tree_node_that_was_tampered_with_is_told_at_the_first_position_under_it(raw, statement, position):
    raw.execute(statement)
    assert first_bad(raw) == position


# --- a history that is false though every hash is right ---------------------------------------------------------------


def written(raw, *events):
    """Append events past all rules, with right leaves, frontier and head: what a forger with our code could do."""
    size, frontier = raw.execute("SELECT size, frontier FROM head").fetchone()
    grown = Frontier.from_bytes(size, frontier)
    for found in events:
        leaf = leaf_hash(found)
        grown.append(leaf)
        row = (*(getattr(found, name) for name in COLUMNS.split(", ")), leaf)
        raw.execute(f"INSERT INTO events ({COLUMNS}, leaf) VALUES ({', '.join('?' * 14)})", row)
    raw.execute(
        "UPDATE head SET size = ?, frontier = ?, recorded = ?", (grown.size, grown.to_bytes(), events[-1].recorded)
    )


def forged(*rows):
    """Events behind the clean ones: (type, stream, version), and perhaps data."""
    return [
        event(name, *data, stream=stream, version=version, position=SIZE + at, time=START_US + 10**9 + at)
        for at, (name, stream, version, *data) in enumerate(rows, 1)
    ]


NEW = job(7000)
ILLEGAL = [
    pytest.param([("job.completed", job(99), LAST + 1)], 1, id="from pending to completed"),
    pytest.param([("job.created", job(99), LAST + 1)], 1, id="created twice"),
    pytest.param([("job.running", NEW, 1)], 1, id="running before it was created"),
    pytest.param([("job.updated", NEW, 1)], 1, id="updated before it was created"),
    pytest.param([("job.deleted", NEW, 1)], 1, id="deleted before it was created"),
    pytest.param([("job.created", NEW, 1), ("job.cancelled", NEW, 2)], 2, id="cancelled in the queue"),
    pytest.param(
        [("run.created", run(7), 1), ("run.failed", run(7), 2), ("run.running", run(7), 3)], 3, id="after its end"
    ),
    pytest.param([("job.created", NEW, 1), ("batch.pending", NEW, 2)], 2, id="an event of another kind"),
    pytest.param(
        [("job.created", NEW, 1), ("job.deleted", NEW, 2), ("job.pending", NEW, 3)], 3, id="after its deletion"
    ),
    pytest.param([("job.created", NEW, 1), ("job.deleted", NEW, 2), ("job.deleted", NEW, 3)], 3, id="deleted twice"),
    pytest.param([("job.created", NEW, 2)], 1, id="a first version of 2"),
    pytest.param([("job.created", NEW, 1), ("job.pending", NEW, 3)], 2, id="a version left out"),
    pytest.param([("job.created", NEW, 1), ("job.pending", NEW, 1)], 2, id="a version twice"),
    pytest.param([("job.exploded", NEW, 1)], 1, id="an unknown type"),
    pytest.param([("run.created", run(7), 1), ("run.expired", run(7), 2)], 2, id="a run that expired"),
    pytest.param([("job.created", run(7), 1)], 1, id="a job under the id of a run"),
    pytest.param([("access.granted", NEW, 1)], 1, id="a token under the id of a job"),
    pytest.param([("job.created", NEW, 1), ("access.granted", NEW, 2)], 2, id="a token in the history of a job"),
    *[
        pytest.param([("run.created", run(7), 1), ("run.erased", run(7), 2), (name, run(7), 3)], 3, id=f"{name} erased")
        for name in ("run.running", "run.updated", "run.message", "run.deleted", "run.erased", "callback.requeued")
    ],
]


@pytest.mark.parametrize(("rows", "at"), ILLEGAL)
def test_an_illegal_history_with_valid_hashes_is_told_at_its_position(raw, rows, at):
    written(raw, *forged(*rows))
    assert first_bad(raw) == SIZE + at


@pytest.mark.parametrize(
    "rows",
    [
        [("job.created", NEW, 1), ("job.deleted", NEW, 2), ("job.erased", NEW, 3)],
        [("run.created", run(7), 1), ("run.refused", run(7), 2), ("run.failed", run(7), 3), ("run.updated", run(7), 4)],
    ],
)
def test_a_legal_history_is_not_taken_for_a_forged_one(raw, rows):
    written(raw, *forged(*rows))
    assert first_bad(raw) is None


HOOKED = {"user_id": "u", "callback_url": "https://receiver.example/"}
ESCAPED = rb'{"user_id":"u","c\u0061llback_url":"https://receiver.example/"}'


def called_back(*verbs, end="failed", born=HOOKED):
    """A run that ended, unless ``end`` is None, and events of its callback or (with a dot) others behind it."""
    names = ["run.created", *([f"run.{end}"] if end else []), *verbs]
    names = [name if "." in name else f"callback.{name}" for name in names]
    rows = [(name, run(7), version) for version, name in enumerate(names, 1)]
    return [(*rows[0], born), *rows[1:]]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        pytest.param([("callback.attempted", run(7), 1)], "before its creation", id="before the creation"),
        pytest.param(called_back("attempted", end=None), "before its end", id="before the end"),
        pytest.param(called_back("delivered", end="running"), "before its end", id="delivered while running"),
        pytest.param(
            called_back("run.deleted", "abandoned", end=None), "before its end", id="of what was deleted unended"
        ),
        pytest.param(called_back("attempted", born={"user_id": "u"}), "which has no callback", id="never asked for"),
        pytest.param(called_back("delivered", "delivered"), "delivered already", id="delivered twice"),
        pytest.param(called_back("delivered", "abandoned"), "delivered already", id="abandoned after delivery"),
        pytest.param(
            called_back("attempted", "abandoned", "attempted", "delivered"), "abandoned already", id="after giving up"
        ),
        pytest.param(
            called_back("delivered", "requeued", "delivered", "abandoned"), "delivered already", id="once for each"
        ),
        pytest.param(called_back("run.erased", "attempted"), "stands after its erasure", id="after the erasure"),
        pytest.param(
            [("callback.requeued", histories.id_of("token", 1), 2)], "before its creation", id="in a token's stream"
        ),
    ],
)
def test_an_event_of_a_callback_that_nothing_owed_is_told_at_its_position(raw, rows, problem):
    written(raw, *forged(*rows))
    (told,) = verify(raw).problems
    assert (told.position, problem in told.problem) == (SIZE + len(rows), True), told


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(called_back("attempted", "attempted", "abandoned", "attempted"), id="given up"),
        pytest.param(called_back("attempted", "delivered", "requeued", "attempted", "delivered"), id="sent again"),
        pytest.param(called_back("requeued", "requeued", "abandoned", "requeued"), id="queued again and again"),
        pytest.param(called_back("run.deleted", "attempted", "delivered"), id="after the deletion"),
        pytest.param(called_back("attempted", "run.updated", "delivered", "run.erased"), id="among other events"),
    ],
)
def test_a_legal_history_of_a_callback_is_not_taken_for_a_forged_one(raw, rows):
    written(raw, *forged(*rows))
    assert verify(raw).problems == []


def test_a_callback_whose_name_was_written_with_escapes_is_one(raw):
    born, *rest = forged(*called_back("attempted", "delivered"))
    written(raw, msgspec.structs.replace(born, data=ESCAPED), *rest)
    assert verify(raw).problems == []


def test_a_callback_of_what_was_erased_since_is_no_problem(raw):
    written(raw, *forged(*called_back("attempted", "delivered", "run.erased")))
    for version in range(1, 5):
        blank(raw, SIZE + version)
    verdict = verify(raw)
    assert (verdict.problems, verdict.erased) == ([], 4)


def test_an_event_recorded_before_the_one_before_it_is_told(raw):
    (early,) = forged(("job.created", NEW, 1))
    written(raw, event("job.created", stream=NEW, position=early.position, time=0, recorded=5))
    assert first_bad(raw) == SIZE + 1


# --- erasure ----------------------------------------------------------------------------------------------------------


def blank(raw, position, digest=None):
    found = raw.execute("SELECT salt, data FROM events WHERE position = ?", (position,)).fetchone()
    digest = digest or sha256(found[0] + found[1]).hexdigest()
    raw.execute("UPDATE events SET data = NULL, salt = NULL, digest = ? WHERE position = ?", (digest, position))


def test_erased_data_breaks_nothing_and_is_counted(raw):
    (first,) = raw.execute("SELECT position FROM events WHERE stream = ? AND version = 1", (job(99),)).fetchone()
    blank(raw, first)
    written(raw, *forged(("job.erased", job(99), LAST + 1)))
    verdict = verify(raw)
    assert (verdict.problems, verdict.erased) == ([], 1)


def test_a_digest_that_is_not_of_the_erased_data_is_told(raw):
    blank(raw, 9, "0" * 64)
    assert first_bad(raw) == 9


def test_data_that_is_gone_without_an_erased_event_is_told(raw):
    blank(raw, 9)
    assert first_bad(raw) == 9


def test_who_erased_and_why_cannot_be_erased(raw):
    # Given an erased history, whose last event says who erased it and why
    written(raw, *forged(("job.created", NEW, 1), ("job.erased", NEW, 2, {"reason": "asked for"})))
    blank(raw, SIZE + 1)
    assert first_bad(raw) is None
    # When that is blanked, too, then it is told
    blank(raw, SIZE + 2)
    assert first_bad(raw) == SIZE + 2


@pytest.mark.parametrize("moved", [1, -1, 16])
def test_a_salt_that_takes_from_the_data_or_gives_to_it_is_told(raw, moved):
    # Given that the digest is one of salt and data in a row, and so the same wherever the one ends
    salt, data = raw.execute("SELECT salt, data FROM events WHERE position = 9").fetchone()
    both, at = salt + data, len(salt) + moved
    raw.execute("UPDATE events SET salt = ?, data = ? WHERE position = 9", (both[:at], both[at:]))
    assert first_bad(raw) == 9


@pytest.mark.parametrize("salt", ["NULL", "zeroblob(16)", "zeroblob(15)"])
def test_data_that_only_reads_as_erased_is_told(raw, salt):
    (first,) = raw.execute("SELECT position FROM events WHERE stream = ? AND version = 1", (job(99),)).fetchone()
    written(raw, *forged(("job.erased", job(99), LAST + 1)))
    salted, data = raw.execute("SELECT salt, data FROM events WHERE position = ?", (first,)).fetchone()
    digest = sha256(salted + data).hexdigest()
    for keep in (f"digest = '{digest}'", "digest = NULL"):
        raw.execute(f"UPDATE events SET salt = {salt}, {keep} WHERE position = ?", (first,))
        assert first_bad(raw) == first
        raw.execute("INSERT OR REPLACE INTO erasures VALUES (?, ?)", (first, digest))


@pytest.mark.parametrize(("position", "bad"), [(5, 5), (SIZE + 5, SIZE + 5)])
def test_an_erasure_of_what_is_there_or_of_nothing_is_told(raw, position, bad):
    raw.execute("INSERT INTO erasures VALUES (?, ?)", (position, "0" * 64))
    assert first_bad(raw) == bad


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET actor = 'x'",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000) "
        "INSERT INTO tree SELECT 16, i, zeroblob(32) FROM n",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000) "
        "INSERT INTO erasures SELECT 1000 + i, printf('%064d', i) FROM n",
    ],
)
def test_problems_are_told_up_to_a_limit(raw, statement):
    raw.execute(statement)
    assert len(verify(raw).problems) == PROBLEMS_MAX


def test_large_events_are_read_a_few_at_a_time(raw, monkeypatch):
    monkeypatch.setattr("ledger.scan.BATCH_FIRST", 10)
    monkeypatch.setattr("ledger.scan.BATCH_SIZE", 500)
    steps = []
    assert verify(raw, lambda done, size: steps.append(done)).ok
    assert max(after - before for before, after in pairwise(steps)) < 50
    assert steps[-1] == SIZE


async def test_what_the_rules_let_through_verifies(tmp_path):
    for seed in range(3):
        path = tmp_path / f"{seed}.db"
        async with Ledger.open(path) as ledger:
            await scramble(ledger, seed=seed, rounds=60)
            await ledger.execute(create(run(50), "failed"), ME)
            await ledger.execute(Change(id=run(50), facts=Changed(ttft_ns=1)), ME)
            await ledger.execute(Delete(id=run(50)), ME)
        with contextlib.closing(engine.connect(path, read_only=True)) as connection:
            assert verify(connection).problems == []


async def test_what_the_rules_let_through_of_callbacks_verifies(tmp_path):
    async with Ledger.open(tmp_path / "ledger.db") as ledger:
        await History(5).extend(ledger, 800)
        names = {found.type for found in await log_of(ledger)}
    with contextlib.closing(engine.connect(tmp_path / "ledger.db", read_only=True)) as connection:
        assert verify(connection).problems == []
    assert names > CALLBACK_TYPES
