"""Expiry: what runs past its timeout ends, once, however many servers look, and nothing else does."""

import asyncio

import pytest

from ledger.errors import StoreFailed
from ledger.times import to_text
from server.expiry import AGAIN_S, BATCH, INTERVAL_S
from tests.server.serving import HOME, MIDNIGHT_US, User, serving


def at(second):
    return to_text(MIDNIGHT_US + int(second * 1_000_000))


async def beat(service):
    """One beat, and the views up to what it led to."""
    await service.app.expiry.beat()
    await service.app.engine.wait_for(service.app.ledger.size)


async def running(user, kind, **facts):
    return await user.create(kind, **facts, **({} if kind == "batch" else {"status": "running"}))


def path_of(kind, found):
    return f"{HOME[kind].rstrip('/')}/{found}"


@pytest.mark.parametrize(("second", "ended"), [(0, False), (9.999999, False), (10, True), (1e6, True)])
@pytest.mark.parametrize("kind", HOME)
async def test_what_runs_past_its_timeout_ends_at_the_next_beat_and_once(user, clock, kind, second, ended):
    # given
    found = await running(user, kind, timeout_s=10)
    clock.advance(second)
    # when
    for _ in range(3):
        await beat(user.service)
    # then
    shown = (await user.get(path_of(kind, found))).json
    types = await user.types(found)
    if not ended:
        assert (shown["status"], types[-1]) == ("running", f"{kind}.running")
        return
    status = "failed" if kind == "run" else "expired"
    assert shown["status"] == status
    assert shown["completed_at"] == at(second)
    assert shown["total_duration_ns"] == int(second) * 1_000_000_000
    assert types.count(f"{kind}.{status}") == 1
    assert types[-1] == f"{kind}.{status}"


async def test_an_expired_run_has_failed_with_a_reason(user, clock):
    run = await running(user, "run", timeout_s=0.5)
    clock.advance(1)
    await beat(user.service)
    shown = (await user.get(f"/v1/runs/{run}")).json
    assert (shown["status"], shown["stop_reason"]) == ("failed", "error")
    assert shown["metadata"]["error"]["type"] == "timeout"


@pytest.mark.parametrize("status", ["created", "pending", "completed", "failed", "cancelled"])
async def test_only_what_runs_can_be_late(user, clock, status):
    job = await user.create(status=status, timeout_s=1)
    clock.advance(100)
    await beat(user.service)
    assert (await user.get(f"/v1/jobs/{job}")).json["status"] == status


async def test_the_timeout_counts_from_running_not_from_creation(user, clock):
    job = await user.create(timeout_s=10)
    clock.advance(8)
    await user.patch(f"/v1/jobs/{job}", json={"status": "pending"})
    await user.patch(f"/v1/jobs/{job}", json={"status": "running"})
    clock.advance(9)
    await beat(user.service)
    assert (await user.get(f"/v1/jobs/{job}")).json["status"] == "running"
    clock.advance(1)
    await beat(user.service)
    assert (await user.get(f"/v1/jobs/{job}")).json["status"] == "expired"


async def test_without_a_timeout_nothing_expires(user, clock):
    job = await running(user, "job")
    clock.advance(1e9)
    await beat(user.service)
    assert (await user.get(f"/v1/jobs/{job}")).json["status"] == "running"


async def test_a_deleted_job_does_not_expire(user, admin, clock):
    job = await running(user, "job", timeout_s=1)
    await user.delete(f"/v1/jobs/{job}")
    clock.advance(5)
    await beat(user.service)
    assert (await admin.types(job))[-1] == "job.deleted"


async def test_a_job_whose_start_is_told_late_is_late_at_once(user, clock):
    # given a job that is told to run since an hour
    clock.advance(3600)
    job = await user.create(status="running", timeout_s=60, time=at(0))
    # when
    await beat(user.service)
    # then it ends now, by the ledger's clock
    shown = (await user.get(f"/v1/jobs/{job}")).json
    assert (shown["status"], shown["completed_at"]) == ("expired", at(3600))


@pytest.mark.parametrize("told", [5, 15])
async def test_a_job_that_was_completed_in_time_or_late_but_first_stays_completed(user, clock, told):
    job = await running(user, "job", timeout_s=10)
    clock.advance(20)
    assert (await user.patch(f"/v1/jobs/{job}", json={"status": "completed", "time": at(told)})).status == 200
    await beat(user.service)
    shown = (await user.get(f"/v1/jobs/{job}")).json
    assert (shown["status"], shown["completed_at"]) == ("completed", at(told))


async def test_a_completion_that_comes_after_the_expiry_is_refused(user, clock):
    job = await running(user, "job", timeout_s=10)
    clock.advance(20)
    await beat(user.service)
    answer = await user.patch(f"/v1/jobs/{job}", json={"status": "completed", "time": at(5)})
    assert (answer.status, answer.error["details"]["current_status"]) == (409, "expired")


async def test_two_servers_on_one_file_that_beat_at_once_end_each_job_once(ledger_file, clock):
    async with serving(ledger_file, clock) as first, serving(ledger_file, clock) as second:
        # given
        user = await first.user()
        found = [await running(user, kind, timeout_s=5) for kind in ("job", "run", "batch") for _ in range(10)]
        clock.advance(6)
        await second.app.engine.wait_for(first.app.ledger.size)
        # when
        await asyncio.gather(*(service.app.expiry.beat() for service in (first, second) for _ in range(3)))
        # then
        await first.app.ledger.refresh(surely=True)
        await first.app.engine.wait_for(first.app.ledger.size)
        for one in found:
            types = await user.types(one)
            assert sum(name.endswith((".expired", ".failed")) for name in types) == 1
            assert types[-1].endswith((".expired", ".failed"))
        there = User(second, user.id, user.token)
        seen = {"Ledger-Position": str(first.app.ledger.size)}
        assert {row["status"] for row in (await there.get("/v1/jobs/", headers=seen)).json} == {"expired"}


async def test_more_than_one_beat_can_end_are_ended_by_the_next_ones(user, clock):
    for _ in range(3):
        await asyncio.gather(*(running(user, "job", timeout_s=1) for _ in range(90)))
    clock.advance(2)
    assert BATCH < 270
    assert await user.service.app.expiry.beat() == AGAIN_S
    await user.service.app.engine.wait_for(user.service.app.ledger.size)
    assert await user.service.app.expiry.beat() > 0
    await user.service.app.engine.wait_for(user.service.app.ledger.size)
    assert {row["status"] for row in (await user.get("/v1/jobs/?limit=1000")).json} == {"expired"}


async def test_what_cannot_be_ended_is_not_tried_again_at_once(user, clock, monkeypatch):
    # given as much as one beat takes, and a disk that is full
    monkeypatch.setattr("server.expiry.BATCH", 3)
    for _ in range(3):
        await running(user, "job", timeout_s=1)
    clock.advance(2)

    async def full(*_):
        raise StoreFailed(reason="database or disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(user.service.app.ledger.store, "transact", full)
        assert await user.service.app.expiry.beat() == INTERVAL_S
    assert await user.service.app.expiry.beat() == AGAIN_S


@pytest.mark.parametrize("timeout_s", [0.000001, 1.5, 315_360_000])
async def test_every_timeout_that_is_taken_is_kept(user, clock, timeout_s):
    job = await running(user, "job", timeout_s=timeout_s)
    clock.advance(timeout_s)
    await beat(user.service)
    assert (await user.get(f"/v1/jobs/{job}")).json["status"] == "expired"


# --- what a history may hold without stopping the views ---


@pytest.mark.parametrize("kind", ["job", "run"])
@pytest.mark.parametrize(("start", "end"), [
    ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"),
    ("0001-01-01T00:00:00Z", None),
    (None, "9999-12-31T23:59:59.999999Z"),
    ("1600-01-01T00:00:00Z", "2026-11-22T00:00:00Z"),
])  # fmt: skip
async def test_a_life_of_thousands_of_years_does_not_stop_the_views(ledger_file, clock, kind, start, end):
    async with serving(ledger_file, clock, wait_timeout_s=2.0) as service:
        user = await service.user()
        found = await user.create(kind, status="running", timeout_s=1, **({} if start is None else {"time": start}))
        body = {"status": "completed"} if end is None else {"status": "completed", "time": end}
        answer = await user.patch(path_of(kind, found), json=body)
        assert answer.status in (200, 422), answer.body
        assert (await user.post("/v1/jobs/", json={})).status == 201
        assert (await user.get(path_of(kind, found))).status == 200


@pytest.mark.parametrize("timeout_s", [1e300, 1e15, -1e300, 0])
async def test_a_timeout_that_no_clock_reaches_does_not_stop_the_views(ledger_file, clock, timeout_s):
    async with serving(ledger_file, clock, wait_timeout_s=2.0) as service:
        user = await service.user()
        job = (await user.create()).replace("job-0", "job-1").replace("job-f", "job-e")[:-1] + "0"
        facts = [
            ("job.created", {"user_id": user.id, "timeout_s": timeout_s}),
            ("job.pending", {}),
            ("job.running", {}),
        ]
        for name, data in facts:
            event = {"specversion": "1.0", "type": name, "subject": job, "data": data}
            assert (await user.post("/v1/events", json=event)).status in (200, 422)
        assert (await user.post("/v1/jobs/", json={})).status == 201
        await beat(service)
