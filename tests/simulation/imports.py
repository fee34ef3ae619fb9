"""Histories from elsewhere: files that importers bring, in parts, twice, two at once, killed and begun again."""

from __future__ import annotations

import asyncio
import random
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ledger import archive, ids
from ledger.ledger import Ledger
from ledger.soundness import verify_file
from ledger.times import from_text
from projections.engine import Engine
from projections.file import views_path
from server.cli import transfer
from tests.ledger.histories import START_US, root
from tests.simulation.model import must

if TYPE_CHECKING:
    from tests.simulation.world import World

DAY_US = 86_400_000_000
TRIES_MAX = 20
"""How often an import is begun again until it comes to its end."""
SWF_ENDS = {1: "completed", 0: "failed", 5: "cancelled", -1: None}
Told = tuple[str, int]
"""Type and time of an event."""


class Source(msgspec.Struct):
    """A file to import: what it must lead to, each once, and what became of it."""

    path: Path
    part: Path
    """Its first lines alone, under the same name."""
    format: str
    events: dict[str, list[Told]]
    owes: bool = False
    """Whether callbacks that it owes are to be sent from here."""
    is_begun: bool = False
    is_done: bool = False
    """Whether an import of the whole file came to its end."""

    @property
    def total(self) -> int:
        return sum(len(events) for events in self.events.values())


async def bring(world: World) -> bytes:
    """Make the files of a run; return the views file of the ledger that one of them is the export of."""
    folder = world.db.parent / "brought"
    (folder / "part").mkdir(parents=True)
    chance = random.Random(f"{world.seed} brought")
    elsewhere = folder / "elsewhere.db"
    process = world.process("elsewhere")
    lines = await world.within(process, _elsewhere(elsewhere, chance))
    connection = world.disk.look(views_path(elsewhere))
    try:
        views = image(connection, folder / "image.db")
    finally:
        connection.close()
    world.loop.kill(process)
    world.sources = [_swf(folder, chance), _exported(folder, lines, chance)]
    for source in world.sources:
        world.recorded |= source.events.keys()
        if not source.owes:
            world.model.imported |= source.events.keys()
    return views


def image(connection: Any, path: Path) -> bytes:
    """Return a database as the bytes of one file, by way of a path that is free."""
    copy = type(connection)(str(path))
    try:
        connection.backup(copy)
    finally:
        copy.close()
    try:
        return path.read_bytes()
    finally:
        path.unlink()


async def _elsewhere(db: Path, chance: random.Random) -> list[bytes]:
    """Make a ledger of some runs and jobs, with callbacks that it owed, and its views; return its export."""
    now_us = iter(range(START_US - DAY_US, START_US, 1000))
    async with Ledger.open(db, clock=lambda: next(now_us)) as ledger:
        for _ in range(chance.randrange(2, 5)):
            word = f"w{chance.getrandbits(64):016x}"
            facts: dict[str, Any] = {"metadata": {"word": word}, "callback_url": "https://good.example.com/elsewhere"}
            id = uuid.UUID(int=chance.getrandbits(128), version=4)
            if chance.random() < 0.3:
                async with ledger.job(id=f"job-{id}", **facts) as job:
                    await job.update(metadata={"more": 1})
                continue
            async with ledger.run(agent_id="agent-1", id=f"run-{id}", **facts) as run:
                await run.step(model="m", total_tokens=3)
                for _ in range(chance.randrange(3)):
                    await run.message({"message_type": "assistant_message", "content": f"elsewhere {word}"})
        views = Engine(ledger, views_path(db))
        await views.open()
        await views.close()
        return [line async for lines in archive.dump(ledger.store) for line in lines]


def _exported(folder: Path, lines: list[bytes], chance: random.Random) -> Source:
    events: dict[str, list[Told]] = {}
    for line in lines:
        said = msgspec.json.decode(line)
        events.setdefault(said["subject"], []).append((said["type"], _us(said["time"])))
    source = Source(*_written(folder, "elsewhere.jsonl", lines, chance), "jobledger", events)
    source.owes = chance.random() < 0.3
    return source


def _us(text: str) -> int:
    return from_text(text)


def _swf(folder: Path, chance: random.Random) -> Source:
    start_s = START_US // 1_000_000 - 10_000
    lines = [b"; UnixStartTime: %d" % start_s]
    events = {}
    for number in range(1, chance.randrange(3, 9)):
        submit, wait, run = chance.randrange(1000), chance.randrange(100), chance.randrange(1, 1000)
        status = chance.choice(list(SWF_ENDS))
        fields = [number, submit, wait, run, 4, 1, 1, 4, 5000, 1, status, 7, 8, 9, 1, 1, -1, -1]
        lines.append(" ".join(map(str, fields)).encode())
        begun_us = (start_s + submit) * 1_000_000
        told = [("job.created", begun_us), ("job.pending", begun_us), ("job.running", begun_us + wait * 1_000_000)]
        if SWF_ENDS[status]:
            told.append((f"job.{SWF_ENDS[status]}", begun_us + (wait + run) * 1_000_000))
        events[ids.derive("job", "small.swf", str(number))] = told
    return Source(*_written(folder, "small.swf", lines, chance), "swf", events)


def _written(folder: Path, name: str, lines: list[bytes], chance: random.Random) -> tuple[Path, Path]:
    whole, part = folder / name, folder / "part" / name
    whole.write_bytes(b"\n".join(lines) + b"\n")
    part.write_bytes(b"\n".join(lines[: chance.randrange(1, len(lines))]) + b"\n")
    return whole, part


# -- what befalls a run


async def import_some(world: World) -> None:
    """Import a file or its first lines, perhaps twice at once."""
    chance = world.chance
    source = chance.choice(world.sources)
    is_whole = chance.random() < 0.6
    many = 2 if chance.random() < 0.3 else 1
    await asyncio.gather(*(_import(world, source, is_whole=is_whole) for _ in range(many)))


async def _import(world: World, source: Source, *, is_whole: bool) -> dict[str, int] | None:
    from tests.simulation.fates import beside

    path = source.path if is_whole else source.part
    source.is_begun = True
    tally: dict[str, int] | None = await beside(world, "importer", imported(world.db, path, source.format, source.owes))
    if tally is None:
        return None
    world.tell(f"imported {path.name}: {tally}")
    world.counts["imported"] += tally["appended"]
    if is_whole:
        source.is_done = True
        world.check(lambda: check(world, source))
        if not _erased(world, source):
            total = tally["appended"] + tally["duplicate"]
            world.check(lambda: must((total, tally["rejected"]) == (source.total, 0), f"{path.name}: {tally}"))
    return tally


async def imported(db: Path, path: Path, format: str, owes: bool) -> dict[str, int]:
    """Import a file as the command does."""
    tally: dict[str, int] = await transfer._import(db, (path,), format, None, owes)
    return tally


def _erased(world: World, source: Source) -> list[str]:
    resources = world.model.resources
    return [id for id in source.events if id in resources and resources[id].now.is_erased]


def check(world: World, source: Source) -> None:
    """Raise ``Broken`` unless each event of a file is in the log once, in its order, and owes nothing."""
    for id, told in source.events.items():
        resource = world.model.resources.get(id)
        found = [(each.type, each.time) for each in resource.events if each.kind != "callback"] if resource else []
        if found and found[-1][0].endswith(".erased"):
            must(found[:-1] == told[: len(found) - 1], f"{source.path.name}: {id} is {found}, not {told}")
        else:
            must(found == told[: len(found)], f"{source.path.name}: {id} is {found}, not {told}")
            must(len(found) == len(told) or not source.is_done, f"{source.path.name}: {id} lacks {told[len(found) :]}")


async def bring_in_the_rest(world: World) -> None:
    """Import every file that was begun to its end, and once more, which adds nothing."""
    for source in world.sources:
        if not source.is_begun:
            continue
        for _ in range(TRIES_MAX):
            tally = await _import(world, source, is_whole=True)
            if tally is not None:
                break
        again = await _import(world, source, is_whole=True)
        if again is not None and again["appended"]:
            world.fail(f"{source.path.name}, imported again: {again}")


async def restore(world: World) -> None:
    """Export the log as it is now; imported here again it adds nothing, into an empty ledger it is the same log."""
    from tests.simulation.fates import beside

    lines = await beside(world, "exporter", _export(world.db))
    if lines is None:
        return
    path = world.db.parent / "brought" / "own.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    target = world.db.with_name("restored.db")
    try:
        if world.chance.random() < 0.5:
            tally = await beside(world, "importer", imported(world.db, path, "jobledger", False))
            if tally is not None and (tally["appended"] or tally["rejected"]):
                world.fail(f"the own export, imported: {tally}")
            return
        done = None
        for _ in range(TRIES_MAX):
            done = done or await beside(world, "importer", imported(target, path, "jobledger", False))
        verdict = await beside(world, "verify", verify_file(target)) if done else None
        leaves = root([row[-1] for row in world.raw[: len(lines)]])
        is_same = verdict is None or (verdict.size, verdict.root) == (len(lines), leaves.hex())
        if not is_same and not world.disk.faults:
            world.fail(f"an export of {len(lines)} events was restored as {verdict}")
    finally:
        for file in (*world.db.parent.glob("restored.*"), path):
            file.unlink()


async def _export(db: Path) -> list[bytes]:
    async with Ledger.open(db, read_only=True) as ledger:
        return [line async for lines in archive.dump(ledger.store) for line in lines]
