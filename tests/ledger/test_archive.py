"""Exports restored to the letter, appended elsewhere, taken up again after a part; damaged lines told by number."""

import json

import pytest

from ledger import Ledger, archive
from ledger.commands import Context, cancel_with_members, create_batch
from ledger.decider import Change, Create
from ledger.errors import NotFound
from ledger.events import Created
from ledger.formats import TEXT_MAX
from tests.ledger.engines import ME, create, log_of, scramble
from tests.ledger.histories import ACTOR, START_US, Clock, birth, id_of, job, leaf_hash, root, run

GRANT = {"user_id": ACTOR, "scopes": ["admin"], "token_sha256": "00" * 32}


async def load(ledger, lines, format="jobledger", source="file"):
    return [outcome async for outcome in archive.load(ledger, lines, format, source)]


async def export(ledger, **which):
    return [line + b"\n" async for part in archive.dump(ledger.store, **which) for line in part]


async def root_of(ledger):
    return (await ledger.store.head()).frontier.root()


def summed(outcomes):
    return tuple(sum(getattr(each, name) for each in outcomes) for name in ("appended", "duplicate"))


@pytest.fixture
async def source():
    """A ledger with a bit of everything, on a clock that jumps back now and then."""
    async with Ledger.in_memory(clock=Clock(START_US + 900, START_US + 5, START_US + 3)) as ledger:
        await ledger.append(id_of("token", 1), "access.granted", GRANT, actor=ACTOR)
        batch = Create(id=job(70), kind="batch", facts=Created(**birth("batch", runs=[run(71), run(72)])))
        facts = Created(**birth("run", batch_id=job(70)))
        members = [Create(id=run(n), kind="run", facts=facts, status="running") for n in (71, 72)]
        await ledger.execute_plan(create_batch(batch, members), ME)
        await ledger.execute_plan(cancel_with_members(job(70), None, None), ME)
        await scramble(ledger, seed=3, rounds=15)
        nasty = Context(actor="é 🦉", key="a key", digest="aa", correlation="trace 1")
        await ledger.execute(create(job(80), "running", metadata={"é\x01": [1.5, None, "\u2028"]}), nasty)
        yield ledger


@pytest.fixture
async def lines(source):
    return await export(source)


async def test_an_export_imported_into_an_empty_ledger_is_the_same_log_to_the_letter(source, lines, ledger):
    assert summed(await load(ledger, lines)) == (len(lines), 0)
    assert await log_of(ledger) == await log_of(source)
    assert await root_of(ledger) == await root_of(source) == root([leaf_hash(each) for each in await log_of(source)])
    again = [json.loads(line) | {"source": ""} for line in await export(ledger)]
    assert again == [json.loads(line) | {"source": ""} for line in lines]


async def test_a_restored_ledger_goes_on_by_the_same_rules(source, lines, ledger):
    await load(ledger, lines)
    for stream in {event.stream for event in await log_of(source)}:
        assert await ledger.state(stream) == await source.state(stream)
    receipt = await ledger.execute(Change(id=job(80), status="failed"), ME)
    assert (receipt.position, receipt.state.version) == (len(lines) + 1, 4)


async def test_the_same_export_twice_adds_nothing(lines, ledger):
    await load(ledger, lines)
    before = await log_of(ledger)
    assert summed(await load(ledger, lines)) == (0, len(lines))
    assert await log_of(ledger) == before


@pytest.mark.parametrize("part", [1, 2, 10, -1])
async def test_an_import_taken_up_again_after_a_part_comes_to_the_same(source, lines, ledger, part):
    await load(ledger, lines[:part])
    assert summed(await load(ledger, lines)) == (len(lines[part:]), len(lines[:part]))
    assert await root_of(ledger) == await root_of(source)


async def test_an_import_in_small_parts_is_durable_part_by_part(monkeypatch, source, lines, ledger):
    monkeypatch.setattr(archive, "ROWS", 1)
    sizes = []
    async for outcome in archive.load(ledger, lines, "jobledger", "file"):
        sizes.append((await ledger.store.head()).size)
        assert outcome.lines == outcome.appended <= 4
    assert sizes == [*range(4, len(lines), 4), len(lines)]
    assert await root_of(ledger) == await root_of(source)


async def test_an_export_in_two_halves_restores_the_whole(source, ledger):
    first, second = (await export(source))[:9], await export(source, after=9)
    await load(ledger, first)
    await load(ledger, second)
    assert await log_of(ledger) == await log_of(source)


async def test_one_stream_is_exported_alone_and_in_order(source):
    found = [json.loads(line) for line in await export(source, stream=job(80))]
    assert [(each["subject"], each["streamversion"]) for each in found] == [(job(80), 1), (job(80), 2), (job(80), 3)]
    after = found[0]["position"]
    assert len(await export(source, stream=job(80), after=after)) == 2


# --- into another ledger ----------------------------------------------------------------------------------------------


def told(event):
    """What stays of an event that moves into another ledger."""
    return event.stream, event.version, event.type, event.schema, event.time, event.actor, event.key, event.data


async def test_into_a_ledger_that_has_events_everything_but_tokens_is_appended(source, lines, ledger):
    mine = [(await ledger.execute(create(job(900 + n), "pending"), ME)).events for n in range(20)]
    outcomes = await load(ledger, lines)
    (reject,) = outcomes[0].rejects
    assert (reject.line, summed(outcomes)) == (1, (len(lines) - 1, 0))
    assert "tokens of another ledger are not taken over" in reject.reason
    log = await log_of(ledger)
    assert log[:40] == [event for events in mine for event in events]
    assert [told(event) for event in log[40:]] == [told(event) for event in (await log_of(source))[1:]]
    assert [event.position for event in log] == list(range(1, len(log) + 1))
    assert all(event.recorded >= log[39].recorded for event in log[40:])


async def test_into_a_ledger_that_has_events_the_same_export_twice_adds_nothing(lines, ledger):
    await ledger.execute(create(job(900)), ME)
    await load(ledger, lines)
    before = await log_of(ledger)
    assert summed(await load(ledger, lines)) == (0, len(lines) - 1)
    assert await log_of(ledger) == before


async def test_an_older_export_is_appended_though_its_positions_happen_to_come_next(lines, open_ledger):
    """Both ledgers began with a token, as every first `serve` makes one; the other's is refused, the rest is not."""
    async with open_ledger(Clock(start=START_US + 10**12)) as ledger:
        await ledger.append(id_of("token", 2), "access.granted", GRANT)
        outcomes = await load(ledger, lines)
        assert [(each.line, "tokens" in each.reason) for each in outcomes[0].rejects] == [(1, True)]
        assert summed(outcomes) == (len(lines) - 1, 0)


async def test_the_rest_of_an_older_export_is_appended_though_its_positions_happen_to_come_next(source, open_ledger):
    first = next(event.position for event in await log_of(source) if event.stream == job(80))
    rest = await export(source, after=first - 1)
    async with open_ledger(Clock(start=START_US + 10**12)) as ledger:
        for number in range(1, first):
            await ledger.execute(create(job(900 + number)), ME)
        assert (await ledger.store.head()).size == first - 1
        outcomes = await load(ledger, rest)
        assert (outcomes[0].rejects, summed(outcomes)) == ((), (len(rest), 0))


async def test_an_event_that_stands_elsewhere_already_is_rejected(lines, ledger):
    await ledger.execute(create(job(80)), ME)
    (outcome,) = await load(ledger, [line for line in lines if job(80).encode() in line])
    assert outcome.rejects[0].line == 1
    assert "is at version 1, not at 0" in outcome.rejects[0].reason
    assert [event.version for event in await ledger.read(job(80))] == [1, 2, 3][: 1 + outcome.appended]


# --- lines from elsewhere and damaged ones ----------------------------------------------------------------------------

BRIEF = {"specversion": "1.0", "type": "job.created", "subject": job(), "data": birth("job")}


def as_lines(*events):
    return [json.dumps({**BRIEF, **each}).encode() for each in events]


async def test_brief_events_are_appended_by_the_rules_and_refused_by_their_line(ledger):
    brought = as_lines(
        {"time": "2001-02-03T04:05:06Z", "idempotencykey": "k1"},
        {"type": "job.running", "data": {}},
        {"type": "job.pending", "data": {}},
        {"subject": "job-1"},
        {"type": "job.updated", "data": {}, "subject": job(2)},
        {"subject": job(3)},
    )
    brought[5:5] = [b"\n", b"no json\n", b"\xff\n"]
    (outcome,) = await load(ledger, brought)
    assert [event.type for event in await log_of(ledger)] == ["job.created", "job.pending", "job.created"]
    assert (outcome.appended, outcome.lines) == (3, 9)
    told_of = {each.line: each.reason for each in outcome.rejects}
    assert list(told_of) == [2, 4, 5, 7, 8]
    assert told_of[2] == "Cannot transition from 'created' to 'running'."
    assert "not an id" in told_of[4]
    assert told_of[5] == str(NotFound(what="job", id=job(2)))
    assert "not JSON" in told_of[7]
    assert (await log_of(ledger))[0].time == 981_173_106_000_000


async def test_a_brief_event_without_a_time_that_comes_again_under_its_key_adds_nothing(ledger):
    for expected in ((1, 0), (0, 1)):
        outcomes = await load(ledger, as_lines({"idempotencykey": "k1"}))
        assert (summed(outcomes), outcomes[0].rejects) == (expected, ())


async def test_a_rejected_line_is_kept_in_part_when_it_is_long(ledger):
    (outcome,) = await load(ledger, [b"x" * 100_000])
    assert len(outcome.rejects[0].text) == TEXT_MAX


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"salt": None}, id="no salt"),
        pytest.param({"salt": "00" * 15}, id="a salt cut short"),
        pytest.param({"salt": "00" * 16}, id="a salt as erased data has"),
        pytest.param({"data": None}, id="no data"),
        pytest.param({"datadigest": "00" * 32}, id="both data and the digest of erased data"),
        pytest.param({"recordedtime": "9999-12-31T23:59:59-14:00"}, id="recorded past the calendar"),
        pytest.param({"idempotencykey": "k1"}, id="a key that was used"),
        pytest.param({"type": "job.completed"}, id="an illegal transition"),
        pytest.param({"type": "job.created", "data": birth("job")}, id="a second creation"),
        pytest.param({"streamversion": 3}, id="a version left out"),
        pytest.param({"streamversion": 1}, id="a version twice"),
        pytest.param({"schemaversion": 0}, id="schema 0"),
        pytest.param({"schemaversion": 2}, id="a newer schema"),
        pytest.param({"subject": run()}, id="another kind of stream"),
    ],
)
async def test_a_line_damaged_on_the_way_is_rejected_and_leaves_nothing(ledger, changes):
    async with Ledger.in_memory(clock=Clock()) as source:
        await source.append(job(), "job.created", birth("job"), key="k1")
        await source.append(job(), "job.pending", {})
        first, second = await export(source)
    wire = {name: value for name, value in {**json.loads(second), **changes}.items() if value is not None}
    outcomes = await load(ledger, [first, json.dumps(wire).encode()])
    assert [each.line for each in outcomes[0].rejects] == [2]
    assert len(await log_of(ledger)) == 1
    await load(ledger, [second])
    assert len(await log_of(ledger)) == 2


async def erasing(ledger):
    """A job of which nothing is left, between two others; return the export from before its erasure."""
    for number in (1, 2, 3):
        await ledger.append(job(number), "job.created", birth("job", metadata={"text": f"text {number}"}))
    await ledger.append(job(2), "job.pending", {}, key="k")
    before = await export(ledger)
    await ledger.erase(job(2), "asked for")
    await ledger.append(job(3), "job.pending", {})
    return before


async def test_an_export_with_erased_events_restores_an_empty_ledger_to_the_same_root(ledger):
    async with Ledger.in_memory(clock=Clock()) as source:
        await erasing(source)
        (outcome,) = await load(ledger, await export(source))
        assert (outcome.appended, outcome.rejects) == (6, ())
        assert await log_of(ledger) == await log_of(source)
        roots = [(await each.store.head()).frontier.root() for each in (ledger, source)]
        assert roots[0] == roots[1]
        assert await ledger.state(job(2)) == await source.state(job(2))


async def test_an_erased_event_says_why_it_cannot_be_appended_to_another_history(ledger, lines):
    async with Ledger.in_memory(clock=Clock()) as source:
        await erasing(source)
        await ledger.append(job(9), "job.created", birth("job"))
        (outcome,) = await load(ledger, await export(source))
    assert "was erased" in outcome.rejects[0].reason
    assert outcome.appended == 3


@pytest.mark.parametrize("digest", ["00" * 31, "zz" * 32, "AB" * 32, ""])
async def test_an_erased_event_needs_the_digest_of_what_it_held(ledger, digest):
    async with Ledger.in_memory(clock=Clock()) as source:
        await source.append(job(), "job.created", birth("job"))
        (line,) = await export(source)
    wire = {name: value for name, value in json.loads(line).items() if name not in ("data", "salt")}
    (outcome,) = await load(ledger, [json.dumps({**wire, "datadigest": digest}).encode()])
    assert [each.line for each in outcome.rejects] == [1]


async def test_an_older_export_does_not_bring_back_what_was_erased(ledger):
    before = await erasing(ledger)
    log = await log_of(ledger)
    (outcome,) = await load(ledger, before)
    assert (outcome.appended, outcome.duplicate, outcome.rejects) == (0, 4, ())
    assert await log_of(ledger) == log


async def test_an_export_with_erased_events_adds_nothing_to_the_ledger_that_it_came_from(tmp_path):
    async with Ledger.open(tmp_path / "ledger.db", clock=Clock()) as ledger:
        await ledger.append(job(), "job.created", birth("job"))
        await ledger.append(job(), "job.erased", {"reason": "asked for"})
        (outcome,) = await load(ledger, await export(ledger))
        assert (outcome.appended, outcome.duplicate, outcome.rejects) == (0, 2, ())
