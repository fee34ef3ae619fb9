"""Callbacks in exports: the same log to the letter, and nothing owed by what came from elsewhere unless asked for."""

import asyncio
import contextlib
import json
import sys
from pathlib import Path

import pytest

from ledger import Ledger, archive, engine
from ledger.callbacks import Debt
from ledger.decider import Abandon, Change, Create, Erase, Redeliver, Report
from ledger.errors import StoreFailed
from ledger.events import Created
from ledger.sqlite import SqliteStore
from ledger.verify import verify
from tests.ledger.engines import ME, create, failing, log_of
from tests.ledger.histories import Clock, birth, job, run

ROOT = Path(__file__).parents[2]
URL = "https://receiver.example/hook"
DELIVERED, OWED, LATER, ABANDONED, AGAIN, WAITING = (run(number) for number in range(1, 7))
DYING = """
import asyncio, sys
from ledger import Ledger, archive, queries
from ledger.session import Session

moment, db, export = sys.argv[1:]
archive.ROWS = 1
home = Session if moment == "mark_imported" else queries
calls, original = [], getattr(home, moment)

def wait_at_the_third(*arguments):
    if moment == "write":
        original(*arguments)
    calls.append(1)
    if len(calls) == 3:
        print("here", flush=True)
        sys.stdin.readline()
    return original(*arguments) if moment == "mark_imported" else None

setattr(home, moment, wait_at_the_third)

async def main():
    async with Ledger.open(db) as ledger:
        with open(export, "rb") as lines:
            async for _ in archive.load(ledger, lines, "jobledger", "export"):
                pass

asyncio.run(main())
"""
"""An import in parts of four lines that stops in its third transaction: before its mark, or before its commit."""


async def load(ledger, lines, **options):
    return [outcome async for outcome in archive.load(ledger, lines, "jobledger", "export", **options)]


async def export(ledger):
    return [line + b"\n" async for part in archive.dump(ledger.store) for line in part]


async def root_of(ledger):
    return (await ledger.store.head()).frontier.root()


async def debts(ledger):
    streams = {event.stream: None for event in await log_of(ledger)}
    return {stream: state.debt for stream in streams if (state := await ledger.state(stream)) and state.debt}


async def marked(ledger):
    return await ledger.store.imported(range(1, (await ledger.store.head()).size + 2))


def attempt(id, debt, error=None, status_code=200, due_us=None):
    facts = {"owed_position": debt.owed_position, "duration_ns": 7, "status_code": status_code}
    return Report(id=id, error=error, due_us=due_us, **facts)


@pytest.fixture
async def source():
    """A ledger with a callback in every state that there is."""
    async with Ledger.in_memory(clock=Clock()) as ledger:
        for id in (DELIVERED, OWED, LATER, ABANDONED, AGAIN):
            facts = Created(**birth("run", callback_url=URL))
            await ledger.execute(Create(id=id, kind="run", facts=facts, status="completed"), ME)
        owed = await debts(ledger)
        await ledger.execute(attempt(LATER, owed[LATER], "http_status", 503, 2**50), ME)
        await ledger.execute(attempt(DELIVERED, owed[DELIVERED]), ME)
        await ledger.execute(attempt(ABANDONED, owed[ABANDONED], "gone", 410), ME)
        await ledger.execute(attempt(AGAIN, owed[AGAIN], "timeout", None), ME)
        await ledger.execute(Redeliver(id=AGAIN), ME)
        await ledger.execute(create(WAITING, "running", callback_url=URL), ME)
        states = {id: debt.status for id, debt in (await debts(ledger)).items()}
        assert states == {
            DELIVERED: "delivered", OWED: "owed", LATER: "owed", ABANDONED: "abandoned", AGAIN: "owed"
        }  # fmt: skip
        yield ledger


@pytest.fixture
async def lines(source):
    return await export(source)


@pytest.mark.parametrize("owes_callbacks", [False, True])
async def test_an_export_with_callbacks_comes_to_the_same_root_and_debts(source, lines, ledger, owes_callbacks):
    (outcome,) = await load(ledger, lines, owes_callbacks=owes_callbacks)
    assert (outcome.appended, outcome.rejects) == (len(lines), ())
    assert await log_of(ledger) == await log_of(source)
    assert await root_of(ledger) == await root_of(source)
    assert await debts(ledger) == await debts(source)
    assert await marked(ledger) == (set() if owes_callbacks else set(range(1, len(lines) + 1)))


async def test_what_was_erased_together_with_its_callbacks_is_restored_too(source, ledger):
    # given: of an erased run nothing tells any more that there was a callback to attempt
    for id in (DELIVERED, ABANDONED, AGAIN):
        await source.execute(Erase(id=id, reason="asked for"), ME)
    lines = await export(source)
    # when
    (outcome,) = await load(ledger, lines)
    # then
    assert (outcome.appended, outcome.rejects) == (len(lines), ())
    assert await root_of(ledger) == await root_of(source)


async def test_the_same_export_twice_adds_nothing_and_no_marks(lines, ledger):
    await load(ledger, lines, owes_callbacks=True)
    for owes_callbacks in (False, True):
        (outcome,) = await load(ledger, lines, owes_callbacks=owes_callbacks)
        assert (outcome.appended, outcome.duplicate, outcome.rejects) == (0, len(lines), ())
        assert await marked(ledger) == set()


async def test_what_was_imported_stays_so_when_the_export_comes_again_with_its_callbacks(lines, ledger):
    await load(ledger, lines)
    await load(ledger, lines, owes_callbacks=True)
    assert await marked(ledger) == set(range(1, len(lines) + 1))


async def test_into_a_ledger_that_has_events_callbacks_are_appended_by_the_rules_and_marked(source, lines, ledger):
    own = [(await ledger.execute(create(job(number), "pending", callback_url=URL), ME)) for number in range(3)]
    (outcome,) = await load(ledger, lines)
    assert (outcome.appended, outcome.rejects) == (len(lines), ())
    first = own[-1].position + 1
    assert await marked(ledger) == set(range(first, first + len(lines)))
    found, expected = await debts(ledger), await debts(source)
    shift = first - 1
    assert found == {
        id: Debt(
            debt.ended_position + shift, debt.ended_version, debt.owed_position + shift, debt.status,
            debt.attempts, debt.tries, debt.due_us, debt.settled_us, debt.reason,
        )
        for id, debt in expected.items()
    }  # fmt: skip


@pytest.mark.parametrize(
    ("subject", "type", "reason"),
    [
        (DELIVERED, "callback.delivered", "it was delivered"),
        (ABANDONED, "callback.abandoned", "it was abandoned"),
        (WAITING, "callback.attempted", "no callback that its end owes"),
        (run(99), "callback.attempted", "There is no run"),
        (OWED, "callback.attempted", "may be missing only where the answer was a 2xx"),
    ],
)
async def test_an_event_of_a_callback_that_the_rules_refuse_is_rejected_alone(lines, ledger, subject, type, reason):
    data = {"callback.attempted": {"number": 1, "duration_ns": 1}, "callback.abandoned": {"reason": "gone"}}
    if subject in (WAITING, run(99)):
        data["callback.attempted"]["status_code"] = 200
    brought = {"specversion": "1.0", "type": type, "subject": subject, "data": data.get(type, {})}
    (outcome,) = await load(ledger, [*lines, json.dumps(brought).encode()])
    (told,) = outcome.rejects
    assert (told.line, reason in told.reason, outcome.appended) == (len(lines) + 1, True, len(lines)), told
    assert ledger.size == len(lines)


async def test_what_ends_here_is_owed_though_it_began_elsewhere(lines, ledger):
    await load(ledger, lines)
    await ledger.execute(Change(id=WAITING, status="failed"), ME)
    debt = (await ledger.state(WAITING)).debt
    assert debt.is_owed
    assert await ledger.store.imported([debt.owed_position]) == set()


@pytest.mark.parametrize("id", [DELIVERED, OWED, LATER, ABANDONED, AGAIN])
async def test_who_asks_for_what_was_imported_to_be_sent_is_owed_it_here(lines, ledger, id):
    await load(ledger, lines)
    before = (await ledger.state(id)).debt
    assert await ledger.store.imported([before.owed_position]) == {before.owed_position}
    await ledger.execute(Redeliver(id=id), ME)
    stale = await ledger.execute(Abandon(id=id, owed_position=before.owed_position, reason="imported"), ME)
    debt = stale.state.debt
    assert (stale.events, debt.is_owed, debt.due_us) == ((), True, 0)
    assert await ledger.store.imported([debt.owed_position]) == set()


# --- cut short --------------------------------------------------------------------------------------------------------


async def test_an_import_whose_commit_fails_leaves_neither_events_nor_marks(lines, ledger):
    await load(ledger, lines[:8])
    with failing(ledger), pytest.raises(StoreFailed):
        await load(ledger, lines)
    assert (await ledger.store.head()).size == 8
    assert await marked(ledger) == set(range(1, 9))
    await load(ledger, lines[:12], owes_callbacks=True)
    assert await marked(ledger) == set(range(1, 9))
    await load(ledger, lines)
    assert await marked(ledger) == {*range(1, 9), *range(13, len(lines) + 1)}


@pytest.mark.parametrize("moment", ["mark_imported", "write"])
async def test_an_import_that_is_killed_leaves_no_event_without_its_mark(source, lines, tmp_path, moment):
    (tmp_path / "export.jsonl").write_bytes(b"".join(lines))
    command = [sys.executable, "-c", DYING, moment, str(tmp_path / "ledger.db"), str(tmp_path / "export.jsonl")]
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, **pipes)
    assert await process.stdout.readline() == b"here\n"
    process.kill()
    await process.communicate()
    async with Ledger.open(tmp_path / "ledger.db") as ledger:
        assert ledger.size == 8  # two parts of four lines
        assert await marked(ledger) == set(range(1, 9))
        await load(ledger, lines)
        assert await marked(ledger) == set(range(1, len(lines) + 1))
        assert await root_of(ledger) == await root_of(source)
    with contextlib.closing(engine.connect(tmp_path / "ledger.db", read_only=True)) as connection:
        assert verify(connection).problems == []


# --- copies -----------------------------------------------------------------------------------------------------------


async def test_a_reader_of_the_file_sees_the_marks(lines, tmp_path):
    async with Ledger.open(tmp_path / "ledger.db") as ledger:
        await load(ledger, lines)
        store = await SqliteStore.open(tmp_path / "ledger.db", read_only=True)
        assert await store.imported([1, len(lines), len(lines) + 1]) == {1, len(lines)}
        await store.close()
