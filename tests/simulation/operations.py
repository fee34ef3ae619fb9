"""What clients ask for, and what the log must say of it: each kind of write with the events that it may lead to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tests.ledger.histories import way_to
from tests.simulation.model import LIVE, Event, Model, Resource, must

REFUSALS = (404, 409, 410, 412)
"""Answers by which a write may be refused whose client made no mistake."""


class Attempt(msgspec.Struct):
    """One request of an operation: to whom it went, how long the log was meanwhile, and what came back."""

    request_id: str
    process: Any
    low: int
    floor: int = 0
    """What this server had answered with before: its reads show at least that."""
    high: int = 0
    status: int | None = None
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    body: bytes = b""
    is_over: bool = False

    @property
    def json(self) -> Any:
        return json_of(self.body)


json_of = msgspec.json.decode


class Operation:
    """A write, its requests, and the events that it led to."""

    name = "?"

    def __init__(self, number: int, method: str, path: str, target: str | None, body: Any = None) -> None:
        self.number = number
        self.method = method
        self.path = path
        self.target = target
        self.body = body
        self.key: str | None = None
        self.if_match: int | None = None
        self.attempts: list[Attempt] = []
        self.effects: list[list[Event]] = []
        self.is_repeatable = False
        """Whether it may be sent again: it has an effect once."""
        self.request_id: str | None = None
        """The id that all its requests have, where it has to be in what they hold."""

    @property
    def headers(self) -> dict[str, str]:
        headers = {} if self.key is None else {"Idempotency-Key": self.key}
        return headers if self.if_match is None else {**headers, "If-Match": f'"{self.if_match}"'}

    @property
    def raw(self) -> bytes:
        return b"" if self.body is None else msgspec.json.encode(self.body)

    @property
    def content_type(self) -> str:
        return "application/json"

    def __repr__(self) -> str:
        return f"{self.number} {self.name} {self.method} {self.path} {self.raw[:200].decode()} {self.headers}"

    def before(self, model: Model) -> Any:
        """Look at the model before the events of an effect are in it."""

    def committed(self, model: Model, events: list[Event], before: Any) -> None:
        """Check what a commit holds of this operation."""
        if self.key is not None:
            must(not self.effects, f"its key had an effect before: {self!r}")
        own = [each for each in self.effects if each[0].correlation == events[0].correlation]
        must(not own, f"one request had two effects: {self!r}")
        said = next((each for each in self.attempts if each.request_id == events[0].correlation), None)
        must(
            said is None or not said.is_over or said.status in (None, 500, 503), f"recorded after its answer: {self!r}"
        )
        self.effects.append(events)
        if any(event.is_blank for event in events):  # erased in the same transaction
            return
        if events[-1].verb == "refused":
            must(len(events) == 1 and events[0].data["asked"] == self.asks, f"refused for another: {self!r}")
        else:
            self.check(model, events, before)

    @property
    def asks(self) -> str | None:
        """The status that it asks for."""
        return None

    def check(self, model: Model, events: list[Event], before: Any) -> None:
        """Check the events of a success."""
        raise NotImplementedError

    def types(self, events: Sequence[Event], expected: Sequence[str]) -> None:
        found = [event.type for event in events]
        must(found == list(expected), f"led to {found}, not {list(expected)}: {self!r}")

    def positions(self, attempt: Attempt) -> list[Event] | None:
        """Return the effect that an answer tells of."""
        own = [each for each in self.effects if each[0].correlation == attempt.request_id]
        if own or self.key is None:
            return own[0] if own else None
        return self.effects[0] if self.effects else None

    # -- answers

    def answered(self, model: Model, attempt: Attempt) -> None:
        """Check an answer against the log as it was meanwhile."""
        status = attempt.status
        assert status is not None
        if status in (500, 503):
            return
        if status // 100 == 2:
            self._succeeded(model, attempt)
            return
        must(status in REFUSALS, f"answered {status} {attempt.body[:300]!r}: {self!r}")
        self._refused(model, attempt, status)

    def _succeeded(self, model: Model, attempt: Attempt) -> None:
        effect = self.positions(attempt)
        must(effect is not None, f"answered {attempt.status}, and nothing of it is recorded: {self!r}")
        assert effect is not None
        must(effect[-1].verb != "refused", f"answered {attempt.status}, and recorded as refused: {self!r}")
        position = int(attempt.headers["Ledger-Position"])
        must(position == effect[-1].position, f"answered at {position}, recorded at {effect[-1].position}: {self!r}")
        if "ETag" in attempt.headers and self.target is not None:
            then = [each for each in model.resources[effect[-1].stream].past if each.position <= position][-1]
            must(
                attempt.headers["ETag"] == f'"{then.etag}"',
                f"ETag {attempt.headers['ETag']}, not {then.etag}: {self!r}",
            )
            said = attempt.json
            if isinstance(said, dict) and "status" in said and not self.name.startswith("redeliver"):
                must(said["status"] == then.status, f"says {said['status']}, it was {then.status}: {self!r}")

    def _refused(self, model: Model, attempt: Attempt, status: int) -> None:
        own = [each for each in self.effects if each[0].correlation == attempt.request_id]
        must(all(each[0].verb == "refused" for each in own), f"answered {status}, and recorded: {self!r}")
        error = attempt.json["error"]
        target, low, high = self.target, attempt.low, attempt.high
        resource = model.resources.get(target or "")
        if self.key is not None and self.effects:
            low = min(low, self.effects[0][0].position)
        if status == 404:
            must(target is None or model.is_hidden_somewhen(target, low, high), f"not found, but there: {self!r}")
        elif status == 410:
            must(resource is not None and resource.now.is_erased, f"erased by nobody: {self!r}")
        elif status == 412:
            etags = {then.etag for then in resource.between(low, high)} if resource else set()
            must(etags - {self.if_match}, f"version mismatch at {etags}: {self!r}")
        else:
            self._conflict(resource, error, low, high)

    def _conflict(self, resource: Resource | None, error: dict[str, Any], low: int, high: int) -> None:
        if error["type"] == "already_exists":
            must(self.name.startswith("create") and resource is not None, f"exists nowhere: {self!r}")
        elif error["type"] == "invalid_job_status_transition":
            must(resource is not None, f"refused for nobody: {self!r}")
            assert resource is not None
            found = error["details"]["current_status"]
            statuses = {then.status for then in resource.between(low, high)}
            must(found in statuses, f"refused as {found}, it was {statuses}: {self!r}")
            must(error["details"]["requested_status"] == self.asks, f"refused for another status: {self!r}")
        elif error["type"] == "callback_not_owed":
            was = {(then.status in LIVE) for then in resource.between(low, high)} if resource else {True}
            must(resource is None or resource.callback_url is None or True in was, f"owed nothing: {self!r}")
        else:
            must(False, f"{error['type']}: {self!r}")


class CreateOne(Operation):
    """A job or run, with whatever status it begins with."""

    name = "create"

    def __init__(self, number: int, kind: str, id: str, status: str, **more: Any) -> None:
        path = "/v1/runs" if kind == "run" else "/v1/jobs"
        body = {"id": id, "status": status, **({"agent_id": "agent-1"} if kind == "run" else {}), **more}
        super().__init__(number, "POST", path, id, body)
        self.kind = kind

    def check(self, model: Model, events: list[Event], before: Any) -> None:
        self.types(events, [f"{self.kind}.{status}" for status in way_to(self.kind, self.body["status"])])
        for name in ("metadata", "callback_url", "timeout_s"):
            must(events[0].data.get(name) == self.body.get(name), f"{name} is {events[0].data.get(name)}: {self!r}")


class CreateBatch(Operation):
    """A batch with its runs."""

    name = "create batch"

    def __init__(self, number: int, id: str, runs: int, **more: Any) -> None:
        body = {"id": id, "requests": [{"agent_id": f"agent-{each}"} for each in range(runs)], **more}
        super().__init__(number, "POST", "/v1/messages/batches", id, body)

    def check(self, model: Model, events: list[Event], before: Any) -> None:
        runs = ["run.created"] * len(self.body["requests"])
        self.types(events, ["batch.created", "batch.pending", *runs, "batch.running"])


class Change(Operation):
    """A step of a status, or metadata, or both."""

    name = "change"

    def __init__(self, number: int, kind: str, id: str, body: dict[str, Any]) -> None:
        super().__init__(number, "PATCH", f"/v1/{'runs' if kind == 'run' else 'jobs'}/{id}", id, body)

    @property
    def asks(self) -> str | None:
        return self.body.get("status")

    def before(self, model: Model) -> Any:
        resource = model.resources.get(self.target or "")
        return None if resource is None else resource.now

    def check(self, model: Model, events: list[Event], before: Any) -> None:
        self.types(events, [f"{events[0].kind}.{self.asks or 'updated'}"])
        must(self.if_match in (None, before.etag), f"took effect at version {before.etag}: {self!r}")
        must(events[0].data.get("metadata") == self.body.get("metadata"), f"says {events[0].data}: {self!r}")


class Cancel(Operation):
    """A cancel, which takes the active runs of a batch along."""

    name = "cancel"

    def __init__(self, number: int, kind: str, id: str) -> None:
        home = {"run": "runs", "job": "jobs", "batch": "messages/batches"}[kind]
        super().__init__(number, "PATCH", f"/v1/{home}/{id}/cancel", id)
        self.kind = kind

    @property
    def asks(self) -> str:
        return "cancelled"

    def before(self, model: Model) -> Any:
        resource = model.resources.get(self.target or "")
        if resource is None:
            return None
        members = [model.resources[id] for id in resource.born.data.get("runs") or ()]
        active = [each.id for each in members if each.now.is_visible and each.now.status in LIVE]
        return resource.now, active if self.kind == "batch" or resource.kind == "batch" else []

    def check(self, model: Model, events: list[Event], before: Any) -> None:
        now, active = before
        self.types(events, [*["run.cancelled"] * len(active), f"{events[-1].kind}.cancelled"])
        must([event.stream for event in events] == [*active, self.target], f"cancelled others: {self!r}")
        must(self.if_match in (None, now.etag), f"took effect at version {now.etag}: {self!r}")


class Delete(Operation):
    """A delete, in whatever status."""

    name = "delete"

    def __init__(self, number: int, kind: str, id: str) -> None:
        super().__init__(number, "DELETE", f"/v1/{'runs' if kind == 'run' else 'jobs'}/{id}", id)

    def before(self, model: Model) -> Any:
        resource = model.resources.get(self.target or "")
        return None if resource is None else resource.now

    def check(self, model: Model, events: list[Event], before: Any) -> None:
        self.types(events, [f"{events[0].kind}.deleted"])
        must(self.if_match in (None, before.etag), f"took effect at version {before.etag}: {self!r}")


class Erase(Operation):
    """An erasure."""

    name = "erase"

    def __init__(self, number: int, kind: str, id: str) -> None:
        body = {"reason": "the right to be forgotten"}
        super().__init__(number, "POST", f"/v1/{'runs' if kind == 'run' else 'jobs'}/{id}/erase", id, body)

    def check(self, model: Model, events: list[Event], before: Any) -> None:
        self.types(events, [f"{events[0].kind}.erased"])


class Note(Operation):
    """Steps or messages of a run, all or none."""

    name = "note"

    def __init__(self, number: int, id: str, what: str, items: list[dict[str, Any]]) -> None:
        super().__init__(number, "POST", f"/v1/runs/{id}/{what}", id, items)
        self.verb = what[:-1]

    def check(self, model: Model, events: list[Event], before: Any) -> None:
        self.types(events, [f"run.{self.verb}"] * len(self.body))
        ids = [(event.data.get("message") or event.data)["id"] for event in events]
        must(ids == [each["id"] for each in self.body], f"recorded {ids}: {self!r}")


class Bulk(Operation):
    """Events of one job in bulk, all or none; each has a key of its own, so that a repeat adds nothing."""

    name = "bulk"

    def __init__(self, number: int, id: str, events: list[dict[str, Any]]) -> None:
        super().__init__(number, "POST", "/v1/events", None, events)
        self.id = id

    @property
    def raw(self) -> bytes:
        return b"\n".join(msgspec.json.encode(each) for each in self.body)

    @property
    def content_type(self) -> str:
        return "application/x-ndjson"

    def check(self, model: Model, events: list[Event], before: Any) -> None:
        must(len(self.effects) == 1, f"recorded twice: {self!r}")
        self.types(events, [each["type"] for each in self.body])
        must([event.key for event in events] == [each["idempotencykey"] for each in self.body], f"other keys: {self!r}")

    def positions(self, attempt: Attempt) -> list[Event] | None:
        return self.effects[0] if self.effects else None

    def answered(self, model: Model, attempt: Attempt) -> None:
        wrong = attempt.json["error"]["details"]["type"] if attempt.status == 422 else None
        if wrong == "erased":
            must(model.resources[self.id].now.is_erased, f"erased by nobody: {self!r}")
        elif wrong == "already_exists":  # whoever was first after this one had been told to try later
            must(self.id in model.resources and not self.effects, f"exists nowhere, or by this: {self!r}")
        else:
            super().answered(model, attempt)

    def _succeeded(self, model: Model, attempt: Attempt) -> None:
        effect = self.positions(attempt)
        must(effect is not None, f"answered {attempt.status}, and nothing of it is recorded: {self!r}")
        told = attempt.json
        must(told["appended"] + told["duplicate"] == len(self.body), f"{told} of {len(self.body)}: {self!r}")


class Redeliver(Operation):
    """Owe a callback anew."""

    name = "redeliver"

    def __init__(self, number: int, kind: str, id: str) -> None:
        path = f"/v1/{'runs' if kind == 'run' else 'jobs'}/{id}/callback/redeliver"
        super().__init__(number, "POST", path, id, {"reason": "once more"})

    def check(self, model: Model, events: list[Event], before: Any) -> None:
        self.types(events, ["callback.requeued"])


class Refused(Bulk):
    """A bulk append whose last line is against the rules, so that none of its lines may leave a trace."""

    name = "refused bulk"

    def check(self, model: Model, events: list[Event], before: Any) -> None:
        must(False, f"recorded, though its last line is against the rules: {self!r}")

    def answered(self, model: Model, attempt: Attempt) -> None:
        must(attempt.status in (422, 500, 503), f"answered {attempt.status} {attempt.body[:300]!r}: {self!r}")
