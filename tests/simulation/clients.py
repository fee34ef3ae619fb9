"""Clients by chance: what they ask for, of whom, how often, how long they wait, and what they check of an answer."""

from __future__ import annotations

import asyncio
import random
import uuid
from typing import TYPE_CHECKING, Any

from tests.simulation import reads
from tests.simulation.model import Then
from tests.simulation.network import HOSTS
from tests.simulation.operations import (
    Attempt,
    Bulk,
    Cancel,
    Change,
    CreateBatch,
    CreateOne,
    Delete,
    Erase,
    Note,
    Operation,
    Redeliver,
    Refused,
)
from tests.simulation.servers import Server

if TYPE_CHECKING:
    from tests.simulation.world import World

KINDS = ("job", "run", "batch")
STATUSES = {
    "job": ("pending", "running", "completed", "failed", "cancelled", "expired"),
    "run": ("running", "completed", "failed", "cancelled"),
}
NEWEST = 6
"""How many of the newest resources clients mostly quarrel over."""
WRITES = {
    "create": 22, "batch": 4, "change": 26, "cancel": 10, "delete": 3, "erase": 2, "note": 12, "bulk": 6,
    "redeliver": 3, "refused": 5,
}  # fmt: skip
READS = {
    reads.one: 12, reads.as_of: 5, reads.pages: 3, reads.history: 4, reads.feed: 2, reads.checkpoint: 2,
    reads.callback: 2,
}  # fmt: skip


class Client:
    """One client, with chances of its own."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world = world
        self.chance = chance
        self.position = 0
        """The newest position that it was told."""

    async def run(self, operations: int) -> None:
        """Do so many things, one after the other, and some at the same time."""
        for _ in range(operations):
            await self.world.loop.pass_time(self.chance.expovariate(1 / self.world.think_s))
            if self.chance.random() < 0.7:
                await self._write(self._operation())
            else:
                read = self.chance.choices(list(READS), list(READS.values()))[0]
                await read(self)

    # -- writes

    async def _write(self, operation: Operation) -> None:
        """Send an operation, perhaps twice at once; again, where no answer came and a repeat is harmless."""
        copies = 2 if operation.is_repeatable and self.chance.random() < self.world.duplicates else 1
        self.world.counts["duplicated"] += copies - 1
        tries = [self._try(operation) for _ in range(copies)]
        statuses = await asyncio.gather(*tries)
        for _ in range(6):
            if not operation.is_repeatable or any(each not in (None, 500, 503) for each in statuses):
                return
            await self.world.loop.pass_time(self.chance.uniform(0.05, 0.5))
            statuses = [await self._try(operation)]
            self.world.counts["repeated"] += 1

    async def _try(self, operation: Operation) -> int | None:
        if self.chance.random() < self.world.lateness:
            await self.world.loop.pass_time(self.chance.uniform(0.0, 1.0))
        server = self.server()
        if server is None:
            return None
        world = self.world
        request_id = operation.request_id or f"req-{operation.number}.{len(operation.attempts)}"
        attempt = Attempt(request_id, server.process, world.model.size, server.floor)
        operation.attempts.append(attempt)
        world.requests[request_id] = operation
        world.tell(f"> {server.process.name} {request_id} {operation!r}")
        headers = {**operation.headers, "X-Request-Id": request_id, "Content-Type": operation.content_type}
        answer = await self.send(server, operation.method, operation.path, headers, operation.raw)
        attempt.high = world.model.size
        if answer is None:
            world.counts["unanswered"] += 1
            world.tell(f"< {request_id} no answer")
            return None
        attempt.is_over = True
        attempt.status, attempt.headers, attempt.body = answer.status, answer.headers, answer.body
        world.tell(
            f"< {request_id} {answer.status} {answer.headers.get('Ledger-Position')} {answer.headers.get('ETag')}"
        )
        world.check(lambda: operation.answered(world.model, attempt))
        if answer.status // 100 == 2:
            world.counts["answered"] += 1
            self.position = max(self.position, int(answer.headers["Ledger-Position"]))
            server.floor = max(server.floor, self.position)
            if isinstance(operation, Erase):
                world.forget(operation, server)
        else:
            world.counts["refused" if answer.status < 500 else "told to try later"] += 1
        return answer.status

    def server(self) -> Server | None:
        """Return a server that seems to be there."""
        serving = [each for each in self.world.servers if each.is_serving]
        return self.chance.choice(serving) if serving else None

    async def send(self, server: Server, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Any:
        """Send a request over a network that takes its time; return the answer, or None."""
        loop = self.world.loop
        await loop.pass_time(self.chance.uniform(1e-4, 5e-3))
        patience_s = self.chance.uniform(0.001, 0.05) if self.chance.random() < self.world.impatience else 60.0
        sent = {"Authorization": f"Bearer {self.world.token}", **headers}
        answer = await server.send(method, path, sent, body, patience_s)
        if answer is not None:
            self.world.answered(server, method, path, answer)
        await loop.pass_time(self.chance.uniform(1e-4, 5e-3))
        return answer

    def _operation(self) -> Operation:
        what = self.chance.choices(list(WRITES), list(WRITES.values()))[0]
        ids = self.world.ids
        if what not in ("create", "batch", "bulk") and not ids:
            what = "create"
        operation: Operation = getattr(self, f"_{what}")(self.world.number())
        operation.is_repeatable = isinstance(operation, Bulk)
        if operation.method in ("POST", "PATCH") and not operation.is_repeatable and self.chance.random() < 0.7:
            operation.key = f"key-{operation.number}"
            operation.is_repeatable = True
        if isinstance(operation, Change | Cancel | Delete) and self.chance.random() < 0.3:
            resource = self.world.model.resources.get(operation.target or "")
            if resource is not None:
                past: list[Then] = resource.past
                operation.if_match = past[-1].etag if self.chance.random() < 0.7 else self.chance.choice(past).etag
        return operation

    def target(self) -> tuple[str, str]:
        """Return kind and id of a resource, mostly a new one."""
        ids = self.world.ids
        if self.chance.random() < 0.7:
            ids = ids[-NEWEST:]
        return self.chance.choice(ids)

    def _id(self, prefix: str) -> str:
        return f"{prefix}-{uuid.UUID(int=self.chance.getrandbits(128), version=4)}"

    def _word(self) -> str:
        """Return a word that is nowhere else: what holds it can be told, also after an erasure."""
        return f"w{self.chance.getrandbits(64):016x}"

    def _more(self) -> dict[str, Any]:
        more: dict[str, Any] = {"metadata": {"word": self._word(), "source_id": self.chance.choice(["s1", "s2"])}}
        if self.chance.random() < 0.4:
            more["callback_url"] = f"https://{self.chance.choice(HOSTS)}.example.com/{self.chance.randrange(3)}"
        if self.chance.random() < 0.3:
            more["timeout_s"] = self.chance.choice([0.05, 0.5, 2.0, 10.0])
        return more

    def _create(self, number: int) -> Operation:
        kind = self.chance.choice(["job", "run"])
        if self.world.ids and self.chance.random() < 0.05:
            kind, id = self.target()
            kind = "job" if kind == "batch" else kind
        else:
            id = self._id(kind)
            self.world.ids.append((kind, id))
        status = self.chance.choice(["created", "running", "running", *STATUSES[kind]])
        return CreateOne(number, kind, id, status, **self._more())

    def _batch(self, number: int) -> Operation:
        id = self._id("job")
        self.world.ids.append(("batch", id))
        return CreateBatch(number, id, self.chance.randrange(1, 4), **self._more())

    def _change(self, number: int) -> Operation:
        kind, id = self.target()
        kind = "job" if kind == "batch" else kind
        body: dict[str, Any] = {}
        if self.chance.random() < 0.8:
            body["status"] = self.chance.choice(STATUSES[kind])
        if not body or self.chance.random() < 0.3:
            body["metadata"] = {self.chance.choice("abc"): self._word()}
        return Change(number, kind, id, body)

    def _cancel(self, number: int) -> Operation:
        return Cancel(number, *self.target())

    def _delete(self, number: int) -> Operation:
        return Delete(number, *self.target())

    def _erase(self, number: int) -> Operation:
        if self.chance.random() < 0.2:
            id = self.chance.choice([id for source in self.world.sources for id in source.events])
            return Erase(number, id.partition("-")[0], id)
        return Erase(number, *self.target())

    def _redeliver(self, number: int) -> Operation:
        return Redeliver(number, *self.target())

    def _note(self, number: int) -> Operation:
        runs = [id for kind, id in self.world.ids if kind == "run"]
        if not runs:
            return self._create(number)
        many = range(self.chance.randrange(1, 4))
        if self.chance.random() < 0.3:
            steps = [{"id": self._id("step"), "model": self._word(), "total_tokens": 7} for _ in many]
            return Note(number, self.chance.choice(runs[-NEWEST:]), "steps", steps)
        said = [
            {"id": self._id("message"), "message_type": "assistant_message", "content": f"it said {self._word()}"}
            for _ in many
        ]
        return Note(number, self.chance.choice(runs[-NEWEST:]), "messages", said)

    def _refused(self, number: int) -> Operation:
        kind, id = self.target()
        first = {"user_id": self.world.user_id}
        events = [
            {
                "specversion": "1.0",
                "type": f"{kind}.{verb}",
                "subject": id,
                "idempotencykey": f"refused-{number}-{verb}",
                "correlationid": f"req-{number}.bulk",
                "data": data,
            }
            for verb, data in (("updated", {"metadata": {"a": self._word()}}), ("created", first))
        ]
        operation = Refused(number, id, events)
        operation.request_id = f"req-{number}.bulk"
        return operation

    def _bulk(self, number: int) -> Operation:
        id = self._id("job")
        self.world.ids.append(("job", id))
        user = self.world.user_id
        verbs = ["created", "pending", "running", "completed"][: self.chance.randrange(1, 5)]
        first = {"user_id": user, "metadata": {"word": self._word()}, "callback_url": "https://good.example.com/bulk"}
        events = [
            {
                "specversion": "1.0",
                "type": f"job.{verb}",
                "subject": id,
                "idempotencykey": f"bulk-{number}-{verb}",
                "correlationid": f"req-{number}.bulk",
                "data": first if verb == "created" else {},
            }
            for verb in verbs
        ]
        operation = Bulk(number, id, events)
        operation.request_id = f"req-{number}.bulk"
        return operation
