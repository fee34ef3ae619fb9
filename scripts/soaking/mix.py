"""The load of a soak: what clients of all kinds do, good ones and rude ones, and what they were told."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import aiohttp

from ledger.ids import SYSTEM_USER

KEPT_MAX = 2_000
"""Ids that clients ask for again."""
SLOW_MAX = 20
"""Rude clients at a time."""
WORDS = ("plan", "refuel", "data", "usage", "ledger", "gift", "card", "balance", "agent", "tool", "flight", "name")


class Mix:
    """Clients of one server. ``act`` does one thing; ``created`` holds each id that was answered with 201."""

    def __init__(self, url: str, token: str, callback_url: str, seed: int) -> None:
        self.created: list[str] = []
        self.told: Counter[str] = Counter()
        """How often each thing had each answer."""
        self.session: aiohttp.ClientSession
        """By which good clients ask."""
        self._port = urlsplit(url).port
        self._token = token
        self._callback_url = callback_url
        self._chance = random.Random(seed)
        self._slow: set[asyncio.Task[None]] = set()
        actions: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (20, self._create),
            (14, self._messages),
            (10, self._step),
            (10, self._change),
            (4, self._cancel),
            (20, self._read),
            (10, self._list),
            (4, self._search),
            (2, self._stats),
            (2, self._report),
            (2, self._stream),
            (1, self._bulk),
            (1, self._abort),
        ]
        self._weights = [weight for weight, _ in actions]
        self._actions = [action for _, action in actions]

    async def begin(self, session: aiohttp.ClientSession) -> None:
        """Create what the others ask for."""
        self.session = session
        while len(self.created) < 50:
            await self._create()

    async def act(self) -> None:
        """Do one thing; what goes wrong is counted."""
        (action,) = self._chance.choices(self._actions, self._weights)
        try:
            await action()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self.told[f"{action.__name__} {type(error).__name__}"] += 1

    @property
    def faults(self) -> dict[str, int]:
        """Answers that none of these clients should get."""
        good = ("200", "201", "409", "cut", "left")
        return {name: count for name, count in self.told.items() if not name.endswith(good)}

    async def _ask(self, name: str, method: str, path: str, body: object = None) -> int:
        async with self.session.request(method, path, json=body) as response:
            await response.read()
            self.told[f"{name} {response.status}"] += 1
            return response.status

    def _id(self, kind: str) -> str:
        ids = [each for each in self.created[-KEPT_MAX:] if each.startswith(kind)]
        return self._chance.choice(ids)

    def _text(self) -> str:
        return " ".join(self._chance.choices(WORDS, k=self._chance.randrange(4, 40)))

    async def _create(self) -> None:
        kind = self._chance.choice(["job", "run", "run"])
        id = f"{kind}-{uuid.UUID(int=self._chance.getrandbits(128), version=4)}"
        body: dict[str, object] = {"id": id, "status": "running", "metadata": {"task": self._text()}}
        if kind == "run":
            body["agent_id"] = f"agent-{self._chance.randrange(50)}"
        if self._chance.random() < 0.3:
            body["callback_url"] = self._callback_url
        if await self._ask("create", "POST", f"/v1/{kind}s", body) == 201:
            self.created.append(id)

    async def _messages(self) -> None:
        kind = self._chance.choice(["user_message", "assistant_message"])
        said = [{"message_type": kind, "content": self._text()} for _ in range(self._chance.randrange(1, 4))]
        await self._on_run("messages", said)

    async def _step(self) -> None:
        step = {"model": "gpt-oss-120b", "prompt_tokens": self._chance.randrange(4000), "completion_tokens": 64}
        await self._on_run("steps", step)

    async def _on_run(self, what: str, body: object) -> None:
        await self._ask(what, "POST", f"/v1/runs/{self._id('run')}/{what}", body)

    async def _change(self) -> None:
        kind = self._chance.choice(["job", "run"])
        status = self._chance.choice(["completed", "failed"])
        await self._ask("change", "PATCH", f"/v1/{kind}s/{self._id(kind)}", {"status": status})

    async def _cancel(self) -> None:
        kind = self._chance.choice(["job", "run"])
        await self._ask("cancel", "PATCH", f"/v1/{kind}s/{self._id(kind)}/cancel")

    async def _read(self) -> None:
        kind = self._chance.choice(["job", "run"])
        await self._ask("read", "GET", f"/v1/{kind}s/{self._id(kind)}")

    async def _list(self) -> None:
        path = self._chance.choice(["/v1/runs?limit=50", "/v1/jobs?status=completed", "/v1/runs/active", "/v1/steps"])
        await self._ask("list", "GET", path)

    async def _search(self) -> None:
        await self._ask("search", "GET", f"/v1/search?query={self._chance.choice(WORDS)}&limit=10")

    async def _stats(self) -> None:
        await self._ask("stats", "GET", "/v1/stats")

    async def _report(self) -> None:
        what = self._chance.choice(["report", "trace", "usage", "events"])
        await self._ask("report", "GET", f"/v1/runs/{self._id('run')}/{what}")

    async def _stream(self) -> None:
        async with self.session.post(f"/v1/runs/{self._id('run')}/stream") as response:
            self.told[f"stream {response.status}"] += 1
            for _ in range(self._chance.randrange(1, 5)):  # then it leaves, whether or not the stream is over
                try:
                    async with asyncio.timeout(2):
                        await response.content.readline()
                except TimeoutError:
                    break
            response.close()

    async def _bulk(self) -> None:
        ids = [f"job-{uuid.UUID(int=self._chance.getrandbits(128), version=4)}" for _ in range(20)]
        lines = "".join(
            f'{{"specversion":"1.0","type":"job.created","subject":"{id}","data":{{"user_id":"{SYSTEM_USER}"}}}}\n'
            for id in ids
        )
        headers = {"Content-Type": "application/x-ndjson"}
        async with self.session.post("/v1/events", data=lines, headers=headers) as response:
            await response.read()
            self.told[f"bulk {response.status}"] += 1
            if response.status == 200:
                self.created += ids

    async def _abort(self) -> None:
        """Be rude beside the others: break off, or hang in one of the phases until the server has enough of it."""
        if len(self._slow) < SLOW_MAX:
            task = asyncio.create_task(self._rude(self._chance.randrange(5)))
            self._slow.add(task)
            task.add_done_callback(self._slow.discard)

    async def _rude(self, phase: int) -> None:
        head = f"HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._token}\r\n"
        texts = (
            "",
            f"GET /v1/runs {head[:40]}",
            f"POST /v1/jobs {head}Content-Length: 100\r\n\r\n{{",
            f"GET /v1/runs?limit=1000 {head}\r\n",
            f"POST /v1/jobs {head}Content-Length: 100\r\n\r\n{{",
        )
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1024)
            writer.write(texts[phase].encode())
            if phase == 4:  # broken off in the middle
                writer.transport.abort()
                self.told["rude left"] += 1
                return
            if phase == 3:
                await reader.readexactly(10)
                await asyncio.sleep(5)  # takes no more of it
                writer.transport.abort()
            else:
                await reader.read(-1)  # until the server closes
                writer.close()
        except (OSError, asyncio.IncompleteReadError):
            self.told["rude left"] += 1
        else:
            self.told["rude cut"] += 1

    async def close(self) -> None:
        """Let go of the rude clients that still hang."""
        for task in list(self._slow):
            task.cancel()
        await asyncio.gather(*self._slow, return_exceptions=True)
