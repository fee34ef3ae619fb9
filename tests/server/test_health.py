"""Health: told whatever else fails; what fails is told by it."""

import json

import pytest

import server.writes
from ledger.errors import StoreFailed
from ledger.times import to_text
from tests.ledger.engines import failing
from tests.server.serving import until
from tests.server.test_errors import check_shape


@pytest.fixture
def unreadable(service, monkeypatch):
    """A log that cannot be read."""

    def fails():
        raise StoreFailed(reason="disk I/O error")

    service.app.notice_interval_s = 0.0
    monkeypatch.setattr(service.app.ledger.store, "grown", fails)


async def test_a_server_whose_log_cannot_be_read_is_up_and_not_ready(user, unreadable):
    service = user.service
    assert (await service.request("GET", "/v1/health")).status == 200
    answer = await service.request("GET", "/readyz")
    assert (answer.status, answer.json["status"]) == (503, "not ready")
    assert any("disk I/O error" in problem for problem in answer.json["problems"])
    check_shape(await user.get("/v1/jobs"), 503, "unavailable")


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
async def test_what_needs_no_log_is_answered_without_it(service, unreadable, path):
    assert (await service.request("GET", path)).status == 200


async def readiness(service):
    answer = await service.request("GET", "/readyz")
    assert (answer.status == 200) == (answer.json["status"] == "ok") == (not answer.json["problems"])
    assert ("Retry-After" in answer.headers) == (answer.status == 503)
    return answer.status, answer.json["problems"]


async def told_of_writes(admin):
    """What the ledger says of its writes, and what a scrape does."""
    scraped = (await admin.get("/metrics")).body.decode()
    (failing,) = [line.split()[-1] for line in scraped.splitlines() if line.startswith("jobledger_writes_failing ")]
    return (await admin.get("/v1/ledger")).json["writes"], float(failing)


async def test_a_server_whose_writes_fail_is_not_ready_until_one_succeeds(service, admin):
    assert await readiness(service) == (200, [])
    assert await told_of_writes(admin) == ({"fault": None, "failing_since": None}, 0.0)
    since = to_text(service.clock.now_us)
    with failing(service.app.ledger):
        for _ in range(2):
            check_shape(await admin.post("/v1/jobs/", json={}), 503, "unavailable")
            service.clock.advance(60)
            assert await readiness(service) == (503, ["writes fail: database or disk is full"])
        told = {"fault": "database or disk is full", "failing_since": since}
        assert await told_of_writes(admin) == (told, 1.0)
    assert (await admin.get("/v1/jobs/")).status == 200  # which tells nothing of writes
    assert (await readiness(service))[0] == 503
    await admin.create()
    assert await readiness(service) == (200, [])
    assert await told_of_writes(admin) == ({"fault": None, "failing_since": None}, 0.0)


async def test_a_server_that_gets_no_more_writes_finds_out_by_itself_that_they_succeed_again(
    service, admin, monkeypatch, log_lines
):
    def said():
        lines = map(json.loads, log_lines.getvalue().splitlines())
        return [line["event"] for line in lines if line["event"].startswith("writes.")]

    size = service.app.ledger.size
    tried, probe = [], service.app.ledger.store.probe

    async def counted():
        tried.append(1)
        await probe()

    monkeypatch.setattr(service.app.ledger.store, "probe", counted)
    monkeypatch.setattr(server.writes, "INTERVAL_S", 0.0)
    with failing(service.app.ledger):
        check_shape(await admin.post("/v1/jobs/", json={}), 503, "unavailable")
        service.app.start_beats()
        await until(lambda: len(tried) >= 3)
        assert (await readiness(service))[0] == 503
        assert said() == ["writes.fail"]
    await until(lambda: "writes.go_on" in said())
    assert await readiness(service) == (200, [])
    assert said() == ["writes.fail", "writes.go_on"]
    assert service.app.ledger.size == size


async def test_nothing_is_tried_while_writes_succeed(service, admin, monkeypatch):
    async def probe():
        raise AssertionError("it was tried")

    monkeypatch.setattr(service.app.ledger.store, "probe", probe)
    await admin.create()
    assert await service.app.writes.beat() == server.writes.INTERVAL_S
