"""Jobs over HTTP: create, retrieve, update, delete, history, and the shape and times that clients read."""

import re

import pytest

from ledger import ids
from tests.server.serving import HOME

# Seed 000, word for word, and user_id as V1 sent it.
PROPERTIES = {
    *("created_by_id", "last_updated_by_id", "created_at", "updated_at", "status", "completed_at", "stop_reason"),
    *("metadata", "job_type", "background", "agent_id", "callback_url", "callback_sent_at", "callback_status_code"),
    *("callback_error", "ttft_ns", "total_duration_ns", "id", "user_id"),
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
CHAIN = ["created", "pending", "running"]
STATUSES = [*CHAIN, "completed", "failed", "cancelled", "expired"]
ENDS = STATUSES[3:]


async def test_a_new_job_has_exactly_the_19_properties_and_null_where_nothing_is_known(user):
    # when
    answer = await user.post("/v1/jobs/", json={})
    # then
    job = answer.json
    assert answer.status == 201
    assert set(job) == PROPERTIES
    assert job == {
        **dict.fromkeys(PROPERTIES),
        "id": job["id"],
        "user_id": user.id,
        "created_by_id": user.id,
        "last_updated_by_id": user.id,
        "created_at": "2026-11-22T00:00:00.000000Z",
        "updated_at": "2026-11-22T00:00:00.000000Z",
        "status": "created",
        "job_type": "job",
    }
    assert ids.is_id(job["id"], "job")


async def test_creating_answers_with_the_place_of_the_job_its_version_and_its_position(user):
    answer = await user.post("/v1/jobs/", json={"status": "running"})
    job_id = answer.json["id"]
    assert answer.headers["Location"] == f"/v1/jobs/{job_id}"
    assert answer.etag == '"3"'
    assert answer.position == user.service.app.ledger.size
    read = await user.get(answer.headers["Location"])
    assert (read.status, read.body, read.etag) == (200, answer.body, answer.etag)


async def test_everything_that_a_producer_says_of_a_new_job_is_kept(user):
    chosen = ids.make("job")
    said = {
        "id": chosen,
        "agent_id": "agent-7",
        "background": True,
        "metadata": {"source_id": "source-1", "deep": {"list": [1, 2.5, None, "é\u0000"]}},
        "callback_url": "https://example.com/hook",
    }
    job = (await user.post("/v1/jobs/", json={**said, "timeout_s": 60})).json
    assert {name: job[name] for name in said} == said


@pytest.mark.parametrize("status", STATUSES)
async def test_creating_with_a_later_status_walks_the_whole_chain_in_one_append(user, status):
    # given
    before = user.service.app.ledger.size
    # when
    answer = await user.post("/v1/jobs/", json={"status": status})
    # then
    walked = [*CHAIN[: CHAIN.index(status) + 1]] if status in CHAIN else [*CHAIN, status]
    events = await user.log(answer.json["id"])
    assert answer.json["status"] == status
    assert [event["type"] for event in events] == [f"job.{step}" for step in walked]
    assert [event["position"] for event in events] == list(range(before + 1, before + len(walked) + 1))
    assert len({event["recordedtime"] for event in events}) == 1


@pytest.mark.parametrize("status", ENDS)
async def test_every_terminal_status_sets_completed_at_and_the_duration_since_running(user, clock, status):
    # given
    job = await user.create(status="running")
    clock.advance(2.5)
    # when
    answer = await user.patch(f"/v1/jobs/{job}", json={"status": status})
    # then
    shown = answer.json
    assert answer.status == 200
    assert shown["status"] == status
    assert shown["completed_at"] == shown["updated_at"] == "2026-11-22T00:00:02.500000Z"
    assert shown["total_duration_ns"] == 2_500_000_000
    assert shown["stop_reason"] == ("cancelled" if status == "cancelled" else None)


async def test_the_duration_that_the_producer_gives_wins(user, clock):
    job = await user.create(status="running")
    clock.advance(9)
    body = {"status": "completed", "total_duration_ns": 77, "ttft_ns": 5, "stop_reason": "end_turn"}
    shown = (await user.patch(f"/v1/jobs/{job}", json=body)).json
    assert (shown["total_duration_ns"], shown["ttft_ns"], shown["stop_reason"]) == (77, 5, "end_turn")


@pytest.mark.parametrize("status", ["completed", "failed", "expired"])
async def test_a_cancel_sets_the_stop_reason_and_other_ends_take_the_producers(user, status):
    job = await user.create(status="running")
    shown = (await user.patch(f"/v1/jobs/{job}", json={"status": status, "stop_reason": "max_steps"})).json
    assert shown["stop_reason"] == "max_steps"


async def test_all_times_have_microseconds_and_a_z(user, clock):
    job = await user.create(status="completed", time="2026-11-01T03:04:05+02:00")
    shown = (await user.get(f"/v1/jobs/{job}")).json
    times = [shown[name] for name in ("created_at", "updated_at", "completed_at")]
    assert times == ["2026-11-01T01:04:05.000000Z"] * 3
    events = await user.log(job)
    assert all(TIME.fullmatch(event[name]) for event in events for name in ("time", "recordedtime"))
    assert {event["recordedtime"] for event in events} == {"2026-11-22T00:00:00.000000Z"}


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        (None, {"a": 1}, {"a": 1}),
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": {"x": 1}}, {"a": {"y": 2}}, {"a": {"y": 2}}),
        ({"a": 1, "b": 2}, {"a": None}, {"a": None, "b": 2}),
        ({"a": 1}, {}, {"a": 1}),
    ],
)
async def test_metadata_is_merged_key_by_key(user, first, second, merged):
    job = await user.create(metadata=first)
    answer = await user.patch(f"/v1/jobs/{job}", json={"metadata": second})
    assert answer.json["metadata"] == merged
    assert (await user.get(f"/v1/jobs/{job}")).json["metadata"] == merged


async def test_an_error_is_kept_in_the_event_and_shown_as_metadata_error(user):
    job = await user.create(status="running", metadata={"step": 3})
    error = {"type": "ValueError", "message": "no such file", "traceback": "Traceback …"}
    shown = (await user.patch(f"/v1/jobs/{job}", json={"status": "failed", "error": error})).json
    assert shown["metadata"] == {"step": 3, "error": error}
    assert (await user.log(job))[-1]["data"]["error"] == error


async def test_an_update_says_who_and_when_and_adds_one_event(user, admin, clock):
    # given
    job = await user.create()
    clock.advance(1)
    # when
    answer = await admin.patch(f"/v1/jobs/{job}", json={"metadata": {"a": 1}})
    # then
    assert answer.json["last_updated_by_id"] == admin.id
    assert answer.json["created_by_id"] == answer.json["user_id"] == user.id
    assert answer.json["updated_at"] == "2026-11-22T00:00:01.000000Z"
    assert await user.types(job) == ["job.created", "job.updated"]


@pytest.mark.parametrize("status", STATUSES)
async def test_delete_works_in_any_status_hides_the_job_and_keeps_its_history(user, admin, status):
    # given
    job = await user.create(status=status)
    shown = (await user.get(f"/v1/jobs/{job}")).json
    # when
    answer = await user.delete(f"/v1/jobs/{job}")
    # then
    assert answer.status == 200
    assert {**answer.json, "updated_at": None} == {**shown, "updated_at": None}
    assert (await user.get("/v1/jobs/")).json == []
    for method, path, body in (
        ("GET", f"/v1/jobs/{job}", None),
        ("PATCH", f"/v1/jobs/{job}", {"metadata": {}}),
        ("PATCH", f"/v1/jobs/{job}/cancel", None),
        ("DELETE", f"/v1/jobs/{job}", None),
        ("GET", f"/v1/jobs/{job}/events", None),
    ):
        assert (await user.request(method, path, json=body)).status == 404, (method, path)
    assert (await user.post("/v1/jobs/", json={"id": job})).error["type"] == "already_exists"
    assert (await admin.types(job))[-1] == "job.deleted"


async def test_the_history_is_a_list_of_cloudevents_with_every_attribute(user):
    job = await user.create(metadata={"a": 1})
    answer = await user.get(f"/v1/jobs/{job}/events")
    (event,) = answer.json
    assert answer.headers["Content-Type"] == "application/cloudevents-batch+json"
    assert len(event.pop("salt")) == 32
    assert event == {
        "specversion": "1.0",
        "id": str(event["position"]),
        "source": user.service.app.ledger.name,
        "type": "job.created",
        "subject": job,
        "time": "2026-11-22T00:00:00.000000Z",
        "datacontenttype": "application/json",
        "data": {"user_id": user.id, "metadata": {"a": 1}},
        "position": event["position"],
        "streamversion": 1,
        "schemaversion": 1,
        "recordedtime": "2026-11-22T00:00:00.000000Z",
        "actor": user.id,
        "correlationid": event["correlationid"],
    }


@pytest.mark.parametrize(
    ("query", "versions"),
    [
        ("", [1, 2, 3, 4]),
        ("?after=2", [3, 4]),
        ("?before=3", [1, 2]),
        ("?after=1&before=4", [2, 3]),
        ("?after=4", []),
        ("?limit=2", [1, 2]),
        ("?after=1&limit=2", [2, 3]),
    ],
)
async def test_the_history_is_paged_by_versions(user, query, versions):
    job = await user.create(status="completed")
    answer = await user.get(f"/v1/jobs/{job}/events{query}")
    assert [event["streamversion"] for event in answer.json] == versions


async def test_the_history_links_to_its_next_page_until_the_end(user):
    job = await user.create(status="completed")
    seen, path = [], f"/v1/jobs/{job}/events?limit=1"
    while path:
        answer = await user.get(path)
        seen += [event["streamversion"] for event in answer.json]
        path = answer.next_path
    assert seen == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["run", "batch"])
async def test_runs_and_batches_can_be_read_as_jobs(user, admin, kind):
    found = await user.create(kind)
    await admin.patch(f"/v1/jobs/{found}", json={"metadata": {"a": 1}})
    shown = (await user.get(f"/v1/jobs/{found}")).json
    assert set(shown) == PROPERTIES
    assert (shown["user_id"], shown["created_by_id"], shown["last_updated_by_id"]) == (user.id, user.id, admin.id)
    assert (shown["id"], shown["job_type"]) == (found, kind)
    listed = (await user.get(f"/v1/jobs/?job_type={kind}")).json
    assert shown in listed


ALIASES: list[tuple] = [
    ("GET", "/jobs", None, 200),
    ("GET", "/jobs/active", None, 200),
    ("GET", "/jobs/{job}", None, 200),
    ("GET", "/jobs/{job}/events", None, 200),
    ("POST", "/jobs", {}, 201),
    ("PATCH", "/jobs/{job}", {"metadata": {}}, 200),
    ("PATCH", "/jobs/{job}/cancel", None, 200),
    ("DELETE", "/jobs/{job}", None, 200),
]


@pytest.mark.parametrize("ending", ["", "/"])
@pytest.mark.parametrize("root", ["/v1", "/api"])
@pytest.mark.parametrize(("method", "path", "body", "status"), ALIASES)
async def test_the_old_spelling_and_a_trailing_slash_make_no_difference(user, method, path, body, status, root, ending):
    job = await user.create(status="running")
    answer = await user.request(method, root + path.format(job=job) + ending, json=body)
    assert answer.status == status


@pytest.mark.parametrize("path", [*HOME.values(), "/v1/_internal_runs/", "/v1/jobs/active/", "/v1/runs/active/"])
async def test_lists_answer_with_and_without_a_trailing_slash(user, path):
    with_slash, without = await user.get(path), await user.get(path.rstrip("/"))
    assert (with_slash.status, with_slash.json) == (without.status, without.json) == (200, [])
