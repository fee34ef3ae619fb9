"""One watcher of the log for all open streams: what is recorded is rendered once and written to each client.

A client first reads the log at its own pace (``server.streaming``), then goes live: from there on, what the views have
is pushed to it. A client that cannot take it is not buffered for: it reads the log again at its own pace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import msgspec
import structlog

from ledger import ids
from ledger.events import TYPES, Message, Recorded
from ledger.ledger import wall_clock_us
from ledger.times import to_text
from ledger.tokens import ACCESS_TYPES
from ledger.transitions import TERMINAL
from ledger.upcast import fact
from server import sse

BUFFER_SIZE_MAX = 256 * 1024
"""Bytes that wait in memory for one live client: some ten of the longest real messages. Who is further behind reads
the log again."""
CHUNKS_MAX = 2_000
"""Rendered messages that are kept for clients who join one after the other, about 2 KiB each."""
ENDS = frozenset(f"run.{verb}" for verb in (*TERMINAL, "deleted", "erased")) & TYPES.keys()
"""Events after which the stream of a run is over."""

Frame = tuple[int, bytes]
"""Where a server-sent event stands (a version or a position), and its bytes."""

log = structlog.get_logger("server")
_decode = msgspec.json.Decoder(dict[str, object]).decode
_encode = msgspec.json.Encoder().encode


class Subscriber:
    """One client. While it is live it is written to as things happen; ``mark`` is how far it has got."""

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
        self.is_allowed = is_allowed
        self.wake = asyncio.Event()
        self._is_chunked = is_chunked
        self._pings = pings
        self._waited = 0
        self._is_idle = True

    def write(self, payload: bytes) -> None:
        """Write server-sent events at once."""
        self._is_idle = False
        self.transport.write(sse.frame(payload) if self._is_chunked else payload)

    def push(self, frames: Sequence[Frame], whole: bytes, mark: int) -> None:
        """Write what happened up to ``mark``, unless the client has it or cannot take it. ``whole``: all frames."""
        if not self.is_live or mark <= self.mark:
            return
        payload = whole if frames and frames[0][0] > self.mark else b"".join(_after(frames, self.mark))
        if payload:
            if self.transport.get_write_buffer_size() + len(payload) > BUFFER_SIZE_MAX:
                self.leave()
                return
            self.write(payload)
        self.mark = mark

    def beat(self, ping: bytes) -> None:
        """Keep an idle connection open; look after one that takes nothing, is gone or is no longer allowed."""
        if self.transport.is_closing() or not self.is_allowed():
            self.end()
            return
        waiting = self.transport.get_write_buffer_size()
        if waiting and waiting >= self._waited > 0:
            self.leave()
        elif self.is_live and self._is_idle and not waiting:
            self.write(ping if self._pings else sse.COMMENT)
        self._waited, self._is_idle = waiting, True

    def leave(self) -> None:
        """Be live no longer: whoever serves the client goes on from its mark."""
        self.is_live = False
        self.wake.set()

    def end(self) -> None:
        """End the stream as it is; the client can go on from its mark."""
        self.is_ended = True
        self.leave()


def _after(frames: Iterable[Frame], mark: int) -> Iterator[bytes]:
    return (data for place, data in frames if place > mark)


class Channel:
    """What many clients follow: the subscribers, and up to where it was announced to them."""

    def __init__(self, ping: Callable[[], bytes]) -> None:
        self.subscribers: set[Subscriber] = set()
        self.mark = 0
        self.final: asyncio.Future[bytes] | None = None
        """The last bytes of the stream, made once for all clients."""
        self.ping = ping

    def announce(self, frames: Sequence[Frame], mark: int) -> None:
        """Write frames to every live client."""
        self.mark = mark
        whole = b"".join(data for _, data in frames)
        for subscriber in self.subscribers:
            subscriber.push(frames, whole, mark)

    def finish(self) -> None:
        """Let every client be served to its end."""
        for subscriber in self.subscribers:
            subscriber.leave()


class Feed(Channel):
    """A channel of the whole log, as far as its followers may see it."""

    def __init__(self, shows: Callable[[Recorded], bool], render: Callable[[Recorded], bytes]) -> None:
        super().__init__(lambda: sse.COMMENT)
        self.shows = shows
        self.render = render

    def frames(self, events: Iterable[Recorded]) -> list[Frame]:
        """Return the server-sent events of those that are shown."""
        return [(event.position, self.render(event)) for event in events if self.shows(event)]


class Hub:
    """All channels of a server. ``applied`` is told what the views have; ``beat`` is called by the clock."""

    def __init__(self, position: int) -> None:
        self.position = position
        self._runs: dict[str, Channel] = {}
        self._feeds: dict[object, Feed] = {}
        self._chunks: dict[int, bytes] = {}

    @property
    def subscribers(self) -> int:
        """How many streams are open."""
        return sum(len(channel.subscribers) for channel in self._channels())

    def run(self, run_id: str) -> Channel:
        """Return the channel of a run."""
        channel = self._runs.get(run_id)
        if channel is None:
            channel = self._runs[run_id] = Channel(lambda: ping(run_id))
        return channel

    def feed(self, key: object, make: Callable[[], Feed]) -> Feed:
        """Return the channel of those who see the same of the log. ``key``: what they have in common."""
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = make()
            feed.mark = self.position
        return feed

    def applied(self, batch: Sequence[Recorded]) -> None:
        """Announce events that the views have, in the order of the log; those announced before are passed over."""
        if batch[0].position <= self.position:
            batch = [event for event in batch if event.position > self.position]
            if not batch:
                return
        self.position = batch[-1].position
        if self._runs:
            self._announce_runs(batch)
        for feed in self._feeds.values():
            feed.announce(feed.frames(batch), self.position)
        if any(event.type in ACCESS_TYPES for event in batch):
            self._end_disallowed()

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
        return [(event.version, self._chunk(event)) for event in events if event.type == "run.message" and event.data]

    def _chunk(self, event: Recorded) -> bytes:
        chunk = self._chunks.get(event.position)
        if chunk is None:
            if len(self._chunks) >= CHUNKS_MAX:
                for old in list(islice(self._chunks, CHUNKS_MAX // 2)):
                    del self._chunks[old]
            chunk = self._chunks[event.position] = _render(event)
        return chunk

    def leave(self, channel: Channel, subscriber: Subscriber) -> None:
        """Take a client out of its channel; the last one closes it."""
        channel.subscribers.discard(subscriber)
        if not channel.subscribers:
            self._runs = {key: each for key, each in self._runs.items() if each is not channel}
            self._feeds = {key: feed for key, feed in self._feeds.items() if feed is not channel}

    def beat(self) -> None:
        """Ping those who heard nothing since the last beat, and look after those who take nothing."""
        for channel in self._channels():
            kept_open = channel.ping() if channel.subscribers else b""
            for subscriber in channel.subscribers:
                subscriber.beat(kept_open)

    def stop(self) -> None:
        """End all streams; clients go on elsewhere or later from where they are."""
        for channel in self._channels():
            for subscriber in channel.subscribers:
                subscriber.end()

    def _end_disallowed(self) -> None:
        for channel in self._channels():
            for subscriber in channel.subscribers:
                if not subscriber.is_allowed():
                    subscriber.end()

    def _channels(self) -> Iterator[Channel]:
        yield from self._runs.values()
        yield from self._feeds.values()


def _render(event: Recorded) -> bytes:
    said = fact(event)
    if not isinstance(said, Message):
        return b""
    message = _decode(said.message)
    message["run_id"], message["seq_id"] = event.stream, event.version
    if message.get("date") is None:
        message["date"] = to_text(event.time)
    return sse.event(_encode(message), event.version)


def ping(run_id: str) -> bytes:
    """Return what keeps the stream of a run open, as V1 clients know it."""
    date = to_text(wall_clock_us())
    return sse.event(_encode({"message_type": "ping", "id": ids.make("message"), "date": date, "run_id": run_id}))
