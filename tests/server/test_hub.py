"""The hub without a network: who is written what, when, and who is let go."""

import random

import msgspec
import pytest

from ledger import ids
from ledger.events import Recorded
from server import hub as hubs
from server import sse
from server.hub import Hub, Subscriber

RUN, OTHER = ids.make("run"), ids.make("run")
START_US = 1_795_305_600_000_000


class Transport:
    """A connection whose client takes nothing until told; ``wire`` is all that was ever written to it."""

    def __init__(self):
        self.wire = b""
        self.taken = 0
        self.is_gone = False

    def write(self, data):
        if self.is_gone:  # as uvloop does, and asyncio does not
            raise RuntimeError("unable to perform operation; the handler is closed")
        self.wire += data

    def get_write_buffer_size(self):
        return len(self.wire) - self.taken

    def is_closing(self):
        return self.is_gone

    def take(self):
        self.taken = len(self.wire)


class Follower:
    """A client of the hub, its connection, and whether its token is in force."""

    def __init__(self, hub, channel, *, mark=0, is_live=True, is_chunked=False, pings=False):
        self.hub, self.channel = hub, channel
        self.transport = Transport()
        self.is_allowed = True
        self.subscriber = Subscriber(
            self.transport, mark, is_chunked=is_chunked, pings=pings, is_allowed=lambda: self.is_allowed
        )
        self.subscriber.is_live = is_live
        hub.join(channel, self.subscriber)

    @property
    def seen(self):
        """The marks of the events it was written, in order."""
        return [int(line[4:]) for line in self.transport.wire.split(b"\n") if line.startswith(b"id: ")]

    def beat(self):
        self.hub.beat()
        wire, self.transport.wire = self.transport.wire, b""
        self.transport.taken = 0
        return wire


@pytest.fixture
def hub():
    return Hub(0)


@pytest.fixture
def run(hub):
    return hub.run(RUN)


def recorded(position, version, type="run.message", stream=RUN, **message):
    said = {"message_type": "assistant_message", "id": f"message-{version}", "content": "hi", **message}
    data = {"message": said} if type == "run.message" else {}
    raw = msgspec.json.encode(data)
    return Recorded(position, stream, version, type, 1, START_US, START_US, "user-1", None, None, raw, b"")


def messages(first, last, stream=RUN, **message):
    """Messages whose version is their position."""
    return [recorded(number, number, stream=stream, **message) for number in range(first, last + 1)]


def payloads(wire):
    """The bodies of the chunks of HTTP/1.1."""
    found = []
    while wire:
        size, _, wire = wire.partition(b"\r\n")
        found.append(wire[: int(size, 16)])
        assert wire[int(size, 16) :][:2] == b"\r\n"
        wire = wire[int(size, 16) + 2 :]
    return found


# --- announcing -------------------------------------------------------------------------------------------------------


def test_a_live_client_is_written_each_event_once_and_in_order(hub, run):
    clients = [Follower(hub, run), Follower(hub, run)]
    hub.applied(messages(1, 3))
    hub.applied(messages(4, 4))
    for client in clients:
        assert client.seen == [1, 2, 3, 4]
        assert client.subscriber.mark == 4


def test_events_announced_again_are_passed_over(hub, run):
    client = Follower(hub, run)
    hub.applied(messages(1, 3))
    hub.applied(messages(2, 3))
    hub.applied(messages(2, 5))
    assert client.seen == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("mark", "expected"), [(0, [1, 2, 3, 4]), (2, [3, 4]), (3, [4]), (4, []), (9, [])])
def test_a_client_is_written_only_what_is_above_its_mark(hub, run, mark, expected):
    client = Follower(hub, run, mark=mark)
    hub.applied(messages(1, 4))
    assert client.seen == expected
    assert client.subscriber.mark == max(mark, 4)


def test_a_message_that_another_server_erased_is_not_said_from_memory(hub):
    (message,) = messages(1, 1)
    assert hub.frames([message])
    assert hub.frames([msgspec.structs.replace(message, data=None)]) == []


def test_a_client_that_is_reading_is_not_written_to_and_learns_from_the_channel_that_it_is_behind(hub, run):
    client = Follower(hub, run, mark=1, is_live=False)
    hub.applied(messages(1, 4))
    assert client.transport.wire == b""
    assert (client.subscriber.mark, run.mark) == (1, 4)
    client.subscriber.mark, client.subscriber.is_live = 4, True
    hub.applied(messages(5, 5))
    assert client.seen == [5]


def test_other_runs_and_events_that_are_no_messages_are_not_written_and_move_the_mark(hub, run):
    client = Follower(hub, run)
    hub.applied([recorded(1, 1, "run.created"), recorded(2, 1, stream=OTHER), recorded(3, 2, "run.step")])
    assert client.transport.wire == b""
    assert client.subscriber.mark == 2
    hub.applied([recorded(4, 9, stream=OTHER)])
    assert client.subscriber.mark == 2


def test_an_announcement_goes_out_as_one_chunk_of_http_1_1(hub, run):
    chunked, plain = Follower(hub, run, mark=1, is_chunked=True), Follower(hub, run, mark=1)
    hub.applied(messages(1, 3))  # part of it
    hub.applied(messages(4, 5))  # all of it
    hub.applied([recorded(6, 6, "run.step")])  # nothing; an empty chunk would be the end of the body
    first, second = payloads(chunked.transport.wire)
    assert first + second == plain.transport.wire
    assert plain.seen == [2, 3, 4, 5]


def test_a_chunk_has_the_place_and_the_run_of_the_event_and_keeps_all_else(hub, run):
    client = Follower(hub, run)
    hub.applied([recorded(1, 7, seq_id=None, run_id=None, date=None, custom={"a": [1]})])
    hub.applied([recorded(2, 8, seq_id=99, run_id="run-x", date="2020-01-01T00:00:00Z")])
    first, second = (msgspec.json.decode(line[6:]) for line in client.transport.wire.split(b"\n") if line[:1] == b"d")
    assert (first["seq_id"], first["run_id"], first["custom"]) == (7, RUN, {"a": [1]})
    assert first["date"] == "2026-11-22T00:00:00.000000Z"
    assert (second["seq_id"], second["run_id"], second["date"]) == (8, RUN, "2020-01-01T00:00:00Z")


def test_a_fault_in_announcing_ends_the_streams_and_not_who_announces(hub, run):
    """The engine of the views calls ``applied``; it must never die of a stream."""
    client = Follower(hub, run)
    hub.applied([msgspec.structs.replace(recorded(1, 1), data=b"no JSON")])
    assert client.subscriber.is_ended
    assert hub.position == 1


def test_rendered_messages_are_kept_within_a_bound(hub, run, monkeypatch):
    monkeypatch.setattr(hubs, "CHUNKS_SIZE_MAX", 10_000)
    for number in range(1, 50):
        hub.frames([recorded(number, number, content="x" * 1000)])
    assert 8_000 < hub._chunks_size <= 10_000
    assert sum(map(len, hub._chunks.values())) == hub._chunks_size
    assert list(hub._chunks)[-1] == 49


# --- clients that take nothing, or are gone ---------------------------------------------------------------------------


def test_a_client_whose_buffer_is_full_is_let_go_with_its_mark_and_without_more_bytes(hub, run):
    stalled, quick = Follower(hub, run), Follower(hub, run)
    number = 0
    while stalled.subscriber.is_live:
        number += 1
        hub.applied([recorded(number, number, content="x" * 10_000)])
        quick.transport.take()
    assert number > 20
    assert stalled.seen == list(range(1, number))
    assert stalled.subscriber.mark == number - 1
    assert stalled.subscriber.wake.is_set()
    assert not stalled.subscriber.is_ended
    assert stalled.transport.get_write_buffer_size() <= hubs.BUFFER_SIZE_MAX
    hub.applied(messages(number + 1, number + 1))
    assert stalled.seen == list(range(1, number))
    assert quick.seen == list(range(1, number + 2))
    assert quick.subscriber.is_live


def test_a_batch_larger_than_the_buffer_is_left_to_the_client_to_read(hub, run):
    client = Follower(hub, run)
    hub.applied(messages(1, 30, content="x" * 10_000))
    assert client.transport.wire == b""
    assert (client.subscriber.is_live, client.subscriber.mark, run.mark) == (False, 0, 30)


@pytest.mark.parametrize("hears", ["an announcement", "a beat"])
def test_a_client_that_is_gone_is_ended_and_nothing_is_written_to_it(hub, run, hears):
    """uvloop raises when a closed connection is written to: others, and the views, must not feel it."""
    gone, there = Follower(hub, run), Follower(hub, run)
    gone.transport.is_gone = True
    hub.applied(messages(1, 1)) if hears == "an announcement" else hub.beat()
    assert gone.subscriber.is_ended
    assert gone.subscriber.wake.is_set()
    hub.applied(messages(2, 2))
    assert there.seen[-1] == 2


# --- the beat ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pings", "has_type"), [(True, True), (False, False)])
def test_a_beat_pings_a_client_that_heard_nothing_since_the_last_one(hub, run, pings, has_type):
    client = Follower(hub, run, pings=pings)
    assert client.beat() == b""  # it has just come
    ping = client.beat()
    if has_type:
        message = msgspec.json.decode(ping.removeprefix(b"data: "))
        assert (message["message_type"], message["run_id"]) == ("ping", RUN)
    else:
        assert ping == sse.COMMENT
    assert b"id:" not in ping  # what goes on behind a ping goes on behind the event before it
    hub.applied(messages(1, 1))
    assert client.beat().startswith(b"id: 1\n")
    assert client.beat() != b""


def test_a_client_that_has_not_taken_the_last_ping_gets_no_other(hub, run):
    client = Follower(hub, run)
    for _ in range(5):
        hub.beat()
    assert client.transport.wire == sse.COMMENT


@pytest.mark.parametrize(("takes", "stays"), [("nothing", False), ("a byte", True), ("all", True)])
def test_between_two_beats_a_live_client_must_take_something_of_what_waits(hub, run, takes, stays):
    client = Follower(hub, run)
    hub.applied(messages(1, 3))
    hub.beat()
    assert client.subscriber.is_live
    client.transport.taken += {"nothing": 0, "a byte": 1, "all": len(client.transport.wire)}[takes]
    hub.beat()
    assert client.subscriber.is_live is stays
    assert client.subscriber.wake.is_set() is not stays


def test_a_client_that_reads_the_log_for_long_is_kept_open_too(hub, run):
    client = Follower(hub, run, is_live=False)
    client.beat()
    assert client.beat() == sse.COMMENT


def test_nothing_follows_the_end_of_a_stream(hub, run):
    client = Follower(hub, run)
    client.subscriber.end()
    for _ in range(3):
        hub.beat()
    hub.applied(messages(1, 1))
    assert client.transport.wire == b""


# --- the end ----------------------------------------------------------------------------------------------------------


def test_a_beat_ends_the_stream_of_a_token_that_expired(hub, run):
    client, there = Follower(hub, run), Follower(hub, run)
    client.is_allowed = False
    hub.beat()
    assert (client.subscriber.is_ended, there.subscriber.is_ended) == (True, False)


@pytest.mark.parametrize("is_live", [True, False])
def test_a_revoked_token_ends_its_streams_at_once(hub, run, is_live):
    client, there = Follower(hub, run, is_live=is_live), Follower(hub, run)
    client.is_allowed = False
    hub.applied(messages(1, 1))
    assert not client.subscriber.is_ended  # only news of access leads to a look
    hub.applied([recorded(2, 2, "access.revoked", stream=ids.make("token"))])
    assert (client.subscriber.is_ended, there.subscriber.is_ended) == (True, False)


@pytest.mark.parametrize("type", ["run.completed", "run.failed", "run.cancelled", "run.deleted", "run.erased"])
@pytest.mark.parametrize("is_live", [True, False])
def test_an_end_wakes_every_client_after_what_came_before_it(hub, run, type, is_live):
    client = Follower(hub, run, is_live=is_live)
    hub.applied([recorded(1, 1), recorded(2, 2, type)])
    assert client.seen == ([1] if is_live else [])
    assert run.is_over
    assert (client.subscriber.is_live, client.subscriber.wake.is_set()) == (False, True)
    assert not client.subscriber.is_ended


def test_what_is_no_end_wakes_nobody(hub, run):
    client = Follower(hub, run)
    for number, type in enumerate(["run.created", "run.running", "run.updated", "run.refused", "run.step"], 1):
        hub.applied([recorded(number, number, type)])
    hub.applied([recorded(9, 9, "run.completed", stream=OTHER)])
    assert not run.is_over
    assert client.subscriber.is_live


def test_a_stop_ends_all_streams_and_is_remembered(hub, run):
    feed = hub.feed("all", lambda event: True, lambda event: b"x")
    clients = [Follower(hub, run), Follower(hub, hub.run(OTHER), is_live=False), Follower(hub, feed)]
    hub.stop()
    assert hub.is_stopped
    assert all(client.subscriber.is_ended and client.subscriber.wake.is_set() for client in clients)


def test_the_last_client_closes_its_channel(hub, run):
    first, second = Follower(hub, run), Follower(hub, run)
    assert hub.subscribers == 2
    hub.leave(run, first.subscriber)
    hub.leave(run, first.subscriber)
    assert hub.subscribers == 1
    assert hub.run(RUN) is run
    hub.leave(run, second.subscriber)
    assert hub.subscribers == 0
    new = hub.run(RUN)
    assert new is not run
    hub.leave(run, second.subscriber)  # late: the new channel is another
    assert hub.run(RUN) is new


def test_a_channel_that_nobody_joined_is_closed_too(hub, run):
    hub.leave(run, Subscriber(Transport(), 0, is_chunked=True, is_allowed=lambda: True))
    assert (hub.subscribers, list(hub._channels())) == (0, [])


# --- feeds ------------------------------------------------------------------------------------------------------------


def test_a_feed_is_rendered_once_for_all_its_clients_and_shows_what_they_may_see(hub):
    rendered = []

    def render(event):
        rendered.append(event.position)
        return sse.event(b"{}", event.position)

    feed = hub.feed("odd", lambda event: event.position % 2 == 1, render)
    assert hub.feed("odd", lambda event: True, render) is feed
    clients = [Follower(hub, feed) for _ in range(5)]
    hub.applied(messages(1, 4))
    hub.applied(messages(5, 6))
    assert [client.seen for client in clients] == [[1, 3, 5]] * 5
    assert {client.subscriber.mark for client in clients} == {6}
    assert rendered == [1, 3, 5]


def test_a_new_feed_begins_where_the_hub_is():
    hub = Hub(7)
    hub.applied(messages(8, 9))
    assert hub.feed("all", lambda event: True, lambda event: b"").mark == 9


# --- any order --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_who_reads_and_goes_live_at_any_moment_gets_every_event_once_and_in_order(seed, monkeypatch):
    """The steps of ``server.streaming`` by hand: read what the log has, look at the mark, go live, be let go again."""
    # given
    monkeypatch.setattr(hubs, "BUFFER_SIZE_MAX", 5_000)
    chance, hub, log, clients = random.Random(seed), Hub(0), [], []
    run = hub.run(RUN)
    keeper = Follower(hub, run, is_live=False)  # so that the channel stays open
    for _ in range(200):
        doing = chance.choice(["append", "announce", "join", "step", "step", "step", "take"])
        # when
        if doing == "append":
            last = len(log)
            log += messages(last + 1, last + chance.randrange(1, 4), content="x" * chance.choice([1, 300, 4_000]))
        elif doing == "announce" and len(log) > hub.position:
            again = chance.randrange(hub.position + 1)
            hub.applied(log[again : chance.randrange(hub.position, len(log)) + 1])
        elif doing == "join":
            clients.append(Follower(hub, run, mark=chance.randrange(len(log) + 1), is_live=False))
            clients[-1].first = clients[-1].subscriber.mark
        elif clients:
            follow(chance.choice(clients), doing, log, chance)
        # then
        for client in clients:
            assert client.transport.get_write_buffer_size() <= 15_000
    log += messages(len(log) + 1, len(log) + 1)
    hub.applied(log[hub.position :])
    for client in clients:
        while client.subscriber.mark < len(log):
            client.transport.take()
            follow(client, "step", log, chance)
        assert client.seen == list(range(client.first + 1, len(log) + 1))
    assert keeper.seen == []


def follow(client, doing, log, chance):
    subscriber = client.subscriber
    if doing == "take":
        client.transport.take()
    elif not subscriber.is_live and client.transport.get_write_buffer_size() == 0:
        part = log[subscriber.mark :][: chance.randrange(1, 4)]
        for _, data in client.hub.frames(part):
            subscriber.write(data)
        subscriber.mark += len(part)
        subscriber.is_live = subscriber.mark >= client.channel.mark
