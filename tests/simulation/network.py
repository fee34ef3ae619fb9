"""The network of callbacks: receivers that answer, fail, are slow or never answer; each request received is kept."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import msgspec

from server.callbacks.sender import Outcome
from tests.simulation.loop import Loop
from tests.simulation.process import PROCESS

TIMEOUT_S = 4.0
"""How long a sender waits for an answer, as a server does."""
HOSTS = ("good", "flaky", "slow", "gone", "dead")
"""How a receiver behaves: the first label of its host name."""


class Request(msgspec.Struct):
    """A callback as its receiver saw it, by whom it was sent, and how long the log was then."""

    sender: Any
    url: str
    webhook_id: str
    body: bytes
    size: int
    outcome: Outcome | None = None
    """What the sender got to know, None where it died before."""


class Network:
    """All receivers. ``size`` tells how long the log is."""

    def __init__(self, loop: Loop, chance: random.Random, size: Any) -> None:
        self._loop = loop
        self._chance = chance
        self._size = size
        self.received: list[Request] = []
        self.lost = 0

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Send a request as ``Sender.post`` does, and return what the sender gets to know of it."""
        began_s = self._loop.time()
        kind = url.partition("://")[2].partition(".")[0]
        await self._loop.pass_time(self._chance.uniform(1e-4, 0.02))
        if self._chance.random() < (0.5 if kind == "dead" else 0.05 * (kind == "flaky")):
            self.lost += 1
            return self._outcome(began_s, None, "connection_failed")
        request = Request(PROCESS.get(), url, headers["webhook-id"], body, self._size())
        self.received.append(request)
        request.outcome = await self._answer(kind, began_s)
        return request.outcome

    async def _answer(self, kind: str, began_s: float) -> Outcome:
        chance = self._chance.random()
        if kind == "dead":
            await self._loop.pass_time(TIMEOUT_S)
            return self._outcome(began_s, None, "timeout")
        if kind == "slow":
            await self._loop.pass_time(self._chance.uniform(0.2, 3.0))
        else:
            await self._loop.pass_time(self._chance.uniform(1e-4, 0.05))
        if kind == "gone" and chance < 0.5:
            return self._outcome(began_s, 410, "gone")
        if kind in {"flaky", "gone"} and chance < 0.6:
            self.lost += 1
            return self._chance.choice(
                [
                    self._outcome(began_s, None, "connection_lost"),
                    self._outcome(began_s, 503, "http_status"),
                    self._outcome(began_s, 429, "http_status", "2"),
                    self._outcome(began_s, 302, "redirect"),
                ]
            )
        return self._outcome(began_s, self._chance.choice([200, 202, 204]), None)

    def _outcome(self, began_s: float, status: int | None, error: Any, retry_after: str | None = None) -> Outcome:
        return Outcome(status, error, int((self._loop.time() - began_s) * 1e9), retry_after)
