"""Steps over HTTP: recorded all or none, shown whole, found by every filter, measured and rated."""

import asyncio
import random

import pytest

from ledger import ids
from ledger.times import from_text, to_text
from tests.scratch import scratch
from tests.server.said import follow, step_id, walk
from tests.server.serving import MIDNIGHT_US, Clock, serving
from tests.server.test_errors import check_shape

FULL = {
    "status": "failed",
    "agent_id": "agent-9",
    "project_id": "project-9",
    "origin": "cli",
    "provider_id": "provider-1",
    "provider_name": "openai",
    "provider_category": "byok",
    "model": "öwl-1",
    "model_handle": "openai/öwl-1",
    "model_endpoint": "https://example.org/v1",
    "context_window_limit": 8192,
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 99,
    "cached_input_tokens": 3,
    "cache_write_tokens": 2,
    "reasoning_tokens": 1,
    "prompt_tokens_details": {"cached_tokens": 7, "cache_read_tokens": None, "mine": [1]},
    "completion_tokens_details": {"reasoning_tokens": 4},
    "stop_reason": "llm_api_error",
    "error_type": "RateLimit",
    "error_data": {"status": 429, "deep": [{"a": None}]},
    "tags": ["a", "ä"],
    "tid": "tid-1",
    "trace_id": "trace-1",
    "request_id": "request-1",
    "feedback": "negative",
}
TIMES = {
    "step_start_ns": 1,
    "step_ns": 2,
    "llm_request_start_ns": 3,
    "llm_request_ns": 4_600_000,
    "tool_execution_ns": 5,
}
EMPTY = {
    **dict.fromkeys(FULL), "status": "pending", "tags": [], "messages": [], "agent_id": "agent-1", "project_id": None,
}  # fmt: skip


@pytest.fixture
async def run(user):
    return await user.create("run", status="running")


def home(run):
    return f"/v1/runs/{run}/steps"


async def size_of(user):
    return (await user.service.app.ledger.store.head()).size


# --- recording --------------------------------------------------------------------------------------------------------


async def test_every_field_of_a_step_comes_back(user, run):
    answer = await user.post(home(run), json={"id": step_id(1), **FULL, **TIMES})
    assert answer.status == 201
    assert answer.json == {"id": step_id(1), "run_id": run, **FULL, "messages": []}
    assert answer.position == await size_of(user)
    assert (await user.get(f"/v1/steps/{step_id(1)}")).body == answer.body
    for path in (home(run), "/v1/steps/", "/v1/steps"):
        assert (await user.get(path)).json == [answer.json]


async def test_a_step_of_which_nothing_is_known_is_pending_with_nulls_and_the_run_s_agent(user, run):
    answer = await user.post(home(run), json={})
    made = answer.json["id"]
    assert ids.is_id(made, "step")
    assert answer.json == {"id": made, "run_id": run, **EMPTY}


async def test_agent_and_project_are_those_of_the_run_unless_said_also_when_the_run_s_agent_changes(user, service):
    bound = await service.user(project="project-1")
    run = await bound.create("run")
    steps = (await bound.post(home(run), json=[{}, {"agent_id": "agent-7"}, {"project_id": "project-7"}])).json
    assert [(step["agent_id"], step["project_id"]) for step in steps] == [
        ("agent-1", "project-1"), ("agent-7", "project-1"), ("agent-1", "project-7"),
    ]  # fmt: skip
    await user.service.app.ledger.append(run, "run.updated", {"agent_id": "agent-2"})
    moved = await bound.post(home(run), json={"id": steps[0]["id"], "model": "m"})
    assert moved.json["agent_id"] == "agent-2"


TOKENS = [
    ({}, {}),
    ({"prompt_tokens": 3, "completion_tokens": 4}, {"total_tokens": 7}),
    ({"prompt_tokens": 3}, {"total_tokens": 3}),
    ({"completion_tokens": 0}, {"total_tokens": 0}),
    ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 9}, {}),
    ({"total_tokens": 9}, {}),
    ({"prompt_tokens_details": {"cached_tokens": 5, "cache_read_tokens": 6}}, {"cached_input_tokens": 5}),
    ({"prompt_tokens_details": {"cached_tokens": None, "cache_read_tokens": 6}}, {"cached_input_tokens": 6}),
    ({"prompt_tokens_details": {"cache_creation_tokens": 2}}, {"cache_write_tokens": 2}),
    ({"completion_tokens_details": {"reasoning_tokens": 0}}, {"reasoning_tokens": 0}),
    ({"cached_input_tokens": 0, "prompt_tokens_details": {"cached_tokens": 5}}, {}),
    ({"cache_write_tokens": 0, "prompt_tokens_details": {"cache_creation_tokens": 5}}, {}),
    ({"reasoning_tokens": 0, "completion_tokens_details": {"reasoning_tokens": 5}}, {}),
]


@pytest.mark.parametrize(("said", "derived"), TOKENS)
async def test_tokens_that_were_not_said_are_derived_from_those_that_were(user, run, said, derived):
    step = (await user.post(home(run), json={"id": step_id(1), **said})).json
    assert step == {"id": step_id(1), "run_id": run, **EMPTY, **said, **derived}


async def test_what_is_said_later_is_added_and_the_rest_stays(user, run):
    first = {"id": step_id(1), "status": "pending", "model": "a", "prompt_tokens": 1, "error_data": {"a": 1, "b": 2}}
    await user.post(home(run), json=first)
    step = (await user.post(home(run), json={"id": step_id(1), "status": "success", "completion_tokens": 2})).json
    assert (step["status"], step["model"], step["total_tokens"]) == ("success", "a", 3)
    late = {"id": step_id(1), "model": "b", "tags": [], "error_data": {"c": 3}, "prompt_tokens": None}
    step = (await user.post(home(run), json=late)).json
    assert (step["status"], step["model"], step["error_data"]) == ("success", "b", {"c": 3})
    assert step["total_tokens"] == 3
    assert len((await user.get(home(run))).json) == 1


async def test_an_array_is_recorded_in_order_all_or_none(user, run):
    before = await size_of(user)
    body = [{"id": step_id(2), "status": "pending"}, {"id": step_id(1)}, {"id": step_id(2), "status": "success"}]
    answer = await user.post(home(run), json=body)
    assert [(step["id"], step["status"]) for step in answer.json] == [
        (step_id(2), "success"), (step_id(1), "pending"), (step_id(2), "success"),
    ]  # fmt: skip
    assert answer.position == before + 3
    answer = await user.post(home(run), json=[{"id": step_id(1), "status": "failed"}, *body])
    check_shape(answer, 409, "invalid_job_status_transition")
    assert answer.error["details"]["current_status"] == "success"
    assert answer.headers["x-should-retry"] == "false"
    assert await size_of(user) == before + 3
    assert (await user.get(f"/v1/steps/{step_id(1)}")).json["status"] == "pending"


@pytest.mark.parametrize(
    ("bad", "where"),
    [
        ({"status": "done"}, "[1].status"),
        ({"colour": 1}, "[1].colour"),
        ({"by": "x"}, "[1].by"),
        ({"request": {"digest": "", "events": 1}}, "[1].request"),
        ({"prompt_tokens": "3"}, "[1].prompt_tokens"),
        ({"feedback": "so so"}, "[1].feedback"),
        ({"stop_reason": "tired"}, "[1].stop_reason"),
        ({"tags": [1]}, "[1].tags[0]"),
        ({"time": "soon"}, "[1].time"),
        ({"messages": []}, "[1].messages"),
        (7, "[1]"),
    ],
)
async def test_a_fault_is_named_with_its_number_and_nothing_is_recorded(user, run, bad, where):
    before = await size_of(user)
    answer = await user.post(home(run), json=[{}, bad, {}])
    check_shape(answer, 422, "validation_error")
    assert [fault["where"] for fault in answer.error["details"]] == [where]
    assert await size_of(user) == before


async def test_many_ends_of_one_step_at_once_have_one_winner(user, run):
    await user.post(home(run), json={"id": step_id(1)})
    ends = [random.Random(5).choice(["success", "failed", "cancelled"]) for _ in range(60)]
    answers = await asyncio.gather(*(user.post(home(run), json={"id": step_id(1), "status": end}) for end in ends))
    statuses = [answer.status for answer in answers]
    assert (statuses.count(201), statuses.count(409)) == (1, 59)
    assert (await user.get(f"/v1/steps/{step_id(1)}")).json["status"] == ends[statuses.index(201)]


async def test_the_same_key_and_request_gets_the_first_answer_though_the_step_went_on(user, run):
    # given a step and feedback, both under keys
    began, rated = ({"Idempotency-Key": name} for name in ("began", "rated"))
    body = [{"id": step_id(1), "model": "a"}, {"id": step_id(2)}, {"id": step_id(1), "prompt_tokens": 3}]
    first = await user.post(home(run), json=body, headers=began)
    feedback = f"/v1/steps/{step_id(1)}/feedback"
    praise = await user.patch(feedback, json={"feedback": "positive"}, headers=rated)
    # when the step goes on
    await user.post(home(run), json={"id": step_id(1), "status": "success", "model": "b", "feedback": None})
    await user.patch(f"/v1/runs/{run}", json={"metadata": {"a": 1}})
    before = await size_of(user)
    again = await user.post(home(run), json=body, headers=began)
    praised = await user.patch(feedback, json={"feedback": "positive"}, headers=rated)
    # then
    assert (again.status, again.body, again.position) == (201, first.body, first.position)
    assert (praised.status, praised.body, praised.position) == (200, praise.body, praise.position)
    assert await size_of(user) == before
    check_shape(await user.post(home(run), json={}, headers=began), 409, "idempotency_conflict")


# --- feedback ---------------------------------------------------------------------------------------------------------


async def test_feedback_is_given_and_taken_back(user, run):
    await user.post(home(run), json={"id": step_id(1), "status": "success", "tags": ["old"]})
    path = f"/v1/steps/{step_id(1)}/feedback"
    for body, shown in [
        ({"feedback": "positive"}, ("positive", ["old"])),
        ({"tags": ["a", "b"]}, ("positive", ["a", "b"])),
        ({"feedback": "negative", "tags": []}, ("negative", [])),
        ({"feedback": None}, (None, [])),
    ]:
        answer = await user.patch(path, json=body)
        assert answer.status == 200
        assert (answer.json["feedback"], answer.json["tags"]) == shown
        assert (await user.get(f"/v1/steps/{step_id(1)}")).body == answer.body
        assert answer.json["status"] == "success"


async def test_feedback_that_says_nothing_or_goes_nowhere_is_refused(user, other, run, service):
    await user.post(home(run), json={"id": step_id(1)})
    path = f"/v1/steps/{step_id(1)}/feedback"
    for body in ({}, {"feedback": "great"}, {"colour": 1}, {"tags": None}, {"tags": ["a"] * 101}):
        check_shape(await user.patch(path, json=body), 422, "validation_error")
    positive = {"feedback": "positive"}
    check_shape(await other.patch(path, json=positive), 404, "not_found")
    check_shape(await user.patch(f"/v1/steps/{step_id(2)}/feedback", json=positive), 404, "not_found")
    check_shape(await user.patch("/v1/steps/x/feedback", json=positive), 422, "validation_error")
    reader = await service.user("read", id=user.id)
    check_shape(await reader.patch(path, json=positive), 403, "forbidden")


# --- one step ---------------------------------------------------------------------------------------------------------


async def test_the_etag_of_a_step_moves_with_the_step_and_no_other(user, run):
    await user.post(home(run), json=[{"id": step_id(1)}, {"id": step_id(2)}])
    path = f"/v1/steps/{step_id(1)}"
    etag = (await user.get(path)).etag
    same = await user.get(path, headers={"If-None-Match": etag})
    assert (same.status, same.body, same.etag) == (304, b"", etag)
    await user.post(home(run), json={"id": step_id(2), "status": "success"})
    assert (await user.get(path, headers={"If-None-Match": etag})).status == 304
    await user.patch(path + "/feedback", json={"feedback": "positive"})
    moved = await user.get(path, headers={"If-None-Match": etag})
    assert (moved.status, moved.json["feedback"]) == (200, "positive")
    assert moved.etag != etag


START = "2026-11-22T00:00:00Z"
START_NS = MIDNIGHT_US * 1000
SECOND = 1_000_000_000
METRICS = [
    ([{}], {"step_start_ns": START_NS, "step_ns": None}),
    ([{"status": "success"}], {"step_start_ns": START_NS, "step_ns": None}),
    ([{}, {"status": "success", "time": 5}], {"step_start_ns": START_NS, "step_ns": 5 * SECOND}),
    ([{}, {"status": "failed", "time": -5}], {"step_start_ns": START_NS, "step_ns": None}),
    ([{}, {"model": "m", "time": 3}, {"status": "cancelled", "time": 9}, {"feedback": "positive", "time": 99}],
     {"step_start_ns": START_NS, "step_ns": 9 * SECOND}),
    ([{"status": "success", "step_ns": 2 * SECOND}], {"step_start_ns": START_NS - 2 * SECOND, "step_ns": 2 * SECOND}),
    ([{"step_start_ns": 7}, {"status": "success", "time": 5}], {"step_start_ns": 7, "step_ns": 5 * SECOND}),
    ([{"step_ns": 4}], {"step_start_ns": START_NS, "step_ns": 4}),
    ([{}, {"status": "success", "step_ns": 1, "time": 5}], {"step_start_ns": START_NS + 5 * SECOND - 1, "step_ns": 1}),
    ([{**TIMES, "provider_id": "p", "agent_id": "agent-9", "project_id": "q"}],
     {**TIMES, "provider_id": "p", "agent_id": "agent-9", "project_id": "q"}),
]  # fmt: skip


@pytest.mark.parametrize(("said", "expected"), METRICS)
async def test_metrics_are_what_was_said_else_what_the_times_of_events_tell(user, said, expected):
    run = await user.create("run", base_template_id="family:1")
    for one in said:
        when = to_text(from_text(START) + one.get("time", 0) * 1_000_000)
        answer = await user.post(home(run), json={"id": step_id(1), **one, "time": when})
        assert answer.status == 201, answer.body
    assert (await user.get(f"/v1/steps/{step_id(1)}/metrics")).json == {
        "id": step_id(1), "run_id": run, "agent_id": "agent-1", "provider_id": None, "project_id": None,
        "llm_request_start_ns": None, "llm_request_ns": None, "tool_execution_ns": None,
        "base_template_id": "family:1", "template_id": None, **expected,
    }  # fmt: skip


@pytest.mark.parametrize("time", ["9999-12-31T00:00:00Z", "0001-01-01T00:00:00Z"])
async def test_times_that_no_64_bit_nanoseconds_hold_are_null(user, time):
    run = await user.create("run", status="running", time=time)
    await user.post(home(run), json={"id": step_id(1), "time": time, "status": "success", "step_ns": 2**63 - 1})
    metrics = (await user.get(f"/v1/steps/{step_id(1)}/metrics")).json
    assert (metrics["step_start_ns"], metrics["step_ns"]) == (None, 2**63 - 1)
    assert (await user.get(f"/v1/runs/{run}/metrics")).json["run_start_ns"] is None


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({}, None),
        ({"provider_request": {"a": [1]}}, ({"a": [1]}, {}, None)),
        ({"provider_response": {"é": None}}, ({}, {"é": None}, None)),
        ({"provider_request": {}, "llm_request_ns": 2_600_000}, ({}, {}, 3)),
    ],
)
async def test_the_provider_s_trace_is_what_was_recorded_or_null(user, run, said, shown):
    await user.post(home(run), json={"id": step_id(1), **said})
    answer = await user.get(f"/v1/steps/{step_id(1)}/trace")
    assert answer.status == 200
    if shown is None:
        assert answer.json is None
        return
    assert answer.json == {
        "id": step_id(1).replace("step", "provider_trace"), "step_id": step_id(1), "run_id": run,
        "agent_id": "agent-1", "created_at": "2026-11-22T00:00:00.000000Z",
        **dict(zip(("request_json", "response_json", "latency_ms"), shown, strict=True)),
    }  # fmt: skip
    assert "provider_request" not in (await user.get(f"/v1/steps/{step_id(1)}")).json


ONE_STEP = ["", "/metrics", "/trace", "/messages"]


async def test_a_step_is_seen_by_whom_its_run_is_seen_by(user, other, admin, service, run):
    bound, elsewhere = await service.user(project="p"), await service.user(project="q")
    await user.post(home(run), json={"id": step_id(1)})
    theirs = await bound.create("run")
    await bound.post(home(theirs), json={"id": step_id(2), "project_id": "q"})
    for what in ONE_STEP:
        for who, number, status in (
            (user, 1, 200), (admin, 1, 200), (other, 1, 404), (bound, 1, 404), (bound, 2, 200),
            (elsewhere, 2, 404), (admin, 2, 200), (user, 3, 404),
        ):  # fmt: skip
            answer = await who.get(f"/v1/steps/{step_id(number)}{what}")
            assert answer.status == status, (what, number, answer.body)
    assert (await admin.get("/v1/steps/")).ids == [step_id(2), step_id(1)]
    assert (await admin.get("/v1/steps/", headers={"X-Project": "p"})).ids == [step_id(2)]
    assert (await other.get("/v1/steps/")).ids == (await elsewhere.get("/v1/steps/")).ids == []
    assert (await bound.get("/v1/steps/")).ids == [step_id(2)]
    check_shape(await other.get(home(run)), 404, "not_found")


async def test_steps_of_a_deleted_run_are_hidden(user, run):
    await user.post(home(run), json={"id": step_id(1)})
    await user.delete(f"/v1/runs/{run}")
    assert (await user.get("/v1/steps/")).json == []
    for what in ONE_STEP:
        check_shape(await user.get(f"/v1/steps/{step_id(1)}{what}"), 404, "not_found")
    check_shape(await user.get(home(run)), 404, "not_found")


# --- lists ------------------------------------------------------------------------------------------------------------


async def test_steps_are_listed_newest_first_by_when_they_began(user, run):
    times = {1: "2026-01-03", 2: "2026-01-01", 3: "2026-01-02", 4: "2026-01-02"}
    await user.post(home(run), json=[{"id": step_id(number), "time": time} for number, time in times.items()])
    await user.post(home(run), json={"id": step_id(2), "status": "success", "time": "2026-02-01"})
    expected = [step_id(number) for number in (1, 4, 3, 2)]
    for path in (home(run), "/v1/steps/"):
        assert (await user.get(path)).ids == expected
        assert (await user.get(path + "?order=asc")).ids == expected[::-1]
        for order, listed in (("desc", expected), ("asc", expected[::-1])):
            for limit in range(1, 6):
                pages = await walk(user, path, "after", limit=limit, order=order)
                assert [step["id"] for page in pages for step in page] == listed
                assert await follow(user, f"{path}?limit={limit}&order={order}") == pages
                back = await walk(user, f"{path}", "before", limit=limit, order=order, after=listed[0])
                assert back[0] == (await user.get(f"{path}?order={order}&after={listed[0]}&limit={limit}")).json
            assert (await user.get(f"{path}?order={order}&before={listed[3]}&limit=2")).ids == listed[1:3]
            assert (await user.get(f"{path}?order={order}&before={listed[3]}&after={listed[0]}")).ids == listed[1:3]


async def test_a_cursor_that_is_no_step_of_the_list_is_refused(user, other, run):
    second, theirs = await user.create("run"), await other.create("run")
    await user.post(home(second), json={"id": step_id(7)})
    await other.post(home(theirs), json={"id": step_id(8)})
    for name in ("after", "before"):
        for number in (7, 8, 9):
            check_shape(await user.get(f"{home(run)}?{name}={step_id(number)}"), 400, "invalid_request")
        check_shape(await user.get(f"/v1/steps/?{name}={step_id(8)}"), 400, "invalid_request")
        check_shape(await user.get(f"/v1/steps/?{name}={run}"), 422, "validation_error")
    for query in ("limit=0", "order=up", "feedback=meh", "has_feedback=maybe", "start_date=soon", "colour=red"):
        check_shape(await user.get(f"/v1/steps/?{query}"), 422, "validation_error")
    check_shape(await user.get(f"{home(run)}?model=m"), 422, "validation_error")


AGENTS, MODELS, PROJECTS = ["agent-1", "agent-2", "ä"], ["gpt", "owl"], ["p", "q"]
TAGS, TRACES = ["red", "blue", "grün"], ["t1", "t2", "t3"]


def random_step(chance, number):
    facts = {
        "id": step_id(number), "time": to_text(MIDNIGHT_US + chance.randrange(8) * 1_000_000),
        "agent_id": chance.choice([None, *AGENTS]), "model": chance.choice([None, *MODELS]),
        "project_id": chance.choice([None, *PROJECTS]), "trace_id": chance.choice([None, *TRACES]),
        "feedback": chance.choice([None, "positive", "negative"]),
        "tags": chance.choice([None, [], chance.sample(TAGS, chance.randint(1, 3))]),
    }  # fmt: skip
    return {name: value for name, value in facts.items() if value is not None}


def random_query(chance):
    second = to_text(MIDNIGHT_US + chance.randrange(8) * 1_000_000)
    choices = {
        "start_date": [second], "end_date": [second], "model": MODELS, "agent_id": AGENTS, "project_id": PROJECTS,
        "trace_ids": TRACES, "tags": TAGS, "feedback": ["positive", "negative"], "has_feedback": ["true", "false"],
    }  # fmt: skip
    query = []
    for name in chance.sample(sorted(choices), chance.choice([0, 1, 1, 2, 2, 3])):
        many = name in {"trace_ids", "tags"}
        values = chance.sample(choices[name], chance.randint(1, 2) if many else 1)
        joined = many and chance.random() < 0.5
        query += [(name, ",".join(values))] if joined else [(name, value) for value in values]
    return query


def fits(step, began_us, query):
    def words(name):
        return {word for key, value in query if key == name for word in value.split(",")}

    one = dict(query)
    return all((
        "start_date" not in one or began_us >= from_text(one["start_date"]),
        "end_date" not in one or began_us <= from_text(one["end_date"]),
        all(step[name] == one[name] for name in ("model", "agent_id", "project_id", "feedback") if name in one),
        "has_feedback" not in one or (step["feedback"] is not None) is (one["has_feedback"] == "true"),
        not words("trace_ids") or step["trace_id"] in words("trace_ids"),
        not words("tags") or bool(words("tags") & set(step["tags"])),
    ))  # fmt: skip


@pytest.fixture(scope="module")
def world():
    """A server with 120 random steps in six runs of two users, some of them deleted; and what each user must see."""
    with scratch() as folder, asyncio.Runner() as runner:
        server = serving(folder / "l.db", Clock())
        service = runner.run(server.__aenter__())
        yield runner.run, runner.run(populate(service))
        runner.run(server.__aexit__(None, None, None))


async def populate(service):
    chance = random.Random(11)
    users = [await service.user(), await service.user(project="p")]
    admin = await service.admin()
    began: dict[str, tuple[int, int]] = {}
    shown: dict[str, list[dict]] = {user.id: [] for user in users}
    for number in range(6):
        user = users[number % 2]
        run = await user.create("run", agent_id=chance.choice(AGENTS))
        facts = [random_step(chance, 20 * number + place) for place in range(20)]
        for place, step in enumerate((await user.post(home(run), json=facts)).json):
            began[step["id"]] = (from_text(facts[place]["time"]), len(began))
            shown[user.id].append(step)
        if number == 5:
            await user.delete(f"/v1/runs/{run}")
            del shown[user.id][-20:]
    callers = [(user, shown[user.id]) for user in users] + [(admin, [step for each in shown.values() for step in each])]
    return callers, began


@pytest.mark.parametrize("seed", range(12))
def test_every_filter_of_steps_agrees_with_brute_force(world, seed):
    run, (callers, began) = world
    chance = random.Random(seed)
    found = 0
    for _ in range(25):
        user, steps = chance.choice(callers)
        query, order = random_query(chance), chance.choice(["asc", "desc"])
        expected = [step for step in steps if fits(step, began[step["id"]][0], query)]
        expected.sort(key=lambda step: began[step["id"]], reverse=order == "desc")
        cursor, limit = chance.choice(steps), chance.choice([3, 10, 1000])
        place = began[cursor["id"]]
        way = chance.choice(["", "after", "before"])
        if way:
            later = [step for step in expected if (began[step["id"]] > place) == ((order == "asc") == (way == "after"))]
            expected = [step for step in later if step is not cursor]
        page = expected[-limit:] if way == "before" else expected[:limit]
        asked = [*query, ("order", order), ("limit", limit), *([(way, cursor["id"])] if way else [])]
        text = "&".join(f"{name}={value}".replace("ä", "%C3%A4").replace("ü", "%C3%BC") for name, value in asked)
        answer = run(user.get(f"/v1/steps/?{text}"))
        assert answer.status == 200, (asked, answer.body)
        assert answer.json == page, asked
        assert (answer.next_path is not None) == (len(expected) > limit)
        found += bool(page)
    assert found > 5
