"""What must be true of a log, written from the contract and not from the product: rules, versions, debts, owners.

Events are told one commit at a time, in the moment in which they are committed; what breaks a rule raises ``Broken``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from tests.ledger.histories import MOVES

ENDS = frozenset({"completed", "failed", "cancelled", "expired"})
LIVE = frozenset({"created", "pending", "running"})


class Broken(Exception):
    """Something is not as it must be."""


def must(holds: object, what: str) -> None:
    """Raise ``Broken`` unless it holds."""
    if not holds:
        raise Broken(what)


class Event(msgspec.Struct, frozen=True):
    """An event as it stood in the file right after its commit."""

    position: int
    stream: str
    version: int
    type: str
    time: int
    recorded: int
    actor: str
    key: str | None
    correlation: str | None
    data: dict[str, Any]
    is_blank: bool = False
    """Whether its data was erased by the transaction that recorded it, or is gone."""

    @property
    def kind(self) -> str:
        return self.type.partition(".")[0]

    @property
    def verb(self) -> str:
        return self.type.partition(".")[2]


class Then(msgspec.Struct, frozen=True):
    """What a resource was from a position on."""

    position: int
    status: str
    etag: int
    version: int
    is_deleted: bool = False
    is_erased: bool = False
    metadata: dict[str, Any] | None = None

    @property
    def is_visible(self) -> bool:
        return not self.is_deleted and not self.is_erased


class Owed(msgspec.Struct):
    """The callback that the end of a resource owes, and what the log says of it."""

    ended_version: int
    ended_position: int
    owed_position: int
    body: dict[str, Any]
    status: str = "owed"
    reason: str | None = None
    """Why it was given up."""
    attempts: int = 0
    tries: int = 0
    outcomes: list[tuple[int | None, str | None]] = msgspec.field(default_factory=list)
    requeues: int = 0


class Resource:
    """The history of a job, batch or run, as what it was after each of its events."""

    def __init__(self, event: Event) -> None:
        self.id = event.stream
        self.kind = event.kind
        self.born = event
        self.callback_url: str | None = event.data.get("callback_url")
        self.timeout_s: float | None = event.data.get("timeout_s")
        self.effective_us = event.time
        self.running_us: int | None = None
        self.refused: set[tuple[str, str]] = set()
        self.events = [event]
        self.owed: Owed | None = None
        metadata = event.data.get("metadata")
        self.past = [Then(event.position, "created", 1, 1, metadata=metadata)]

    @property
    def now(self) -> Then:
        return self.past[-1]

    @property
    def deadline_us(self) -> float | None:
        """When it is past its timeout, microseconds; None: never, or it does not run."""
        if self.timeout_s is None or self.running_us is None or self.now.status != "running":
            return None
        return self.running_us + self.timeout_s * 1e6

    def between(self, low: int, high: int) -> Iterator[Then]:
        """Yield what it was at positions from ``low`` to ``high``."""
        for then, later in zip(self.past, [*self.past[1:], None], strict=True):
            if then.position <= high and (later is None or later.position > low):
                yield then


class Model:
    """The log so far."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.resources: dict[str, Resource] = {}
        self.keys: dict[str, Event] = {}
        self.imported: set[str] = set()
        """Resources whose history is brought from elsewhere: what it owes is not sent from here."""

    @property
    def size(self) -> int:
        return len(self.events)

    def apply(self, event: Event) -> None:
        """Take the next event of the log."""
        where = f"position {event.position}, {event.type} of {event.stream}"
        must(event.position == self.size + 1, f"{where}: positions have a gap, or go back")
        must(not self.events or event.recorded >= self.events[-1].recorded, f"{where}: recorded before the last")
        must(event.key is None or event.key not in self.keys, f"{where}: its key was used before")
        self.events.append(event)
        if event.key is not None:
            self.keys[event.key] = event
        if event.kind == "access":
            return
        resource = self.resources.get(event.stream)
        if event.verb == "created":
            must(resource is None and event.version == 1, f"{where}: created twice")
            self.resources[event.stream] = Resource(event)
            return
        must(resource is not None, f"{where}: was never created")
        assert resource is not None
        must(
            event.version == resource.now.version + 1, f"{where}: version {event.version} after {resource.now.version}"
        )
        must(event.kind in (resource.kind, "callback"), f"{where}: of another kind")
        must(not resource.now.is_erased, f"{where}: it was erased before")
        resource.effective_us = max(resource.effective_us, event.time)
        then = self._after(resource, event, where)
        resource.events.append(event)
        resource.past.append(then)

    def _after(self, resource: Resource, event: Event, where: str) -> Then:
        now, verb = resource.now, event.verb
        changed = msgspec.structs.replace(now, position=event.position, version=event.version)
        if verb in ("step", "message"):
            must(resource.kind == "run" and not now.is_deleted, f"{where}: no run to record it for")
            return changed
        if verb == "refused":
            if not event.is_blank:
                self._refuse(resource, event, where)
            return changed
        changed = msgspec.structs.replace(changed, etag=event.version)
        if event.kind == "callback":
            self._call_back(resource, event, where)
            return changed
        if verb == "erased":
            resource.owed = resource.callback_url = resource.timeout_s = None
            return msgspec.structs.replace(changed, is_erased=True, metadata=None)
        must(not now.is_deleted, f"{where}: it was deleted before")
        if verb == "deleted":
            return msgspec.structs.replace(changed, is_deleted=True)
        changed = msgspec.structs.replace(changed, metadata=_merged(now.metadata, event.data))
        return changed if verb == "updated" else self._move(resource, event, changed, where)

    def _move(self, resource: Resource, event: Event, changed: Then, where: str) -> Then:
        verb, now = event.verb, resource.now
        must((now.status, verb) in MOVES[resource.kind], f"{where}: not legal after {now.status}")
        if verb == "running":
            resource.running_us = resource.effective_us
        changed = msgspec.structs.replace(changed, status=verb)
        if verb in ENDS and resource.callback_url is not None:
            ids = {"run_id": resource.id} if resource.kind == "run" else {}
            body = {**ids, "job_id": resource.id, "status": verb, "metadata": changed.metadata}
            resource.owed = Owed(event.version, event.position, event.position, body)
        return changed

    def _refuse(self, resource: Resource, event: Event, where: str) -> None:
        asked, found = event.data["asked"], event.data["found"]
        must(not resource.now.is_deleted, f"{where}: it was deleted before")
        must(found == resource.now.status, f"{where}: found {found}, but it was {resource.now.status}")
        must((found, asked) not in MOVES[resource.kind], f"{where}: a legal move was refused")
        must((event.actor, asked) not in resource.refused, f"{where}: refused to the same actor before")
        resource.refused.add((event.actor, asked))

    def _call_back(self, resource: Resource, event: Event, where: str) -> None:
        owed = resource.owed
        must(owed is not None, f"{where}: it never owed a callback")
        assert owed is not None
        if event.is_blank:
            return
        if event.verb == "attempted":
            owed.attempts += 1
            owed.tries += event.data.get("error") != "interrupted"
            must(event.data["number"] == owed.attempts, f"{where}: attempt {event.data['number']}, not {owed.attempts}")
            owed.outcomes.append((event.data.get("status_code"), event.data.get("error")))
        elif event.verb == "requeued":
            owed.status, owed.tries, owed.owed_position = "owed", 0, event.position
            owed.requeues += 1
        else:
            must(owed.status == "owed", f"{where}: it was {owed.status} before")
            owed.status, owed.reason = event.verb, event.data.get("reason")
            last = owed.outcomes[-1][1] if owed.outcomes else "no attempt"
            if event.verb == "delivered":
                must(last is None, f"{where}: after {last}")
            elif event.data.get("reason") == "gone":
                must(last == "gone", f"{where}: after {last}")

    def check_expiry(self, event: Event, latest_us: int) -> None:
        """Check what ended by the clock before it is applied. ``latest_us``: how far any clock was at most."""
        resource = self.resources[event.stream]
        deadline_us = resource.deadline_us
        where = f"position {event.position}, {event.type} of {event.stream}"
        must(deadline_us is not None, f"{where}: ended by the clock, and had no timeout")
        must((deadline_us or 0) <= latest_us, f"{where}: ended before its timeout by any clock")

    def is_hidden_somewhen(self, id: str, low: int, high: int) -> bool:
        """Tell whether a resource did not exist, or was deleted or erased, at any position in between."""
        resource = self.resources.get(id)
        if resource is None or resource.born.position > low:
            return True
        return not all(then.is_visible for then in resource.between(low, high))


def _merged(metadata: dict[str, Any] | None, data: dict[str, Any]) -> dict[str, Any] | None:
    if data.get("metadata") is None and data.get("error") is None:
        return metadata
    error = {} if data.get("error") is None else {"error": data["error"]}
    return {**(metadata or {}), **(data.get("metadata") or {}), **error}


def event_of(row: tuple[Any, ...]) -> Event:
    """Return the event of a row of the file: the fields in their order, data as JSON last."""
    *envelope, data = row
    is_blank = data is None or not any(data)
    return Event(*envelope, {} if is_blank else json.loads(data), is_blank)
