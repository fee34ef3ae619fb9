"""What befalls the processes of a run: deaths, restarts, clocks that jump, rebuilds, verifications and backups."""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger import engine as sqlite
from ledger.errors import LedgerError
from ledger.ledger import Ledger
from ledger.soundness import verify_file
from ledger.verify import Verdict
from projections.engine import Engine
from projections.file import views_path
from server.cli.transfer import _copy as copy
from tests.simulation import damage, imports
from tests.simulation.disk import Weather

if TYPE_CHECKING:
    from tests.simulation.servers import Server
    from tests.simulation.world import World

SERVERS_MAX = 3
FATES = {
    "kill": 6, "stop": 2, "start": 4, "jump": 4, "rebuild": 2, "verify": 2, "read": 2, "backup": 1, "record": 4,
    "import": 4, "restore": 1, "damage": 3,
}  # fmt: skip
QUIET = {"rebuild": 2, "verify": 2, "read": 1, "backup": 1, "record": 4, "import": 3, "restore": 1, "damage": 1}


def weather(chance: random.Random) -> Weather:
    """Return how bad the disk is in a run."""
    return Weather(
        pause=chance.choice([0.0, 0.02, 0.2]),
        fault=chance.choice([0.0, 0.0, 0.001, 0.01]),
        commit_fault=chance.choice([0.0, 0.0, 0.01]),
        slow=chance.choice([0.0, 0.01, 0.05]),
    )


async def befall(world: World) -> None:
    """Let things happen, one after the other, until the run is over."""
    fates = QUIET if world.quiet else FATES
    pause_s = world.chance.choice([0.05, 0.3, 1.0])
    while True:
        await world.loop.pass_time(world.chance.expovariate(1 / pause_s))
        world.servers = [each for each in world.servers if not each.ended.done() or each.fatal]
        if not any(not each.ended.done() for each in world.servers):
            world.start_server()
            continue
        for server in world.servers:
            if server.is_broken:
                doom(world, server)
        await _FATES[world.chance.choices(list(fates), list(fates.values()))[0]](world)


def doom(world: World, server: Server) -> None:
    """Let a server die soon: between two of its callbacks, or between two statements in a transaction."""
    world.counts["crashes"] += 1
    if world.chance.random() < 0.5:
        server.process.turns_left = world.chance.randrange(1, 200)
    else:
        server.process.statements_left = world.chance.randrange(60)
    world.tell(f"{server.process.name} will die")


async def _kill(world: World) -> None:
    doom(world, world.chance.choice(world.servers))


async def _stop(world: World) -> None:
    server = world.chance.choice(world.servers)
    if server.is_serving:
        world.counts["stops"] += 1
        world.tell(f"{server.process.name} is asked to stop")
        server.stop()


async def _start(world: World) -> None:
    if len(world.servers) < SERVERS_MAX:
        world.start_server()


async def _jump(world: World) -> None:
    world.counts["clock jumps"] += 1
    seconds = world.chance.choice([-3600.0, -5.0, -0.2, 0.2, 5.0, 3600.0])
    server = world.chance.choice(world.servers)
    world.tell(f"the clock of {server.process.name} jumps by {seconds} s")
    server.clock.jump(seconds)


async def beside(world: World, name: str, work: Any) -> Any:
    """Run a command beside the servers, in a process that may die like them."""
    process = world.process(name)
    if not world.quiet and world.chance.random() < 0.3:
        process.statements_left = world.chance.randrange(200)
    world.tell(f"{process.name} starts")
    try:
        found = await world.within(process, work)
    except (LedgerError, sqlite.DatabaseError) as error:
        if not process.faults and not (world.counts["damages"] and _is_of_views(error)):
            world.fail(f"{name} failed though nothing did: {error!r}")
        await world.loop.pass_time(0.01)  # what its threads are at ends before it does, as with asyncio.run
        found = None
    finally:
        world.loop.kill(process)
    world.counts[_COUNTED[name]] += 1
    return found


def _is_of_views(error: Exception) -> bool:
    """Tell whether an error may come of a views file that is damaged: a command ends then, and can be begun again."""
    found = str(error)  # a file that is cut under whoever reads it makes a read too short
    return sqlite.is_damage(error) or "unable to open database file" in found or "disk I/O error" in found


async def _rebuild(world: World) -> None:
    await beside(world, "rebuild", _rebuilt(world.db))


async def _rebuilt(db: Path) -> None:
    async with Ledger.open(db, read_only=True) as ledger:
        engine = Engine(ledger, views_path(db))
        await engine.rebuild_only()
        await engine.close()


async def _verify(world: World) -> None:
    verdict = await beside(world, "verify", verify_file(world.db))
    if verdict is not None and not verdict.ok and not world.disk.faults:
        world.fail(f"verify found {verdict.problems}")


async def _read(world: World) -> None:
    """Follow the log from its beginning to where it is now, as a reader of its own."""
    found = await beside(world, "reader", _followed(world.db, world.model.size))
    if found is not None:
        known = [(each.position, each.stream, each.type) for each in world.model.events[: len(found)]]
        if found != known:
            world.fail(f"a reader saw {found[-5:]}")


async def _followed(db: Path, size: int) -> list[tuple[int, str, str]]:
    found: list[tuple[int, str, str]] = []
    async with Ledger.open(db, read_only=True) as ledger:
        async for batch in ledger.follow():
            found += [(each.position, each.stream, each.type) for each in batch]
            if len(found) >= size:
                return found
    return found


async def _backup(world: World) -> None:
    """Copy the ledger beside its servers: the copy is whole, as of some moment of the copying."""
    target = world.db.with_name("copy.db")
    low = world.model.size
    try:
        verdict = await beside(world, "backup", _backed_up(world.db, target))
    finally:
        for path in world.db.parent.glob("copy.db*"):
            path.unlink()
    is_good = verdict is None or (verdict.ok and low <= verdict.size <= world.model.size)
    if not is_good and not world.disk.faults:
        world.fail(f"a backup has {verdict}, the log had {low} to {world.model.size} events")


async def _backed_up(db: Path, target: Path) -> Verdict | None:
    await asyncio.to_thread(copy, db, target)
    try:
        return await verify_file(target)
    except LedgerError:  # of what was not copied to its end, nobody says more
        return None


async def _record(world: World) -> None:
    """Record a run from Python, beside the servers: what left its block is in the log, with how it ended."""
    id = f"run-{uuid.UUID(int=world.chance.getrandbits(128), version=4)}"
    world.recorded.add(id)
    fails = world.chance.random() < 0.3
    said = await beside(world, "recorder", _recorded(world, id, fails=fails))
    if said is not None:
        resource = world.model.resources.get(id)
        found = None if resource is None else resource.now.status
        if found != said:
            world.fail(f"a recorder of {id} was told {said}, it is {found}")


async def _recorded(world: World, id: str, *, fails: bool) -> str:
    async with Ledger.open(world.db, clock=world.clock()) as ledger:
        with contextlib.suppress(_Mishap):
            async with ledger.run(agent_id="agent-1", id=id) as run:
                await run.step(model="m", total_tokens=3)
                await run.message({"message_type": "assistant_message", "content": "recorded"})
                if fails:
                    raise _Mishap
        return "failed" if fails else "completed"


class _Mishap(Exception):
    """What goes wrong in the code that a recorder looks at."""


_COUNTED = {
    "rebuild": "rebuilds",
    "verify": "verifications",
    "reader": "readers",
    "backup": "backups",
    "recorder": "recorders",
    "importer": "imports",
    "exporter": "exports",
}
_FATES = {
    "kill": _kill, "stop": _stop, "start": _start, "jump": _jump,
    "rebuild": _rebuild, "verify": _verify, "read": _read, "backup": _backup, "record": _record,
    "import": imports.import_some, "restore": imports.restore, "damage": damage.harm,
}  # fmt: skip
