"""Callers of a ledger: the commands they give, and the clock around them."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import NamedTuple

import uvloop

from ledger import ids
from ledger.decider import Change, Command, Create
from ledger.events import Changed, Created
from ledger.ids import SYSTEM_USER
from ledger.ledger import Ledger
from scripts.bench.contest import Lap, Watch


class Appended(NamedTuple):
    """What a round of appends came to; ``batch``: events in a transaction on average."""

    lap: Lap
    batch: int


def append(path: Path, callers: int, each: int, checkpoint_s: float | None = None) -> Appended:
    """Let callers give ``each`` commands of one event, one after the other, to a new ledger; time from first to last.

    ``checkpoint_s``: seconds between two checkpoints, which are made meanwhile; None: there are none.

    Making the commands, opening and closing are outside the measured time. What was made before is hidden from the
    garbage collector, so that it does not look through the commands that wait.
    """
    commands = [_commands(each) for _ in range(callers)]
    gc.collect()
    gc.freeze()
    try:
        return uvloop.run(_call(path, commands, checkpoint_s))
    finally:
        gc.unfreeze()


async def _call(path: Path, commands: list[list[Command]], checkpoint_s: float | None) -> Appended:
    batches: list[int] = []
    async with Ledger.open(path) as ledger:
        ledger.listen(lambda events: batches.append(len(events)))

        async def caller(wanted: list[Command]) -> None:
            for command in wanted:
                await ledger.execute(command)

        async def sign() -> None:
            while checkpoint_s is not None:
                await asyncio.sleep(checkpoint_s)
                await ledger.checkpoint()

        signing = asyncio.create_task(sign())
        with Watch() as watch:
            await asyncio.gather(*(caller(wanted) for wanted in commands))
        signing.cancel()
        await asyncio.gather(signing, return_exceptions=True)
    events = sum(batches)
    assert events == sum(len(wanted) for wanted in commands)
    return Appended(watch.lap(events), round(events / len(batches)))


def _commands(count: int) -> list[Command]:
    found: list[Command] = []
    for number in range(-(-count // 3)):
        id_ = ids.make("run")
        metadata = {"task": "nightly", "number": number, "model": "openai/gpt-4.1-mini"}
        created = Created(user_id=SYSTEM_USER, agent_id="agent-1", metadata=metadata)
        found.append(Create(id=id_, kind="run", facts=created))
        found.append(Change(id=id_, status="running"))
        found.append(Change(id=id_, status="completed", facts=Changed(stop_reason="end_turn")))
    return found[:count]
