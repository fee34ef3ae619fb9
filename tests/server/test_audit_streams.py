"""The lines of clients that leave, and of streams: one at the end, which says how it ended."""

import pytest

from tests.server.following import SSE, following, said
from tests.server.raw import connection, post
from tests.server.request_lines import lines_of
from tests.server.serving import until


async def test_a_client_that_leaves_in_the_middle_of_a_body_has_a_line(user, log_lines):
    start, raw_body = post("/v1/jobs", user.token, {"metadata": {"a": "x" * 1000}})
    async with connection(user.service) as raw:
        await raw.send(start, raw_body[:500])
        raw.drop()
        await until(lambda: lines_of(log_lines))
    (line,) = lines_of(log_lines)
    told = [line[name] for name in ("status", "outcome", "user", "route", "resource")]
    assert told == [None, "disconnected", user.id, "/v1/jobs", ""]


async def of_stream(log_lines, pattern):
    """The line of the one stream, once there is one."""

    def found():
        return [line for line in lines_of(log_lines) if line["route"] == pattern and "events_sent" in line]

    await until(found)
    (line,) = found()
    return line


STREAM = "/v1/runs/{run_id}/stream"


async def run_with(user, messages):
    run = await user.create("run", status="running")
    for number in range(messages):
        assert (await user.post(f"/v1/runs/{run}/messages", json=said(number))).status == 201
    return run


async def test_a_stream_that_came_to_its_end_tells_how_many_events_it_sent(user, log_lines):
    run = await run_with(user, 3)
    async with following(user, f"/v1/runs/{run}/stream", {}) as stream:
        await stream.take(3)
        assert (await user.post(f"/v1/runs/{run}/messages", json=said(3))).status == 201
        assert (await user.patch(f"/v1/runs/{run}", json={"status": "completed"})).status == 200
        await stream.rest()
    line = await of_stream(log_lines, STREAM)
    told = [line[name] for name in ("status", "outcome", "events_sent", "resource", "user", "token")]
    assert told == [200, "ok", 4, run, user.id, user.token_id]


@pytest.mark.parametrize("when", ["something comes", "it is looked after"])
async def test_a_stream_that_the_client_left_is_told_as_that(user, log_lines, when):
    run = await run_with(user, 2)
    async with following(user, f"/v1/runs/{run}/stream", {}) as stream:
        await stream.take(2)
        await until(lambda: all(each.is_live for each in user.service.app.hub._all()))
    await until(lambda: all(each.transport.is_closing() for each in user.service.app.hub._all()))
    if when == "something comes":
        assert (await user.post(f"/v1/runs/{run}/messages", json=said(2))).status == 201
    else:
        user.service.app.hub.beat()
    line = await of_stream(log_lines, STREAM)
    assert (line["status"], line["outcome"], line["events_sent"]) == (200, "disconnected", 2)


@pytest.mark.parametrize(
    ("why", "outcome"), [("revoked", "unauthorized"), ("stop", "stopped"), ("fault", "internal_error")]
)
async def test_a_stream_that_was_ended_tells_why(user, admin, log_lines, monkeypatch, why, outcome):
    start = user.service.app.ledger.size
    async with following(user, f"/v1/events?after={start}", None, SSE) as stream:
        await user.create()
        await stream.next()
        if why == "revoked":
            assert (await admin.delete(f"/v1/tokens/{user.token_id}")).status == 200
        elif why == "stop":
            user.service.app.hub.stop()
        else:
            monkeypatch.setattr(user.service.app.hub, "_announce", lambda batch: 1 / 0)
            await user.create()
        await stream.rest()
    line = await of_stream(log_lines, "/v1/events")
    assert (line["outcome"], line["events_sent"]) == (outcome, 1)
    assert (line["resource"], line["user"]) == (f"owner:{user.id}", user.id)
