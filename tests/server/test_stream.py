"""``POST /v1/runs/{id}/stream``: what was said, then what is said, then how it ended; once, in order, from any mark."""

import asyncio
import contextlib
import random

import pytest

from ledger import ids
from ledger.errors import StoreFailed
from ledger.ledger import Ledger
from server import hub as hubs
from server import streaming
from server.routes.stream import RunSource
from tests.server.following import Stream, following, said
from tests.server.serving import serving, until

FIRST = 3
"""The seq_id of a run's first message: its creation is 1, its start 2."""
ENDING = ["stop_reason", "usage_statistics", "[DONE]"]


async def run_of(user, messages=0, **facts):
    """A running run in which so much was said."""
    run = await user.create("run", status="running", **facts)
    if messages:
        await say(user, run, *range(1, messages + 1))
    return run


async def say(user, run, *numbers, content=""):
    answer = await user.post(f"/v1/runs/{run}/messages", json=[said(number, content) for number in numbers])
    assert answer.status == 201, answer.body


async def end(user, run, status="completed", **facts):
    assert (await user.patch(f"/v1/runs/{run}", json={"status": status, **facts})).status == 200


def path_of(run):
    return f"/v1/runs/{run}/stream"


def numbers(stream):
    """Which messages came, by the number in their id."""
    return [int(event.json["id"][8:16]) for event in stream.events if event.type == "assistant_message"]


async def broken_off(stream):
    """Read a stream that ends without an end: with a reset, in the middle of an event or of a chunk, or behind one."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, AssertionError):
        await stream.rest()
    assert not stream.is_whole


async def live(service):
    """Wait until every open stream has read what there was."""
    await until(lambda: all(each.is_live for each in service.app.hub._all()))


# --- replay, then live, then the end ----------------------------------------------------------------------------------


async def test_a_stream_replays_what_was_said_goes_on_live_and_ends_with_the_run(user):
    run = await run_of(user, 3)
    async with following(user, path_of(run)) as stream:
        assert [event.json["id"] for event in await stream.take(3)] == [said(number)["id"] for number in (1, 2, 3)]
        await live(user.service)
        await say(user, run, 4)
        assert (await stream.next()).json["id"] == said(4)["id"]
        await say(user, run, 5, 6)
        await end(user, run, stop_reason="max_steps")
        await stream.rest()
    assert (stream.status, stream.headers["Content-Type"]) == (200, "text/event-stream")
    assert stream.headers["Cache-Control"] == "no-cache, no-transform"
    assert stream.headers["X-Request-Id"]
    assert stream.types == ["assistant_message"] * 6 + ENDING
    assert numbers(stream) == [1, 2, 3, 4, 5, 6]
    assert stream.ids == list(range(FIRST, FIRST + 6))
    assert stream.is_whole


@pytest.mark.parametrize("seen", [0, 1, 3])
async def test_a_finished_run_is_replayed_whole_and_ends(user, seen):
    run = await run_of(user, 3)
    await end(user, run)
    async with following(user, path_of(run), {"starting_after": FIRST - 1 + seen}) as stream:
        await stream.rest()
    assert numbers(stream) == [1, 2, 3][seen:]
    assert stream.types[-3:] == ENDING


async def test_the_headers_come_at_once_where_nothing_was_said_yet(user):
    run = await run_of(user)
    async with following(user, path_of(run)) as stream:  # returns once the headers are there
        assert (stream.status, stream.events) == (200, [])
        await live(user.service)
        await say(user, run, 1)
        assert (await stream.next()).id == FIRST


@pytest.mark.parametrize("batch_size", [1, 2, 7, 1000])
async def test_any_batch_size_replays_the_same(user, batch_size):
    run = await run_of(user, 7)
    await end(user, run)
    async with following(user, path_of(run), {"batch_size": batch_size}) as stream:
        await stream.rest()
    assert numbers(stream) == [1, 2, 3, 4, 5, 6, 7]
    assert stream.types[-3:] == ENDING


@pytest.mark.parametrize(
    "type", ["user_message", "tool_return_message", "reasoning_message", "hidden_reasoning_message"]
)
async def test_each_chunk_has_seq_id_and_run_id_and_all_that_the_message_came_with(user, type):
    run = await user.create("run", status="running")
    more = {
        "user_message": {"content": "é 漢 🦉 \u2028"},
        "tool_return_message": {"tool_return": "x", "status": "success", "tool_call_id": "c"},
        "reasoning_message": {"reasoning": "so", "source": "reasoner_model"},
        "hidden_reasoning_message": {"state": "redacted"},
    }[type]
    sent = {"message_type": type, "id": ids.make("message"), "seq_id": None, "run_id": None, "mine": {"x": 1}, **more}
    assert (await user.post(f"/v1/runs/{run}/messages", json=sent)).status == 201
    async with following(user, path_of(run)) as stream:
        event = await stream.next()
    shown = event.json
    assert (event.id, shown["seq_id"], shown["run_id"]) == (FIRST, FIRST, run)
    assert shown == {**sent, "seq_id": FIRST, "run_id": run, "date": shown["date"]}


async def test_steps_and_updates_between_messages_leave_holes_in_seq_id_and_none_in_what_was_said(user):
    run = await run_of(user, 1)
    await user.post(f"/v1/runs/{run}/steps", json={"status": "success"})
    await user.patch(f"/v1/runs/{run}", json={"metadata": {"a": 1}})
    await say(user, run, 2)
    async with following(user, path_of(run)) as stream:
        await stream.take(2)
    assert stream.ids == [FIRST, FIRST + 3]


# --- where it begins --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "line", "expected"),
    [
        (None, "", [1, 2, 3]),
        ({}, "", [1, 2, 3]),
        ({"starting_after": None, "include_pings": None, "batch_size": None, "poll_interval": None}, "", [1, 2, 3]),
        ({"starting_after": 0}, "", [1, 2, 3]),
        ({"starting_after": FIRST}, "", [2, 3]),
        ({"starting_after": FIRST + 2}, "", []),
        ({"starting_after": 10_000}, "", []),
        ({"starting_after": 2**63 - 1}, "", []),
        (None, f"Last-Event-ID: {FIRST}", [2, 3]),
        ({"poll_interval": 0.5, "include_pings": True, "batch_size": 2}, f"Last-Event-ID: {FIRST + 1}", [3]),
        ({"starting_after": FIRST + 1}, f"Last-Event-ID: {FIRST}", [3]),
        (None, "Last-Event-ID:", [1, 2, 3]),
    ],
)
async def test_a_stream_begins_behind_what_the_client_has(user, body, line, expected):
    run = await run_of(user, 3)
    await end(user, run)
    async with following(user, path_of(run), body, *([line] if line else [])) as stream:
        await stream.rest()
    assert numbers(stream) == expected
    assert stream.types[-3:] == ENDING


async def test_who_begins_beyond_the_end_hears_how_the_run_ends(user):
    run = await run_of(user, 1)
    async with following(user, path_of(run), {"starting_after": 1000}) as stream:
        await live(user.service)
        await say(user, run, 2)
        await end(user, run)
        await stream.rest()
    assert stream.types == ENDING


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"starting_after": -1}, "starting_after"),
        ({"starting_after": 2**63}, "starting_after"),
        ({"starting_after": "3"}, "starting_after"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 1001}, "batch_size"),
        ({"poll_interval": -0.1}, "poll_interval"),
        ({"poll_interval": 3601}, "poll_interval"),
        ({"include_pings": "yes"}, "include_pings"),
        ({"unknown": 1}, "unknown"),
    ],
)
async def test_a_wrong_value_is_refused_with_its_name(user, body, where):
    run = await run_of(user)
    answer = await user.post(path_of(run), json=body)
    assert (answer.status, answer.error["type"]) == (422, "validation_error")
    assert where in str(answer.error["details"])
    assert user.service.app.hub.subscribers == 0


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "9" * 19, "1, 2"])
async def test_a_last_event_id_that_is_none_is_refused(user, value):
    run = await run_of(user)
    answer = await user.post(path_of(run), headers={"Last-Event-ID": value})
    assert (answer.status, answer.error["type"]) == (422, "validation_error")


async def test_a_run_that_does_not_exist_for_the_caller_is_not_found(user, other, service):
    run, gone = await run_of(user), await run_of(user)
    await user.delete(f"/v1/runs/{gone}")
    bound = await service.user(project="other project", id=user.id)
    for who, which in ((user, ids.make("run")), (other, run), (user, gone), (bound, run)):
        assert (await who.post(path_of(which))).status == 404
    assert (await user.post(path_of("run-1"))).status == 422
    assert (await user.post(path_of(run), json={"run_id": gone})).status == 400
    assert (await user.get(path_of(run))).status == 405
    assert list(service.app.hub._channels()) == []


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "asked", "expected"),
    [
        ("completed", None, "end_turn"),
        ("failed", None, "error"),
        ("cancelled", None, "cancelled"),
        ("completed", "requires_approval", "requires_approval"),
        ("failed", "llm_api_error", "llm_api_error"),
    ],
)
async def test_the_end_tells_why_and_what_was_used(user, status, asked, expected):
    run = await run_of(user, 1)
    used = {"status": "success", "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    await user.post(f"/v1/runs/{run}/steps", json=used)
    async with following(user, path_of(run)) as stream:
        await live(user.service)
        # a step that is recorded just before the end counts
        await user.post(f"/v1/runs/{run}/steps", json={**used, "cached_input_tokens": 4, "reasoning_tokens": 2})
        await end(user, run, status, **({"stop_reason": asked} if asked else {}))
        _, reason, usage, done = await stream.rest()
    assert reason.json == {"message_type": "stop_reason", "stop_reason": expected}
    assert usage.json == {
        "message_type": "usage_statistics",
        "prompt_tokens": 20,
        "completion_tokens": 10,
        "total_tokens": 30,
        "step_count": 2,
        "cached_input_tokens": 4,
        "cache_write_tokens": None,
        "reasoning_tokens": 2,
        "run_ids": [run],
    }
    assert done.data == b"[DONE]"
    assert {reason.id, usage.id, done.id} == {None}


async def test_a_run_cancelled_through_its_agent_ends_its_stream(user):
    run = await run_of(user, 1)
    async with following(user, path_of(run)) as stream:
        await live(user.service)
        assert (await user.patch(f"/v1/runs/{run}/cancel")).status == 200
        await stream.rest()
    assert [event.json.get("stop_reason") for event in stream.events[-3:-2]] == ["cancelled"]


async def test_a_run_that_is_deleted_ends_its_stream_without_a_word_about_it(user):
    run = await run_of(user, 1)
    async with following(user, path_of(run)) as stream:
        await live(user.service)
        await user.delete(f"/v1/runs/{run}")
        await stream.rest()
    assert stream.types == ["assistant_message", "[DONE]"]
    assert stream.is_whole


async def test_an_end_between_the_look_at_the_run_and_going_live_is_not_missed(user, monkeypatch):
    """The log has the end, the views do not yet: the client reads it, and is told of it while it reads."""
    run = await run_of(user, 1)
    read = RunSource.read

    async def read_while_it_ends(self, *asked):
        await end(user, run)
        part = await read(self, *asked)
        monkeypatch.setattr(RunSource, "read", read)
        return part

    monkeypatch.setattr(RunSource, "read", read_while_it_ends)
    async with following(user, path_of(run)) as stream:
        await stream.rest()
    assert stream.types == ["assistant_message", *ENDING]


async def test_what_is_said_between_a_read_and_going_live_is_not_missed(user, monkeypatch):
    run = await run_of(user, 1)
    read = RunSource.read

    async def read_while_more_is_said(self, *asked):
        part = await read(self, *asked)
        monkeypatch.setattr(RunSource, "read", read)
        await say(user, run, 2)
        return part

    monkeypatch.setattr(RunSource, "read", read_while_more_is_said)
    async with following(user, path_of(run)) as stream:
        await stream.take(2)
        await live(user.service)
        await say(user, run, 3)
        await stream.next()
    assert numbers(stream) == [1, 2, 3]


async def test_what_was_read_of_a_run_before_its_erasure_is_not_said_after_it(user, admin, monkeypatch):
    """Seed 253 of the simulator: a read of the log had what was erased before it was written."""
    run = await run_of(user, 2)
    read = RunSource.read

    async def read_while_it_is_erased(self, *asked):
        part = await read(self, *asked)
        assert len(part.frames) == 2
        monkeypatch.setattr(RunSource, "read", read)
        assert (await admin.post(f"/v1/runs/{run}/erase", json={"reason": "asked for"})).status == 200
        return part

    monkeypatch.setattr(RunSource, "read", read_while_it_is_erased)
    async with following(user, path_of(run)) as stream:
        await stream.rest()
    assert stream.types == ["[DONE]"]


async def test_what_was_read_for_those_who_left_is_not_taken_for_what_there_is_now(user):
    """Nobody announces a run that nobody follows, so that its next follower must read anew."""
    run = await run_of(user, 1)
    for count in (1, 2, 3):
        async with following(user, path_of(run)) as stream:
            await stream.take(count)
            await live(user.service)
        await until(lambda: user.service.app.hub.subscribers == 0 or user.service.app.hub.beat())
        await say(user, run, count + 1)
    async with following(user, path_of(run)) as stream:
        await stream.take(4)
    assert numbers(stream) == [1, 2, 3, 4]


async def test_what_was_read_before_more_was_said_is_not_taken_for_all(user):
    run = await run_of(user, 1)
    async with following(user, path_of(run), {"starting_after": FIRST}) as first:
        await live(user.service)  # it has read that there is nothing more
        await say(user, run, 2)
        await first.next()
        async with following(user, path_of(run), {"starting_after": FIRST}) as second:
            await second.next()
            await live(user.service)
            await end(user, run)
            await second.rest()
    assert numbers(second) == [2]
    assert second.types[-3:] == ENDING


async def test_those_who_fell_behind_together_read_the_log_together(user, monkeypatch):
    monkeypatch.setattr(hubs, "BUFFER_SIZE_MAX", 1_000)
    run = await run_of(user)
    read, reads = user.service.app.ledger.store.stream, []

    async def counted(*asked):
        reads.append(asked)
        return await read(*asked)

    async with contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(following(user, path_of(run))) for _ in range(20)]
        await live(user.service)
        monkeypatch.setattr(user.service.app.ledger.store, "stream", counted)
        await say(user, run, *range(1, 11), content="x" * 1_000)
        for stream in streams:
            await stream.take(10)
            assert numbers(stream) == list(range(1, 11))
    assert len(reads) == 1


async def test_a_fault_in_the_middle_breaks_off_and_never_looks_like_an_end(user, monkeypatch, log_lines):
    run = await run_of(user, 4)
    read = RunSource.read

    async def read_failing(self, *asked):
        if asked[0] >= FIRST + 1:
            raise StoreFailed(reason="disk I/O error")
        return await read(self, *asked)

    monkeypatch.setattr(RunSource, "read", read_failing)
    async with following(user, path_of(run), {"batch_size": 2}) as stream:
        text = b""
        try:
            text = await stream.all_bytes()
        except ConnectionError:
            text = b""
    assert not text.endswith(b"0\r\n\r\n")
    assert b"HTTP/1.1" not in text
    assert b"stream.failed" in log_lines.getvalue()
    assert (await user.get(f"/v1/runs/{run}")).status == 200


# --- who asks, and how ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("include_pings", [True, False, None])
async def test_a_beat_keeps_a_stream_open_and_is_no_chunk_of_it(user, include_pings):
    run = await run_of(user, 1)
    async with following(user, path_of(run), {"include_pings": include_pings}) as stream:
        await stream.next()
        await live(user.service)
        for _ in range(2):
            user.service.app.hub.beat()
        kept_open = await stream.next()
        await say(user, run, 2)
        assert (await stream.next()).id == FIRST + 1
    if include_pings is False:
        assert kept_open.type == "comment"
    else:
        assert kept_open.json.keys() == {"message_type", "id", "date", "run_id"}
        assert (kept_open.type, kept_open.json["run_id"], kept_open.id) == ("ping", run, None)


async def test_http_1_0_gets_a_stream_that_the_connection_ends(user):
    run = await run_of(user, 2)
    async with following(user, path_of(run), version="1.0") as stream:
        await live(user.service)
        await say(user, run, 3)
        await end(user, run)
        await stream.rest()
    assert "Transfer-Encoding" not in stream.headers
    assert stream.headers.get("Connection", "close") == "close"
    assert numbers(stream) == [1, 2, 3]
    assert stream.types[-3:] == ENDING


async def test_a_connection_serves_on_after_a_stream(user):
    run = await run_of(user, 1)
    await end(user, run)
    async with following(user, path_of(run)) as stream:
        await stream.rest()
        stream._writer.write(b"GET /v1/health HTTP/1.1\r\nHost: a\r\n\r\n")
        await stream.open()
        assert stream.status == 200


async def test_a_token_revoked_meanwhile_ends_its_stream_at_once_between_two_events(service, user, admin):
    run = await run_of(user, 1)
    other_token = await service.user(id=user.id)
    async with following(user, path_of(run)) as stream, following(other_token, path_of(run)) as there:
        await live(service)
        assert (await admin.delete(f"/v1/tokens/{user.token_id}")).status == 200
        await stream.rest()
        await say(other_token, run, 2)
        await there.take(2)
    assert stream.types == ["assistant_message"]
    assert stream.is_whole


async def test_a_token_revoked_while_the_client_reads_the_log_ends_its_stream(service, user, admin, monkeypatch):
    run = await run_of(user, 5)
    read = RunSource.read

    async def read_and_revoke(self, *asked):
        part = await read(self, *asked)
        if part.is_all:
            await admin.delete(f"/v1/tokens/{user.token_id}")
        return part

    monkeypatch.setattr(RunSource, "read", read_and_revoke)
    async with following(user, path_of(run), {"batch_size": 2, "starting_after": 0}) as stream:
        await stream.rest()
    assert stream.is_whole
    assert "[DONE]" not in stream.types


async def test_a_token_revoked_before_the_body_arrived_opens_no_stream(service, user, admin):
    run = await run_of(user, 1)
    lines = ("Content-Type: application/json", "Content-Length: 2", "Expect: 100-continue")
    async with following(user, path_of(run), None, *lines) as stream:  # the server waits for the body
        assert stream.status == 100
        await admin.delete(f"/v1/tokens/{user.token_id}")
        stream._writer.write(b"{}")
        await stream.open()
        assert stream.status == 401


async def test_a_token_that_expires_ends_its_stream_at_the_next_beat(service, user, clock):
    brief = await service.user(id=user.id, days=1)
    run = await run_of(user, 1)
    async with following(brief, path_of(run)) as stream:
        await live(service)
        service.app.hub.beat()
        assert service.app.hub.subscribers == 1
        clock.advance(86_400)
        service.app.hub.beat()
        await stream.rest()
    assert stream.is_whole


async def test_beyond_the_limit_of_streams_the_answer_is_503_and_room_comes_back(ledger_file):
    async with serving(ledger_file, streams_max=2) as service:
        user = await service.user()
        run, other_run = await run_of(user), await run_of(user)
        async with following(user, path_of(run)) as first, following(user, path_of(run)):
            answer = await user.post(path_of(other_run))
            assert (answer.status, answer.error["type"]) == (503, "unavailable")
            assert int(answer.headers["Retry-After"]) > 0
            assert len(list(service.app.hub._channels())) == 1
            await live(service)
            await end(user, run)
            await first.rest()
        await until(lambda: service.app.hub.subscribers == 0)
        async with following(user, path_of(other_run)) as stream:
            assert stream.status == 200


# --- a stop -----------------------------------------------------------------------------------------------------------


async def test_a_stop_ends_streams_whole_and_clients_go_on_without_a_gap_or_a_repeat(ledger_file):
    async with serving(ledger_file) as service:
        user = await service.user()
        run = await run_of(user, 2)
        async with following(user, path_of(run)) as stream:
            await live(service)
            await say(user, run, 3)
            await service.app.drain(10)
            await stream.rest()
            assert service.app._under_way == 0
            assert (await user.post(path_of(run))).status == 503
    assert numbers(stream) == [1, 2, 3]
    assert stream.is_whole
    assert stream.headers.get("Connection") != "close"
    async with serving(ledger_file) as service:
        user = type(user)(service, user.id, user.token)
        await say(user, run, 4, 5)
        await end(user, run)
        async with following(user, path_of(run), {"starting_after": stream.ids[-1]}) as resumed:
            await resumed.rest()
    assert numbers(resumed) == [4, 5]
    assert resumed.types[-3:] == ENDING


async def test_a_stop_is_heard_by_a_client_that_reads_the_log(service, user, monkeypatch):
    run = await run_of(user, 3)
    read = RunSource.read

    async def read_and_stop(self, *asked):
        part = await read(self, *asked)
        if part.is_all:
            service.app.hub.stop()
        return part

    monkeypatch.setattr(RunSource, "read", read_and_stop)
    async with following(user, path_of(run)) as stream:
        await stream.rest()
    assert stream.is_whole
    assert "[DONE]" not in stream.types


# --- clients that do not read -----------------------------------------------------------------------------------------


async def test_a_client_that_does_not_read_is_cut_off_and_holds_up_nobody(ledger_file, log_lines):
    async with serving(ledger_file, stream_stall_s=0.3) as service:
        user = await service.user()
        run = await run_of(user)
        async with following(user, path_of(run), receive=4096) as stalled, following(user, path_of(run)) as quick:
            await live(service)
            stalled._writer.transport.pause_reading()
            count = 0
            async with asyncio.timeout(30):
                while service.app.hub.subscribers == 2:
                    count += 1
                    await say(user, run, count, content="x" * 100_000)
                    await quick.next()
                    for each in service.app.hub._all():
                        assert each.transport.get_write_buffer_size() < 2 * hubs.BUFFER_SIZE_MAX
            assert numbers(quick) == list(range(1, count + 1))
            await until(lambda: b'"outcome":"stalled"' in log_lines.getvalue())
            # and it can go on from the last event that it has whole
            stalled._writer.transport.resume_reading()
            await broken_off(stalled)
            seen = numbers(stalled)
            async with following(user, path_of(run), {"starting_after": FIRST - 1 + len(seen)}) as resumed:
                await resumed.take(count - len(seen))
    assert seen + numbers(resumed) == list(range(1, count + 1))


async def test_messages_of_a_mebibyte_are_read_one_by_one_and_shown_whole(user, monkeypatch):
    run = await run_of(user)
    for number in range(1, 5):
        await say(user, run, number, content=str(number) * 1_000_000)
    read, sizes = RunSource.read, []

    async def sized_read(self, *asked):
        part = await read(self, *asked)
        sizes.append(sum(len(data) for _, data in part.frames))
        return part

    monkeypatch.setattr(RunSource, "read", sized_read)
    async with following(user, path_of(run)) as stream:
        await stream.take(4)
        await live(user.service)
        await say(user, run, 5, content="5" * 1_000_000)
        await end(user, run)
        await stream.rest()
    assert [event.json["content"][0] for event in stream.events[:5]] == list("12345")
    assert {len(event.json["content"]) for event in stream.events[:5]} == {1_000_000}
    assert stream.types[-3:] == ENDING
    assert max(sizes) < streaming.READ_SIZE + 1_100_000


# --- other processes --------------------------------------------------------------------------------------------------


async def test_what_another_process_appends_is_shown_without_waiting_for_a_beat(ledger_file, user):
    """This server has no beats at all, so that only the watch of the file can have noticed."""
    run = await run_of(user, 1)
    loop = asyncio.get_running_loop()
    async with following(user, path_of(run)) as stream, Ledger.open(ledger_file) as another:
        await stream.next()
        await live(user.service)
        waits = []
        for number in range(2, 6):
            note, _ = another.run(agent_id="agent-1")._message(said(number))
            await another.record(run, [note])
            began = loop.time()
            assert (await stream.next()).json["id"] == said(number)["id"]
            waits.append(loop.time() - began)
    assert min(waits) < 0.25


# --- any interleaving -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
async def test_everybody_gets_every_message_once_and_in_order_whenever_they_come_and_go(ledger_file, seed, monkeypatch):
    # given small buffers, so that clients fall back to the log and come back all the time
    chance = random.Random(seed)
    monkeypatch.setattr(hubs, "BUFFER_SIZE_MAX", chance.choice([500, 5_000, 256 * 1024]))
    monkeypatch.setattr(hubs, "CHUNKS_SIZE_MAX", chance.choice([0, 2_000, 1_000_000]))
    monkeypatch.setattr(streaming, "PIECE_SIZE", chance.choice([1, 1_000, 64 * 1024]))
    monkeypatch.setattr(streaming, "READ_SIZE", chance.choice([1, 3_000, 256 * 1024]))
    async with serving(ledger_file) as service:
        user = await service.user()
        run = await run_of(user)
        wholes: list[list[int]] = []

        async def client(number):
            """Follow, break off after some events, and go on from the last, until the run is over."""
            mine = random.Random(seed * 1000 + number)
            seen: list[int] = []
            after = 0
            while True:
                body = {"starting_after": after, "batch_size": mine.choice([1, 2, 5, 1000])}
                async with following(user, path_of(run), body, receive=mine.choice([0, 4096])) as stream:
                    await take(stream, mine)
                seen += numbers(stream)
                after = max([after, *stream.ids])
                if "[DONE]" in stream.types:
                    wholes.append(seen)
                    return

        # when they come while messages are appended in batches of any size
        clients, count = [], 0
        for _ in range(25):
            if chance.random() < 0.6:
                clients.append(asyncio.create_task(client(len(clients))))
            batch = range(count + 1, count + chance.choice([1, 1, 3, 20]) + 1)
            await say(user, run, *batch, content="x" * chance.choice([1, 100, 3_000]))
            count = batch[-1]
            for _ in range(chance.randrange(30)):
                await asyncio.sleep(0)
        await end(user, run)
        async with asyncio.timeout(60):
            await asyncio.gather(*clients)
        await until(lambda: service.app.hub.subscribers == 0 or service.app.hub.beat())
    # then
    assert len(wholes) == len(clients) > 5
    for seen in wholes:
        assert seen == list(range(1, count + 1))


async def take(stream: Stream, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 3, 10, 1000])):
        try:
            await stream.next()
        except EOFError:
            assert stream.is_whole
            return
