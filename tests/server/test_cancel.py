"""Cancel by the rules: from running only (runs also from created), once, whoever else asks at the same moment."""

import asyncio
import random
from collections import Counter
from itertools import permutations

import pytest

from ledger import ids

PATHS = {"job": "/v1/jobs/{id}", "run": "/v1/runs/{id}", "batch": "/v1/messages/batches/{id}"}
JOB_STATUSES = ["created", "pending", "running", "completed", "failed", "cancelled", "expired"]
RUN_STATUSES = [status for status in JOB_STATUSES if status not in ("pending", "expired")]
ALLOWED = {
    "job": {"created": ["pending"], "pending": ["running"], "running": ["completed", "failed", "cancelled", "expired"]},
    "run": {"created": ["running", "failed", "cancelled"], "running": ["completed", "failed", "cancelled"]},
}
ALLOWED["batch"] = ALLOWED["job"]
TABLE = [
    *(("job", status) for status in JOB_STATUSES),
    *(("batch", status) for status in JOB_STATUSES),
    *(("run", status) for status in RUN_STATUSES),
]
CANCELLABLE = [(kind, status) for kind, status in TABLE if "cancelled" in ALLOWED[kind].get(status, [])]
REFUSED = [case for case in TABLE if case not in CANCELLABLE]
TERMINAL = {"completed", "failed", "cancelled", "expired"}


async def bring(user, kind, status):
    """Make a resource of the kind in the status; return its id."""
    if kind != "batch":
        return await user.create(kind, status=status)
    batch = ids.make("job")
    chain = (
        JOB_STATUSES[: JOB_STATUSES.index(status) + 1] if status in JOB_STATUSES[:3] else [*JOB_STATUSES[:3], status]
    )
    for step in chain:
        data = {"user_id": user.id} if step == "created" else {}
        await user.service.app.ledger.append(batch, f"batch.{step}", data, actor=user.id)
    await user.service.app.engine.wait_for(user.service.app.ledger.size)
    return batch


def ends(types):
    return [name for name in types if name.partition(".")[2] in TERMINAL]


@pytest.mark.parametrize(("kind", "status"), CANCELLABLE)
async def test_a_cancel_that_the_rules_allow_answers_with_the_cancelled_resource(user, clock, kind, status):
    # given
    found = await bring(user, kind, status)
    clock.advance(4)
    # when
    answer = await user.patch(PATHS[kind].format(id=found) + "/cancel")
    # then
    assert answer.status == 200
    assert (answer.json["id"], answer.json["status"], answer.json["stop_reason"]) == (found, "cancelled", "cancelled")
    assert answer.json["completed_at"] == "2026-11-22T00:00:04.000000Z"
    read = await user.get(PATHS[kind].format(id=found))
    assert (read.body, read.etag) == (answer.body, answer.etag)
    assert (await user.types(found))[-1] == f"{kind}.cancelled"


def test_only_running_jobs_and_batches_and_active_runs_can_be_cancelled():
    assert CANCELLABLE == [("job", "running"), ("batch", "running"), ("run", "created"), ("run", "running")]
    assert len(TABLE) == 19


@pytest.mark.parametrize(("kind", "status"), REFUSED)
async def test_a_refused_cancel_says_why_changes_nothing_and_is_recorded_once(user, kind, status):
    # given
    found = await bring(user, kind, status)
    path = PATHS[kind].format(id=found)
    before = await user.get(path)
    history = await user.types(found)
    # when
    answers = [await user.patch(path + "/cancel") for _ in range(3)]
    # then
    for answer in answers:
        assert answer.status == 409
        assert answer.headers["x-should-retry"] == "false"
        assert answer.error == {
            "type": "invalid_job_status_transition",
            "message": f"Cannot transition from '{status}' to 'cancelled'.",
            "details": {
                "current_status": status,
                "requested_status": "cancelled",
                "allowed": ALLOWED[kind].get(status, []),
            },
        }
    after = await user.get(path)
    assert (after.body, after.etag) == (before.body, before.etag)
    assert await user.types(found) == [*history, f"{kind}.refused"]
    refused = (await user.log(found))[-1]
    assert refused["data"] == {"asked": "cancelled", "found": status}
    assert refused["actor"] == user.id


async def test_a_refusal_is_recorded_once_for_each_actor_and_each_asked_status(user, admin):
    # given
    job = await user.create(status="completed")
    # when
    for _ in range(2):
        for who in (user, admin):
            assert (await who.patch(f"/v1/jobs/{job}/cancel")).status == 409
            assert (await who.patch(f"/v1/jobs/{job}", json={"status": "running"})).status == 409
    # then
    refused = [(event["actor"], event["data"]["asked"]) for event in (await user.log(job))[4:]]
    expected = [(who.id, asked) for who in (user, admin) for asked in ("cancelled", "running")]
    assert sorted(refused) == sorted(expected)


async def test_a_refused_step_does_not_stand_in_the_way_of_the_legal_one(user):
    job = await user.create()
    assert (await user.patch(f"/v1/jobs/{job}/cancel", headers={"If-Match": '"1"'})).status == 409
    for status in ("pending", "running"):
        etag = (await user.get(f"/v1/jobs/{job}")).etag
        answer = await user.patch(f"/v1/jobs/{job}", json={"status": status}, headers={"If-Match": etag})
        assert answer.status == 200
    assert (await user.patch(f"/v1/jobs/{job}/cancel")).json["status"] == "cancelled"


@pytest.mark.parametrize("path", ["/v1/jobs/{id}/cancel?force=true", "/v1/runs/{id}/cancel?x"])
async def test_cancel_takes_no_parameters(user, path):
    found = await user.create("run" if "runs" in path else "job", status="running")
    assert (await user.patch(path.format(id=found))).status == 422
    assert (await user.types(found))[-1].endswith(".running")


@pytest.mark.parametrize(("kind", "status"), CANCELLABLE)
async def test_of_200_cancels_at_once_exactly_one_succeeds(user, kind, status):
    # given
    found = await bring(user, kind, status)
    path = PATHS[kind].format(id=found) + "/cancel"
    # when
    answers = await asyncio.gather(*(user.patch(path) for _ in range(200)))
    # then
    assert Counter(answer.status for answer in answers) == {200: 1, 409: 199}
    types = Counter(await user.types(found))
    assert (types[f"{kind}.cancelled"], types[f"{kind}.refused"]) == (1, 1)


async def complete(user, path):
    return (await user.patch(path, json={"status": "completed"})).status == 200


async def cancel(user, path):
    return (await user.patch(f"{path}/cancel")).status == 200


async def expire(user, path):
    before = (await user.get(path)).json["status"]
    await user.service.app.expiry.beat()
    seen = {"Ledger-Position": str(user.service.app.ledger.size)}
    return before == "running" and (await user.get(path, headers=seen)).json["status"] in ("expired", "failed")


ACTORS = {"complete": complete, "cancel": cancel, "expire": expire}
OUTCOME = {"complete": "completed", "cancel": "cancelled", "expire": "expired"}


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("order", list(permutations(ACTORS)), ids="-".join)
async def test_whoever_comes_first_ends_it_and_all_others_come_too_late(user, clock, kind, order):
    # given a resource past its timeout
    found = await user.create(kind, timeout_s=5, **({} if kind == "batch" else {"status": "running"}))
    path = PATHS[kind].format(id=found).replace("messages/batches", "jobs")
    clock.advance(6)
    # when
    done = [await ACTORS[name](user, path) for name in order]
    # then
    outcome = "failed" if (kind, order[0]) == ("run", "expire") else OUTCOME[order[0]]
    assert done == [True, False, False]
    assert ends(await user.types(found)) == [f"{kind}.{outcome}"]
    assert (await user.get(path)).json["status"] == outcome


@pytest.mark.parametrize("kind", ["job", "run"])
async def test_complete_cancel_and_expire_at_the_same_moment_leave_one_end_each(user, admin, clock, kind):
    # given
    chance = random.Random(20261122)
    found = [await user.create(kind, status="running", timeout_s=5) for _ in range(40)]
    paths = [PATHS[kind].format(id=one) for one in found]
    clock.advance(6)
    # when
    work = [
        *(user.patch(path, json={"status": "completed"}) for path in paths),
        *(admin.patch(f"{path}/cancel") for path in paths),
        *(user.patch(f"{path}/cancel") for path in paths),
    ]
    chance.shuffle(work)
    work.insert(len(work) // 2, user.service.app.expiry.beat())
    answers = await asyncio.gather(*work)
    # then
    assert {answer.status for answer in answers if not isinstance(answer, float)} <= {200, 409}
    winners: Counter[str] = Counter()
    for one, path in zip(found, paths, strict=True):
        (end,) = ends(await user.types(one))
        assert (await user.get(path)).json["status"] == end.partition(".")[2]
        winners[end] += 1
    assert (
        sum(answer.status == 200 for answer in answers if not isinstance(answer, float))
        == 40 - winners["run.failed" if kind == "run" else "job.expired"]
    )


@pytest.mark.parametrize("first", ["cancel", "complete"])
async def test_a_run_that_ends_while_its_batch_is_cancelled_ends_once(user, first):
    # given
    batch = await user.create("batch", requests=[{"agent_id": "a"}] * 5)
    runs = (await user.get("/v1/runs/")).ids
    for run in runs:
        await user.patch(f"/v1/runs/{run}", json={"status": "running"})
    # when
    work = [user.patch(f"/v1/runs/{run}", json={"status": "completed"}) for run in runs]
    work.insert(0 if first == "cancel" else 5, user.patch(f"/v1/messages/batches/{batch}/cancel"))
    answers = await asyncio.gather(*work)
    # then
    assert {answer.status for answer in answers} <= {200, 409}
    assert ends(await user.types(batch)) == ["batch.cancelled"]
    for run in runs:
        assert len(ends(await user.types(run))) == 1
