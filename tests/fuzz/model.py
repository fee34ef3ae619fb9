"""What the contract says of jobs, runs and batches, as a list of events and plain dicts: the other opinion.

It imports nothing of the product. A model is told what callers ask for and says what must be answered; what it accepts
it appends to a log of its own, and everything else is a fold of that: now, and as of any position or time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

SYSTEM = "user-00000000-0000-4000-8000-000000000000"
ENDS = ("completed", "failed", "cancelled", "expired")
_OF_JOB = {"created": ("pending",), "pending": ("running",), "running": ENDS}
MOVES = {
    "job": _OF_JOB,
    "batch": _OF_JOB,
    "run": {"created": ("running", "failed", "cancelled"), "running": ("completed", "failed", "cancelled")},
}
STATUSES = {"job": ("created", "pending", "running", *ENDS), "run": ("created", "running", *ENDS[:3])}
STEP_MOVES = {
    None: ("pending", "success", "failed", "cancelled"),
    "pending": ("pending", "success", "failed", "cancelled"),
}
FAMILIES = {"jobs": ("job", "batch", "run"), "runs": ("run",), "batches": ("batch",)}
QUIET = ("step", "message", "refused")
SAID = ("agent_id", "conversation_id", "callback_url", "background", "batch_id", "project", "timeout_s", "metadata")

Event = dict[str, Any]
State = dict[str, Any]


class Token(NamedTuple):
    """Who asks: whose token it is, what it may do, and the project that it is bound to."""

    user: str
    scopes: tuple[str, ...]
    project: str | None = None

    @property
    def sees_all(self) -> bool:
        return "admin" in self.scopes

    def may(self, scope: str) -> bool:
        return scope in self.scopes or self.sees_all


class Refused(Exception):
    """What must be answered instead: a status and the type of the error."""

    def __init__(self, status: int, type: str) -> None:
        super().__init__(status, type)
        self.status, self.type = status, type


class Model:
    """The log as it must be, and what may be asked of it. ``now_us``: the clock of server and model alike."""

    def __init__(self, now_us: int) -> None:
        self.now_us = now_us
        self.log: list[Event] = []

    # --- the log ------------------------------------------------------------------------------------------------------

    def append(self, stream: str, kind: str, verb: str, actor: str, time_us: int | None = None, **facts: Any) -> Event:
        event = {
            "position": len(self.log) + 1, "stream": stream, "kind": kind, "verb": verb, "actor": actor,
            "time_us": self.now_us if time_us is None else time_us, **facts,
        }  # fmt: skip
        self.log.append(event)
        return event

    def events(self, stream: str) -> list[Event]:
        return [event for event in self.log if event["stream"] == stream]

    def streams(self) -> list[str]:
        return list(dict.fromkeys(event["stream"] for event in self.log if event["kind"] != "access"))

    def state(self, stream: str, position: int | None = None, time_us: int | None = None) -> State | None:
        """Fold a stream: to its end, to a position, or to what had taken effect by a time."""
        found: State | None = None
        latest_us = -(2**63)
        for event in self.events(stream):
            latest_us = max(latest_us, event["time_us"])
            if (position is not None and event["position"] > position) or (time_us is not None and latest_us > time_us):
                break
            found = _folded(found, event, latest_us)
        return found

    # --- what callers may see -----------------------------------------------------------------------------------------

    def sees(self, token: Token, state: State | None) -> bool:
        return (
            state is not None
            and (token.sees_all or state["user"] == token.user)
            and token.project in (None, state["project"])
        )

    def found(self, token: Token, id: str, family: str) -> State:
        """The resource that exists for a reader."""
        state = self.state(id)
        if state is None or state["kind"] not in FAMILIES[family] or state["deleted"] or not self.sees(token, state):
            raise Refused(404, "not_found")
        if state["erased"]:
            raise Refused(410, "erased")
        return state

    def found_then(self, token: Token, id: str, family: str, **at: int) -> State:
        """The resource as it was at a point in history."""
        now = self.state(id)
        if now is not None and now["kind"] in FAMILIES[family] and now["erased"] and self.sees(token, now):
            raise Refused(410, "erased")
        then = None if now is not None and now["erased"] else self.state(id, **at)
        if then is None or then["kind"] not in FAMILIES[family] or then["deleted"] or not self.sees(token, then):
            raise Refused(404, "not_found")
        return then

    def rows(self, token: Token, kind: str, **at: int) -> list[State]:
        """Every resource of a kind that a reader may see in lists, newest first."""
        found = []
        for stream in self.streams():
            now, then = self.state(stream), self.state(stream, **at)
            if now is None or then is None or now["erased"] or then["deleted"]:
                continue
            if then["kind"] == kind and self.sees(token, then):
                found.append(then)
        return sorted(found, key=lambda state: (state["created_us"], state["id"]), reverse=True)

    # --- commands -----------------------------------------------------------------------------------------------------

    def create(self, token: Token, kind: str, id: str, body: dict[str, Any]) -> None:
        if self.events(id):
            raise Refused(409, "already_exists")
        asked = body.get("status", "created")
        reason = body.get("stop_reason")
        if reason is not None and (asked not in ENDS or (asked == "cancelled" and reason != "cancelled")):
            raise Refused(422, "validation_error")
        facts = {name: body.get(name) for name in SAID if name != "project"} | {"project": token.project}
        way = [
            status
            for status in ("created", "pending", "running")
            if status in STATUSES["run" if kind == "run" else "job"]
        ]
        way = way[: way.index(asked) + 1] if asked in way else [*way, asked]
        for status in way:
            more: dict[str, Any] = {"stop_reason": reason} if status == asked and asked in ENDS else {}
            self.append(id, kind, status, token.user, body.get("time_us"), **(facts if status == "created" else more))

    def create_batch(self, token: Token, id: str, runs: list[str], body: dict[str, Any], agents: list[str]) -> None:
        if self.events(id):
            raise Refused(409, "already_exists")
        facts = {name: body.get(name) for name in SAID if name != "project"} | {"project": token.project}
        self.append(id, "batch", "created", token.user, **facts, runs=runs)
        self.append(id, "batch", "pending", token.user)
        for run, agent in zip(runs, agents, strict=True):
            metadata = {"batch_id": id, "request": {"agent_id": agent}}
            self.append(run, "run", "created", token.user, agent_id=agent, background=True, batch_id=id,
                        project=token.project, metadata=metadata)  # fmt: skip
        self.append(id, "batch", "running", token.user)

    def present(self, token: Token, id: str, family: str, etags: list[int] | None = None) -> State:
        """The resource that a command may change."""
        state = self.state(id)
        if state is None or not self.sees(token, state) or state["kind"] not in FAMILIES[family] or state["deleted"]:
            raise Refused(404, "not_found")
        if state["erased"]:
            raise Refused(410, "erased")
        if etags is not None and state["etag"] not in etags:
            raise Refused(412, "version_mismatch")
        return state

    def change(self, token: Token, id: str, family: str, body: dict[str, Any], etags: list[int] | None = None) -> None:
        state = self.present(token, id, family, etags)
        asked, reason = body.get("status"), body.get("stop_reason")
        facts = {
            name: body[name] for name in ("metadata", "stop_reason", "total_duration_ns") if body.get(name) is not None
        }
        if asked is None:
            if reason is not None or not facts:
                raise Refused(422, "validation_error")
            self.append(id, state["kind"], "updated", token.user, body.get("time_us"), **facts)
            return
        if asked not in MOVES[state["kind"]].get(state["status"], ()):
            if (token.user, asked) not in state["refused"]:
                self.append(id, state["kind"], "refused", token.user, body.get("time_us"), asked=asked)
            raise Refused(409, "invalid_job_status_transition")
        if reason is not None and (asked not in ENDS or (asked == "cancelled" and reason != "cancelled")):
            raise Refused(422, "validation_error")
        self.append(id, state["kind"], asked, token.user, body.get("time_us"), **facts)

    def cancel(self, token: Token, id: str, family: str, etags: list[int] | None = None) -> None:
        state = self.present(token, id, family, etags)
        if state["kind"] == "batch" and state["status"] == "running":
            for run in state["runs"]:
                member = self.state(run)
                assert member is not None
                if self.is_active(member) and member["batch_id"] == id:
                    self.append(run, "run", "cancelled", token.user)
        self.change(token, id, family, {"status": "cancelled"}, etags)

    def is_active(self, run: State) -> bool:
        return not run["deleted"] and not run["erased"] and run["status"] in ("created", "running")

    def cancel_agent(self, token: Token, agent: str, asked: list[str] | None) -> dict[str, str]:
        rows = [run for run in reversed(self.rows(token, "run")) if run["agent_id"] == agent]
        if asked is not None:
            rows = [run for id in dict.fromkeys(asked) for run in rows if run["id"] == id]
        active = [run for run in rows if self.is_active(run)]
        if asked is None and not active:
            raise Refused(409, "nothing_to_cancel")
        for run in [] if asked is None else rows:
            if not self.is_active(run) and (token.user, "cancelled") not in run["refused"]:
                self.append(run["id"], "run", "refused", token.user, asked="cancelled")
        for run in active:
            self.append(run["id"], "run", "cancelled", token.user)
        return dict.fromkeys(asked or [], "failed") | {run["id"]: "cancelled" for run in active}

    def delete(self, token: Token, id: str, family: str, etags: list[int] | None = None) -> None:
        state = self.present(token, id, family, etags)
        self.append(id, state["kind"], "deleted", token.user)

    def erase(self, token: Token, id: str, family: str) -> None:
        state = self.state(id)
        if state is None or not self.sees(token, state) or state["kind"] not in FAMILIES[family]:
            raise Refused(404, "not_found")
        if state["erased"]:
            raise Refused(410, "erased")
        self.append(id, state["kind"], "erased", token.user)

    def redeliver(self, token: Token, id: str, family: str) -> None:
        state = self.state(id)
        if state is None or not self.sees(token, state) or state["deleted"]:
            raise Refused(404, "not_found")
        if state["erased"]:
            raise Refused(410, "erased")
        if state["callback_url"] is None or state["status"] not in ENDS:
            raise Refused(409, "callback_not_owed")
        self.append(id, state["kind"], "requeued", token.user)

    def note(self, token: Token, id: str, verb: str, notes: list[dict[str, Any]]) -> None:
        """Steps or messages: all of them or none."""
        state = self.present(token, id, "runs")
        known = {step: facts["status"] for step, facts in self.steps(id).items()}
        for each in notes if verb == "step" else ():
            if each.get("status") is not None and each["status"] not in STEP_MOVES.get(known.get(each["id"]), ()):
                raise Refused(409, "invalid_job_status_transition")
            known[each["id"]] = each.get("status") or known.get(each["id"], "pending")
        for each in notes:
            self.append(id, state["kind"], verb, token.user, said=each)

    def steps(self, id: str) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for event in self.events(id):
            if event["verb"] == "step":
                said = {name: value for name, value in event["said"].items() if value is not None}
                found[said["id"]] = {"status": "pending", **found.get(said["id"], {}), **said}
        return found

    def expire(self) -> list[Event]:
        """End what runs past its timeout. All at one moment: in which order is not said."""
        ended = []
        for stream in self.streams():
            state = self.state(stream)
            assert state is not None
            if state["deleted"] or state["erased"] or state["status"] != "running" or state["timeout_s"] is None:
                continue
            if state["running_us"] + round(state["timeout_s"] * 1e6) <= self.now_us:
                ended.append(
                    (stream, state["kind"], "failed" if state["kind"] == "run" else "expired", state["timeout_s"])
                )
        return [self._expired(*each) for each in ended]

    def _expired(self, stream: str, kind: str, verb: str, timeout_s: float) -> Event:
        if kind != "run":
            return self.append(stream, kind, verb, SYSTEM)
        message = f"the run was not ended within its timeout of {timeout_s:g} s"
        error = {"type": "timeout", "message": message}
        return self.append(stream, kind, verb, SYSTEM, stop_reason="error", error=error)

    # --- how it looks -------------------------------------------------------------------------------------------------

    def shown(self, state: State, family: str, **at: int) -> dict[str, Any]:
        """The object on the wire."""
        metadata = state["metadata"]
        if state["kind"] == "batch" and (counts := self.progress(state, **at))["total"]:
            metadata = {"progress": counts, **(metadata or {})}
        common = {
            "id": state["id"], "status": state["status"], "created_at": text(state["created_us"]),
            "completed_at": None if state["ended_us"] is None else text(state["ended_us"]),
            "agent_id": state["agent_id"], "background": state["background"], "metadata": metadata,
            "stop_reason": state["stop_reason"], "callback_url": state["callback_url"], "callback_sent_at": None,
            "callback_status_code": None, "callback_error": None, "ttft_ns": None,
            "total_duration_ns": state["duration_ns"],
        }  # fmt: skip
        if family == "runs":
            return common | {
                "conversation_id": state["conversation_id"], "base_template_id": None, "request_config": None
            }  # fmt: skip
        return common | {
            "user_id": state["user"], "created_by_id": state["created_by"], "last_updated_by_id": state["updated_by"],
            "updated_at": text(state["changed_us"]), "job_type": state["kind"],
        }  # fmt: skip

    def progress(self, batch: State, **at: int) -> dict[str, int]:
        counts = {"total": 0, **dict.fromkeys(STATUSES["run"], 0)}
        for stream in self.streams():
            now, then = self.state(stream), self.state(stream, **at)
            if now is None or then is None or then["deleted"]:
                continue
            if (now["batch_id"], now["user"], now["project"]) == (batch["id"], batch["user"], batch["project"]):
                counts["total"] += 1
                counts[then["status"]] += 1
        return counts


def text(time_us: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _folded(state: State | None, event: Event, latest_us: int) -> State:
    verb = event["verb"]
    if state is None:
        return _born(event)
    state["version"] += 1
    if verb == "refused":
        state["refused"].add((event["actor"], event["asked"]))
    if verb in QUIET:
        return state
    state |= {"etag": state["version"], "changed_us": latest_us}
    if verb != "requeued":
        state["updated_by"] = event["actor"]
    if verb == "deleted":
        state["deleted"] = True
    elif verb == "erased":
        state |= dict.fromkeys(SAID) | {
            "erased": event["position"],
            "refused": set(),
            "runs": [],
            "user": state["created_by"],
        }
        state["stop_reason"] = "cancelled" if state["status"] == "cancelled" else None
        state["duration_ns"] = _measured(state)
    elif verb not in ("updated", "requeued"):
        state["status"] = verb
        if verb == "running":
            state["running_us"] = latest_us
        if verb in ENDS:
            state["ended_us"] = latest_us
            state["duration_ns"] = _measured(state) if state["duration_ns"] is None else state["duration_ns"]
            state["stop_reason"] = "cancelled" if verb == "cancelled" else state["stop_reason"]
    _told(state, event)
    return state


def _told(state: State, event: Event) -> None:
    if event.get("stop_reason") is not None:
        state["stop_reason"] = event["stop_reason"]
    if event.get("total_duration_ns") is not None:
        state["duration_ns"] = event["total_duration_ns"]
    error = {} if event.get("error") is None else {"error": event["error"]}
    if event.get("metadata") is not None or error:
        state["metadata"] = {**(state["metadata"] or {}), **(event.get("metadata") or {}), **error}


def _measured(state: State) -> int | None:
    if state["running_us"] is None or state["ended_us"] is None:
        return None
    return int(state["ended_us"] - state["running_us"]) * 1000


def _born(event: Event) -> State:
    facts = {name: event.get(name) for name in SAID}
    return facts | {
        "id": event["stream"], "kind": event["kind"], "user": event["actor"], "created_by": event["actor"],
        "updated_by": event["actor"], "created_us": event["time_us"], "changed_us": event["time_us"], "version": 1,
        "etag": 1, "status": "created", "running_us": None, "ended_us": None, "duration_ns": None, "stop_reason": None,
        "deleted": False, "erased": None, "refused": set(), "runs": event.get("runs", []),
    }  # fmt: skip
