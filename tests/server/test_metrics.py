"""``/metrics``: what Prometheus is told, and that it is so."""

import re

import pytest
from prometheus_client import Counter
from prometheus_client.parser import text_string_to_metric_families

from ledger import engine
from server.metrics import OWED
from server.routes.health import VERSION
from tests.server.following import SSE, following
from tests.server.owing import attempt, ended, imported
from tests.server.serving import until

GAUGES = {
    "jobledger_callbacks_owed",
    "jobledger_callbacks_due",
    "jobledger_callbacks_oldest_due_seconds",
    "jobledger_ledger_size",
    "jobledger_views_lag_events",
    "jobledger_writers_waiting",
    "jobledger_writes_failing",
    "jobledger_streams_open",
    "jobledger_connections_open",
    "jobledger_requests_under_way",
    "jobledger_bodies_bytes",
    "jobledger_long_reads",
    "jobledger_tasks",
    "jobledger_wal_bytes",
}


async def families(user):
    """What a scrape gives, by name."""
    answer = await user.get("/metrics")
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return {family.name: family for family in text_string_to_metric_families(answer.body.decode())}


async def values(user):
    found = await families(user)
    return {name.removeprefix("jobledger_"): found[name].samples[0].value for name in GAUGES}


async def test_each_metric_has_a_type_a_sentence_and_a_name_by_convention(user):
    found = await families(user)
    assert found.keys() >= GAUGES | {"jobledger_info"}
    for name, family in found.items():
        assert re.fullmatch(r"jobledger_[a-z]+(_[a-z]+)*", name)
        assert family.documentation.endswith(".")
        assert family.type in ("gauge", "counter", "histogram")
        assert not (family.type == "gauge" and name.endswith(("_total", "_count", "_sum")))
    (info,) = found["jobledger_info"].samples
    assert (info.labels, info.value) == ({"version": VERSION, "sqlite": engine.library.sqlite_version}, 1)


async def test_what_the_server_counts_is_told_too(service, user):
    counter = Counter("jobledger_test_things", "Things of a test.", registry=service.app.metrics)
    counter.inc(3)
    assert (await families(user))["jobledger_test_things"].samples[0].value == 3


async def test_callbacks_are_owed_then_due_then_settled(service, user, clock):
    async def told():
        found = await values(user)
        return tuple(found[f"callbacks_{name}"] for name in ("owed", "due", "oldest_due_seconds"))

    assert await told() == (0, 0, 0)
    # given two that are due at once, the second a minute later
    first = await ended(user)
    clock.advance(60)
    second = await ended(user, "run")
    assert await told() == (2, 2, 60)
    # when the first fails, it is owed but not yet due
    clock.advance(10)
    await attempt(service, first, 500, "http_status", again_in_s=100)
    assert await told() == (2, 1, 10)
    clock.advance(99)
    assert await told() == (2, 1, 109)
    # then it is due again, while the second is delivered
    await attempt(service, second, 200)
    assert await told() == (1, 0, 0)
    clock.advance(31)
    assert await told() == (1, 1, 30)
    await attempt(service, first, 410, "gone")
    assert await told() == (0, 0, 0)


async def test_a_history_told_late_is_due_only_since_the_ledger_knows_it(service, user, clock):
    clock.advance(1000)
    await ended(user, time="2020-01-01T00:00:00Z")
    clock.advance(5)
    assert (await values(user))["callbacks_oldest_due_seconds"] == 5


async def test_imported_callbacks_count_until_they_are_given_up(service, user):
    await imported(service, user.id)
    assert (await values(user))["callbacks_owed"] == 1


async def test_the_ledger_and_its_views_are_measured(service, user, monkeypatch):
    await user.create()
    size = service.app.ledger.size
    found = await values(user)
    assert (found["ledger_size"], found["views_lag_events"], found["writers_waiting"]) == (size, 0, 0)
    monkeypatch.setattr(service.app.engine, "position", size - 2)
    assert (await values(user))["views_lag_events"] == 2


@pytest.mark.parametrize("scopes", [("read",), ("read", "write", "admin")])
async def test_whoever_may_read_may_scrape(service, scopes):
    assert (await (await service.user(*scopes)).get("/metrics")).status == 200


async def test_nobody_else_may(service):
    assert (await service.request("GET", "/metrics")).status == 401
    assert (await (await service.user("write")).get("/metrics")).status == 403
    assert (await (await service.user("read")).get("/metrics?a=1")).status == 422


async def test_head_answers_as_get_does(user):
    assert (await user.request("HEAD", "/metrics")).status == 200


async def test_a_scrape_looks_callbacks_up_by_indexes(service):
    plan = await service.app.views.read(f"EXPLAIN QUERY PLAN {OWED}", {"now": 0})
    looks = [step for *_, step in plan if "callbacks" in step]
    assert len(looks) == 4
    assert all(re.match("SEARCH callbacks USING (COVERING )?INDEX callbacks_(due|status)_", step) for step in looks)


async def test_open_streams_are_counted(service, user):
    async with following(user, "/v1/events", None, SSE):
        await until(lambda: service.app.hub.subscribers)
        assert (await values(user))["streams_open"] == 1
    await until(lambda: service.app.hub.subscribers == 0 or service.app.hub.beat())
    assert (await values(user))["streams_open"] == 0
