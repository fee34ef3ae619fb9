"""Runs over HTTP: the 17 properties, their own chain of statuses, and the name that the old server used inside."""

import pytest

from ledger import ids

# Seed 001, word for word.
PROPERTIES = {
    *("id", "status", "created_at", "completed_at", "agent_id", "conversation_id", "base_template_id", "background"),
    *("metadata", "request_config", "stop_reason", "callback_url", "callback_sent_at", "callback_status_code"),
    *("callback_error", "ttft_ns", "total_duration_ns"),
}
CHAINS = {
    "created": ["created"],
    "running": ["created", "running"],
    "completed": ["created", "running", "completed"],
    "failed": ["created", "running", "failed"],
    "cancelled": ["created", "running", "cancelled"],
}
STEPS = [
    ("created", "running", 200),
    ("created", "failed", 200),
    ("created", "cancelled", 200),
    ("created", "completed", 409),
    ("created", "created", 409),
    ("running", "completed", 200),
    ("running", "failed", 200),
    ("running", "cancelled", 200),
    ("running", "running", 409),
    ("running", "created", 409),
    *((end, asked, 409) for end in ("completed", "failed", "cancelled") for asked in CHAINS),
]


async def test_a_new_run_has_exactly_the_17_properties(user):
    answer = await user.post("/v1/runs/", json={"agent_id": "agent-1"})
    run = answer.json
    assert answer.status == 201
    assert run == {
        **dict.fromkeys(PROPERTIES),
        "id": run["id"],
        "status": "created",
        "created_at": "2026-11-22T00:00:00.000000Z",
        "agent_id": "agent-1",
    }
    assert ids.is_id(run["id"], "run")
    assert answer.headers["Location"] == f"/v1/runs/{run['id']}"
    assert (await user.get(f"/v1/runs/{run['id']}")).body == answer.body


async def test_everything_that_a_producer_says_of_a_new_run_is_kept(user):
    said = {
        "id": ids.make("run"),
        "agent_id": "agent-7",
        "background": False,
        "metadata": {"task": "nightly"},
        "callback_url": "http://example.com/hook",
        "conversation_id": "conv-1",
        "base_template_id": "template-1",
        "request_config": {"use_assistant_message": True},
    }
    run = (await user.post("/v1/runs/", json=said)).json
    assert {name: run[name] for name in said} == said


@pytest.mark.parametrize("status", CHAINS)
async def test_creating_a_run_with_a_later_status_walks_its_chain(user, status):
    run = await user.create("run", status=status)
    assert await user.types(run) == [f"run.{step}" for step in CHAINS[status]]


@pytest.mark.parametrize(("found", "asked", "status"), STEPS)
async def test_a_run_moves_one_legal_step_at_a_time(user, found, asked, status):
    # given
    run = await user.create("run", status=found)
    # when
    answer = await user.patch(f"/v1/runs/{run}", json={"status": asked})
    # then
    assert answer.status == status
    assert (await user.get(f"/v1/runs/{run}")).json["status"] == (asked if status == 200 else found)


@pytest.mark.parametrize("asked", ["pending", "expired"])
async def test_a_run_has_no_status_that_only_jobs_have(user, asked):
    run = await user.create("run", status="running")
    answer = await user.patch(f"/v1/runs/{run}", json={"status": asked})
    assert (answer.status, answer.error["type"]) == (422, "validation_error")
    assert answer.error["details"][0]["allowed"] == list(CHAINS)


async def test_a_run_that_was_never_running_has_no_duration(user, clock):
    run = await user.create("run")
    clock.advance(3)
    shown = (await user.patch(f"/v1/runs/{run}", json={"status": "failed", "stop_reason": "error"})).json
    assert shown["completed_at"] == "2026-11-22T00:00:03.000000Z"
    assert shown["total_duration_ns"] is None


async def test_a_deleted_run_is_hidden_and_its_history_stays(user, admin):
    run = await user.create("run", status="running")
    answer = await user.delete(f"/v1/runs/{run}")
    assert (answer.status, answer.json["id"], set(answer.json)) == (200, run, PROPERTIES)
    assert (await user.get(f"/v1/runs/{run}")).status == 404
    assert (await user.get("/v1/runs/")).json == []
    assert await admin.types(run) == ["run.created", "run.running", "run.deleted"]


async def test_the_old_inner_name_lists_the_same_runs_with_the_same_filters(user):
    for number in range(3):
        await user.create("run", agent_id=f"agent-{number}")
    for query in ("", "?agent_id=agent-1", "?order=asc&limit=2"):
        public, inner = await user.get(f"/v1/runs/{query}"), await user.get(f"/v1/_internal_runs/{query}")
        assert public.body == inner.body
        assert public.json


@pytest.mark.parametrize("path", ["/v1/runs/{id}", "/v1/runs/{id}/cancel", "/v1/runs/{id}/events"])
async def test_a_job_is_no_run(user, path):
    job = await user.create(status="running")
    method = "PATCH" if path.endswith("cancel") else "GET"
    assert (await user.request(method, path.format(id=job))).status == 422
    assert (await user.request(method, path.format(id=job.replace("job-", "run-")))).status == 404


async def test_a_run_changes_through_the_jobs_routes_by_the_rules_of_runs(user):
    # given
    run = await user.create("run")
    # when, then
    assert (await user.patch(f"/v1/jobs/{run}", json={"status": "pending"})).status == 409
    assert (await user.patch(f"/v1/jobs/{run}", json={"status": "running"})).json["job_type"] == "run"
    assert (await user.patch(f"/v1/jobs/{run}", json={"status": "expired"})).status == 409
    assert (await user.patch(f"/v1/jobs/{run}/cancel")).json["status"] == "cancelled"
    assert (await user.get(f"/v1/runs/{run}")).json["stop_reason"] == "cancelled"
