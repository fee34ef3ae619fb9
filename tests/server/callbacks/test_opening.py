"""What a server puts together: callbacks that are guarded, signed and recorded, over real connections on loopback."""

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from aiohttp.abc import AbstractResolver
from prometheus_client import CollectorRegistry
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from server.callbacks.addresses import Rules
from server.callbacks.opening import open_dispatcher
from server.callbacks.schedule import Schedule
from server.callbacks.secret import VARIABLE
from tests.scratch import scratch
from tests.server.callbacks.signed import secret
from tests.server.serving import serving

PUBLIC = "93.184.216.34"
"""What a name may stand for when somebody looks first; nothing is ever sent there."""


class Names(AbstractResolver):
    """A resolver that gives answers in turn, the last one for ever, and asks nobody."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def resolve(self, host, port=0, family=socket.AF_INET):
        self.asked.append(host)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            {"hostname": host, "host": each, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
            for each in found
        ]

    async def close(self):
        """Nothing to close."""


@asynccontextmanager
async def dispatching(resolver=None, allow=(), **config):
    """A server whose dispatcher beats when it is told to."""
    rules = Rules.parse(allow)
    with scratch() as folder:
        async with serving(
            folder / "ledger.db", callback_rules=rules, callback_schedule=Schedule(()), **config
        ) as service:
            app = service.app
            dispatcher = await open_dispatcher(
                app.config, app.ledger, app.engine, app.views, CollectorRegistry(), resolver
            )
            try:
                yield service, dispatcher
            finally:
                await dispatcher.close(0.0)


async def called_back(service, dispatcher, url):
    """End a job with a callback, beat once, and return the job as it is then shown."""
    user = await service.user()
    id = await user.create("job", status="completed", callback_url=url)
    await dispatcher.beat()
    while dispatcher._tasks:
        await asyncio.wait(dispatcher._tasks)
    return (await user.get(f"/v1/jobs/{id}")).json


async def test_a_name_that_is_public_when_it_is_looked_at_and_loopback_when_it_is_connected_to_is_refused(zoo):
    names = Names([PUBLIC], ["127.0.0.1"])
    port = zoo.urls["good"].rpartition(":")[2].partition("/")[0]
    async with dispatching(names) as (service, dispatcher):
        assert (await names.resolve("rebinds.example"))[0]["host"] == PUBLIC
        job = await called_back(service, dispatcher, f"http://rebinds.example:{port}/good")
    assert (job["callback_error"], job["callback_status_code"]) == ("address_refused", None)
    assert names.asked == ["rebinds.example"] * 2
    assert zoo.connections["good"] == 0


async def test_a_name_with_one_answer_that_is_not_public_is_refused_for_all_of_them(zoo):
    async with dispatching(Names([PUBLIC, "127.0.0.1"])) as (service, dispatcher):
        job = await called_back(service, dispatcher, f"http://mixed.example:{zoo.urls['good'].rpartition(':')[2]}")
    assert job["callback_error"] == "address_refused"
    assert zoo.connections["good"] == 0


async def test_a_name_without_an_address_is_not_resolved(zoo):
    async with dispatching(Names([])) as (service, dispatcher):
        job = await called_back(service, dispatcher, "https://nobody.example/hook")
    assert job["callback_error"] == "name_not_resolved"


async def test_what_is_allowed_is_sent_to_once_the_name_stands_for_it(zoo):
    port = zoo.urls["good"].rpartition(":")[2].partition("/")[0]
    async with dispatching(Names(["127.0.0.1"]), [f"127.0.0.0/8:{port}"]) as (service, dispatcher):
        job = await called_back(service, dispatcher, f"http://mine.example:{port}/good")
        assert (job["callback_error"], job["callback_status_code"]) == (None, 200)
        (arrival,) = zoo.arrived("good")
        assert arrival.header("Host") == f"mine.example:{port}"
        assert json.loads(arrival.body)["job_id"] == job["id"]


@pytest.mark.parametrize("number", [1, 2])
async def test_while_secrets_rotate_receivers_check_with_either(zoo, monkeypatch, number):
    monkeypatch.setenv(VARIABLE, f"{secret(1)},{secret(2)}")
    async with dispatching(allow=["127.0.0.0/8"]) as (service, dispatcher):
        await called_back(service, dispatcher, zoo.urls["good"])
    (arrival,) = zoo.arrived("good")
    # The server of a test has a clock of its own, so that the time is not now.
    receiver = Webhook(secret(number))
    with pytest.raises(WebhookVerificationError, match=r"too old|too new"):
        receiver.verify(arrival.body, dict(arrival.headers))
    monkeypatch.setattr(receiver, "_Webhook__verify_timestamp", _taken)
    assert receiver.verify(arrival.body, dict(arrival.headers))["status"] == "completed"
    stranger = Webhook(secret(3))
    monkeypatch.setattr(stranger, "_Webhook__verify_timestamp", _taken)
    with pytest.raises(WebhookVerificationError, match="No matching"):
        stranger.verify(arrival.body, dict(arrival.headers))


def _taken(header):
    """The time of a message, however old."""
    return datetime.fromtimestamp(int(header), UTC)
