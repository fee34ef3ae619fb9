"""``kill -9`` of a server under concurrent writes: what was answered is there afterwards, all else whole or not."""

import asyncio
import contextlib
import random
import sqlite3

import aiohttp
import pytest

from ledger import ids
from tests.cli.commandline import in_a_process
from tests.end_to_end.server_process import client, serve

CLIENTS = 12
LIVES = {"job": ["created", "pending", "running", "completed"], "run": ["created", "running", "failed"]}


class Diary:
    """What clients sent, and what they were told: the last answered status and version of each resource."""

    def __init__(self):
        self.sent = {}
        self.answered = {}
        self.answers = 0
        self.enough = asyncio.Event()
        self.wanted = 0

    def note(self, id, status, response):
        self.answered[id] = (status, int(response.headers["ETag"].strip('"')), int(response.headers["Ledger-Position"]))
        self.answers += 1
        if self.answers >= self.wanted:
            self.enough.set()


async def write(session, chance, diary):
    """Lead one resource after the other through its life, or create it at its end at once, until nobody answers."""
    while True:
        kind = chance.choice(["job", "run"])
        id, path = ids.make(kind), f"/v1/{kind}s/"
        body = {"id": id, "metadata": {"n": chance.random()}, **({"agent_id": "agent-1"} if kind == "run" else {})}
        life = LIVES[kind]
        if chance.random() < 0.5:
            body["status"] = life[-1]
            life = life[-1:]
        diary.sent[id] = body
        async with session.post(path, json=body) as response:
            assert response.status == 201, await response.text()
            diary.note(id, life[0], response)
        for status in life[1:]:
            diary.sent[id] = {**body, "asked": status}
            async with session.patch(f"{path}{id}", json={"status": status}) as response:
                assert response.status == 200, await response.text()
                diary.note(id, status, response)


async def die_under_load(db, token, chance, diary, wanted):
    """Serve, write from many clients, and kill the server once so many more writes are answered."""
    async with serve(db) as server, client(server, token or server.token) as session:
        diary.enough.clear()
        diary.wanted = diary.answers + wanted
        writers = [asyncio.create_task(write(session, chance, diary)) for _ in range(CLIENTS)]
        async with asyncio.timeout(60):
            await diary.enough.wait()
        await server.kill()
        ends = await asyncio.gather(*writers, return_exceptions=True)
        assert all(isinstance(end, aiohttp.ClientError | ConnectionError) for end in ends), ends
        return token or server.token


@pytest.mark.parametrize("seed", [21, 22])
async def test_what_was_answered_before_a_kill_is_there_after_it(seed, tmp_path):
    chance, db, diary, token = random.Random(seed), tmp_path / "ledger.db", Diary(), None
    for _ in range(2):
        token = await die_under_load(db, token, chance, diary, wanted=chance.randrange(50, 400))
    async with serve(db) as server, client(server, token) as session:
        for id, (status, version, _) in diary.answered.items():
            async with session.get(f"/v1/{id[:3]}s/{id}") as response:
                found = await response.json()
                assert response.status == 200, f"{id} was answered as {status}, and is gone"
            assert found["metadata"] == diary.sent[id]["metadata"]
            one_more = found["status"] != status  # a step that was recorded, and whose answer the kill cut off
            assert not one_more or found["status"] == diary.sent[id].get("asked")
            assert response.headers["ETag"] == f'"{version + one_more}"'
    assert len(diary.answered) > 20
    check_log(db, diary)
    done = await asyncio.to_thread(in_a_process, "verify", "--json", "--views", "--db", db)
    assert done.json["problems"] == []


def check_log(db, diary):
    """Nothing is there that nobody sent; an answer named a position that held its write; an append is whole."""
    with contextlib.closing(sqlite3.connect(f"{db.as_uri()}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT stream, type, position FROM events WHERE type NOT LIKE 'access%'").fetchall()
    lives = {}
    for stream, type, position in rows:
        lives.setdefault(stream, []).append((type.partition(".")[2], position))
    assert lives.keys() <= diary.sent.keys()
    assert lives.keys() >= diary.answered.keys()
    for id, life in lives.items():
        if "status" in diary.sent[id]:
            assert [status for status, _ in life] == LIVES[id[:3]]
        if id in diary.answered:
            status, _, position = diary.answered[id]
            assert dict(life)[status] <= position
