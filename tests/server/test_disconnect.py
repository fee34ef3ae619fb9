"""A client that breaks off at any moment of a write leaves nothing open, and its key tells what became of it."""

import asyncio

import msgspec
import pytest

from ledger import ids
from tests.server.raw import connection, post
from tests.server.serving import serving, until

MOMENTS = ["after the head", "in the middle of the body", "right after the body", "before it reads the answer"]


def requests_of(user):
    """What is sent, and the path to ask again; each has a size that lets it break off in the middle."""
    job = ids.make("job")
    return {
        "create": ("/v1/jobs/", {"id": job, "metadata": {"a": "x" * 1000}}),
        "batch": ("/v1/messages/batches", {"id": job, "requests": [{"agent_id": "a", "text": "x" * 1000}] * 5}),
        "events": (
            "/v1/events",
            {"specversion": "1.0", "type": "job.created", "subject": job, "data": {"user_id": user.id}},
        ),
    }


async def break_off(user, moment, path, body, *lines):
    """Send a request up to the moment and drop the connection; tell whether the whole of it was sent."""
    app = user.service.app
    start, raw_body = post(path, user.token, body, *lines)
    async with connection(user.service) as raw:
        before = app.ledger.size
        await raw.send(start)
        if moment == "in the middle of the body":
            await raw.send(raw_body[: len(raw_body) // 2])
        elif moment != "after the head":
            await raw.send(raw_body)
        if moment == "before it reads the answer":
            await app.ledger.wait_beyond(before)
        raw.drop()
    return moment in MOMENTS[2:]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", ["create", "batch"])
async def test_after_a_broken_write_others_are_served_and_the_key_tells_the_outcome(
    user, other, log_lines, name, moment
):
    # given
    path, body = requests_of(user)[name]
    await break_off(user, moment, path, body, "Idempotency-Key: k")
    # when the next writer comes, and the first one asks again
    assert (await other.post("/v1/jobs/", json={})).status == 201
    again = await user.post(path, data=msgspec.json.encode(body), headers={"Idempotency-Key": "k"})
    # then it was done once, whole
    assert again.status == 201, again.body
    shown = await user.get(f"/v1/jobs/{body['id']}")
    assert shown.status == 200
    created = [one for one in await user.log(body["id"]) if one["type"].endswith(".created")]
    assert len(created) == 1
    if name == "batch":
        assert len((await user.get("/v1/runs/")).ids) == 5
    assert b"request.failed" not in log_lines.getvalue()


@pytest.mark.parametrize("moment", MOMENTS[:2])
async def test_a_write_that_did_not_arrive_whole_did_not_happen(user, moment):
    for path, body in requests_of(user).values():
        size = user.service.app.ledger.size
        await break_off(user, moment, path, body)
        assert (await user.get("/v1/jobs/")).json == []
        assert user.service.app.ledger.size == size


async def test_many_clients_that_break_off_leave_room_for_the_next(user):
    bodies = [requests_of(user)["create"] for _ in range(60)]
    whole = await asyncio.gather(
        *(break_off(user, MOMENTS[number % 3], *request) for number, request in enumerate(bodies))
    )
    assert sum(whole) == 20
    assert (await user.post("/v1/jobs/", json={})).status == 201
    assert user.service.app.ledger.writer.waiting == 0


async def test_a_client_that_breaks_off_inside_the_transaction_does_not_hold_it_open(user, other, monkeypatch):
    # given a transaction that waits
    app = user.service.app
    entered, go = asyncio.Event(), asyncio.Event()
    transact = app.ledger.store.transact

    async def slow(*asked):
        entered.set()
        await go.wait()
        return await transact(*asked)

    monkeypatch.setattr(app.ledger.store, "transact", slow)
    path, body = requests_of(user)["create"]
    start, raw_body = post(path, user.token, body, "Idempotency-Key: k")
    async with connection(user.service) as raw:
        await raw.send(start, raw_body)
        await entered.wait()
        # when the client goes while the transaction is under way
        raw.drop()
    next_writer = asyncio.create_task(other.post("/v1/jobs/", json={}))
    await asyncio.sleep(0)
    go.set()
    # then
    assert (await next_writer).status == 201
    again = await user.post(path, data=msgspec.json.encode(body), headers={"Idempotency-Key": "k"})
    assert again.status == 201
    assert len(await user.log(body["id"])) == 1


async def test_a_stop_answers_the_write_that_is_under_way(ledger_file):
    async with serving(ledger_file) as service:
        user = await service.user()
        writes = [asyncio.create_task(user.post("/v1/jobs/", json={})) for _ in range(20)]
        await until(lambda: service.app.ledger.writer.waiting)
        await service.app.ledger.close_writer()
        answers = await asyncio.gather(*writes)
    assert {answer.status for answer in answers} <= {201, 503}
    assert 201 in {answer.status for answer in answers}
    async with serving(ledger_file) as service:
        kept = (await type(user)(service, user.id, user.token).get("/v1/jobs/")).ids
        assert sorted(kept) == sorted(answer.json["id"] for answer in answers if answer.status == 201)
