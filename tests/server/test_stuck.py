"""``stuck_for``: what has not ended and was silent for long; steps, messages and a batch's runs are signs of life."""

import pytest

from tests.server.said import text

MINUTE = 60
LISTS = {"job": "/v1/jobs", "run": "/v1/runs", "batch": "/v1/messages/batches"}


async def stuck(user, kind, seconds, **more):
    answer = await user.get(LISTS[kind], params={"stuck_for": str(seconds), **more})
    assert answer.status == 200, answer.body
    return answer.ids


@pytest.mark.parametrize("kind", LISTS)
async def test_what_was_silent_for_so_long_is_listed_and_not_a_moment_earlier(user, clock, kind):
    id = await user.create(kind)
    clock.advance(MINUTE - 0.000_001)
    assert await stuck(user, kind, MINUTE) == []
    clock.advance(0.000_001)
    assert await stuck(user, kind, MINUTE) == [id]
    assert await stuck(user, kind, MINUTE + 0.5) == []


@pytest.mark.parametrize("sign", ["step", "message", "metadata"])
async def test_a_slow_run_that_goes_on_is_never_stuck(user, clock, sign):
    # Given a run that tells of something every 50 seconds, beside one that tells nothing
    slow, silent = [await user.create("run", status="running") for _ in range(2)]
    for _ in range(5):
        clock.advance(50)
        if sign == "step":
            answer = await user.post(f"/v1/runs/{slow}/steps", json={"model": "m"})
        elif sign == "message":
            answer = await user.post(f"/v1/runs/{slow}/messages", json=text())
        else:
            answer = await user.patch(f"/v1/runs/{slow}", json={"metadata": {"n": 1}})
        assert answer.status < 300, answer.body
        # When it is asked which are stuck for a minute, then only the other one is
        assert slow not in await stuck(user, "run", MINUTE)
    assert await stuck(user, "run", MINUTE) == [silent]


async def test_a_batch_lives_as_long_as_one_of_its_runs_does(user, clock):
    batch = await user.create("batch", requests=[{"agent_id": "agent-1"}, {"agent_id": "agent-2"}])
    (run, _) = (await user.get("/v1/runs")).ids
    clock.advance(MINUTE)
    assert await stuck(user, "batch", MINUTE) == await stuck(user, "job", MINUTE, job_type="batch") == [batch]
    assert (await user.post(f"/v1/runs/{run}/steps", json={"model": "m"})).status == 201
    assert await stuck(user, "batch", MINUTE) == await stuck(user, "job", MINUTE, job_type="batch") == []
    clock.advance(MINUTE)
    assert await stuck(user, "batch", MINUTE) == [batch]


@pytest.mark.parametrize(("kind", "status"), [("job", "completed"), ("job", "expired"), ("run", "failed")])
async def test_what_has_ended_or_was_deleted_is_not_stuck(user, clock, kind, status):
    await user.create(kind, status=status)
    gone = await user.create(kind)
    assert (await user.delete(f"{LISTS[kind]}/{gone}")).status == 200
    clock.advance(10 * MINUTE)
    assert await stuck(user, kind, 1) == []


async def test_it_goes_with_all_other_filters_and_pages(user, clock):
    mine = [await user.create("run", agent_id="agent-7", status="running") for _ in range(3)]
    await user.create("run", agent_id="agent-8", status="running")
    await user.create("run", agent_id="agent-7")
    clock.advance(MINUTE)
    found, path = [], "/v1/runs?stuck_for=60&agent_id=agent-7&status=running&limit=2"
    while path:
        answer = await user.get(path)
        found += answer.ids
        path = answer.next_path
    assert sorted(found) == sorted(mine)
    assert await stuck(user, "run", MINUTE, status="completed") == []
    assert await stuck(user, "run", MINUTE, active="true", status="created") != []


async def test_no_answer_is_kept_longer_than_the_clock_stands(user, clock):
    # Given a list of none, asked for twice, so that it would be kept
    id = await user.create("job", status="pending")
    assert await stuck(user, "job", 5) == await stuck(user, "job", 5) == []
    # When time goes by and nothing is written, then the same request finds it
    clock.advance(5)
    assert await stuck(user, "job", 5) == [id]


async def test_others_rows_are_not_listed(user, other, clock):
    await other.create("job")
    clock.advance(MINUTE)
    assert await stuck(user, "job", 1) == []


@pytest.mark.parametrize("value", ["0", "-1", "", "ten", "nan", "inf", "1_0", "1e9999", "3153600001", " 5"])
@pytest.mark.parametrize("kind", LISTS)
async def test_what_is_no_length_of_time_is_refused(user, kind, value):
    refused = await user.get(LISTS[kind], params={"stuck_for": value})
    assert refused.status == 422
    (fault,) = refused.error["details"]
    assert (fault["where"], fault["allowed"]) == ("stuck_for", "more than 0, at most 3153600000")


@pytest.mark.parametrize("value", ["1", "0.5", ".5", "1.", "1e3", "3153600000", "5e-324"])
async def test_fractions_and_all_that_json_calls_a_number_are_taken(user, value):
    assert (await user.get("/v1/runs", params={"stuck_for": value})).status == 200


async def test_it_is_about_now_and_not_about_a_point_in_history(user):
    refused = await user.get("/v1/runs?stuck_for=60&as_of=1")
    assert (refused.status, refused.error["type"]) == (400, "invalid_request")
    assert "as_of" in refused.error["message"]
