"""Followers of one run or of the log: they break off, come again at whatever server, and miss nothing by it."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp.http import HttpVersion10, HttpVersion11

from ledger.events import TYPES
from tests.simulation.model import ENDS, Event, Model, Resource, must
from tests.simulation.wire import Parser, Wire

if TYPE_CHECKING:
    from tests.simulation.servers import Server
    from tests.simulation.world import World

HIGHS = (200, 2_000, 64 * 1024)
"""Bytes that wait for a client before its server is told to wait, too."""
SHARE_OF_LOG = 0.4
"""How many follow the log; the others follow a run."""
LOOK_INTERVAL_S = 0.1
LOOKS_MAX = 200
"""How long followers may take to come again and hear the rest, once a server is there for good."""
_OVER = frozenset({*ENDS, "deleted", "erased"})
_decode = msgspec.json.decode


class RunTail:
    """What a follower was told of a run so far; ``mark`` is the version of the last message."""

    def __init__(self, resource: Resource, chance: random.Random) -> None:
        self.resource = resource
        self.mark = 0
        self.is_over = False
        self.stops = 0
        self._chance = chance

    def __repr__(self) -> str:
        return f"the stream of {self.resource.id} behind {self.mark}"

    def request(self) -> tuple[str, str, dict[str, str], bytes]:
        """Return how to ask for what comes next."""
        self.stops = 0
        body: dict[str, Any] = {
            "include_pings": self._chance.random() < 0.5,
            "batch_size": self._chance.randrange(1, 9),
        }
        headers = {"Content-Type": "application/json"}
        if self.mark and self._chance.random() < 0.5:
            body["starting_after"] = self.mark
        elif self.mark:
            headers["Last-Event-ID"] = str(self.mark)
        return "POST", f"/v1/runs/{self.resource.id}/stream", headers, msgspec.json.encode(body)

    def take(self, model: Model, id: int | None, data: bytes) -> None:
        """Check what comes next."""
        must(not self.is_over, f"{self}: {data!r} after its end")
        if data == b"[DONE]":
            self._end()
            return
        said = _decode(data)
        if id is None:
            must(said["message_type"] in ("ping", "stop_reason", "usage_statistics"), f"{self}: {said} has no id")
            self.stops += said["message_type"] == "stop_reason"
            return
        messages = [each for each in self._messages() if self.mark < each.version <= id]
        must(messages and messages[-1].version == id, f"{self}: {id} is none of its messages to come")
        if not self.resource.now.is_erased:  # else some of it may be blank by now
            must(len(messages) == 1, f"{self}: {id} leaves out {[each.version for each in messages[:-1]]}")
        known = messages[-1].data.get("message", {})
        must(
            (said["seq_id"], said["run_id"], said["id"], said["content"])
            == (id, self.resource.id, known.get("id"), known.get("content")),
            f"{self}: says {said}, it was {known}",
        )
        self.mark = id

    def _messages(self) -> list[Event]:
        return [each for each in self.resource.events if each.type == "run.message" and not each.is_blank]

    def _end(self) -> None:
        now = self.resource.now
        end = next((each.version for each in self.resource.events if each.verb in _OVER), None)
        must(end is not None, f"{self}: ended, the run is {now.status}")
        left_out = [each.version for each in self._messages() if self.mark < each.version < (end or 0)]
        must(not left_out or now.is_erased, f"{self}: ended without {left_out}")
        must(self.stops == 1 or (not now.is_visible and self.stops == 0), f"{self}: ended with {self.stops} reasons")
        self.is_over = True

    def refused(self, status: int, low: int, high: int, model: Model) -> None:
        """Take notice of 404 or 410: it is not there any more, or the server does not know it yet."""
        must(status in (404, 410), f"{self}: answered {status}")
        must(model.is_hidden_somewhen(self.resource.id, low, high), f"{self}: answered {status}, but it is there")
        self.is_over = not self.resource.now.is_visible

    def is_complete(self, model: Model) -> bool:
        """Tell whether there is nothing that it must have been told and was not."""
        if any(each.verb in _OVER for each in self.resource.events):
            return self.is_over
        return all(each.version <= self.mark for each in self._messages())


class LogTail:
    """What a follower was told of the log so far; ``mark`` is the position of the last event."""

    def __init__(self, chance: random.Random, subject: str | None) -> None:
        self.mark = 0
        self.is_over = False
        self.subject = subject if chance.random() < 0.3 else None
        self.types = chance.sample(sorted(TYPES), 20) if chance.random() < 0.3 else None
        self._chance = chance

    def __repr__(self) -> str:
        return f"the feed of {self.subject or 'all'}, {len(self.types or TYPES)} types, behind {self.mark}"

    def request(self) -> tuple[str, str, dict[str, str], bytes]:
        """Return how to ask for what comes next."""
        headers = {"Accept": "text/event-stream"}
        query = [f"subject={self.subject}"] if self.subject else []
        query += [f"types={','.join(self.types)}"] if self.types else []
        if self.mark and self._chance.random() < 0.7:
            headers["Last-Event-ID"] = str(self.mark)
        else:
            query.append(f"after={self.mark}")
        return "GET", f"/v1/events?{'&'.join(query)}", headers, b""

    def take(self, model: Model, id: int | None, data: bytes) -> None:
        """Check what comes next."""
        must(id is not None, f"{self}: {data!r} has no id")
        said = _decode(data)
        position = int(id or 0)
        events = [each for each in model.events[self.mark : position] if self._shows(each)]
        places = [each.position for each in events]
        must(places == [position], f"{self}: {position} comes, due were {places}")
        event = events[0]
        must(
            (said["position"], said["subject"], said["type"], said["streamversion"])
            == (position, event.stream, event.type, event.version),
            f"{self}: says {said}, it was {event}",
        )
        resource = model.resources.get(event.stream)
        is_gone = event.is_blank or (resource is not None and resource.now.is_erased)
        must(said.get("data") == event.data or is_gone, f"{self}: says {said}, it was {event.data}")
        self.mark = position

    def _shows(self, event: Event) -> bool:
        return self.subject in (None, event.stream) and (self.types is None or event.type in self.types)

    def refused(self, status: int, low: int, high: int, model: Model) -> None:
        """Fail: the log is there."""
        must(False, f"{self}: answered {status}")

    def is_complete(self, model: Model) -> bool:
        """Tell whether there is nothing that it must have been told and was not."""
        return not any(self._shows(each) for each in model.events[self.mark :])


class Follower:
    """One who follows a run to its end, then another, or the log for ever."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world = world
        self.chance = chance
        self.tail: RunTail | LogTail | None = None
        self.is_steady = False
        """Whether it breaks off no more, and begins nothing new."""
        self._follows_log = chance.random() < SHARE_OF_LOG
        self._patience_s = chance.choice([0.02, 0.2, 2.0])
        self._pace_s = chance.choice([0.0, 0.0, 0.001, 0.1])

    async def run(self) -> None:
        """Follow, break off, and come again, until cancelled."""
        world = self.world
        while True:
            await world.loop.pass_time(self.chance.expovariate(1 / min(self._patience_s, 0.2)))
            if self.tail is None or self.tail.is_over:
                self.tail = None if self.is_steady else self._choose()
            serving = [each for each in world.servers if each.is_serving]
            if self.tail is not None and serving:
                await self._follow(self.tail, self.chance.choice(serving))

    def _choose(self) -> RunTail | LogTail | None:
        world = self.world
        runs = [each for each in world.model.resources.values() if each.kind == "run"]
        run = self.chance.choice(runs[-6:]) if runs else None
        if self._follows_log:
            return LogTail(self.chance, run.id if run else None)
        return RunTail(run, self.chance) if run else None

    def is_complete(self) -> bool:
        """Tell whether it was told all that it must have been."""
        return self.tail is None or self.tail.is_complete(self.world.model)

    async def _follow(self, tail: RunTail | LogTail, server: Server) -> None:
        world, low = self.world, server.floor
        version = self.chance.choice([HttpVersion10, HttpVersion11])
        wire = Wire(world.loop, version, self.chance.choice(HIGHS), lambda data: _look(world, server, data))
        method, path, headers, body = tail.request()
        world.counts["streams"] += 1
        world.tell(f"~ {server.process.name} {tail!r} by {path} {headers.get('Last-Event-ID')}")
        server.follow(wire, method, path, {"Authorization": f"Bearer {world.token}", **headers}, body)
        try:
            async with asyncio.timeout(None if self.is_steady else self.chance.expovariate(1 / self._patience_s)):
                await self._read(tail, wire, Parser(version))
        except TimeoutError:
            world.counts["streams broken off"] += 1
        finally:
            wire.leave(self.chance.choice([None, ConnectionResetError("the network broke it off")]))
        world.tell(f"~ {server.process.name} {tail!r} {'over' if tail.is_over else 'interrupted'}")
        answer = wire.answer
        if answer is not None:
            world.answered(server, method, path, answer)
            if answer.status not in (500, 503):
                world.check(lambda: tail.refused(answer.status, low, world.model.size, world.model))

    async def _read(self, tail: RunTail | LogTail, wire: Wire, parser: Parser) -> None:
        world = self.world
        while True:
            pause_s = 0.0 if self.is_steady else self.chance.expovariate(1) * self._pace_s
            await world.loop.pass_time(self.chance.uniform(1e-4, 5e-3) + pause_s)
            data = await wire.take(10_000 if self.is_steady else self.chance.choice([20, 300, 10_000]))
            if not data:
                return
            for id, said in parser.feed(data):
                world.check(partial(tail.take, world.model, id, said))
                world.counts["streamed"] += id is not None


def _look(world: World, server: Server, data: bytes) -> None:
    """Fail where a server writes what was erased, once it said so itself, or has made it known to its streams."""
    for id, (answerer, position, words) in world.forgotten.items():
        if server is not answerer and server.app.hub.position < position:
            continue
        for word in words:
            if word in data:
                world.fail(f"{server.process.name} streams {word.decode()} of {id}, which was erased at {position}")


class InOrder(dict[Any, None]):
    """A set that goes through its members in the order of their coming, which is the same in each run."""

    add = dict.setdefault
    remove = dict.__delitem__


class Crowd:
    """All followers of a run."""

    def __init__(self, world: World, many: int) -> None:
        self._world = world
        self._followers = [Follower(world, random.Random(f"{world.seed} follower {each}")) for each in range(many)]
        self._tasks = [world.loop.create_task(each.run()) for each in self._followers]

    def calm(self) -> None:
        """Let each follow to its end what it has begun."""
        for each in self._followers:
            each.is_steady = True

    async def hear_out(self) -> None:
        """Fail where a follower is not told all, though a server is there to ask; end them."""
        for _ in range(LOOKS_MAX):
            if all(each.is_complete() for each in self._followers):
                break
            await self._world.loop.pass_time(LOOK_INTERVAL_S)
        for each in self._followers:
            if not each.is_complete():
                self._world.fail(f"a follower never got the end of {each.tail!r}")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
