"""``GET /v1/events`` as server-sent events: the log from a position, as far as the caller may see it, then live."""

import pytest

from ledger import ids
from server.feed import LogSource
from tests.server.following import SSE, following
from tests.server.serving import serving, until


async def live(service):
    """Wait until every open stream has read what there was."""
    await until(lambda: all(each.is_live for each in service.app.hub._all()))


async def listed(user, query=""):
    """What the list of the same part of the log shows."""
    answer = await user.get(f"/v1/events?limit=1000{query}")
    assert answer.status == 200
    return answer.json


async def follow_to_now(user, query="", *lines):
    """Follow until all that there is has come, then break off; return what came."""
    async with following(user, f"/v1/events?{query}", None, SSE, *lines) as stream:
        assert stream.status == 200, await stream.all_bytes()
        await live(user.service)
        user.service.app.hub.stop()
        user.service.app.hub.is_stopped = False
        await stream.rest()
    assert stream.is_whole
    return stream


async def write_some(user, other):
    """Lives of two users, mixed."""
    mine = [await user.create(status="running")]
    await other.create(status="running")
    mine.append(await user.create("run", status="running"))
    await other.create("batch")
    mine.append(await user.create("batch"))
    await user.patch(f"/v1/jobs/{mine[0]}", json={"status": "completed"})
    return mine


async def test_an_admin_follows_the_whole_log_and_each_event_has_its_position_as_id(admin, user, other):
    await write_some(user, other)
    stream = await follow_to_now(admin)
    assert stream.headers["Content-Type"] == "text/event-stream"
    assert [event.json for event in stream.events] == await listed(admin)
    assert stream.ids == list(range(1, admin.service.app.ledger.size + 1))


async def test_a_user_follows_their_own_rows_and_nothing_else(user, other):
    mine = await write_some(user, other)
    stream = await follow_to_now(user)
    assert [event.json for event in stream.events] == await listed(user)
    assert {event.json["subject"] for event in stream.events} >= set(mine)
    assert {event.json["actor"] for event in stream.events} == {user.id}


async def test_what_is_live_is_what_a_list_would_show_for_each_caller(service, admin, user, other):
    bound = await service.user(id=user.id, project="p")
    start = service.app.ledger.size
    async with (
        following(admin, f"/v1/events?after={start}", None, SSE) as whole,
        following(user, f"/v1/events?after={start}", None, SSE) as own,
        following(bound, f"/v1/events?after={start}", None, SSE) as in_project,
        following(other, f"/v1/events?after={start}", None, SSE) as others,
        following(admin, f"/v1/events?after={start}", None, SSE, f"user_id: {user.id}") as acted,
    ):
        await live(service)
        await write_some(user, other)
        await bound.create(status="running")
        expected = {each.id: await listed(each, f"&after={start}") for each in (admin, user, other)}
        pairs = [(whole, expected[admin.id]), (own, expected[user.id]), (others, expected[other.id])]
        pairs += [(in_project, await listed(bound, f"&after={start}")), (acted, expected[user.id])]
        for stream, events in pairs:
            assert events
            assert [event.json for event in await stream.take(len(events))] == events
        assert len(service.app.hub._feeds) == 4  # who sees the same shares a channel
    assert 0 < len(in_project.events) < len(own.events) < len(whole.events)


@pytest.mark.parametrize(
    "query",
    [
        "types=job.created",
        "types=job.created,run.running&types=batch.running",
        "types=job.expired",
        "subject={job}",
        "subject={job}&types=job.running,job.completed",
        "subject={run}&after={second}",
        "after={second}",
        "after={second}&types=job.running",
        "after=99999",
        "limit=1",
    ],
)
@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_a_stream_shows_the_part_that_a_list_shows(user, other, query, when):
    start = user.service.app.ledger.size
    job, run = ids.make("job"), ids.make("run")
    query = query.format(job=job, run=run, second=start + 2)

    async def write():
        await user.create(id=job, status="running")
        await other.create(status="running")
        await user.create("run", id=run, status="running")
        await user.create("batch")
        await user.patch(f"/v1/jobs/{job}", json={"status": "completed"})

    if when == "before":
        await write()
        stream = await follow_to_now(user, query)
    else:
        async with following(user, f"/v1/events?{query}", None, SSE) as stream:
            await live(user.service)
            await write()
            user.service.app.hub.stop()
            await stream.rest()
    part = "&".join(each for each in query.split("&") if not each.startswith("limit"))
    assert [event.json for event in stream.events] == await listed(user, f"&{part}")


@pytest.mark.parametrize(
    ("query", "last_id", "first"),
    [("", None, 1), ("after=2", None, 3), ("after=2", 4, 5), ("after=4", 2, 3), ("", 0, 1), ("after=3", "", 4)],
)
async def test_last_event_id_wins_over_after(admin, user, other, query, last_id, first):
    await write_some(user, other)
    stream = await follow_to_now(admin, query, *([] if last_id is None else [f"Last-Event-ID: {last_id}"]))
    assert stream.ids == list(range(first, admin.service.app.ledger.size + 1))


@pytest.mark.parametrize("value", ["x", "-1", "1.0", "0x1", "9" * 19])
async def test_a_last_event_id_that_is_none_is_refused(user, value):
    headers = {"Accept": "text/event-stream", "Last-Event-ID": value}
    answer = await user.get("/v1/events", headers=headers)
    assert (answer.status, answer.error["type"]) == (422, "validation_error")
    assert answer.error["details"][0]["where"] == "header Last-Event-ID"


@pytest.mark.parametrize("query", ["types=job.unknown", "subject=x", "after=-1", "unknown=1"])
async def test_a_wrong_part_is_refused_as_in_a_list(user, query):
    answer = await user.get(f"/v1/events?{query}", headers={"Accept": "text/event-stream"})
    assert answer.status == 422
    assert list(user.service.app.hub._channels()) == []


@pytest.mark.parametrize(
    ("accept", "is_stream"),
    [
        ("text/event-stream", True),
        ("text/event-stream, application/json;q=0.5", True),
        ("application/cloudevents-batch+json", False),
        ("*/*", False),
    ],
)
async def test_only_who_asks_for_a_stream_gets_one(user, accept, is_stream):
    async with following(user, "/v1/events", None, f"Accept: {accept}", method="GET") as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream") is is_stream


async def test_head_gets_the_headers_and_nothing_more(user):
    await user.create()
    async with following(user, "/v1/events", None, SSE, "Connection: close", method="HEAD") as stream:
        assert (stream.status, stream.headers["Content-Type"]) == (200, "text/event-stream")
        assert await stream.all_bytes() == b""
    assert user.service.app.hub.subscribers == 0


async def test_a_deleted_resource_is_shown_to_its_owner_no_more_and_to_an_admin_with_its_end(admin, user):
    job = await user.create()
    async with (
        following(user, f"/v1/events?subject={job}", None, SSE) as own,
        following(admin, f"/v1/events?subject={job}", None, SSE) as whole,
    ):
        await live(user.service)
        await user.delete(f"/v1/jobs/{job}")
        assert [event.type for event in await whole.take(2)] == ["job.created", "job.deleted"]
        user.service.app.hub.stop()
        assert [event.type for event in await own.rest()] == ["job.created"]


async def test_a_revoked_token_ends_its_feed_and_its_revocation_is_the_last_that_it_shows(service, admin):
    another = await service.admin()
    async with following(another, "/v1/events?types=access.revoked", None, SSE) as stream:
        await live(service)
        assert (await admin.delete(f"/v1/tokens/{another.token_id}")).status == 200
        await stream.rest()
    assert stream.is_whole
    assert len(stream.events) <= 1


async def test_a_feed_that_shows_nothing_is_kept_open_by_comments(user):
    async with following(user, "/v1/events", None, SSE) as stream:
        await live(user.service)
        for _ in range(2):
            user.service.app.hub.beat()
        assert (await stream.next()).type == "comment"
        job = await user.create()
        assert (await stream.next()).json["subject"] == job


async def test_large_logs_are_read_part_by_part_whoever_sees_how_much_of_them(user, other, monkeypatch):
    monkeypatch.setattr("server.feed.SCAN", 3)
    monkeypatch.setattr("server.streaming.READ_SIZE", 500)
    for _ in range(4):
        await write_some(user, other)
    job = await user.create(status="running", metadata={"a": "x" * 2000})
    for number in range(10):
        await user.patch(f"/v1/jobs/{job}", json={"metadata": {"b": number}})
    for query in ("", "types=job.created,batch.created", f"subject={job}", f"subject={job}&types=job.updated"):
        stream = await follow_to_now(user, query)
        assert [event.json for event in stream.events] == await listed(user, f"&{query}"), query
        after = stream.ids[len(stream.ids) // 2]
        stream = await follow_to_now(user, query, f"Last-Event-ID: {after}")
        assert [event.json for event in stream.events] == await listed(user, f"&{query}&after={after}"), query


@pytest.mark.parametrize("is_of_one", [True, False])
async def test_what_was_read_of_the_log_before_an_erasure_is_not_told_after_it(user, admin, monkeypatch, is_of_one):
    # Given a feed that has read what is erased before it is written
    id = await user.create(metadata={"secret": "w"})
    read = LogSource.read

    async def read_while_it_is_erased(self, *asked):
        part = await read(self, *asked)
        assert b"secret" in part.frames[-1][1]
        monkeypatch.setattr(LogSource, "read", read)
        assert (await admin.post(f"/v1/jobs/{id}/erase", json={"reason": "asked for"})).status == 200
        return part

    monkeypatch.setattr(LogSource, "read", read_while_it_is_erased)
    # When it goes on
    path = f"/v1/events?types=job.created,job.erased{f'&subject={id}' * is_of_one}"
    async with following(admin, path, None, SSE) as feed:
        found = [(await feed.next()).json for _ in range(2)]
    # Then it tells that there was something, and nothing of it
    assert [each["type"] for each in found] == ["job.created", "job.erased"]
    assert "secret" not in str(found[0])


async def test_after_a_stop_a_feed_goes_on_without_a_gap_or_a_repeat(ledger_file):
    seen, after = [], ""
    for _ in range(3):
        async with serving(ledger_file) as service:
            admin = await service.admin()
            async with following(admin, "/v1/events", None, SSE, f"Last-Event-ID: {after}") as stream:
                await admin.create()
                await live(service)
                await admin.create(status="running")
                await service.app.drain(10)
                await stream.rest()
            assert stream.is_whole
            seen += stream.ids
            after = seen[-1]
            size = service.app.ledger.size
    assert seen == list(range(1, size + 1))
