"""Every list filter, order, cursor, limit and as_of, in random combinations, against brute force over folded states."""

import asyncio
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import event as note
from hypothesis import strategies as st

from ledger.times import to_text
from tests.scratch import scratch
from tests.server.histories import (
    AGENTS,
    CONVERSATIONS,
    SECOND_US,
    SPAN_S,
    START_US,
    STOPS,
    TEMPLATES,
    USERS,
    any_time,
    history,
    record,
    typed_id,
)  # fmt: skip
from tests.server.oracle import ACTIVE, Caller, Log, expected, kind_of, shown
from tests.server.serving import Clock, serving

JOB_STATUSES = ["created", "pending", "running", "completed", "failed", "cancelled", "expired"]
RUN_STATUSES = ["created", "running", "completed", "failed", "cancelled"]
SETTINGS = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
SILENCES = ["0.5", "5", "12", "30", "59.5", "100"]
"""Seconds; the clock stands a while after the creations."""
NOW_US = START_US + (SPAN_S + 10) * SECOND_US
DURATIONS = [str(number * 1_000_000_000) for number in range(6)]


class World:
    """A server with a random history, all its streams, and everybody who may ask."""

    def __init__(self, runner, service):
        self.run = runner.run
        self.service = service

    async def make(self, seed):
        ledger = self.service.app.ledger
        admin = await self.service.admin()
        known = {name: (await self.service.user(id=name), name) for name in USERS}
        self.admin = admin
        self.position = await record(ledger, history(seed, jobs=120, runs=150, batches=40))
        await self.refresh()
        await self.service.app.engine.wait_for(self.position)
        self.callers: list[tuple] = [(admin, {}, Caller(None))] * 6 + [
            (admin, {"X-Project": "project-p"}, Caller(None, "project-p"))
        ]
        for user, name in known.values():
            self.callers += [(user, {}, Caller(name)), (user, {"X-Project-Id": "project-q"}, Caller(name, "project-q"))]
            self.callers.append((admin, {"user_id": name}, Caller(name)))

    async def refresh(self):
        events = await self.service.app.ledger.store.scan(0, 100_000)
        self.log, self.last = Log(events), events[-1].position


@pytest.fixture(scope="module", params=[1, 2], ids=["history-1", "history-2"])
def world(request):
    with scratch() as folder, asyncio.Runner() as runner:
        server = serving(folder / "ledger.db", Clock(NOW_US))
        world = World(runner, runner.run(server.__aenter__()))
        runner.run(world.make(request.param))
        yield world
        runner.run(server.__aexit__(None, None, None))


times = st.integers(-2, SPAN_S * 2).map(lambda second: to_text(START_US + second * SECOND_US))
flags = st.sampled_from(["true", "false"])


@st.composite
def some(draw, /, most, **strategies):
    """A few of many parameters, in any order: with all at once hardly a row would fit."""
    count = draw(st.sampled_from([1, 1, 0, 2, 1, 2, most]))
    names = draw(st.lists(st.sampled_from(sorted(strategies)), max_size=min(count, len(strategies)), unique=True))
    return [(name, draw(strategies[name])) for name in names]


def statuses(known):
    """One status, a comma list, or a repeated parameter, under either name."""
    chosen = st.lists(st.sampled_from(known), min_size=1, max_size=3, unique=True)
    names = st.sampled_from(["status", "statuses"])

    def spelled(name, words, together):
        return [(name, ",".join(words))] if together else [(name, word) for word in words]

    lists = st.builds(spelled, names, chosen, st.booleans())
    return st.just([]) | lists


JOB_FILTERS = some(
    5,
    source_id=st.sampled_from(["source-a", "source-b", "7"]),
    folder_id=st.just("source-a"),
    active=flags,
    agent_id=st.sampled_from([*AGENTS, "nobody"]),
    stop_reason=st.sampled_from([*STOPS, "cancelled"]),
    background=flags,
    created_after=times,
    created_before=times,
    stuck_for=st.sampled_from(SILENCES),
)
RUN_FILTERS = some(
    5,
    agent_id=st.sampled_from(AGENTS),
    agent_ids=st.sampled_from(["agent-a", "agent-a,agent-b", "agent-b,nobody"]),
    active=flags,
    background=flags,
    stop_reason=st.sampled_from([*STOPS, "cancelled"]),
    conversation_id=st.sampled_from(CONVERSATIONS[1:]),
    template_family=st.sampled_from(TEMPLATES[1:]),
    project_id=st.sampled_from(["project-p", "project-q"]),
    start_date=times,
    end_date=times,
    duration_percentile=st.sampled_from(["1", "25", "50", "90", "100"]),
    order_by=st.sampled_from(["duration", "created_at"]),
    stuck_for=st.sampled_from(SILENCES),
)
ROUTES = {
    "/v1/jobs/": (JOB_FILTERS, JOB_STATUSES, ["", "", "job", "run", "batch"]),
    "/v1/jobs/active": (some(1, source_id=st.sampled_from(["source-a", "source-b"])), [], [""]),
    "/v1/runs/": (RUN_FILTERS, RUN_STATUSES, [""]),
    "/v1/_internal_runs/": (RUN_FILTERS, RUN_STATUSES, [""]),
    "/v1/runs/active": (RUN_FILTERS, RUN_STATUSES, [""]),
    "/v1/messages/batches": (some(1, stuck_for=st.sampled_from(SILENCES)), [], [""]),
}


@st.composite
def queries(draw, world):
    """A list request: its path, its parameters, and who asks."""
    path = draw(st.sampled_from(list(ROUTES)))
    user, headers, caller = draw(st.sampled_from(world.callers))
    filters, known, types = ROUTES[path]
    asked = list(draw(filters)) + (draw(statuses(known)) if known and draw(st.integers(0, 2)) == 0 else [])
    names = {name for name, _ in asked}
    if {"source_id", "folder_id"} <= names:
        asked = [pair for pair in asked if pair[0] != "folder_id"]
    if job_type := draw(st.sampled_from(types)):
        asked.append(("job_type", job_type))
    kind = kind_of(path, dict(asked))
    every = [state.id for state in world.log.now.values() if state.kind == kind]
    mine = [id for id in every if caller.sees(world.log.now[id])] or every
    rows = st.sampled_from(every if draw(st.integers(0, 9)) == 0 else mine)
    if "runs" in path and draw(st.integers(0, 19)) == 0:
        asked.append(("run_id", draw(rows)))
    if "runs" in path and draw(st.integers(0, 4)) == 0 and "order_by" not in names:
        asked.append(("duration_value", draw(st.sampled_from(DURATIONS))))
        asked += draw(st.sampled_from([[], *([("duration_operator", word)] for word in ("gt", "lt", "eq"))]))
    asked += draw(some(2, order=st.sampled_from(["asc", "desc"]), ascending=flags))
    asked += draw(some(3, limit=st.integers(1, 12).map(str), after=rows, before=rows))
    if draw(st.integers(0, 2)) == 0:
        asked.append(("as_of", draw(st.integers(0, world.last).map(str) | times)))
    return path, asked, (user, headers, caller)


def without_progress(row):
    """A batch without what is counted of its runs on reading."""
    metadata = {name: value for name, value in (row["metadata"] or {}).items() if name != "progress"}
    return {**row, "metadata": metadata or None}


@settings(SETTINGS, max_examples=600)
@given(data=st.data())
def test_a_list_says_what_filter_sort_and_slice_over_all_folded_states_say(world, data):
    # given
    path, asked, (user, headers, caller) = data.draw(queries(world))
    # when
    answer = world.run(user.get(path, params=asked, headers=headers))
    # then
    status, page, more = expected(world.log, path, asked, caller, NOW_US)
    assert answer.status == status, answer.body
    if status != 200:
        return
    as_run = "runs" in path
    note(f"rows: {min(len(page), 3)}, cursors: {sum(name in ('after', 'before') for name, _ in asked)}")
    wanted = [shown(state, as_run=as_run) for state in page]
    assert answer.ids == [row["id"] for row in wanted]
    rows = [without_progress(row) if row.get("job_type") == "batch" else row for row in answer.json]
    assert [{name: row[name] for name in want} for row, want in zip(rows, wanted, strict=True)] == wanted
    assert (answer.next_path is not None) == more


@settings(SETTINGS, max_examples=60)
@given(data=st.data())
def test_a_resource_as_of_any_point_is_what_its_events_up_to_there_say(world, data):
    # given
    state = data.draw(st.sampled_from(list(world.log.now.values())))
    at = data.draw(st.integers(0, world.last).map(str) | times)
    user, headers, caller = data.draw(st.sampled_from(world.callers))
    path = "/v1/runs/" if state.kind == "run" else "/v1/jobs/"
    # when
    answer = world.run(user.get(f"{path}{state.id}", params={"as_of": at}, headers=headers))
    # then
    one = Log(world.log.streams[state.id])
    _, found, _ = expected(one, path, [("as_of", at), ("job_type", state.kind)], caller)
    assert answer.status == (200 if found else 404)
    for then in found:
        wanted = shown(then, as_run=then.kind == "run")
        row = without_progress(answer.json) if then.kind == "batch" else answer.json
        assert {name: row[name] for name in wanted} == wanted
        assert answer.etag == f'"{then.etag}"'


@pytest.mark.parametrize("seed", range(6))
def test_a_walk_while_rows_are_written_misses_none_that_was_there_and_shows_none_twice(world, seed):
    world.run(walk_while_writing(world, random.Random(f"walk {seed}")))


async def walk_while_writing(world, chance):
    # given
    path = chance.choice(["/v1/jobs/", "/v1/runs/"])
    order = chance.choice(["asc", "desc"])
    asked = [("active", "true"), ("order", order)]
    _, before, _ = expected(world.log, path, [*asked, ("limit", "1000")], Caller(None))
    touched = {state.id for state in before if chance.random() < 0.2}
    kind, ledger = path[4:-2], world.service.app.ledger
    writes = [(typed_id(chance, kind), f"{kind}.created", {"user_id": USERS[0], "agent_id": AGENTS[0]}, USERS[0],
               any_time(chance)) for _ in range(60)]  # fmt: skip
    writes += [(id, f"{kind}.deleted", {}, USERS[0], START_US) for id in touched]
    chance.shuffle(writes)
    # when
    writer = asyncio.create_task(record(ledger, writes))
    seen, last = [], None
    while page := (await world.admin.get(path, params=[*asked, ("limit", "4"), *(last or ())])).json:
        seen += page
        last = [("after", page[-1]["id"])]
    await writer
    await world.service.app.engine.wait_for(ledger.size)
    await world.refresh()
    # then
    found = [row["id"] for row in seen]
    assert len(found) == len(set(found))
    assert {state.id for state in before} - touched <= set(found)
    assert {row["status"] for row in seen} <= set(ACTIVE)
    keys = [(row["created_at"], row["id"]) for row in seen]
    assert keys == sorted(keys, reverse=order == "desc")
