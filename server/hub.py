"""One watcher of the log for all open streams: what is recorded is rendered once and written to each client.

A client first reads the log at its own pace (``server.streaming``), then goes live: from there on, what the views have
is pushed to it. A client that cannot take it is not buffered for: it reads the log again at its own pace.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import structlog

from ledger import ids
from ledger.events import ERASURES, TYPES, Message, Recorded
from ledger.ledger import wall_clock_us
from ledger.times import to_text
from ledger.tokens import ACCESS_TYPES
from ledger.transitions import TERMINAL
from ledger.upcast import fact
from server import audit, sse
from server.problems import INTERNAL, UNAUTHORIZED
from server.reads import Reads

BUFFER_SIZE_MAX = 256 * 1024
"""Bytes that wait in memory for one live client: some ten of the longest real messages. Who is further behind reads
the log again."""
CHUNKS_SIZE_MAX = 8 * 1024 * 1024
"""Bytes of rendered messages that are kept for clients who join one after the other: some 4,000 messages."""
ENDS = frozenset(f"run.{verb}" for verb in (*TERMINAL, "deleted", "erased")) & TYPES.keys()
"""Events after which the stream of a run is over."""

LEFT_OUT = frozenset({"summary_message", "event_message"})
"""Messages that V1 streams never had: their clients, where they validate strictly, would fail. Lists have them."""

Frame = tuple[int, bytes]
"""Where a server-sent event stands (a version or a position), and its bytes."""


class Part(NamedTuple):
    """Some of what a client is behind: frames, up to which mark that is, and whether it was all."""

    frames: Sequence[Frame]
    mark: int
    is_all: bool


log = structlog.get_logger("server")
_decode = msgspec.json.Decoder(dict[str, object]).decode
_encode = msgspec.json.Encoder().encode


class News:
    """What is announced to a channel: frames, up to which mark that is, and their bytes, made once for all clients."""

    __slots__ = ("first", "frames", "mark", "plain", "wrapped")

    def __init__(self, frames: Sequence[Frame], mark: int) -> None:
        self.frames = frames
        self.mark = mark
        self.first = frames[0][0] if frames else mark
        self.plain = b"".join(data for _, data in frames)
        self.wrapped = sse.frame(self.plain) if frames else b""

    def after(self, mark: int) -> bytes:
        """Return the events above a mark."""
        return b"".join(data for place, data in self.frames if place > mark)


class Subscriber:
    """One client. While it is live it is written to as things happen; ``mark`` is how far it has got."""

    __slots__ = (
        "_is_chunked",
        "_is_idle",
        "_pings",
        "_waited",
        "is_allowed",
        "is_ended",
        "is_live",
        "mark",
        "outcome",
        "sent",
        "transport",
        "wake",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        mark: int,
        *,
        is_chunked: bool,
        is_allowed: Callable[[], bool],
        pings: bool = False,
    ) -> None:
        self.transport = transport
        self.mark = mark
        self.is_live = False
        self.is_ended = False
        self.outcome = audit.OK
        """How it ended, for the log."""
        self.sent = 0
        """Events that went out to it; pings and the end of a stream are none."""
        self.is_allowed = is_allowed
        self.wake = asyncio.Event()
        self._is_chunked = is_chunked
        self._pings = pings
        self._waited = 0
        self._is_idle = False  # the first beat may come before the headers went

    def write(self, payload: bytes, events: int = 0) -> None:
        """Write server-sent events at once; ``events``: how many of them are of the log.

        Raises ``ConnectionResetError`` when the client is gone.
        """
        if self.transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._is_idle = False
        self.sent += events
        self.transport.write(sse.frame(payload) if self._is_chunked else payload)

    def push(self, news: News) -> None:
        """Write what is announced, unless the client has it, cannot take it, or is gone."""
        if not self.is_live or news.mark <= self.mark:
            return
        count = len(news.frames)
        if news.first > self.mark:
            payload = news.wrapped if self._is_chunked else news.plain
        else:
            count = sum(place > self.mark for place, _ in news.frames)
            rest = news.after(self.mark)
            payload = sse.frame(rest) if rest and self._is_chunked else rest
        if payload:
            transport = self.transport
            if transport.is_closing():
                self.end(audit.DISCONNECTED)
                return
            if transport.get_write_buffer_size() + len(payload) > BUFFER_SIZE_MAX:
                self.leave()
                return
            transport.write(payload)
            self.sent += count
            self._is_idle = False
        self.mark = news.mark

    def beat(self, ping: bytes) -> None:
        """Keep an idle connection open; look after one that takes nothing, is gone or is no longer allowed."""
        if self.is_ended:
            return
        if self.transport.is_closing():
            self.end(audit.DISCONNECTED)
            return
        if not self.is_allowed():
            self.end(UNAUTHORIZED)
            return
        waiting = self.transport.get_write_buffer_size()
        if waiting and waiting >= self._waited > 0:
            self.leave()
        elif self._is_idle and not waiting:
            self.write(ping if self._pings else sse.COMMENT)
        self._waited, self._is_idle = waiting, True

    def leave(self) -> None:
        """Be live no longer: whoever serves the client goes on from its mark."""
        self.is_live = False
        self.wake.set()

    def end(self, outcome: str = audit.OK) -> None:
        """End the stream as it is, for the reason first given; the client can go on from its mark."""
        if not self.is_ended:
            self.outcome = outcome
        self.is_ended = True
        self.leave()


class Channel:
    """What many clients follow: the subscribers, up to where it was announced to them, and whether that is the end."""

    def __init__(self, key: object, ping: Callable[[], bytes]) -> None:
        self.key = key
        self.subscribers: set[Subscriber] = set()
        self.mark = 0
        self.is_over = False
        self.final: asyncio.Future[bytes] | None = None
        """The last bytes of the stream, made once for all clients."""
        self.ping = ping

    def announce(self, frames: Sequence[Frame], mark: int) -> None:
        """Write frames to every live client."""
        self.mark = mark
        news = News(frames, mark)
        for subscriber in self.subscribers:
            subscriber.push(news)

    def finish(self) -> None:
        """Let every client be served to its end."""
        self.is_over = True
        for subscriber in self.subscribers:
            subscriber.leave()


class Feed(Channel):
    """A channel of the whole log, as far as its followers may see it."""

    def __init__(self, key: object, shows: Callable[[Recorded], bool], render: Callable[[Recorded], bytes]) -> None:
        super().__init__(key, lambda: sse.COMMENT)
        self.shows = shows
        self.render = render

    def frames(self, events: Iterable[Recorded]) -> list[Frame]:
        """Return the server-sent events of those that are shown."""
        return [(event.position, self.render(event)) for event in events if self.shows(event)]


class Hub:
    """All channels of a server. ``applied`` is told what the views have; ``beat`` is called by the clock."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.subscribers = 0
        """How many streams are open."""
        self.is_stopped = False
        self.erasures = 0
        """Grows with each announcement of an erasure: what was read of the log before is not to be told after it."""
        self._runs: dict[object, Channel] = {}
        self._feeds: dict[object, Feed] = {}
        self._chunks: OrderedDict[int, bytes] = OrderedDict()
        self._chunks_size = 0
        self.reads: Reads[Part] = Reads()

    def run(self, run_id: str) -> Channel:
        """Return the channel of a run."""
        channel = self._runs.get(run_id)
        if channel is None:
            channel = self._runs[run_id] = Channel(run_id, lambda: ping(run_id))
        return channel

    def feed(self, key: object, shows: Callable[[Recorded], bool], render: Callable[[Recorded], bytes]) -> Feed:
        """Return the channel of those who see the same of the log. ``key``: what they have in common."""
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = Feed(key, shows, render)
            feed.mark = self.position
        return feed

    def join(self, channel: Channel, subscriber: Subscriber) -> None:
        """Let a client follow a channel, from its mark on."""
        channel.subscribers.add(subscriber)
        self.subscribers += 1

    def leave(self, channel: Channel, subscriber: Subscriber) -> None:
        """Take a client out of its channel, if it is in; the last one closes it."""
        if subscriber in channel.subscribers:
            channel.subscribers.remove(subscriber)
            self.subscribers -= 1
        if not channel.subscribers:
            for kept in (self._runs, self._feeds):
                if kept.get(channel.key) is channel:
                    del kept[channel.key]

    def applied(self, batch: Sequence[Recorded]) -> None:
        """Announce events that the views have, in the order of the log; those announced before are passed over.

        Whatever goes wrong with streams stays with streams: they end, and whoever keeps the views goes on.
        """
        if batch[0].position <= self.position:
            batch = [event for event in batch if event.position > self.position]
            if not batch:
                return
        self.position = batch[-1].position
        try:
            self._announce(batch)
        except Exception:
            log.exception("streams.failed", position=self.position)
            self.end_all(INTERNAL)

    def _announce(self, batch: Sequence[Recorded]) -> None:
        if self._runs:
            self._announce_runs(batch)
        if any(event.type in ERASURES for event in batch):
            self.erasures += 1
            self.reads.clear()
            self._chunks.clear()
            self._chunks_size = 0
        for feed in self._feeds.values():
            feed.announce(feed.frames(batch), self.position)
        if self.subscribers and any(event.type in ACCESS_TYPES for event in batch):
            for subscriber in self._all():
                if not subscriber.is_allowed():
                    subscriber.end(UNAUTHORIZED)

    def _announce_runs(self, batch: Sequence[Recorded]) -> None:
        news: dict[str, list[Recorded]] = {}
        for event in batch:
            if event.stream in self._runs:
                news.setdefault(event.stream, []).append(event)
        for run_id, events in news.items():
            channel = self._runs[run_id]
            channel.announce(self.frames(events), events[-1].version)
            if any(event.type in ENDS for event in events):
                channel.finish()

    def frames(self, events: Iterable[Recorded]) -> list[Frame]:
        """Return the messages among a run's events as server-sent events, by their version."""
        said = (event for event in events if event.type == "run.message")
        return [(event.version, chunk) for event in said if (chunk := self._chunk(event))]

    def _chunk(self, event: Recorded) -> bytes:
        if event.data is None:  # erased, perhaps by another server, of which nothing was told here yet
            return b""
        chunk = self._chunks.get(event.position)
        if chunk is None:
            chunk = self._chunks[event.position] = _render(event)
            self._chunks_size += len(chunk)
            while self._chunks_size > CHUNKS_SIZE_MAX:
                self._chunks_size -= len(self._chunks.popitem(last=False)[1])
        return chunk

    def beat(self) -> None:
        """Ping those who heard nothing since the last beat, and look after those who take nothing."""
        for channel in self._channels():
            kept_open = channel.ping()
            for subscriber in channel.subscribers:
                subscriber.beat(kept_open)

    def stop(self) -> None:
        """End all streams and let none begin; clients go on elsewhere or later from where they are."""
        self.is_stopped = True
        self.end_all(audit.STOPPED)

    def end_all(self, outcome: str) -> None:
        """End all streams that are open now."""
        for subscriber in self._all():
            subscriber.end(outcome)

    def _all(self) -> Iterator[Subscriber]:
        return (subscriber for channel in self._channels() for subscriber in channel.subscribers)

    def _channels(self) -> Iterator[Channel]:
        yield from self._runs.values()
        yield from self._feeds.values()


def _render(event: Recorded) -> bytes:
    """Return a message as a server-sent event; nothing of one that was erased or is left out."""
    said = fact(event)
    if not isinstance(said, Message):
        return b""
    message = _decode(said.message)
    if message["message_type"] in LEFT_OUT:
        return b""
    message["run_id"], message["seq_id"] = event.stream, event.version
    if message.get("date") is None:
        message["date"] = to_text(event.time)
    return sse.event(_encode(message), event.version)


def ping(run_id: str) -> bytes:
    """Return what keeps the stream of a run open, as V1 clients know it."""
    date = to_text(wall_clock_us())
    return sse.event(_encode({"message_type": "ping", "id": ids.make("message"), "date": date, "run_id": run_id}))
