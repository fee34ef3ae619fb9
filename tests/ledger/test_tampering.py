"""Whatever bit of an event is flipped in the file, verification finds it and names the event."""

import asyncio
import contextlib
import os
import random

import pytest

from ledger import Ledger, engine, keys
from ledger.checkpoint import Signer
from ledger.errors import InvalidInput
from ledger.events import Recorded
from ledger.leaf import leaf_hashes
from ledger.merkle import Frontier
from ledger.soundness import faults, verify_file
from ledger.verify import verify
from tests.ledger.cells import cells_of, index_cells_of
from tests.ledger.engines import ME, create, log_of, scramble
from tests.ledger.histories import Clock, job

SIZE = 300  # one stored tree node, and some
SEEDS = range(8 if "JOBLEDGER_WHOLE_DATA" in os.environ else 3)
FLIPS = 300
"""Of each seed: 2,400 flips of single bits in the values of events' rows."""
RAW_FLIPS = 75
"""Of each seed: 600 flips in the bytes of their cells, as a bad disk would make them."""


async def fill(path):
    """Make a ledger of 300 events with a checkpoint at 200 and one at the end."""
    async with Ledger.open(path, clock=Clock(), name="ledger.example/one") as ledger:
        await scramble(ledger, seed=5, rounds=10)
        while ledger.size < SIZE:
            if ledger.size == 200:
                await ledger.checkpoint()
            number = 100 + ledger.size
            more = {"key": f"key {number}"} if number % 3 else {}
            await ledger.append(job(number), "job.created", {"user_id": ME.actor, "metadata": {"a": "é"}}, **more)
        await ledger.checkpoint()


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    path = tmp_path_factory.mktemp("clean") / "ledger.db"
    asyncio.run(fill(path))
    return path


@pytest.fixture
def raw(clean, tmp_path):
    """A copy of our own, its guards gone: what somebody with the file in hand can do."""
    copy = tmp_path / "ledger.db"
    copy.write_bytes(clean.read_bytes())
    with contextlib.closing(engine.connect(copy, read_only=False)) as connection:
        for kind, name in connection.execute(
            "SELECT type, name FROM sqlite_schema WHERE type = 'trigger' OR name LIKE 'events_by%'"
        ).fetchall():
            connection.execute(f"DROP {kind} {name}")
        yield connection


def named(verdict):
    """The first event that is named."""
    assert verdict.ok is (not verdict.problems)
    return next((problem.position for problem in verdict.problems if problem.position), None)


def flipped(value, bit):
    """A value of a row with one bit flipped, as SQL writes it; None where it has no such bit."""
    if isinstance(value, int):
        return str(value ^ 1 << bit % 62)
    if value is None or not value:
        return None
    data = bytearray(value.encode() if isinstance(value, str) else value)
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    return f"cast(x'{data.hex()}' AS TEXT)" if isinstance(value, str) else f"x'{data.hex()}'"


COLUMNS = (
    "stream", "version", "type", "schema", "time", "recorded", "actor", "key", "correlation", "data", "salt", "leaf"
)  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
def test_every_bit_that_is_flipped_in_a_value_is_found_and_its_event_named(raw, seed):
    chance = random.Random(seed)
    found = 0
    while found < FLIPS:
        position, column = chance.randint(1, SIZE), chance.choice(COLUMNS)
        (value,) = raw.execute(f"SELECT {column} FROM events WHERE position = ?", (position,)).fetchone()
        changed = flipped(value, chance.getrandbits(16))
        if changed is None:
            continue
        raw.execute("SAVEPOINT clean")
        raw.execute(f"UPDATE events SET {column} = {changed} WHERE position = ?", (position,))
        told = told_within(raw)
        raw.execute("ROLLBACK TO clean")
        raw.execute("RELEASE clean")
        assert named(told) == position, (position, column, changed, told.problems)
        found += 1


def told_within(connection):
    """Verify what an open transaction changed: the verification's own begin and end are left out."""

    class Inner:
        in_transaction = False

        def execute(self, sql, *parameters):
            return connection.execute("SELECT 1" if sql in ("BEGIN", "ROLLBACK") else sql, *parameters)

        def __setattr__(self, name, value):
            setattr(connection, name, value)

    try:
        return verify(Inner())
    finally:
        connection.text_factory = str


MEANS_NOTHING = 8
"""The record type of an empty integer. Where it stands for the position, whose value is the row's number, SQLite reads
neither of the two empty types: that one bit of a row's header holds no information, and the row reads the same."""


@pytest.mark.parametrize("part", ["begin to header", "header to values", "values to end"])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_bit_that_is_flipped_in_the_file_is_found_and_its_event_named(clean, tmp_path, part, seed):
    chance = random.Random(f"{part} {seed}")
    cells, content = cells_of(clean), bytearray(clean.read_bytes())
    copy = tmp_path / "ledger.db"
    begin, end = part.split(" to ")
    for _ in range(RAW_FLIPS if part != "values to end" else RAW_FLIPS // 3):
        cell = chance.choice(cells)
        at, bit = chance.randrange(getattr(cell, begin), getattr(cell, end)), 1 << chance.randrange(8)
        content[at] ^= bit
        copy.write_bytes(content)
        told = asyncio.run(verify_file(copy))
        content[at] ^= bit
        if at == cell.header + 1 and bit == MEANS_NOTHING:
            assert told.ok
        else:
            assert named(told) == cell.position, (cell, at, bit, told.problems)


def test_every_bit_that_is_flipped_in_an_index_is_found(clean, tmp_path):
    # Given an index of streams or keys with an entry that is another, an event would be hidden from reads by it
    chance = random.Random(1)
    content = bytearray(clean.read_bytes())
    copy = tmp_path / "ledger.db"
    for index in ("events_by_stream", "events_by_key"):
        for begin, end in chance.sample(index_cells_of(clean, index), 40):
            at, bit = chance.randrange(begin, end), 1 << chance.randrange(8)
            content[at] ^= bit
            copy.write_bytes(content)
            told = asyncio.run(verify_file(copy))
            content[at] ^= bit
            assert not told.ok, (index, at - begin, bit)


def test_an_index_that_lost_an_event_names_it(clean, tmp_path):
    copy = tmp_path / "ledger.db"
    copy.write_bytes(clean.read_bytes())
    with contextlib.closing(engine.connect(copy, read_only=False)) as connection:
        # Given an index that was made for a part of the table, and then was said to be the whole one
        connection.execute("DROP INDEX events_by_stream")
        whole = "CREATE UNIQUE INDEX events_by_stream ON events (stream, version)"
        connection.execute(f"{whole} WHERE position <> 77")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'events_by_stream'", (whole,))
    # When the file is verified, then the event that reads by stream would not show is named
    told = asyncio.run(verify_file(copy))
    assert named(told) == 77
    assert "missing from index events_by_stream" in " ".join(each.problem for each in told.problems)


def test_a_sound_file_has_no_faults(clean):
    with contextlib.closing(engine.connect(clean, read_only=True)) as connection:
        assert faults(connection) == []


# --- checkpoints ------------------------------------------------------------------------------------------------------


def kept(path):
    with contextlib.closing(engine.connect(path, read_only=True)) as connection:
        return dict(connection.execute("SELECT size, note FROM checkpoints").fetchall())


async def test_a_clean_ledger_agrees_with_its_checkpoints_kept_here_and_elsewhere(clean):
    told = await verify_file(clean, keys=keys.published(clean), against={"elsewhere": kept(clean)[200]})
    assert (told.ok, told.size, told.checkpoints, told.signatures, told.signed) == (True, SIZE, 2, 2, SIZE)
    # Without keys the roots are compared all the same
    told = await verify_file(clean, against={"elsewhere": kept(clean)[200]})
    assert (told.ok, told.checkpoints, told.signatures, told.signed) == (True, 2, 0, 0)


def cut(raw, size):
    """Cut the tail off, and make everything else fit again: head, tree, checkpoints."""
    raw.execute("DELETE FROM events WHERE position > ?", (size,))
    raw.execute("DELETE FROM checkpoints WHERE size > ?", (size,))
    refit(raw)


def refit(raw):
    """Make every hash fit what the rows say now: what somebody does who knows how the file is made."""
    frontier = Frontier()
    names = "position, stream, version, type, schema, time, recorded, actor, key, correlation, data, salt, digest"
    events = [Recorded(*row) for row in raw.execute(f"SELECT {names} FROM events ORDER BY position")]
    leaves = leaf_hashes(events)
    raw.executemany(
        "UPDATE events SET leaf = ? WHERE position = ?", [(b, a.position) for a, b in zip(events, leaves, strict=True)]
    )
    nodes = frontier.extend(leaves)
    raw.execute("DELETE FROM tree")
    raw.executemany("INSERT INTO tree (level, idx, hash) VALUES (?, ?, ?)", nodes)
    raw.execute(
        "UPDATE head SET size = ?, recorded = ?, frontier = ?",
        (len(events), events[-1].recorded, frontier.to_bytes()),
    )


@pytest.mark.parametrize("size", [299, 250, 201])
def test_a_tail_that_was_cut_off_with_all_its_traces_is_shown_by_a_checkpoint_kept_elsewhere(clean, raw, size):
    cut(raw, size)
    assert verify(raw).ok
    told = verify(raw, against={"monday.checkpoint": kept(clean)[SIZE]})
    assert named(told) == size + 1
    text = f"the checkpoint in monday.checkpoint has {SIZE} events, but the log ends at {size}: its tail was cut off"
    assert told.problems[0].problem == text
    assert verify(raw, against={"older": kept(clean)[200]}).ok


@pytest.mark.parametrize(("position", "place"), [(1, 1), (150, 1), (200, 1), (201, 201), (300, 201)])
def test_a_log_that_was_rewritten_with_all_its_hashes_is_shown_by_its_checkpoints(raw, position, place):
    raw.execute("UPDATE events SET actor = 'user-2' WHERE position = ?", (position,))
    refit(raw)
    told = verify(raw)
    assert named(told) == place  # from the last checkpoint that it still agrees with
    assert "was rewritten" in told.problems[0].problem


def test_a_log_that_was_rewritten_and_signed_anew_is_shown_by_a_checkpoint_kept_elsewhere_and_by_the_key(clean, raw):
    # Given somebody with the file in hand who rewrites an event, all hashes, the checkpoints and the key
    raw.execute("UPDATE events SET actor = 'user-2' WHERE position = 150")
    raw.execute("DELETE FROM checkpoints")
    refit(raw)
    size, frontier = raw.execute("SELECT size, frontier FROM head").fetchone()
    root = Frontier.from_bytes(size, frontier).root()
    forger = Signer.new("ledger.example/one")
    raw.execute("INSERT INTO checkpoints VALUES (?, 1, ?)", (size, forger.sign(size, root)))
    # When it is verified with the forger's key, then nothing is found
    assert verify(raw, keys=[forger.verifier]).ok
    # But with the true key, or with a checkpoint from before, it is
    told = verify(raw, keys=keys.published(clean), must_sign=True)
    assert [each.problem.partition(":")[0] for each in told.problems] == [
        "no checkpoint here is signed by a key that is trusted"
    ]
    assert verify(raw, keys=[forger.verifier], must_sign=True).signed == SIZE
    assert named(verify(raw, against={"elsewhere": kept(clean)[200]})) == 1


@pytest.mark.parametrize("seed", range(2))
def test_a_kept_checkpoint_with_a_bit_flipped_is_named_by_its_size_or_counts_for_nothing(clean, raw, seed):
    chance = random.Random(seed)
    note = kept(clean)[200].encode()
    for _ in range(100):
        at = chance.randrange(len(note))
        changed = note[:at] + bytes([note[at] ^ 1 << chance.randrange(7)]) + note[at + 1 :]
        raw.execute("UPDATE checkpoints SET note = cast(? AS TEXT) WHERE size = 200", (changed,))
        told = verify(raw, keys=keys.published(clean))
        # A key that nobody knows signed it, as its line says now, or it is named; or its root is, before which all is
        assert (told.ok and told.signatures == 1) or named(told) in (200, 1), changed


def test_a_checkpoint_of_another_ledger_or_none_at_all_is_refused(raw):
    other = Signer.new("ledger.example/two").sign(1, bytes(32))
    with pytest.raises(InvalidInput, match=r"is a checkpoint of 'ledger\.example/two'"):
        verify(raw, against={"x": other})
    with pytest.raises(InvalidInput, match="x: is no signed note"):
        verify(raw, against={"x": "nonsense"})


async def test_a_ledger_is_verified_while_it_grows(tmp_path):
    async with Ledger.open(tmp_path / "ledger.db") as ledger:
        await scramble(ledger, seed=1)

        async def grow():
            for number in range(200):
                await ledger.execute(create(job(1000 + number)), ME)
                if number % 50 == 0:
                    await ledger.checkpoint()

        growing = asyncio.create_task(grow())
        sizes = set()
        while not growing.done():
            told = await verify_file(tmp_path / "ledger.db", keys=keys.published(tmp_path / "ledger.db"))
            assert told.problems == []
            sizes.add(told.size)
        await growing
        assert len(sizes) > 1
        assert len(await log_of(ledger)) == ledger.size
