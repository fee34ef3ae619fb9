"""Callbacks under fire: completions to a zoo of receivers while the server is killed again and again.

    python -m tests.end_to_end.under_fire --completions 10000 --kills 10

Producers end jobs, runs and batches whose callbacks go to receivers that answer, fail, stall, drip, reset, redirect or
flood; the server is killed with -9 and started again meanwhile. Then everything owed must be settled by rule, with
nothing lost, and every repeat the same message under the same ``webhook-id``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import socket
import sqlite3
import sys
import tempfile
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
from standardwebhooks.webhooks import Webhook

from ledger import Ledger, state
from projections.file import views_path
from server.callbacks.signing import webhook_id
from tests.cli.commandline import in_a_process
from tests.end_to_end.server_process import serve
from tests.server.callbacks.zoo import read_journal

ROOT = Path(__file__).parents[2]
WAITS_S = (0.3, 0.6, 1.2)
TIMEOUT_S = 1.0
PRODUCERS = 16
SETTLED_S = 600.0
"""Patience with what is owed after the last completion."""
DELIVERED = {"good", "created", "no_content", "huge", "busy", "flaky", "drip_body", "closing_keepalive"}
GIVEN_UP = {
    "fail": "http_status",
    "redirect": "redirect",
    "stall": "timeout",
    "drip": "timeout",
    "reset": "connection_lost",
    "tls": "tls_failed",
    "not_http": "invalid_response",
    "dead": "connection_failed",
}
"""What the last attempt of each must have said when the schedule is over."""
GOOD_SHARE = 0.6


class Order(msgspec.Struct, frozen=True):
    """A completion that is to be made: where its callback goes, and how it ends."""

    id: str
    kind: str
    behaviour: str
    url: str


def orders(count: int, urls: dict[str, str], dead: str, chance: random.Random) -> list[Order]:
    """Return completions for all behaviours, the good ones most; some by the port that they all share."""
    others = [*(DELIVERED - {"good"}), "gone", *GIVEN_UP]
    made = []
    for number in range(count):
        behaviour = "good" if chance.random() < GOOD_SHARE else others[number % len(others)]
        kind = chance.choice(["job", "job", "run"])
        own = dead if behaviour == "dead" else urls[behaviour]
        shared = f"{urls['all']}/{behaviour}"
        url = shared if chance.random() < 0.3 and behaviour not in ("dead", "tls") else own
        id = f"{kind}-{random.Random(number).getrandbits(32):08x}-0000-4000-8000-{number:012x}"
        made.append(Order(id, kind, behaviour, f"{url}/{number}" if chance.random() < 0.5 else url))
    return made


class Fire:
    """One run of the proof. ``say`` gets a line of progress now and then."""

    def __init__(self, folder: Path, count: int, kills: int, seed: int, say=lambda line: None) -> None:
        self.db = folder / "ledger.db"
        self.journal = folder / "arrivals.jsonl"
        self.count, self.kills = count, kills
        self.chance = random.Random(seed)
        self.say = say
        self.url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.token = ""
        self.answered = 0
        self.enough = asyncio.Event()
        self.wanted = 0

    async def run(self) -> dict[str, object]:
        async with zoo(self.journal) as urls, dead_port() as dead:
            made = orders(self.count, urls, dead, self.chance)
            todo = iter(made)
            server = asyncio.create_task(self._serve())
            producers = [asyncio.create_task(self._produce(todo)) for _ in range(PRODUCERS)]
            try:
                await asyncio.gather(*producers)
                self.say(f"{self.answered} completions answered")
                await server
            finally:
                for task in (server, *producers):
                    task.cancel()
                await asyncio.gather(server, *producers, return_exceptions=True)
        return await self._check(made)

    async def _serve(self) -> None:
        """Serve, and kill the server after each further share of answers; at last until nothing is owed."""
        schedule = ",".join(map(str, WAITS_S))
        options = ("--callback-allow", "127.0.0.0/8", "--callback-schedule", schedule)
        share = max(1, self.count // (self.kills + 1))
        for kill in range(self.kills + 1):
            async with serve(self.db, *options, "--callback-timeout", str(TIMEOUT_S)) as server:
                self.token = self.token or server.token
                self.url.set_result(server.url)
                if kill == self.kills:
                    await self._settled()
                    assert await server.stop() == 0
                    return
                self.wanted = self.answered + self.chance.randint(share // 2, share)
                self.enough.clear()
                await self._wait_enough()
                self.url = asyncio.get_running_loop().create_future()
                await server.kill()
                self.say(f"kill {kill + 1} after {self.answered} completions")

    async def _wait_enough(self) -> None:
        if self.answered < min(self.wanted, self.count):
            await self.enough.wait()

    async def _settled(self) -> None:
        """Wait until the views show nothing that is still to come."""
        async with asyncio.timeout(SETTLED_S):
            while self.answered < self.count or (left := owed(self.db)):
                if self.answered >= self.count:
                    self.say(f"{left} owed")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.Event().wait(), 1.0)

    async def _produce(self, todo) -> None:
        async with aiohttp.ClientSession() as session:
            for order in todo:
                while not await self._complete(session, order):
                    pass
                self.answered += 1
                if self.answered >= min(self.wanted, self.count):
                    self.enough.set()

    async def _complete(self, session: aiohttp.ClientSession, order: Order) -> bool:
        """End one resource; repeat safely when the server was killed before it answered."""
        url = await asyncio.shield(self.url)
        body = {"id": order.id, "status": "completed", "callback_url": order.url, "metadata": {"to": order.behaviour}}
        if order.kind == "run":
            body["agent_id"] = "agent-1"
        headers = {"Authorization": f"Bearer {self.token}", "Idempotency-Key": order.id}
        try:
            async with session.post(f"{url}/v1/{order.kind}s/", json=body, headers=headers) as response:
                assert response.status == 201, await response.text()
                return True
        except (aiohttp.ClientError, OSError):
            await asyncio.sleep(0)
            return False

    # -- what must be true afterwards

    async def _check(self, made: list[Order]) -> dict[str, object]:
        async with Ledger.open(self.db, read_only=True) as ledger:
            streams = await ledger.store.streams([order.id for order in made])
        arrivals = {}
        for arrival in read_journal(self.journal):
            if arrival.webhook_id:
                arrivals.setdefault(json.loads(arrival.body)["job_id"], []).append(arrival)
        receiver = Webhook(self.db.with_suffix(".secret").read_text().strip())
        ends, unrecorded, repeats = Counter(), 0, 0
        for order in made:
            events = streams[order.id]
            debt = state.fold(events).debt
            attempts = [json.loads(event.data) for event in events if event.type == "callback.attempted"]
            self._check_debt(order, debt, attempts)
            got = arrivals.pop(order.id, [])
            self._check_arrivals(order, got, webhook_id(order.id, debt.ended_version), receiver)
            ends[order.behaviour, debt.status] += 1
            repeats += max(0, len(got) - 1)
            unrecorded += max(0, len(got) - len(attempts))
        assert not arrivals, f"requests for what nobody ended: {sorted(arrivals)[:5]}"
        assert unrecorded <= self.kills * 600, f"{unrecorded} requests are in no attempt"
        done = await asyncio.to_thread(in_a_process, "verify", "--json", "--views", "--db", self.db)
        assert done.json["problems"] == []
        return {
            "completions": len(made),
            "kills": self.kills,
            "delivered": sum(count for (_, status), count in ends.items() if status == "delivered"),
            "abandoned": sum(count for (_, status), count in ends.items() if status == "abandoned"),
            "lost": 0,
            "repeats": repeats,
            "sent but killed before recorded": unrecorded,
            "ends": {f"{behaviour}: {status}": count for (behaviour, status), count in sorted(ends.items())},
        }

    def _check_debt(self, order: Order, debt, attempts) -> None:
        tries = [attempt for attempt in attempts if attempt.get("error") != "interrupted"]
        last = tries[-1] if tries else {}
        found = (order.behaviour, debt.status, debt.reason, last.get("error"), last.get("status_code"), len(tries))
        assert debt.attempts == len(attempts), found
        if order.behaviour in DELIVERED:
            assert (debt.status, last.get("error")) == ("delivered", None), found
        elif order.behaviour == "gone":
            assert (debt.status, debt.reason, last["status_code"]) == ("abandoned", "gone", 410), found
        else:
            assert (debt.status, debt.reason) == ("abandoned", "exhausted"), found
            assert last["error"] == GIVEN_UP[order.behaviour], found
            assert len(tries) == len(WAITS_S) + 1, found

    def _check_arrivals(self, order: Order, got, expected_id: str, receiver: Webhook) -> None:
        if order.behaviour in ("dead", "tls"):
            assert not got
            return
        assert got, f"{order} was never sent"
        assert {arrival.webhook_id for arrival in got} == {expected_id}
        assert len({arrival.body for arrival in got}) == 1
        assert {arrival.behaviour for arrival in got} == {order.behaviour}
        times = [int(arrival.header("webhook-timestamp")) for arrival in got]
        assert times == sorted(times)
        receiver.verify(got[-1].body, dict(got[-1].headers))


@asynccontextmanager
async def zoo(journal: Path):
    """Run the receivers in a process of their own, which outlives the servers."""
    command = (sys.executable, "-m", "tests.server.callbacks.zoo", "--journal", str(journal))
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        yield json.loads(await process.stdout.readline())
    finally:
        process.terminate()
        await process.communicate()
    assert process.returncode == 0, "a receiver of the zoo failed"


@asynccontextmanager
async def dead_port():
    """The URL of a port that nobody listens on, and that nobody else gets meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/dead"


def owed(db: Path) -> int:
    """How many callbacks are owed or wait for their end, by the views' file."""
    with contextlib.closing(sqlite3.connect(f"{views_path(db).as_uri()}?mode=ro", uri=True)) as connection:
        sql = "SELECT count(*) FROM callbacks WHERE status IS NULL OR status = 'owed'"
        return connection.execute(sql).fetchone()[0]


async def prove(count: int, kills: int, seed: int, say) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="jobledger-fire-") as folder:
        return await Fire(Path(folder), count, kills, seed, say).run()


def main() -> None:
    parser = argparse.ArgumentParser(description="Prove that no callback is lost while servers are killed.")
    parser.add_argument("--completions", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    found = asyncio.run(prove(asked.completions, asked.kills, asked.seed, lambda line: print(line, file=sys.stderr)))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
