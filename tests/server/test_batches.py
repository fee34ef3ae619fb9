"""Batches over HTTP: one run per request, in the shape of a job; cancelling takes the active runs along."""

import pytest

from ledger import ids
from tests.server.test_jobs import PROPERTIES

REQUESTS = [{"agent_id": f"agent-{number}", "messages": [{"role": "user", "content": "hi"}]} for number in range(3)]


def progress(**counts):
    """What a batch tells of its runs."""
    statuses = dict.fromkeys(("created", "running", "completed", "failed", "cancelled"), 0)
    return {"total": sum(counts.values()), **statuses, **counts}


async def runs_of(user):
    return (await user.get("/v1/runs/?order=asc")).json


async def test_a_batch_is_recorded_as_running_with_one_run_per_request(user):
    # when
    answer = await user.post("/v1/messages/batches", json={"requests": REQUESTS, "metadata": {"a": 1}})
    # then
    batch = answer.json
    assert answer.status == 201
    assert set(batch) == PROPERTIES
    assert (batch["job_type"], batch["status"]) == ("batch", "running")
    assert batch["metadata"] == {"a": 1, "progress": progress(created=3)}
    assert answer.headers["Location"] == f"/v1/messages/batches/{batch['id']}"
    assert (await user.get(answer.headers["Location"])).body == answer.body
    runs = await runs_of(user)
    assert sorted(run["agent_id"] for run in runs) == ["agent-0", "agent-1", "agent-2"]
    for run in runs:
        assert run["status"] == "created"
        assert run["metadata"]["batch_id"] == batch["id"]
        assert run["metadata"]["request"] in REQUESTS


async def test_a_batch_and_its_runs_come_in_one_append(user):
    before = user.service.app.ledger.size
    batch = await user.create("batch", requests=REQUESTS)
    events = await user.service.app.ledger.store.scan(before, 100)
    assert [event.position for event in events] == list(range(before + 1, before + 7))
    assert len({event.recorded for event in events}) == 1
    assert [event.type for event in events if event.stream == batch] == [
        "batch.created",
        "batch.pending",
        "batch.running",
    ]
    assert [event.type for event in events if event.stream != batch] == ["run.created"] * 3


async def test_batches_of_every_status_are_listed_and_jobs_are_not(user):
    # given
    ended = []
    for status in ("completed", "failed", "cancelled", "expired"):
        ended.append(await user.create("batch"))
        await user.patch(f"/v1/jobs/{ended[-1]}", json={"status": status})
    running = await user.create("batch")
    await user.create("job")
    # when
    listed = await user.get("/v1/messages/batches")
    # then
    assert sorted(listed.ids) == sorted([*ended, running])
    assert {row["job_type"] for row in listed.json} == {"batch"}
    assert (await user.get("/v1/jobs/")).json[0]["job_type"] == "job"


async def test_a_job_is_no_batch(user):
    job = await user.create("job", status="running")
    assert (await user.get(f"/v1/messages/batches/{job}")).status == 404
    assert (await user.patch(f"/v1/messages/batches/{job}/cancel")).status == 404
    assert (await user.get(f"/v1/jobs/{job}")).json["status"] == "running"


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "requests"),
        ({"requests": []}, "requests"),
        ({"requests": [{}]}, "requests[0].agent_id"),
        ({"requests": [{"agent_id": "agent-1"}, {"agent_id": 7}]}, "requests[1].agent_id"),
        ({"requests": [{"agent_id": "a\u0000b"}]}, "requests[0].agent_id"),
        ({"requests": ["x"]}, "requests[0]"),
        ({"requests": REQUESTS, "status": "running"}, "status"),
    ],
)
async def test_a_refused_batch_leaves_nothing_behind(user, body, where):
    before = user.service.app.ledger.size
    answer = await user.post("/v1/messages/batches", json=body)
    assert answer.status == 422
    assert [fault["where"] for fault in answer.error["details"]] == [where]
    assert user.service.app.ledger.size == before


async def test_cancelling_a_batch_cancels_its_active_runs_in_the_same_append(user):
    # given
    batch = await user.create("batch", requests=[{"agent_id": f"agent-{number}"} for number in range(4)])
    first, second, third, fourth = [run["id"] for run in await runs_of(user)]
    await user.patch(f"/v1/runs/{first}", json={"status": "running"})
    await user.patch(f"/v1/runs/{second}", json={"status": "running"})
    await user.patch(f"/v1/runs/{second}", json={"status": "completed"})
    await user.delete(f"/v1/runs/{third}")
    stranger = await user.create("run", status="running")
    before = user.service.app.ledger.size
    # when
    answer = await user.patch(f"/v1/messages/batches/{batch}/cancel")
    # then
    assert (answer.status, answer.json["status"], answer.json["stop_reason"]) == (200, "cancelled", "cancelled")
    events = await user.service.app.ledger.store.scan(before, 100)
    assert {(event.type, event.stream) for event in events} == {
        ("run.cancelled", first),
        ("run.cancelled", fourth),
        ("batch.cancelled", batch),
    }
    assert len(events) == 3
    assert len({event.recorded for event in events}) == 1
    statuses = {run["id"]: run["status"] for run in await runs_of(user)}
    assert statuses == {first: "cancelled", second: "completed", fourth: "cancelled", stranger: "running"}


async def test_a_batch_cancel_for_another_version_leaves_batch_and_runs_active(user):
    batch = await user.create("batch", requests=REQUESTS)
    before = user.service.app.ledger.size
    answer = await user.patch(f"/v1/messages/batches/{batch}/cancel", headers={"If-Match": '"9"'})
    assert answer.status == 412
    assert user.service.app.ledger.size == before
    assert {run["status"] for run in await runs_of(user)} == {"created"}


async def test_a_batch_cannot_name_the_runs_of_others_and_cancel_them_with_itself(user, other):
    # given a batch brought as events, which claims a run of another user
    victim = await other.create("run", status="running")
    mine = victim.replace("run-", "job-")
    facts = [("batch.created", {"user_id": user.id, "runs": [victim]}), ("batch.pending", {}), ("batch.running", {})]
    lines = [{"specversion": "1.0", "type": name, "subject": mine, "data": data} for name, data in facts]
    await user.post("/v1/events", json=lines, headers={"Content-Type": "application/cloudevents-batch+json"})
    # when
    await user.patch(f"/v1/messages/batches/{mine}/cancel")
    # then
    assert (await other.get(f"/v1/runs/{victim}")).json["status"] == "running"


async def test_a_batch_tells_how_far_its_runs_are_now_and_at_any_point(user):
    # given a batch of three, of which one runs and one has failed
    batch = await user.create("batch", requests=REQUESTS)
    first, second, third = [run["id"] for run in await runs_of(user)]
    start = user.service.app.ledger.size
    await user.patch(f"/v1/runs/{first}", json={"status": "running"})
    await user.patch(f"/v1/runs/{second}", json={"status": "failed"})
    # when it is read, then it tells that, by whatever route
    expected = progress(created=1, running=1, failed=1)
    for path in (f"/v1/messages/batches/{batch}", f"/v1/jobs/{batch}"):
        assert (await user.get(path)).json["metadata"] == {"progress": expected}
    for path in ("/v1/messages/batches", "/v1/jobs/?job_type=batch"):
        assert [row["metadata"] for row in (await user.get(path)).json] == [{"progress": expected}]
    # and as of before, what was so then
    for path in (f"/v1/messages/batches/{batch}?as_of={start}", f"/v1/messages/batches?as_of={start}"):
        shown = (await user.get(path)).json
        assert (shown[0] if isinstance(shown, list) else shown)["metadata"] == {"progress": progress(created=3)}
    # and without the runs that were deleted
    await user.delete(f"/v1/runs/{third}")
    told = (await user.get(f"/v1/jobs/{batch}")).json["metadata"]["progress"]
    assert told == progress(running=1, failed=1)


async def test_progress_moves_without_the_batch_so_a_client_with_its_etag_reads_it_all_the_same(user):
    batch = await user.create("batch", requests=REQUESTS)
    etag = (await user.get(f"/v1/jobs/{batch}")).etag
    await user.patch(f"/v1/runs/{(await runs_of(user))[0]['id']}", json={"status": "running"})
    answer = await user.get(f"/v1/jobs/{batch}", headers={"If-None-Match": etag})
    assert (answer.status, answer.etag) == (200, etag)
    assert answer.json["metadata"]["progress"] == progress(created=2, running=1)


async def test_a_progress_of_the_producers_own_stays(user):
    batch = await user.create("batch", requests=REQUESTS, metadata={"progress": "mine"})
    assert (await user.get(f"/v1/jobs/{batch}")).json["metadata"] == {"progress": "mine"}


async def test_runs_of_others_that_name_a_batch_do_not_count_and_say_nothing_in_it(user, other):
    # given a run of another user that claims to be of the batch, with a message
    batch = await user.create("batch", requests=REQUESTS)
    run = batch.replace("job-", "run-")
    data = {"user_id": other.id, "agent_id": "agent-1", "batch_id": batch}
    said = {"id": run.replace("run-", "message-"), "message_type": "user_message", "content": "hello"}
    lines = [
        {"specversion": "1.0", "type": "run.created", "subject": run, "data": data},
        {"specversion": "1.0", "type": "run.message", "subject": run, "data": {"message": said}},
    ]
    media = {"Content-Type": "application/cloudevents-batch+json"}
    assert (await other.post("/v1/events", json=lines, headers=media)).status == 200
    # then
    assert (await user.get(f"/v1/jobs/{batch}")).json["metadata"] == {"progress": progress(created=3)}
    assert (await user.get(f"/v1/messages/batches/{batch}/messages")).json == {"messages": []}


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_a_message_has_all_its_parts_on_one_page_whoever_spoke_between_them(user, order, limit):
    # given two runs that speak at the same time: the first part of each, then the second of each, and so on
    batch = await user.create("batch", requests=REQUESTS[:2])
    runs = [run["id"] for run in await runs_of(user)]
    said = [ids.make("message") for _ in range(6)]
    for pair in (said[:2], said[2:4], said[4:]):
        for text in ("a", "b", "c"):
            for run, id in zip(runs, pair, strict=True):
                part = {"message_type": "assistant_message", "id": id, "content": text}
                assert (await user.post(f"/v1/runs/{run}/messages", json=part)).status == 201
    # when
    path, found = f"/v1/messages/batches/{batch}/messages?order={order}&limit={limit}", []
    while path:
        page = await user.get(path)
        assert len(page.json["messages"]) <= limit
        found += [(row["id"], "".join(part["text"] for part in row["content"])) for row in page.json["messages"]]
        path = page.next_path
    # then
    assert found == [(id, "abc") for id in (said if order == "asc" else said[::-1])]
