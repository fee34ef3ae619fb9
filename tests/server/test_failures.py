"""``/v1/failures``: causes over HTTP, of what the caller may see."""

import pytest

from projections import causes

SIGNATURE = "f1-0123456789abcdef"


async def failed(user, message="no 7", **more):
    """A run of the user's that failed with an error."""
    run = await user.create("run", status="running", **more)
    body = {"status": "failed", "stop_reason": "error", "error": {"type": "KeyError", "message": message}}
    assert (await user.patch(f"/v1/runs/{run}", json=body)).status == 200
    return run


async def test_failures_of_one_cause_are_one_row_the_most_frequent_first(user, clock):
    # given
    await failed(user, "other")
    runs = []
    for number in range(3):
        clock.advance(60)
        runs.append(await failed(user, f"no {number}"))
    # when
    first, second = (await user.get("/v1/failures")).json
    # then
    assert first == {
        "signature": first["signature"],
        "kind": "run",
        "count": 3,
        "first_seen": "2026-11-22T00:01:00.000000Z",
        "last_seen": "2026-11-22T00:03:00.000000Z",
        "status": "failed",
        "stop_reason": "error",
        "error_type": "KeyError",
        "tool": None,
        "message": "no <number>",
        "samples": runs[::-1],
        "trend": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1],
    }
    assert (second["count"], second["message"]) == (1, "other")


async def test_a_cause_in_full_names_agents_models_times_and_examples(user):
    # given
    run = await user.create("run", agent_id="agent-x", status="running")
    await user.post(f"/v1/runs/{run}/steps", json={"model": "gpt-1"})
    await user.patch(f"/v1/runs/{run}", json={"status": "failed", "error": {"message": "no 7"}})
    signature = (await user.get("/v1/failures")).json[0]["signature"]
    # when
    found = (await user.get(f"/v1/failures/{signature}")).json
    # then
    assert (found["count"], found["resources"]) == (1, 1)
    assert found["agents"] == [{"name": "agent-x", "count": 1}]
    assert found["models"] == [{"name": "gpt-1", "count": 1}]
    assert sum(bucket["count"] for bucket in found["buckets"]) == 1
    example = found["examples"][0]
    assert (example["id"], example["said"], example["step_id"]) == (run, "no 7", None)


FILTERS = [
    ("kind=run", ["mine", "other"]),
    ("kind=job,run", ["mine", "other", None]),
    ("kind=tool", []),
    ("stop_reason=error", ["mine", "other"]),
    ("stop_reason=max_steps", []),
    ("error_type=KeyError", ["mine", "other"]),
    ("error_type=ValueError", []),
    ("agent_id=agent-2", ["other"]),
    ("agent_id=agent-1,agent-2", ["mine", "other"]),
    ("tool=look", []),
    ("since=2026-11-22T00:00:30Z", ["other", None]),
    ("since={position}", ["other", None]),
    ("since={position}&new=true", ["other", None]),
    ("since=2026-11-22T00:00:30Z&new=true", ["other", None]),
    ("since=2099-01-01", []),
    ("limit=1", [None]),
]


@pytest.mark.parametrize(("query", "expected"), FILTERS)
async def test_filters_choose_failures(user, clock, query, expected):
    # given
    await failed(user, "mine")
    position = user.service.app.ledger.size
    clock.advance(60)
    await failed(user, "other", agent_id="agent-2")
    await user.patch(f"/v1/jobs/{await user.create(status='running')}", json={"status": "failed"})
    # when
    answer = await user.get(f"/v1/failures?{query.format(position=position)}")
    # then
    assert sorted((row["message"] for row in answer.json), key=str) == sorted(expected, key=str)


async def test_a_cause_that_comes_again_is_not_new(user, clock):
    await failed(user)
    position = user.service.app.ledger.size
    clock.advance(60)
    await failed(user)
    for since in (position, "2026-11-22T00:00:30Z"):
        assert [row["count"] for row in (await user.get(f"/v1/failures?since={since}")).json] == [1]
        assert (await user.get(f"/v1/failures?since={since}&new=true")).json == []


async def test_nobody_sees_the_failures_of_another_user_or_project(service, user, admin):
    # given
    stranger = await service.user()
    bound = await service.user(id=user.id, project="project-1")
    run = await failed(user)
    signature = (await user.get("/v1/failures")).json[0]["signature"]
    # then
    for other in (stranger, bound):
        assert (await other.get("/v1/failures")).json == []
        assert (await other.get(f"/v1/failures/{signature}")).status == 404
    assert [row["samples"] for row in (await admin.get("/v1/failures")).json] == [[run]]
    assert (await admin.get("/v1/failures?project_id=project-1")).json == []
    assert (await bound.get("/v1/failures?project_id=project-2")).status == 404


async def test_what_fails_after_the_end_of_its_run_is_its_owners_too(service, user):
    # given
    run = await user.create("run", status="running")
    await user.patch(f"/v1/runs/{run}", json={"status": "completed"})
    # when
    await user.post(f"/v1/runs/{run}/steps", json={"status": "failed", "error_type": "Late"})
    # then
    assert [(row["kind"], row["samples"]) for row in (await user.get("/v1/failures")).json] == [("step", [run])]
    assert (await (await service.user()).get("/v1/failures")).json == []
    # and its agent's
    (found,) = (await user.get("/v1/failures?agent_id=agent-1")).json
    assert (await user.get("/v1/failures?agent_id=agent-2")).json == []
    cause = (await user.get(f"/v1/failures/{found['signature']}?agent_id=agent-1")).json
    assert cause["agents"] == [{"name": "agent-1", "count": 1}]


@pytest.mark.parametrize("between", ["_told", "_happened"])
async def test_what_comes_and_goes_while_causes_are_read_changes_none_of_them(user, clock, monkeypatch, between):
    # given
    runs = [await failed(user, "no 1"), await failed(user, "other")]
    before = (await user.get("/v1/failures")).json
    original = getattr(causes, between)

    async def late(*arguments):
        monkeypatch.setattr(causes, between, original)
        clock.advance(3600)
        await failed(user, "no 2")
        for run in runs:
            assert (await user.delete(f"/v1/runs/{run}")).status == 200
        return await original(*arguments)

    # when
    monkeypatch.setattr(causes, between, late)
    answer = await user.get("/v1/failures?limit=99")
    # then
    assert (answer.status, answer.json) == (200, before)
    assert [row["count"] for row in (await user.get("/v1/failures")).json] == [1]


@pytest.mark.parametrize("way", ["delete", "erase"])
async def test_what_is_deleted_or_erased_is_no_failure_any_more(user, admin, way):
    run = await failed(user)
    if way == "delete":
        await user.delete(f"/v1/runs/{run}")
    else:
        await admin.post(f"/v1/runs/{run}/erase", json={"reason": "asked for"})
    assert (await user.get("/v1/failures")).json == []


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/failures/{SIGNATURE}",
        "/v1/failures/f1-nothing",
        "/v1/failures/%27%20OR%201=1--",
        f"/v1/failures/{SIGNATURE}?since=5",
    ],
)
async def test_a_signature_that_nothing_has_is_not_found(user, path):
    assert (await user.get(path)).error["type"] == "not_found"


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("new=true", "new"),
        ("since=yesterday", "since"),
        ("kind=user", "kind"),
        ("stop_reason=no", "stop_reason"),
        ("limit=0", "limit"),
        ("order=asc", "order"),
    ],
)
async def test_what_is_no_filter_is_named(user, query, where):
    answer = await user.get(f"/v1/failures?{query}")
    assert answer.status == 422
    assert [fault["where"] for fault in answer.error["details"]] == [where]
