"""Lists by brute force: fold every stream, filter, sort and slice in Python, as the contract says (3, Lists)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ledger import state as states
from ledger.events import Recorded
from ledger.state import State
from ledger.times import from_text, to_text

ACTIVE = ("created", "running")
Asked = list[tuple[str, str]]


class Log:
    """All streams of resources, and every resource as it is now."""

    def __init__(self, events: Iterable[Recorded]) -> None:
        self.streams: dict[str, list[Recorded]] = {}
        for event in events:
            if not event.type.startswith("access."):
                self.streams.setdefault(event.stream, []).append(event)
        folded = ((stream, states.fold(events)) for stream, events in self.streams.items())
        self.now: dict[str, State] = {stream: state for stream, state in folded if state is not None}


def kind_of(path: str, asked: dict[str, str]) -> str:
    if "batches" in path:
        return "batch"
    return "run" if "runs" in path else asked.get("job_type", "job")


def words(asked: Asked, *names: str) -> list[str] | None:
    """The values of repeated parameters and comma lists; None when there is none."""
    found = [value.split(",") for name, value in asked if name in names]
    return [word for part in found for word in part] if found else None


class Caller:
    """Whose rows are asked for: ``user`` None is an admin who sees all; ``project`` None is any."""

    def __init__(self, user: str | None, project: str | None = None) -> None:
        self.user = user
        self.project = project

    def sees(self, state: State) -> bool:
        return self.user in (None, state.user_id) and self.project in (None, state.project_id)


class Page(NamedTuple):
    """What a list must answer: the status, the rows in their order, and whether there is more behind them."""

    status: int
    rows: list[State]
    more: bool


def expected(log: Log, path: str, asked: Asked, caller: Caller, now_us: int = 0) -> Page:
    """The page that the contract asks for. ``now_us``: what the server's clock says."""
    one = dict(asked)
    kind = kind_of(path, one)
    project = one.get("project_id")
    if caller.project is not None and project not in (None, caller.project):
        return Page(404, [], False)
    by_duration = one.get("order_by") == "duration"
    if "as_of" in one and (by_duration or "duration_percentile" in one or "stuck_for" in one):
        return Page(400, [], False)
    caller = Caller(caller.user, caller.project or project)
    today = {id: state for id, state in log.now.items() if state.kind == kind}
    sort = {id: ((_ns(state) if by_duration else state.created_us), id) for id, state in today.items()}
    cursors = {name: one[name] for name in ("after", "before") if name in one}
    for cursor in cursors.values():
        if cursor not in today or not caller.sees(today[cursor]):
            return Page(400, [], False)
    rows = [state for state in _then(log, kind, one) if caller.sees(state)]
    rows = [state for state in rows if _matches(state, path, asked, one)]
    if "stuck_for" in one:
        rows = [state for state in rows if _is_stuck(log, state, now_us - float(one["stuck_for"]) * 1e6)]
    rows = _percentile(rows, one)
    descending = one["order"] == "desc" if "order" in one else not _ascending(path, one)
    rows.sort(key=lambda state: sort[state.id], reverse=descending)
    if after := cursors.get("after"):
        rows = [
            state for state in rows if (sort[state.id] < sort[after] if descending else sort[state.id] > sort[after])
        ]
    if before := cursors.get("before"):
        rows = [
            state for state in rows if (sort[state.id] > sort[before] if descending else sort[state.id] < sort[before])
        ]
    limit = int(one.get("limit", 50 if path.endswith("active") else 100))
    page = rows[-limit:] if before and not after else rows[:limit]
    return Page(200, page, len(rows) > limit)


def _ascending(path: str, one: dict[str, str]) -> bool:
    return one["ascending"] == "true" if "ascending" in one else path.endswith("active")


def _ns(state: State) -> int:
    return -1 if state.duration_ns is None else state.duration_ns


def _then(log: Log, kind: str, one: dict[str, str]) -> Iterator[State]:
    """Every resource of the kind that existed at the asked point and was not deleted, as it was."""
    at = one.get("as_of")
    for id, state in log.now.items():
        then: State | None = state
        if state.kind == kind and at is not None:
            position = {"position": int(at)} if at.isdigit() else {"time_us": from_text(at)}
            then = states.as_of(log.streams[id], **position)
        if state.kind == kind and then is not None and then.deleted_us is None:
            yield then


def _matches(state: State, path: str, asked: Asked, one: dict[str, str]) -> bool:
    source = (state.metadata or {}).get("source_id")
    statuses, agents = words(asked, "status", "statuses"), words(asked, "agent_ids")
    tests = [
        state.status in ACTIVE or not (path.endswith("active") or one.get("active") == "true"),
        statuses is None or state.status in statuses,
        agents is None or state.agent_id in agents,
        all(source == value for name, value in asked if name in ("source_id", "folder_id")),
        "background" not in one or state.background is (one["background"] == "true"),
        "created_after" not in one or state.created_us > from_text(one["created_after"]),
        "created_before" not in one or state.created_us < from_text(one["created_before"]),
        "start_date" not in one or state.created_us >= from_text(one["start_date"]),
        "end_date" not in one or state.created_us <= from_text(one["end_date"]),
        "template_family" not in one or state.base_template_id == one["template_family"],
        "run_id" not in one or state.id == one["run_id"],
        _duration_fits(state.duration_ns, one),
    ]
    equal = ("agent_id", "stop_reason", "conversation_id")
    return all(tests) and all(getattr(state, name) == one[name] for name in equal if name in one)


def _is_stuck(log: Log, state: State, since_us: float) -> bool:
    """Whether it has not ended and has been silent since then, and so have a batch's own runs."""
    signs = [state.effective_us]
    if state.kind == "batch":
        signs += [run.effective_us for run in log.now.values() if _is_run_of(run, state) and run.deleted_us is None]
    return state.status in ("created", "pending", "running") and max(signs) <= since_us


def _is_run_of(run: State, batch: State) -> bool:
    return (run.batch_id, run.user_id, run.project_id) == (batch.id, batch.user_id, batch.project_id)


def _duration_fits(duration_ns: int | None, one: dict[str, str]) -> bool:
    if "duration_value" not in one:
        return True
    if duration_ns is None:
        return False
    value, operator = int(one["duration_value"]), one.get("duration_operator", "gt")
    return {"gt": duration_ns > value, "lt": duration_ns < value, "eq": duration_ns == value}[operator]


def _percentile(rows: list[State], one: dict[str, str]) -> list[State]:
    """Keep those that took at least as long as the asked percentile (nearest rank) of all that match."""
    if "duration_percentile" not in one:
        return rows
    durations = sorted(state.duration_ns for state in rows if state.duration_ns is not None)
    rank = -(-len(durations) * int(one["duration_percentile"]) // 100)
    return [state for state in rows if state.duration_ns is not None and state.duration_ns >= durations[rank - 1]]


def shown(state: State, *, as_run: bool) -> dict[str, Any]:
    """What a row must say of a state."""
    facts = {
        "id": state.id,
        "status": state.status,
        "agent_id": state.agent_id,
        "created_at": to_text(state.created_us),
        "completed_at": None if state.ended_us is None else to_text(state.ended_us),
        "stop_reason": state.stop_reason,
        "metadata": state.metadata,
        "background": state.background,
        "total_duration_ns": state.duration_ns,
        "ttft_ns": state.ttft_ns,
    }
    if as_run:
        return facts | {"conversation_id": state.conversation_id, "base_template_id": state.base_template_id}
    return facts | {"updated_at": to_text(state.changed_us), "job_type": state.kind, "user_id": state.user_id}
