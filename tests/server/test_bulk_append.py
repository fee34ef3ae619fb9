"""The log over HTTP, written: the bulk append of events, all or nothing."""

import msgspec
import pytest

from ledger import ids
from tests.server.serving import User
from tests.server.test_errors import check_shape

BATCH_TYPE = "application/cloudevents-batch+json"
NDJSON = "application/x-ndjson"


def event(name, subject, data=None, **more):
    return {"specversion": "1.0", "type": name, "subject": subject, "data": {} if data is None else data, **more}


def lines_of(events):
    return b"\n".join(one if isinstance(one, bytes) else msgspec.json.encode(one) for one in events)


async def bring(user, events, media=NDJSON):
    data = lines_of(events)
    if media == BATCH_TYPE:
        data = b"[" + data.replace(b"\n", b",") + b"]"
    return await user.post("/v1/events", data=data, headers={"Content-Type": media})


def life(user, subject=None, ends=("running", "completed")):
    subject = subject or ids.make("job")
    steps = [event("job.created", subject, {"user_id": user.id}), event("job.pending", subject)]
    return [*steps, *(event(f"job.{end}", subject) for end in ends)]


@pytest.mark.parametrize("media", [NDJSON, "application/json", BATCH_TYPE, f"{BATCH_TYPE}; charset=utf-8"])
async def test_events_are_appended_in_order_and_counted(user, media):
    events = [*life(user), *life(user, ends=())]
    before = user.service.app.ledger.size
    data = lines_of(events) if "batch" not in media else b"[" + lines_of(events).replace(b"\n", b",") + b"]"
    answer = await user.post("/v1/events", data=data, headers={"Content-Type": media})
    assert answer.status == 200, answer.body
    assert answer.json == {"appended": 6, "duplicate": 0, "position": before + 6}
    assert answer.position == before + 6
    assert (await user.get(f"/v1/jobs/{events[0]['subject']}")).json["status"] == "completed"
    feed = (await user.get(f"/v1/events?after={before}")).json
    assert [(one["type"], one["subject"]) for one in feed] == [(one["type"], one["subject"]) for one in events]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\n\n", b"\n  \n", b""])
async def test_blank_lines_and_line_ends_do_not_matter(user, ending):
    lines = [msgspec.json.encode(one) for one in life(user)]
    data = (ending or b"\n").join(lines) + ending
    answer = await user.post("/v1/events", data=data)
    assert answer.json["appended"] == 4


@pytest.mark.parametrize("media", [NDJSON, BATCH_TYPE])
@pytest.mark.parametrize(
    ("bad", "inner"),
    [
        (b"nope", "invalid_request"),
        (b'{"specversion":"1.0"}', "validation_error"),
        (event("job.created", "job-1", {"user_id": "{user}"}), "validation_error"),
        (event("job.begun", "{fresh}"), "validation_error"),
        (event("run.created", "{fresh}", {"user_id": "{user}"}), "validation_error"),
        (event("job.created", "{fresh}", {}), "validation_error"),
        (event("job.created", "{fresh}", {"user_id": "{user}", "colour": 1}), "validation_error"),
        (event("job.created", "{fresh}", {"user_id": "{user}"}, colour=1), "validation_error"),
        (event("job.created", "{fresh}", {"user_id": "{user}"}, time="yesterday"), "validation_error"),
        (event("job.created", "{fresh}", {"user_id": "{user}"}, specversion="0.3"), "validation_error"),
        (event("job.created", "{fresh}", {"user_id": "{user}"}, schemaversion=99), "validation_error"),
        (event("job.created", "{done}", {"user_id": "{user}"}), "already_exists"),
        (event("job.pending", "{fresh}"), "not_found"),
        (event("job.running", "{done}"), "invalid_job_status_transition"),
        (event("job.running", "{done}", streamversion=9), "version_mismatch"),
        (event("job.created", "{fresh}", {"user_id": "{user}", "metadata": {"a": 2**63}}), "validation_error"),
        (event("job.created", "{fresh}", {"user_id": "{user}", "timeout_s": 1e300}), "validation_error"),
        (event("job.created", "{fresh}", {"user_id": "{user}", "timeout_s": -1}), "validation_error"),
        (event("job.created", "{fresh}", {"user_id": "{user}", "agent_id": "a\u0000"}), "validation_error"),
        (event("job.created", "{fresh}", {"user_id": "{user}", "callback_url": "file:///etc"}), "validation_error"),
        (event("job.updated", "{open}", {"total_duration_ns": -5}), "validation_error"),
        (event("job.updated", "{open}", {"ttft_ns": 2**64}), "validation_error"),
    ],
)
async def test_a_bad_line_is_named_by_its_number_and_nothing_is_appended(user, media, bad, inner):
    # given
    done, open_ = await user.create(status="completed"), await user.create()
    if not isinstance(bad, bytes):
        text = msgspec.json.encode(bad).decode()
        known = {"user": user.id, "fresh": ids.make("job"), "done": done, "open": open_}
        for name, value in known.items():
            text = text.replace("{" + name + "}", value)
        bad = text.encode()
    elif media == BATCH_TYPE and bad == b"nope":
        bad = b"7"
        inner = "validation_error"
    size = user.service.app.ledger.size
    # when
    answer = await bring(user, [*life(user)[:2], bad, *life(user)], media)
    # then
    check_shape(answer, 422, "validation_error")
    assert answer.error["details"]["line"] == 3
    assert answer.error["details"]["type"] == inner
    assert user.service.app.ledger.size == size
    assert (await user.post("/v1/jobs/", json={})).status == 201


@pytest.mark.parametrize("body", [b"", b"\n\n", b" "])
async def test_an_append_of_nothing_is_refused(user, body):
    check_shape(await user.post("/v1/events", data=body), 422, "validation_error")


@pytest.mark.parametrize(("body", "status"), [
    (b"", 400), (b"{}", 400), (b"[", 400), (b"[]", 422), (b"[" * 5000 + b"]" * 5000, 422),
    (b'[{"data":' + b"[" * 200 + b"]" * 200 + b"}]", 422),
])  # fmt: skip
async def test_a_batch_that_is_no_array_of_events_is_refused(user, body, status):
    answer = await user.post("/v1/events", data=body, headers={"Content-Type": BATCH_TYPE})
    check_shape(answer, status, {400: "invalid_request", 422: "validation_error"}[status])


@pytest.mark.parametrize(
    "extra", [{"idempotencykey": "k-{n}"}, {"streamversion": True}, {"idempotencykey": "k-{n}", "time": True}]
)
async def test_the_same_events_again_are_duplicates_and_add_nothing(user, clock, extra):
    # given
    events = life(user)
    for number, one in enumerate(events, 1):
        if "idempotencykey" in extra:
            one["idempotencykey"] = f"k-{number}"
        if "streamversion" in extra:
            one |= {"streamversion": number, "time": "2026-11-01T00:00:00Z"}
        if "time" in extra:
            one["time"] = "2026-11-01T00:00:00Z"
    first = await bring(user, events)
    size = user.service.app.ledger.size
    # when some time later
    clock.advance(5)
    again = await bring(user, events)
    half = await bring(user, events[2:])
    # then
    assert (first.json["appended"], first.json["duplicate"]) == (4, 0)
    assert (again.status, half.status) == (200, 200), (again.body, half.body)
    assert again.json == {"appended": 0, "duplicate": 4, "position": size}
    assert (half.json["appended"], half.json["duplicate"]) == (0, 2)
    assert user.service.app.ledger.size == size


async def test_an_equal_line_twice_in_one_body_counts_once(user):
    job = ids.make("job")
    line = event("job.created", job, {"user_id": user.id}, idempotencykey="k", time="2026-11-01T00:00:00Z")
    answer = await bring(user, [line, line])
    assert (answer.json["appended"], answer.json["duplicate"]) == (1, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "job.pending", "data": {}},
        {"time": "2026-11-02T00:00:00Z"},
        {"data": {"user_id": "{user}", "background": True}},
    ],
)
async def test_another_event_under_a_used_key_is_a_conflict(user, change):
    line = event("job.created", ids.make("job"), {"user_id": user.id}, idempotencykey="k", time="2026-11-01T00:00:00Z")
    await bring(user, [line])
    other = {**line, **change}
    if "data" in change:
        other["data"] = {**change["data"], **({"user_id": user.id} if "user_id" in change["data"] else {})}
    answer = await bring(user, [other])
    check_shape(answer, 422, "validation_error")
    assert answer.error["details"]["type"] == "idempotency_conflict"


async def test_the_expected_version_of_a_stream_is_kept(user):
    job = await user.create()
    for version, status in ((1, 422), (3, 422), (2, 200)):
        answer = await bring(user, [event("job.pending", job, streamversion=version)])
        assert answer.status == status
    assert await user.types(job) == ["job.created", "job.pending"]


async def test_a_bulk_append_has_no_key_of_its_own(user):
    answer = await user.post("/v1/events", data=lines_of(life(user)), headers={"Idempotency-Key": "k"})
    check_shape(answer, 422, "validation_error")


def granted(user):
    return {"user_id": user.id, "scopes": ["admin"], "token_sha256": "0" * 64}


@pytest.mark.parametrize(("make", "status"), [
    (lambda user, other: event("job.created", ids.make("job"), {"user_id": other.id}), 403),
    (lambda user, other: event("job.created", ids.make("job"), {"user_id": user.id}, actor=other.id), 403),
    (lambda user, other: event("job.created", ids.make("job"), {"user_id": user.id, "project_id": "p"}), 403),
    (lambda user, other: event("access.granted", ids.make("token"), granted(user)), 403),
    (lambda user, other: event("access.revoked", other.token_id), 403),
    (lambda user, other: event("job.created", ids.make("job"), {"user_id": user.id}, actor=user.id), 200),
])  # fmt: skip
async def test_a_user_brings_only_what_they_could_have_done_themselves(user, other, make, status):
    size = user.service.app.ledger.size
    answer = await bring(user, [*life(user), make(user, other)])
    assert answer.status == status
    assert user.service.app.ledger.size == size + (5 if status == 200 else 0)
    assert (await other.get("/v1/jobs/")).status == 200


@pytest.mark.parametrize("name", ["refused", "erased"])
async def test_what_only_the_ledger_records_only_an_admin_may_bring(user, admin, name):
    job = await user.create()
    data = {"asked": "running", "found": "created"} if name == "refused" else {"reason": "x"}
    assert (await bring(user, [event(f"job.{name}", job, data)])).status == 403
    assert (await bring(admin, [event(f"job.{name}", job, data)])).status == 200


async def test_an_admin_brings_events_of_all_users_and_for_one_only_that_users(admin, user, other):
    assert (await bring(admin, [{**one, "actor": user.id} for one in life(user)] + life(other))).status == 200
    acting = User(admin.service, user.id, admin.token, headers={"user_id": user.id})
    assert (await bring(acting, life(user))).status == 200
    assert (await bring(acting, life(other))).status == 403


async def test_data_comes_back_byte_for_byte(user):
    data = f'{{"user_id":"{user.id}","metadata":{{"é":"\\u0000\\/","n":1.50,"big":9223372036854775807}}}}'
    job = ids.make("job")
    line = f'{{"specversion":"1.0","type":"job.created","subject":"{job}","data":{data}}}'
    assert (await user.post("/v1/events", data=line.encode())).status == 200
    assert data.encode() in (await user.get(f"/v1/events?subject={job}")).body


async def test_events_that_were_erased_cannot_be_brought_again(user, admin):
    # given events in bulk, of a job that was erased since (simulator, seed 131)
    events = [{**each, "idempotencykey": f"key-{number}"} for number, each in enumerate(life(user))]
    assert (await bring(user, events)).json["appended"] == 4
    erased = await admin.post(f"/v1/jobs/{events[0]['subject']}/erase", json={"reason": "asked for"})
    # when a client that got no answer sends them once more
    answer = await bring(user, events)
    # then it is told so, and not that it used its own keys for something else
    assert answer.status == 422, answer.body
    told = answer.error["details"]
    assert (told["line"], told["type"]) == (1, "erased")
    assert told["details"]["position"] == erased.json["position"]
