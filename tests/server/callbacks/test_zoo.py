"""The zoo as a program: it says where its receivers are, notes what arrives, and stops when told."""

import asyncio
import json
import sys

import aiohttp

from server.callbacks.sender import Sender
from tests.server.callbacks.zoo import read_journal


async def test_a_zoo_of_its_own_writes_what_arrives_into_its_journal(tmp_path):
    journal = tmp_path / "journal"
    command = (sys.executable, "-m", "tests.server.callbacks.zoo", "--journal", str(journal), "--failures", "1")
    program = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        # given
        urls = json.loads(await asyncio.wait_for(program.stdout.readline(), 30))
        sender = Sender(aiohttp.TCPConnector(), lambda _: False)
        # when
        told = [
            (await sender.post(url, {"webhook-id": "msg_1"}, b"\xff{}")).status_code
            for url in (urls["flaky"], f"{urls['all']}/flaky/", f"{urls['all']}/busy", urls["busy"], urls["redirect"])
        ]
        await sender.close()
        # then
        assert told == [500, 200, 429, 200, 302]
        arrivals = read_journal(journal)
        assert [arrival.behaviour for arrival in arrivals] == ["flaky", "flaky", "busy", "busy", "redirect"]
        assert {(arrival.webhook_id, arrival.body) for arrival in arrivals} == {("msg_1", b"\xff{}")}
        assert arrivals == sorted(arrivals, key=lambda arrival: arrival.time_s)
    finally:
        program.terminate()
        code = await program.wait()
    assert code == 0
