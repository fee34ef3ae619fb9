"""Filters at their edges, where random questions seldom look: equal times, two spellings, the very event."""

import pytest

from ledger.times import to_text
from tests.server.serving import MIDNIGHT_US


@pytest.fixture
async def three(user, clock):
    """One job and one run each at second 0, 1 and 2; by number, oldest first."""
    made: dict[str, list[str]] = {"job": [], "run": []}
    for _ in range(3):
        for kind, found in made.items():
            found.append(await user.create(kind, agent_id=f"agent-{len(found)}"))
        clock.advance(1)
    return made


@pytest.mark.parametrize(
    ("kind", "name", "shown"),
    [
        ("job", "created_after", [2]),
        ("job", "created_before", [0]),
        ("run", "start_date", [1, 2]),
        ("run", "end_date", [0, 1]),
    ],
)
async def test_created_after_and_before_leave_the_moment_out_and_start_and_end_dates_take_it_in(
    user, three, kind, name, shown
):
    moment = to_text(MIDNIGHT_US + 1_000_000)
    answer = await user.get(f"/v1/{kind}s/", params={name: moment, "order": "asc"})
    assert answer.ids == [three[kind][number] for number in shown]


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("agent_ids=agent-0,agent-2", [0, 2]),
        ("agent_ids=agent-0&agent_ids=agent-2", [0, 2]),
        ("agent_id=agent-0&agent_ids=agent-0,agent-2", [0]),
        ("agent_id=agent-1&agent_ids=agent-0,agent-2", []),
        ("agent_id=agent-1&active=true", [1]),
    ],
)
async def test_an_agent_and_a_list_of_agents_must_both_fit(user, three, query, shown):
    assert (await user.get(f"/v1/runs/?order=asc&{query}")).ids == [three["run"][number] for number in shown]


@pytest.mark.parametrize("kind", ["job", "run"])
@pytest.mark.parametrize("by", ["position", "time"])
async def test_a_filter_as_of_a_point_sees_a_change_from_its_event_on_and_not_before(user, clock, by, kind):
    """The last event before and the first at each change: what the list filters by must be what was so then."""
    # given a resource that moves from source to source
    found = await user.create(kind, metadata={"source_id": "source-0"})
    points = [user.service.app.ledger.size if by == "position" else clock.now_us]
    for number in (1, 2):
        clock.advance(1)
        answer = await user.patch(f"/v1/{kind}s/{found}", json={"metadata": {"source_id": f"source-{number}"}})
        points.append(answer.position if by == "position" else clock.now_us)
    # when, then
    for number, point in enumerate(points):
        for then, expected in ((point, number), (point - 1, number - 1)):
            as_of = str(then) if by == "position" else to_text(then)
            for asked in range(3):
                path = f"/v1/jobs/?job_type={kind}&source_id=source-{asked}"
                shown = (await user.get(f"{path}&as_of={as_of}")).ids
                assert shown == ([found] if asked == expected else []), (number, then, asked)


@pytest.mark.parametrize("query", ["source_id=s", "folder_id=s", "source_id=s&folder_id=s"])
async def test_a_source_is_found_under_its_old_and_new_name_and_only_as_a_text(user, query):
    found = await user.create(metadata={"source_id": "s"})
    for other in ({"source_id": "t"}, {"folder_id": "s"}, {"source_id": ["s"]}, {"source_id": None}, None):
        await user.create(metadata=other)
    for path in ("/v1/jobs/", "/v1/jobs/active", "/api/jobs"):
        assert (await user.get(f"{path}?{query}")).ids == [found]


async def test_a_source_and_a_folder_that_differ_contradict_each_other(user):
    await user.create(metadata={"source_id": "s"})
    answer = await user.get("/v1/jobs/?source_id=s&folder_id=t")
    assert answer.status in (400, 422) or answer.ids == []
