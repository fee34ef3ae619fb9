"""``GET /v1/stats``: what a caller may see, by what is asked for; the same as the command on the file tells."""

import asyncio

import msgspec
import pytest

from projections.period import period
from projections.statistics import Asked, Statistics
from projections.tallied import Whose
from tests.cli.commandline import good
from tests.projections.random_histories import USERS, History
from tests.projections.sums_oracle import World, check

ALL = 1_000_000


@pytest.fixture
async def world(service):
    await History(77).extend(service.app.ledger, 400)
    await service.app.engine.wait_for(service.app.ledger.size)
    return World(await service.app.ledger.store.scan(0, ALL))


async def told(who, query=""):
    answer = await who.request("GET", f"/v1/stats{query}")
    assert answer.status == 200, answer.body
    return msgspec.convert(answer.json, Statistics)


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", Asked()),
        ("?kind=all", Asked()),
        ("?kind=run&top=1", Asked(kinds=("run",), top=1)),
        ("?agent_id=agent-1", Asked(whose=Whose(agent_id="agent-1"))),
        ("?project_id=project-1&bucket=week", Asked(whose=Whose(project_id="project-1"), bucket="week")),
        (
            "?since=2023-11-15&until=2023-11-16T10:00:00Z",
            Asked(period=period(1700006400 * 10**6, 1700128800 * 10**6 + 1)),
        ),
    ],
)
async def test_an_admin_is_told_of_all(world, admin, query, asked):
    check(await told(admin, query), world, asked)


@pytest.mark.parametrize("project", [None, "project-1"])
async def test_a_user_is_told_of_their_own(world, service, project):
    user = await service.user("read", id=USERS[1], project=project)
    check(await told(user), world, Asked(whose=Whose(USERS[1], project)))


async def test_what_was_just_written_is_told(user):
    made = await user.request("POST", "/v1/jobs", json={})
    answer = await user.request("GET", "/v1/stats", headers={"Ledger-Position": made.headers["Ledger-Position"]})
    assert answer.json["jobs"]["total"] == 1


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("kind=step", "kind"),
        ("bucket=year", "bucket"),
        ("top=101", "top"),
        ("since=yesterday", "since"),
        ("agent_id=", "agent_id"),
        ("colour=red", "colour"),
    ],
)
async def test_what_is_no_question_is_refused(user, query, where):
    answer = await user.request("GET", f"/v1/stats?{query}")
    assert answer.status == 422
    assert [fault["where"] for fault in answer.json["error"]["details"]] == [where]


async def test_the_command_on_the_file_tells_the_same(world, admin, ledger_file):
    over_http = (await admin.request("GET", "/v1/stats?bucket=day")).json
    by_command = (await asyncio.to_thread(good, "stats", "--json", "--bucket", "day", "--db", ledger_file)).json
    assert {name: by_command[name] for name in over_http} == over_http
