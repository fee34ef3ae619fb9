"""Reads by clients, each checked against what was true at some moment between its question and its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ledger import checkpoint as notes
from tests.simulation.model import Resource, Then, must

if TYPE_CHECKING:
    from tests.simulation.clients import Client

HOMES = {"run": "/v1/runs", "job": "/v1/jobs", "batch": "/v1/messages/batches"}


class _Read:
    """A read under way: what it must show at least, and the answer."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.server = client.server()
        self.low = 0 if self.server is None else self.server.floor
        self.status = 0
        self.body = b""
        self.headers: dict[str, str] = {}

    async def get(self, path: str) -> bool:
        """Ask; tell whether there is an answer that says something."""
        client, world = self.client, self.client.world
        if self.server is None:
            return False
        headers: dict[str, str] = {}
        if client.position and client.chance.random() < 0.5:
            headers["Ledger-Position"] = str(client.position)
            self.low = max(self.low, client.position)
        world.counts["reads"] += 1
        answer = await client.send(self.server, "GET", path, headers)
        world.tell(f"? {self.server.process.name} {path} {None if answer is None else answer.status}")
        if answer is None or answer.status in (500, 503):
            return False
        self.status, self.body, self.headers = answer.status, answer.body, answer.headers
        return True

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


async def one(client: Client) -> None:
    """Read one resource: it is as it was at a moment that is not too old."""
    world = client.world
    if not world.ids:
        return
    kind, id = client.target()
    read = _Read(client)
    path = f"{HOMES[kind]}/{id}"
    if await read.get(path):
        high = world.model.size
        world.check(lambda: _check_one(read, world.model.resources.get(id), high, path))


def _check_one(read: _Read, resource: Resource | None, high: int, path: str) -> None:
    where = f"{path} from {read.low} to {high}"
    if read.status == 404:
        is_old = resource is not None and resource.born.position <= read.low
        hidden = not is_old or any(then.is_deleted for then in _between(resource, read.low, high))
        must(hidden, f"{where}: not found, but there")
        return
    must(resource is not None, f"{where}: found, but it never was")
    past = _between(resource, read.low, high)
    if read.status == 410:
        must(any(then.is_erased for then in past), f"{where}: erased by nobody")
        return
    must(read.status == 200, f"{where}: {read.status} {read.body[:300]!r}")
    _check_shape(read.json, read.headers, [then for then in past if then.is_visible], where)


def _between(resource: Resource | None, low: int, high: int) -> list[Then]:
    return [] if resource is None else list(resource.between(low, high))


def _check_shape(found: Any, headers: dict[str, str], past: list[Then], where: str) -> None:
    fits = [then for then in past if headers["ETag"] == f'"{then.etag}"']
    must(fits, f"{where}: ETag {headers['ETag']}, it was {[then.etag for then in past]}")
    must(found["status"] == fits[0].status, f"{where}: {found['status']}, it was {fits[0].status}")
    if found.get("job_type") == "batch":
        found["metadata"].pop("progress", None)
    must(found["metadata"] == fits[0].metadata, f"{where}: {found['metadata']}, it was {fits[0].metadata}")


async def as_of(client: Client) -> None:
    """Read one resource as of a position: it is what it was then."""
    world = client.world
    if not world.ids or not client.position:
        return
    kind, id = client.target()
    at = client.chance.randrange(1, client.position + 1)
    read = _Read(client)
    path = f"{HOMES[kind]}/{id}?as_of={at}"
    if await read.get(path):
        high = world.model.size
        world.check(lambda: _check_as_of(read, world.model.resources.get(id), at, high, path))


def _check_as_of(read: _Read, resource: Resource | None, at: int, high: int, path: str) -> None:
    if read.status == 410:
        must(resource is not None and any(then.is_erased for then in _between(resource, 0, high)), f"{path}: erased?")
        return
    past = [then for then in _between(resource, at, at) if then.position <= at and not then.is_deleted]
    if read.status == 404:
        must(not past or resource.now.is_erased, f"{path}: not found, but it was there")  # type: ignore[union-attr]
        return
    must(read.status == 200, f"{path}: {read.status} {read.body[:300]!r}")
    _check_shape(read.json, read.headers, past, path)


async def pages(client: Client) -> None:
    """Page through a list to its end: what was there all the time is there once, in order."""
    world = client.world
    kind = client.chance.choice(list(HOMES))
    order = client.chance.choice(["asc", "desc"])
    low, path = None, f"{HOMES[kind]}?limit={client.chance.randrange(1, 9)}&order={order}"
    rows: list[dict[str, Any]] = []
    while True:
        read = _Read(client)
        if not await read.get(path + (f"&after={rows[-1]['id']}" if rows else "")):
            return
        if read.status == 400 and rows:  # the cursor was erased or is not known on this server yet
            return
        low = read.low if low is None else low
        if read.status != 200:
            world.fail(f"{path}: {read.status} {read.body[:300]!r}")
            return
        page = read.json
        if not page:
            break
        rows += page
    start, end = low or 0, world.model.size
    world.check(lambda: _check_pages(client, kind, rows, start, end, path))


def _check_pages(client: Client, kind: str, rows: list[dict[str, Any]], low: int, high: int, path: str) -> None:
    ids = [row["id"] for row in rows]
    must(len(ids) == len(set(ids)), f"{path}: lists one twice: {ids}")
    places = [(row["created_at"], row["id"]) for row in rows]
    must(places == sorted(places, reverse="desc" in path), f"{path}: out of order: {places}")
    resources = client.world.model.resources
    for row in rows:
        resource = resources.get(row["id"])
        statuses = {then.status for then in _between(resource, 0, high)}
        must(row["status"] in statuses, f"{path}: {row['id']} is {row['status']}, it was {statuses}")
    for id, resource in resources.items():
        is_there = resource.kind == kind and resource.born.position <= low
        if is_there and all(then.is_visible for then in resource.between(low, high)):
            must(id in ids, f"{path} from {low} to {high}: leaves out {id}")


async def history(client: Client) -> None:
    """Read the events of one resource: all of them, without a gap."""
    world = client.world
    if not world.ids:
        return
    kind, id = client.target()
    read = _Read(client)
    path = f"{HOMES[kind].replace('messages/batches', 'jobs')}/{id}/events?limit=1000"
    if await read.get(path) and read.status == 200:
        found = [(each["streamversion"], each["position"], each["type"]) for each in read.json]
        known = world.model.resources.get(id)
        events = [(each.version, each.position, each.type) for each in (known.events if known else ())]
        low = sum(1 for _, position, _ in events if position <= read.low)
        if found != events[: len(found)] or len(found) < low:
            world.fail(f"{path}: shows {found} of {events}, at least {low}")


async def feed(client: Client) -> None:
    """Read a part of the log: it goes on without a gap, and says what is there."""
    world = client.world
    after = client.chance.randrange(client.position + 1)
    read = _Read(client)
    path = f"/v1/events?after={after}&limit={client.chance.randrange(1, 50)}"
    if await read.get(path):
        found = [(each["position"], each["type"], each["subject"]) for each in read.json]
        events = world.model.events[after : after + len(found)]
        if found != [(each.position, each.type, each.stream) for each in events]:
            world.fail(f"{path}: shows {found}")
        if not found and after < read.low:
            world.fail(f"{path}: shows nothing, though the log goes on to {read.low}")


async def checkpoint(client: Client) -> None:
    """Ask for a signed checkpoint, and keep it."""
    read = _Read(client)
    if await read.get("/v1/ledger/checkpoint") and read.status == 200:
        note = read.body.decode()
        client.world.checkpoints.append(notes.parse(note))
        if client.world.checkpoints[-1].size < read.low:
            client.world.fail(f"a checkpoint of {client.world.checkpoints[-1].size} events after {read.low}")


async def callback(client: Client) -> None:
    """Ask what became of a callback: as many attempts as there were at some moment."""
    world = client.world
    if not world.ids:
        return
    kind, id = client.target()
    if kind == "batch":
        return
    read = _Read(client)
    if await read.get(f"{HOMES[kind]}/{id}/callback") and read.status == 200:
        resource = world.model.resources.get(id)
        if resource is None or resource.callback_url is None:
            if resource is None or not resource.now.is_erased:
                world.fail(f"a callback of {id}, which asked for none")
            return
        attempts = resource.owed.attempts if resource.owed else 0
        if len(read.json["attempts"]) > attempts:
            world.fail(f"{len(read.json['attempts'])} attempts at the callback of {id}, there were {attempts}")
