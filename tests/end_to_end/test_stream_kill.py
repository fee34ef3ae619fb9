"""A server that dies while clients follow: they go on from where they were, without a gap or a repeat."""

import asyncio
import random
from types import SimpleNamespace

import aiohttp
import pytest

from ledger import ids
from tests.end_to_end.server_process import client, serve
from tests.server.following import SSE, following, said

MESSAGES = 240
BROKEN = (aiohttp.ClientError, ConnectionError, asyncio.IncompleteReadError, EOFError, AssertionError)
"""How a client hears that the server died; the last when it died in the middle of an event."""


class Place:
    """Where the server is now: it dies, and comes back on another port."""

    def __init__(self):
        self.up = asyncio.Event()
        self.moved = asyncio.Event()
        self.server = None
        self.token = ""

    def begin(self, server):
        self.server, self.token = server, self.token or server.token
        self.up.set()

    async def user(self):
        """Who follows, once there is a server."""
        async with asyncio.timeout(60):
            await self.up.wait()
        return SimpleNamespace(token=self.token, service=SimpleNamespace(port=int(self.server.url.rpartition(":")[2])))


class Follower:
    """A client that goes on after each break from the last event that it has whole."""

    def __init__(self, place, path, chance):
        self.place, self.path, self.chance = place, path, chance
        self.seen = []
        self.bodies = []
        self.breaks = 0
        self.is_done = False

    async def run(self):
        while not self.is_done:
            user = await self.place.user()
            try:
                await self._follow(user)
            except BROKEN:
                self.breaks += 1
            await asyncio.sleep(0)

    async def _follow(self, user):
        last = self.seen[-1] if self.seen else 0
        by_header = "stream" not in self.path or self.chance.random() < 0.5
        body = {} if by_header else {"starting_after": last}
        lines = [f"Last-Event-ID: {last}"] if by_header else []
        body, lines = (body, lines) if "stream" in self.path else (None, [SSE, *lines])
        async with following(user, self.path, body, *lines) as stream:
            while True:
                event = await stream.next()
                self.is_done = event.type in ("[DONE]", "run.completed")
                if event.id is not None:
                    self.seen.append(event.id)
                    self.bodies.append(event.json)
                    self.place.moved.set()
                if self.is_done:
                    return


async def produce(place, run, chance):
    """Say every message once, whatever becomes of the server meanwhile: the same key until there is an answer."""
    number = 0
    while number < MESSAGES:
        batch = [said(each) for each in range(number + 1, min(number + chance.choice([1, 2, 5]), MESSAGES) + 1)]
        await insist(place, "POST", f"/v1/runs/{run}/messages", batch, f"messages-{number}")
        number += len(batch)
    await insist(place, "PATCH", f"/v1/runs/{run}", {"status": "completed"}, "end")


async def insist(place, method, path, body, key):
    while True:
        await place.user()
        try:
            async with (
                client(place.server, place.token) as session,
                session.request(method, path, json=body, headers={"Idempotency-Key": key}) as answer,
            ):
                assert answer.status in {200, 201, 503}, await answer.text()
                if answer.status != 503:
                    return
        except (aiohttp.ClientError, ConnectionError):
            await asyncio.sleep(0)


async def lead(db, place, run, followers, chance, end):
    """Serve; end the server at some moments, in the middle of the streams; serve on until everybody has everything."""
    for life in range(4):
        async with serve(db) as server:
            place.begin(server)
            if life == 0:
                await insist(place, "POST", "/v1/runs/", {"id": run, "agent_id": "a", "status": "running"}, "begin")
            if life == 3:
                await asyncio.gather(*(each.task for each in followers))
                return
            goal = (life + chance.random()) * MESSAGES / 4
            async with asyncio.timeout(60):
                while max(len(each.seen) for each in followers) < goal:
                    place.moved.clear()
                    await place.moved.wait()
            place.up.clear()
            if end == "kill":
                await server.kill()
            else:
                assert await server.stop() == 0


@pytest.mark.parametrize(("end", "seed"), [("kill", 31), ("stop", 32)])
async def test_clients_go_on_over_the_death_of_a_server_without_a_gap_or_a_repeat(tmp_path, end, seed):
    chance, place, run = random.Random(seed), Place(), ids.make("run")
    feed = Follower(place, f"/v1/events?subject={run}", random.Random(seed))
    on_run = [Follower(place, f"/v1/runs/{run}/stream", random.Random(seed + each)) for each in range(4)]
    whole = Follower(place, "/v1/events", random.Random(seed))
    async with asyncio.TaskGroup() as group:
        group.create_task(lead(tmp_path / "ledger.db", place, run, [feed, whole, *on_run], chance, end))
        await place.user()
        group.create_task(produce(place, run, chance))
        for each in (feed, whole, *on_run):
            each.task = group.create_task(each.run())
    messages = [body["data"]["message"]["id"] for body in feed.bodies if body["type"] == "run.message"]
    assert messages == [said(number)["id"] for number in range(1, MESSAGES + 1)]
    assert [body["streamversion"] for body in feed.bodies] == list(range(1, MESSAGES + 4))
    assert whole.seen == list(range(1, whole.seen[-1] + 1))
    for each in on_run:
        assert [body["id"] for body in each.bodies] == messages
        assert each.seen == list(range(3, MESSAGES + 3))
    assert sum(each.breaks for each in (feed, whole, *on_run)) >= 6
