"""Reads of one resource as of any point: what the ledger knew at a position, or what had happened by a time."""

import pytest

from ledger import ids
from ledger.times import to_text
from tests.server.serving import HOME, MIDNIGHT_US, serving

SECOND_US = 1_000_000


def at(second):
    return to_text(MIDNIGHT_US + int(second * SECOND_US))


async def lived(user, clock, kind="job"):
    """Make what is created at 0 s, pending (jobs) at 5, running 10 later, changed 10 later, completed 10 later."""
    found = await user.create(kind)
    path = f"{'/v1/jobs' if kind == 'job' else '/v1/runs'}/{found}"
    positions = [user.service.app.ledger.size]
    steps = [{"status": "running"}, {"metadata": {"n": 1}}, {"status": "completed"}]
    for body in [{"status": "pending"}, *steps] if kind == "job" else steps:
        clock.advance(5 if body == {"status": "pending"} else 10)
        answer = await user.patch(path, json=body)
        positions.append(answer.position)
    return path, positions


@pytest.mark.parametrize("kind", ["job", "run"])
async def test_each_position_shows_the_answer_that_was_given_then(user, clock, kind):
    # given the answers at the time
    found = await user.create(kind)
    path = f"{'/v1/jobs' if kind == 'job' else '/v1/runs'}/{found}"
    given = {user.service.app.ledger.size: await user.get(path)}
    for body in ({"metadata": {"a": 1}}, {"status": "cancelled"}, {"status": "failed"}, {"metadata": {"b": 2}}):
        clock.advance(1)
        await user.patch(path, json=body)
        given[user.service.app.ledger.size] = await user.get(path)
    # when, then
    for position, then in given.items():
        answer = await user.get(f"{path}?as_of={position}")
        assert (answer.status, answer.body, answer.etag) == (200, then.body, then.etag)


@pytest.mark.parametrize(
    ("second", "status"),
    [
        (0, "created"),
        (4.999999, "created"),
        (5, "pending"),
        (14.999999, "pending"),
        (15, "running"),
        (34.999999, "running"),
        (35, "completed"),
        (1e6, "completed"),
    ],
)
async def test_a_time_shows_what_had_happened_by_then(user, clock, second, status):
    path, _ = await lived(user, clock)
    assert (await user.get(path, params={"as_of": at(second)})).json["status"] == status


async def test_before_its_creation_a_resource_does_not_exist(user, clock):
    clock.advance(60)
    path, positions = await lived(user, clock)
    for point in ("0", str(positions[0] - 1), at(59.999999), "1970-01-01"):
        answer = await user.get(path, params={"as_of": point})
        assert (answer.status, answer.error["type"]) == (404, "not_found"), point


async def test_a_deleted_resource_still_existed_before_its_deletion(user, clock):
    # given
    path, _ = await lived(user, clock)
    clock.advance(10)
    gone = (await user.delete(path)).position
    # when, then
    assert (await user.get(path)).status == 404
    assert (await user.get(f"{path}?as_of={gone}")).status == 404
    assert (await user.get(f"{path}?as_of={gone - 1}")).json["status"] == "completed"
    assert (await user.get(path, params={"as_of": at(44)})).json["status"] == "completed"
    assert (await user.get(path, params={"as_of": at(45)})).status == 404
    home = path.rpartition("/")[0]
    assert (await user.get(f"{home}?as_of={gone}")).ids == []
    assert (await user.get(f"{home}?as_of={gone - 1}")).ids == [path.rpartition("/")[2]]


async def test_a_clock_that_jumps_back_does_not_confuse(user):
    # given a run that started at 20 by one clock and ended at 10 by another
    run = await user.create("run", time=at(0))
    path = f"/v1/runs/{run}"
    await user.patch(path, json={"status": "running", "time": at(20)})
    answer = await user.patch(path, json={"status": "completed", "time": at(10)})
    # then the end takes effect no earlier than the start
    assert (answer.json["completed_at"], answer.json["total_duration_ns"]) == (at(20), 0)
    shown = {second: (await user.get(path, params={"as_of": at(second)})).json["status"] for second in (5, 10, 15, 20)}
    assert shown == {5: "created", 10: "created", 15: "created", 20: "completed"}
    assert [event["time"] for event in await user.log(run)] == [at(0), at(20), at(10)]


async def test_a_producer_may_tell_of_the_past_and_the_ledger_still_knows_what_it_knew(user, clock):
    # given a history told afterwards
    clock.advance(1000)
    job = await user.create(status="running", time=at(100))
    position = user.service.app.ledger.size
    await user.patch(f"/v1/jobs/{job}", json={"status": "completed", "time": at(200)})
    # when, then: by time it was complete at 200, by position it was running
    assert (await user.get(f"/v1/jobs/{job}", params={"as_of": at(250)})).json["status"] == "completed"
    assert (await user.get(f"/v1/jobs/{job}?as_of={position}")).json["status"] == "running"
    assert (await user.get(f"/v1/jobs/{job}")).json["completed_at"] == at(200)


async def test_a_refusal_changes_neither_what_was_nor_its_etag(user):
    job = await user.create()
    await user.patch(f"/v1/jobs/{job}/cancel")
    size = user.service.app.ledger.size
    before, after = [await user.get(f"/v1/jobs/{job}?as_of={position}") for position in (size - 1, size)]
    assert (before.body, before.etag) == (after.body, after.etag)
    assert before.etag == '"1"'


@pytest.mark.parametrize("kind", HOME)
async def test_every_kind_and_list_answers_as_of(user, clock, kind):
    found = await user.create(kind)
    clock.advance(10)
    cancelled = await user.patch(f"{HOME[kind]}{'' if HOME[kind].endswith('/') else '/'}{found}/cancel")
    status = "running" if kind == "batch" else "created"
    for point in (at(9), at(0)):
        assert [row["status"] for row in (await user.get(HOME[kind], params={"as_of": point})).json] == [status]
    assert cancelled.status == (409 if kind == "job" else 200)


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("x", 422),
        ("", 422),
        ("-1", 422),
        ("1.5", 422),
        ("2026-13-01", 422),
        ("2026-11-22T25:00:00Z", 422),
        ("9" * 40, 422),
        ("9223372036854775807", 422),
        ("2026-11-22T00:00:00Z&as_of=1", 422),
        ("9999-12-31T23:59:59.999999Z", 200),
        ("2026-11-22T00:00:00", 200),
        ("2026-11-22T01:00:00+01:00", 200),
        ("2026-11-22T01:00:00%2B01:00", 200),
        ("2026-11-22%2000:00:00", 200),
        ("2026-11-22", 200),
    ],
)
@pytest.mark.parametrize("home", ["/v1/jobs/{id}", "/v1/jobs/"])
async def test_a_point_is_a_position_up_to_the_head_or_an_iso_time(user, home, value, status):
    job = await user.create()
    answer = await user.get(f"{home.format(id=job)}?as_of={value}")
    assert answer.status == status, answer.body
    if status == 422:
        assert answer.error["details"][0]["where"] == "as_of"


async def test_a_position_beyond_the_head_is_refused_and_says_where_the_log_ends(user):
    job = await user.create()
    size = user.service.app.ledger.size
    assert (await user.get(f"/v1/jobs/{job}?as_of={size}")).status == 200
    answer = await user.get(f"/v1/jobs/{job}?as_of={size + 1}")
    assert answer.status == 422
    assert answer.error["details"][0]["allowed"] == f"0 to {size}, or a time"


async def test_the_past_of_another_user_is_not_shown(user, other):
    job = await other.create()
    size = user.service.app.ledger.size
    answer = await user.get(f"/v1/jobs/{job}?as_of={size}")
    unknown = ids.make("job")
    assert answer.status == 404
    assert answer.body.replace(job.encode(), unknown.encode()) == (await user.get(f"/v1/jobs/{unknown}")).body


@pytest.mark.parametrize("query", ["order_by=duration", "duration_percentile=50"])
async def test_durations_cannot_be_ordered_or_ranked_as_of_a_point(user, query):
    answer = await user.get(f"/v1/runs/?as_of=1&{query}")
    assert (answer.status, answer.error["type"]) == (400, "invalid_request")


async def test_a_position_that_another_server_has_just_given_is_known(tmp_path, clock):
    # given two servers on one file
    async with serving(tmp_path / "ledger.db", clock) as one, serving(tmp_path / "ledger.db", clock) as other:
        user = await one.user()
        for _ in range(30):
            # when a position that the one answered with is asked of the other at once
            created = await user.post("/v1/jobs/", json={})
            headers = {"Authorization": f"Bearer {user.token}"}
            answer = await other.request("GET", f"/v1/jobs/?as_of={created.position}", headers=headers)
            # then it has it
            assert answer.status == 200, answer.body
            assert created.json["id"] in answer.ids


async def test_what_is_erased_while_a_list_of_the_past_is_read_is_left_out(service, user, admin, clock, monkeypatch):
    # given a run whose past only the log can tell, and another
    long = {"text": "x" * 5_000}
    id, other = [await user.create("run", metadata=long) for _ in range(2)]
    for each in (id, other):
        assert (await user.patch(f"/v1/runs/{each}", json={"metadata": {"text": "y"}})).status == 200
    position = service.app.ledger.size - 2
    views, streams_of = service.app.views, service.app.ledger.store.streams

    async def late(ids, **more):
        # when it is erased between the read of the rows and that of the log
        answer = await admin.post(f"/v1/runs/{id}/erase", json={"reason": "asked for"})
        assert answer.status == 200
        return await streams_of(ids, **more)

    monkeypatch.setattr(views._past, "_streams_of", late)
    # then nothing of it is shown
    assert (await user.get(f"/v1/runs/?as_of={position}")).ids == [other]


async def test_what_is_erased_while_its_past_is_read_is_gone(service, user, admin, monkeypatch):
    # given a run, and a read of its past (simulator, seed 111)
    id = await user.create("run", metadata={"text": "x"})
    position, read = service.app.ledger.size, service.app.ledger.store.streams

    async def late(ids, **asked):
        # when it is erased after the views were asked, and before the log is
        answer = await admin.post(f"/v1/runs/{id}/erase", json={"reason": "asked for"})
        assert answer.status == 200
        return await read(ids, **asked)

    monkeypatch.setattr(service.app.ledger.store, "streams", late)
    answer = await user.get(f"/v1/runs/{id}?as_of={position}")
    # then it is not shown as a run that never had any metadata
    assert answer.status == 410, answer.body
    assert answer.error["type"] == "erased"
