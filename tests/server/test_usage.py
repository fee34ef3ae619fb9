"""What a run used: tokens summed over all its steps, or told of the whole; its time, steps and tools; and filters."""

import asyncio
import random

import pytest

from tests.scratch import scratch
from tests.server.said import step_id, text
from tests.server.serving import Clock, serving
from tests.server.test_errors import check_shape

COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_input_tokens", "cache_write_tokens",
          "reasoning_tokens")  # fmt: skip
NOTHING = {**dict.fromkeys(COUNTS), "prompt_tokens_details": None, "completion_tokens_details": None}
ZERO = {**NOTHING, "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "step_count": 0}


@pytest.fixture
async def run(user):
    return await user.create("run", status="running")


async def usage_of(user, run):
    answer = await user.get(f"/v1/runs/{run}/usage")
    assert answer.status == 200, answer.body
    return answer.json


def details(cached=None, read=None, written=None):
    return {"cached_tokens": cached, "cache_read_tokens": read, "cache_creation_tokens": written}


async def test_a_run_without_steps_used_nothing(user, run):
    assert await usage_of(user, run) == ZERO


async def test_usage_sums_all_steps_also_when_there_are_more_than_a_page_of_them(user, run):
    chance = random.Random(1)
    steps = [
        {name: chance.randrange(10**6) for name in ("prompt_tokens", "completion_tokens", "cached_input_tokens")}
        | {"prompt_tokens_details": details(chance.randrange(9), chance.randrange(9), chance.randrange(9)),
           "completion_tokens_details": {"reasoning_tokens": chance.randrange(9)}}
        for _ in range(1200)
    ]  # fmt: skip
    for start in range(0, 1200, 400):
        assert (await user.post(f"/v1/runs/{run}/steps", json=steps[start : start + 400])).status == 201

    def total(*path):
        found = 0
        for step in steps:
            for name in path:
                step = step[name]  # noqa: PLW2901 - it goes down the path
            found += step
        return found

    written = total("prompt_tokens_details", "cache_creation_tokens")
    reasoning = total("completion_tokens_details", "reasoning_tokens")
    assert await usage_of(user, run) == {
        "prompt_tokens": total("prompt_tokens"),
        "completion_tokens": total("completion_tokens"),
        "total_tokens": total("prompt_tokens") + total("completion_tokens"),
        "step_count": 1200,
        "cached_input_tokens": total("cached_input_tokens"),
        "cache_write_tokens": written,
        "reasoning_tokens": reasoning,
        "prompt_tokens_details": details(
            total("prompt_tokens_details", "cached_tokens"),
            total("prompt_tokens_details", "cache_read_tokens"),
            written,
        ),
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


WHOLE = [
    ([], {"prompt_tokens": 5}, {**ZERO, "prompt_tokens": 5, "total_tokens": 5}),
    ([], {"prompt_tokens": 5, "completion_tokens": 6, "step_count": 3},
     {**ZERO, "prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11, "step_count": 3}),
    ([], {"total_tokens": 7}, {**ZERO, "total_tokens": 7}),
    ([], {"prompt_tokens": 5, "total_tokens": 50}, {**ZERO, "prompt_tokens": 5, "total_tokens": 50}),
    ([{}], None, {**NOTHING, "step_count": 1}),
    ([{}, {"model": "m"}], {"prompt_tokens": 5, "step_count": 9},
     {**NOTHING, "prompt_tokens": 5, "total_tokens": 5, "step_count": 2}),
    ([{"prompt_tokens": 2}, {}], {"prompt_tokens": 99}, {**NOTHING, "prompt_tokens": 2, "total_tokens": 2,
                                                        "step_count": 2}),
    ([{"prompt_tokens": 0}], None, {**NOTHING, "prompt_tokens": 0, "total_tokens": 0, "step_count": 1}),
    ([], {"cached_input_tokens": 4, "cache_write_tokens": 3, "reasoning_tokens": 2},
     {**ZERO, "cached_input_tokens": 4, "cache_write_tokens": 3, "reasoning_tokens": 2,
      "prompt_tokens_details": details(4, None, 3), "completion_tokens_details": {"reasoning_tokens": 2}}),
    ([{"prompt_tokens_details": {"cache_read_tokens": 6}}], {"cached_input_tokens": 4},
     {**NOTHING, "step_count": 1, "cached_input_tokens": 6, "prompt_tokens_details": details(None, 6)}),
    ([{"cached_input_tokens": 0}], None,
     {**NOTHING, "step_count": 1, "cached_input_tokens": 0, "prompt_tokens_details": details(0)}),
]  # fmt: skip


@pytest.mark.parametrize(("steps", "told", "expected"), WHOLE)
async def test_what_no_step_counts_is_what_was_told_of_the_whole_run_else_null(user, run, steps, told, expected):
    if steps:
        await user.post(f"/v1/runs/{run}/steps", json=steps)
    if told is not None:
        receipt = await user.service.app.ledger.append(run, "run.updated", {"usage": told})
        await user.service.app.engine.wait_for(receipt.position)
    assert await usage_of(user, run) == expected


async def test_usage_told_again_replaces_what_was_told_before(user, run):
    ledger = user.service.app.ledger
    await ledger.append(run, "run.updated", {"usage": {"prompt_tokens": 5, "reasoning_tokens": 1}})
    receipt = await ledger.append(run, "run.updated", {"usage": {"prompt_tokens": 6}})
    await ledger.append(run, "run.updated", {"metadata": {"a": 1}})
    await user.service.app.engine.wait_for(receipt.position + 1)
    assert await usage_of(user, run) == {**ZERO, "prompt_tokens": 6, "total_tokens": 6}


async def test_a_step_that_reports_late_counts_once(user, run):
    await user.post(f"/v1/runs/{run}/steps", json={"id": step_id(1), "prompt_tokens": 1})
    await user.post(f"/v1/runs/{run}/steps", json={"id": step_id(1), "status": "success", "prompt_tokens": 7})
    used = await usage_of(user, run)
    assert (used["prompt_tokens"], used["total_tokens"], used["step_count"]) == (7, 7, 1)


def calls(*names):
    made = [{"name": name, "arguments": "{}", "tool_call_id": f"c{number}"} for number, name in enumerate(names)]
    return {"message_type": "tool_call_message", "tool_call": made[0], "tool_calls": made}


async def test_metrics_tell_time_steps_and_each_tool_once_by_its_first_call(user, clock):
    run = await user.create("run", base_template_id="family:1")
    path = f"/v1/runs/{run}/metrics"
    created_ns = clock.now_us * 1000
    assert (await user.get(path)).json == {
        "id": run, "agent_id": "agent-1", "project_id": None, "run_start_ns": created_ns, "run_ns": None,
        "num_steps": 0, "tools_used": [], "base_template_id": "family:1", "template_id": None,
    }  # fmt: skip
    clock.advance(2)
    await user.patch(f"/v1/runs/{run}", json={"status": "running"})
    await user.post(f"/v1/runs/{run}/steps", json=[{}, {}, {}])
    request = {"message_type": "approval_request_message", "tool_call": calls("zebra")["tool_call"]}
    part = {"message_type": "tool_call_message", "tool_call": {"arguments": "{"}}
    said = [calls("owl", "bär", "äpfel", "bär"), text(1), part, calls("ant"), calls("owl"), request]
    assert (await user.post(f"/v1/runs/{run}/messages", json=said)).status == 201
    clock.advance(3)
    await user.patch(f"/v1/runs/{run}", json={"status": "completed"})
    found = (await user.get(path)).json
    assert (found["run_start_ns"], found["run_ns"]) == (created_ns + 2 * 10**9, 3 * 10**9)
    assert found["num_steps"] == 3
    assert found["tools_used"] == ["owl", "bär", "äpfel", "ant", "zebra"]


async def test_usage_and_metrics_are_seen_by_whom_the_run_is_seen_by(user, other, run):
    for what in ("usage", "metrics"):
        check_shape(await other.get(f"/v1/runs/{run}/{what}"), 404, "not_found")
        check_shape(await user.get(f"/v1/runs/{run}/{what}?colour=red"), 422, "validation_error")
        check_shape(await user.get(f"/v1/runs/x/{what}"), 422, "validation_error")
    await user.delete(f"/v1/runs/{run}")
    for what in ("usage", "metrics"):
        check_shape(await user.get(f"/v1/runs/{run}/{what}"), 404, "not_found")


# --- GET /v1/runs by steps and tools ----------------------------------------------------------------------------------

TOOLS = ["look", "run", "öl", "a,b"]


@pytest.fixture(scope="module")
def world():
    """A server with 60 runs of up to four steps and any of three tools, and what is known of each."""
    with scratch() as folder, asyncio.Runner() as runner:
        server = serving(folder / "l.db", Clock(step_us=1))
        service = runner.run(server.__aenter__())
        yield runner.run, *runner.run(populate(service))
        runner.run(server.__aexit__(None, None, None))


async def populate(service):
    chance, user, known = random.Random(4), await service.user(), []
    for _ in range(60):
        run = await user.create("run", status=chance.choice(["created", "running", "completed"]))
        steps, tools = chance.randrange(5), chance.sample(TOOLS[:3], chance.randrange(3))
        if steps:
            await user.post(f"/v1/runs/{run}/steps", json=[{}] * steps)
        if tools:
            await user.post(f"/v1/runs/{run}/messages", json=calls(*tools))
        known.append((run, steps, set(tools), (await user.get(f"/v1/runs/{run}")).json["status"]))
    return user, known


COMPARE = {"eq": int.__eq__, "gte": int.__ge__, "lte": int.__le__}


@pytest.mark.parametrize("seed", range(8))
def test_runs_by_steps_and_tools_agree_with_brute_force(world, seed):
    run, user, known = world
    chance, sizes = random.Random(seed), set()
    for _ in range(20):
        query, expected = [], known[::-1]
        if chance.random() < 0.7:
            count, operator = chance.randrange(6), chance.choice([None, "eq", "gte", "lte"])
            query.append(f"step_count={count}")
            query += [f"step_count_operator={operator}"] if operator else []
            expected = [row for row in expected if COMPARE[operator or "eq"](row[1], count)]
        if chance.random() < 0.7:
            tools = chance.sample([*TOOLS[:3], "none"], chance.randint(1, 2))
            query += [f"tools_used={tool}" for tool in tools]
            expected = [row for row in expected if row[2] & set(tools)]
        if chance.random() < 0.3:
            query.append("statuses=completed")
            expected = [row for row in expected if row[3] == "completed"]
        limit = chance.choice([2, 7, 1000])
        path = "/v1/runs/?" + "&".join([*query, f"limit={limit}"]).replace("ö", "%C3%B6")
        answer = run(user.get(path))
        assert answer.status == 200, answer.body
        assert answer.ids == [row[0] for row in expected[:limit]], path
        assert (answer.next_path is not None) == (len(expected) > limit)
        sizes.add(len(answer.ids))
    assert len(sizes) > 3


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("step_count_operator=eq", 422), ("step_count=-1", 422), ("step_count=x", 422),
        ("step_count=1&step_count_operator=gt", 422), ("step_count=1&as_of=1", 200), ("tools_used=look&as_of=1", 200),
        ("step_count=9223372036854775808", 422), ("step_count=0&step_count_operator=gte", 200),
    ],
)  # fmt: skip
async def test_what_cannot_be_asked_of_steps_and_tools_is_refused(user, run, query, status):
    answer = await user.get(f"/v1/runs/?{query}")
    assert answer.status == status
    if status != 200:
        check_shape(answer, status, {400: "invalid_request", 422: "validation_error"}[status])
