"""Steps and messages leave the run as it was: its wire, its ETag, its statuses then and now, but for effective time."""

import random

import msgspec
import pytest

from ledger import Ledger, messages, state, undo
from ledger.errors import LedgerError
from ledger.events import QUIET
from ledger.times import to_text
from projections import runs
from tests.ledger.histories import ACTOR, START_US, Clock, birth, run

STATUSES = ["running", "completed", "failed", "cancelled"]
MOVED = {"version", "created_position", "changed_position", "pending_position", "running_position", "ended_position",
         "deleted_position"}  # fmt: skip
"""Where things stand in the log; the same life without its quiet events stands elsewhere."""
TIMES = {"effective_us", "changed_us", "running_us", "ended_us", "deleted_us", "duration_ns"}
"""What may be later for a message that was said later."""


async def live(ledger, seed):
    """A run's life at random, with steps and messages in between, on clocks that jump."""
    chance = random.Random(seed)
    await ledger.append(run(), "run.created", birth("run"), actor=ACTOR, time_us=START_US)
    for number in range(chance.randint(10, 40)):
        when = START_US + chance.randint(-50, 200) * 1_000_000
        event = chance.choice(
            [
                ("run.step", {"id": f"step-00000000-0000-4000-8000-{number:012x}", "model": "m"}),
                ("run.message", {"message": {"id": f"message-00000000-0000-4000-8000-{number:012x}",
                                             "message_type": "user_message", "content": "hi", "date": to_text(when)}}),
                ("run.updated", {"metadata": {"n": number}}),
                (f"run.{chance.choice(STATUSES)}", {}),
            ]
        )  # fmt: skip
        try:
            await ledger.append(run(), *event, actor=ACTOR, time_us=when)
        except LedgerError as error:
            assert event[0] not in QUIET, error  # noqa: PT017 - what else is refused does not matter here


def old_values(folded):
    return [entry.old for entry in undo.entries(folded.undo or b"[]")]


@pytest.mark.parametrize("seed", range(30))
async def test_quiet_events_move_nothing_of_a_run_but_its_version_and_effective_time(seed):
    async with Ledger.in_memory(clock=Clock()) as ledger:
        await live(ledger, seed)
        events = await ledger.read(run())
    quiet = [event for event in events if event.type in QUIET]
    assert quiet
    # each of them by itself
    for event in quiet:
        before = state.as_of(events, position=event.position - 1)
        after = state.as_of(events, position=event.position)
        assert runs.render(after) == runs.render(before)
        changed = {name for name in before.__struct_fields__ if getattr(before, name) != getattr(after, name)}
        assert changed <= {"version", "effective_us", "marks"}
        assert after.marks | state.JUMPED == before.marks | state.JUMPED
        assert after.effective_us == max(before.effective_us, event.time)
        assert (after.version, after.etag) == (event.version, before.etag)
    # and all of them together: the same life without them differs in nothing but places and later times
    loud = [event for event in events if event.type not in QUIET]
    with_all, without = state.fold(events), state.fold(loud)
    for name in set(with_all.__struct_fields__) - MOVED - TIMES - {"etag", "marks", "undo"}:
        assert getattr(with_all, name) == getattr(without, name), name
    assert with_all.marks | state.JUMPED == without.marks | state.JUMPED
    assert old_values(with_all) == old_values(without)
    assert with_all.etag == loud[-1].version
    assert with_all.effective_us >= without.effective_us


@pytest.mark.parametrize("seed", range(30))
async def test_a_status_takes_effect_no_earlier_than_any_message_before_it(seed):
    async with Ledger.in_memory(clock=Clock()) as ledger:
        await live(ledger, seed)
        events = await ledger.read(run())
    latest = START_US
    for event in events:
        latest = max(latest, event.time)
        after = state.as_of(events, position=event.position)
        if event.type in {"run.completed", "run.failed", "run.cancelled"}:
            assert after.ended_us == latest
            assert msgspec.json.decode(runs.render(after))["completed_at"] == to_text(latest)
        assert state.as_of(events, time_us=after.effective_us).version >= event.version


async def test_a_message_that_was_said_later_than_the_end_is_recorded_moves_the_end(tmp_path):
    said = {"message_type": "user_message", "content": "hi", "date": to_text(START_US + 9_000_000)}
    async with Ledger.open(tmp_path / "l.db", clock=Clock()) as ledger:
        async with ledger.run(agent_id="a", id=run()) as found:
            await found.message(said)
        folded = await ledger.state(run())
        assert folded.ended_us == messages.time_us(messages.record(said)[1]) == START_US + 9_000_000
