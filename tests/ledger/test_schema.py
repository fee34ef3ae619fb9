"""The file's own triggers: nothing but appends, and one guarded door for erasure."""

import contextlib

import pytest

from ledger import Ledger, engine
from tests.ledger.engines import ME, create
from tests.ledger.histories import ACTOR, Clock, job

ROW = "stream, version, type, schema, time, recorded, actor, key, correlation, data, salt, digest, leaf"
NEW = "'s', 1, 'job.created', 1, 1, 1, 'a', NULL, NULL, x'7b7d', x'00', NULL, x'00'"
NEXT = f"INSERT INTO events (position, {ROW}) VALUES (5, {NEW})"
OVER = NEXT.replace("INSERT", "INSERT OR REPLACE")
AGAIN = f"INSERT INTO events ({ROW}) SELECT {ROW} FROM events WHERE position = 4"


@pytest.fixture
async def ledger(tmp_path):
    async with Ledger.open(tmp_path / "ledger.db", clock=Clock()) as opened:
        yield opened


@pytest.fixture
async def raw(ledger):
    """Three events of job 1, the third with a key, and one of job 2; a connection past all our code."""
    await ledger.execute(create(job(1), "pending"), ME)
    await ledger.append(job(1), "job.running", {}, key="k1", actor=ACTOR)
    await ledger.execute(create(job(2)), ME)
    with contextlib.closing(engine.connect(ledger.store.path, read_only=False)) as connection:
        yield connection


# --- append-only ------------------------------------------------------------------------------------------------------

REFUSED = [
    pytest.param("UPDATE events SET actor = 'x' WHERE position = 2", id="UPDATE of one field"),
    pytest.param("UPDATE events SET data = x'7b7d'", id="UPDATE of all data"),
    pytest.param("UPDATE OR REPLACE events SET position = 2 WHERE position = 3", id="UPDATE OR REPLACE of a position"),
    pytest.param("UPDATE events SET position = 5 WHERE position = 4", id="UPDATE of the last position"),
    pytest.param("DELETE FROM events WHERE position = 4", id="DELETE of the last"),
    pytest.param("DELETE FROM events", id="DELETE of all"),
    pytest.param(NEXT.replace("5", "6", 1), id="INSERT that leaves a gap"),
    pytest.param(NEXT.replace("5", "0", 1), id="INSERT before the first"),
    pytest.param(NEXT.replace("5", "-1", 1), id="INSERT at a negative position"),
    pytest.param(
        f"INSERT INTO events ({ROW}) SELECT {ROW} FROM events WHERE position = 4", id="INSERT of a version twice"
    ),
    pytest.param(OVER.replace("5", "4", 1), id="INSERT OR REPLACE by position"),
    pytest.param(
        OVER.replace("'s', 1", f"'{job(1)}', 2"),
        id="INSERT OR REPLACE by stream and version",
    ),
    pytest.param(
        OVER.replace("NULL", "'k1'", 1),
        id="INSERT OR REPLACE by key",
    ),
    pytest.param(f"REPLACE INTO events (position, {ROW}) VALUES (2, {NEW})", id="REPLACE"),
    pytest.param("INSERT OR REPLACE INTO tree (level, idx, hash) VALUES (8, 0, x'01')", id="REPLACE of a tree node"),
    pytest.param("UPDATE tree SET hash = x'01'", id="UPDATE of a tree node"),
    pytest.param("DELETE FROM tree", id="DELETE of a tree node"),
    pytest.param(
        "INSERT OR REPLACE INTO checkpoints (size, made, note) VALUES (1, 1, '')", id="REPLACE of a checkpoint"
    ),
    pytest.param("UPDATE checkpoints SET note = ''", id="UPDATE of a checkpoint"),
    pytest.param("DELETE FROM checkpoints", id="DELETE of a checkpoint"),
    pytest.param("DELETE FROM head", id="DELETE of the head"),
    pytest.param("INSERT OR REPLACE INTO imports VALUES (2, 9)", id="REPLACE of an import"),
    pytest.param("REPLACE INTO imports VALUES (1, 3)", id="an import over another"),
    pytest.param("INSERT INTO imports VALUES (3, 4)", id="an import that begins in another"),
    pytest.param("INSERT INTO imports VALUES (1, 1)", id="an import before another"),
    pytest.param("UPDATE imports SET last = 4", id="UPDATE of an import"),
    pytest.param("UPDATE OR REPLACE imports SET first = 1", id="UPDATE OR REPLACE of an import"),
    pytest.param("DELETE FROM imports", id="DELETE of an import"),
]


def contents(connection):
    tables = ("events", "head", "tree", "checkpoints", "imports", "erasures", "scrub")
    return {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables}


@pytest.mark.parametrize("statement", REFUSED)
async def test_the_file_itself_refuses_whatever_is_no_append(raw, statement):
    raw.execute("INSERT INTO tree (level, idx, hash) VALUES (8, 0, x'00')")
    raw.execute("INSERT INTO checkpoints (size, made, note) VALUES (1, 1, 'note')")
    raw.execute("INSERT INTO imports (first, last) VALUES (2, 3)")
    before = contents(raw)
    with pytest.raises(engine.Error, match=r"append-only|never deleted"):
        raw.execute(statement)
    assert contents(raw) == before


@pytest.mark.parametrize(("first", "last"), [(4, 3), ("'x'", 4), (4, "NULL"), (4, 4.5)])
async def test_an_import_has_a_first_and_a_last_position(raw, first, last):
    with pytest.raises(engine.Error):
        raw.execute(f"INSERT INTO imports (first, last) VALUES ({first}, {last})")


async def test_the_file_takes_one_import_after_another(raw):
    for first, last in ((1, 1), (2, 3), (4, 4)):
        raw.execute("INSERT INTO imports (first, last) VALUES (?, ?)", (first, last))
    assert raw.execute("SELECT * FROM imports").fetchall() == [(1, 1), (2, 3), (4, 4)]


async def test_the_file_takes_the_next_event_at_the_next_position(raw):
    raw.execute(NEXT)
    assert raw.execute("SELECT count(*) FROM events").fetchone() == (5,)


# --- the door for erasure ---------------------------------------------------------------------------------------------

BLANK = "data = zeroblob(length(data)), salt = zeroblob(length(salt))"
OPENS = f"UPDATE events SET {BLANK} WHERE position = 2"
NOTED = f"INSERT INTO erasures (position, digest) VALUES (2, '{'0' * 64}')"


async def erased(ledger):
    """Job 1, its three events blank since a fourth tells of it; the doors stay as they are."""
    await ledger.append(job(1), "job.erased", {"reason": "asked for"})


async def test_the_door_opens_for_a_stream_that_was_erased(ledger, raw):
    before = raw.execute("SELECT length(data), length(salt), leaf FROM events WHERE position = 2").fetchone()
    await erased(ledger)
    found = raw.execute("SELECT data, salt, leaf FROM events WHERE position = 2").fetchone()
    assert found == (bytes(before[0]), bytes(before[1]), before[2])
    assert raw.execute("SELECT count(*) FROM erasures").fetchone() == (3,)


async def test_the_door_stays_shut_without_an_erased_event(raw):
    for statement in (NOTED, OPENS):
        with pytest.raises(engine.Error, match=r"erased|append-only"):
            raw.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(f"UPDATE events SET {BLANK} WHERE position = 4", id="of another stream"),
        pytest.param(f"UPDATE events SET {BLANK} WHERE position = 5", id="of the erased event itself"),
        pytest.param("INSERT INTO erasures VALUES (4, printf('%064d', 0))", id="a digest for another stream"),
        pytest.param("INSERT INTO erasures VALUES (5, printf('%064d', 0))", id="a digest for the erased event itself"),
        pytest.param("INSERT INTO erasures VALUES (9, printf('%064d', 0))", id="a digest for no event"),
        pytest.param("INSERT OR REPLACE INTO erasures VALUES (2, printf('%064d', 0))", id="another digest"),
        pytest.param("REPLACE INTO erasures VALUES (2, printf('%064d', 0))", id="another digest by REPLACE"),
        pytest.param("UPDATE erasures SET digest = printf('%064d', 0)", id="a changed digest"),
        pytest.param("DELETE FROM erasures", id="no digest"),
        pytest.param("UPDATE events SET data = NULL WHERE position = 2", id="data to null"),
        pytest.param("UPDATE events SET data = x'7b7d' WHERE position = 2", id="data to something"),
        pytest.param("UPDATE events SET data = zeroblob(9) WHERE position = 2", id="data of another length"),
        pytest.param("UPDATE events SET salt = NULL WHERE position = 2", id="salt to null"),
        pytest.param("UPDATE events SET salt = randomblob(16) WHERE position = 2", id="a new salt"),
        pytest.param("UPDATE events SET digest = printf('%064d', 0) WHERE position = 2", id="a digest in the row"),
        pytest.param("UPDATE scrub SET wanted = 0", id="an erasure that is not remembered"),
        pytest.param("DELETE FROM scrub", id="no erasure that is remembered"),
        *(
            pytest.param(OPENS.replace("SET", f"SET {field} = {value},"), id=f"and moves {field}")
            for field, value in [
                ("position", 9), ("stream", "'x'"), ("version", 9), ("type", "'x'"), ("schema", 2), ("time", 1),
                ("recorded", 1), ("actor", "'x'"), ("key", "'x'"), ("correlation", "'x'"), ("leaf", "x'00'"),
            ]
        ),
    ],
)  # fmt: skip
async def test_nothing_but_erasure_passes_the_door(ledger, raw, statement):
    await erased(ledger)
    before = contents(raw)
    with pytest.raises(engine.Error):
        raw.execute(statement)
    assert contents(raw) == before
