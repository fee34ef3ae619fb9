"""Errors: each row of the contract's table, on each route that can give it, in the one shape."""

import pytest

from ledger import ids
from tests.server.serving import serving

JOB, RUN, BATCH, TOKEN = (
    ids.derive(kind, "test", kind + str(n)) for n, kind in enumerate(("job", "run", "job", "token"))
)
FINAL = {400, 401, 403, 404, 405, 409, 410, 412, 413, 422}


def check_shape(answer, status, name):
    """One shape, always JSON, with a request id; final refusals say that trying again is no use."""
    assert (answer.status, answer.error["type"]) == (status, name), answer.body
    assert set(answer.json) == {"error"}
    assert set(answer.error) == {"type", "message", "details"}
    assert answer.error["message"]
    assert isinstance(answer.error["message"], str)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Request-Id"]
    assert answer.headers.get("x-should-retry") == ("false" if status in FINAL else None)


GETS = [
    "/v1/jobs/", "/v1/jobs/active", f"/v1/jobs/{JOB}", f"/v1/jobs/{JOB}/events", "/v1/runs/", "/v1/runs/active",
    "/v1/_internal_runs/", f"/v1/runs/{RUN}", f"/v1/runs/{RUN}/events", "/v1/messages/batches",
    f"/v1/messages/batches/{BATCH}", "/v1/events", "/v1/tokens", "/v1/ledger",
]  # fmt: skip
WITH_BODY = [
    ("POST", "/v1/jobs/"),
    ("PATCH", f"/v1/jobs/{JOB}"),
    ("POST", "/v1/runs/"),
    ("PATCH", f"/v1/runs/{RUN}"),
    ("POST", "/v1/messages/batches"),
    ("POST", "/v1/agents/agent-1/messages/cancel"),
    ("POST", "/v1/conversations/conv-1/cancel"),
    ("POST", "/v1/tokens"),
]
WITHOUT_BODY = [
    ("PATCH", f"/v1/jobs/{JOB}/cancel"),
    ("PATCH", f"/v1/runs/{RUN}/cancel"),
    ("PATCH", f"/v1/messages/batches/{BATCH}/cancel"),
    ("DELETE", f"/v1/jobs/{JOB}"),
    ("DELETE", f"/v1/runs/{RUN}"),
    ("DELETE", f"/v1/tokens/{TOKEN}"),
]
ALL = [*(("GET", path) for path in GETS), *WITH_BODY, *WITHOUT_BODY, ("POST", "/v1/events")]
ONE = [(method, path) for method, path in ALL if JOB in path or RUN in path or BATCH in path or TOKEN in path]


@pytest.mark.parametrize(("method", "path"), ALL)
async def test_without_a_token_nothing_is_answered(service, method, path):
    answer = await service.request(method, path)
    check_shape(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path"), ONE)
async def test_what_does_not_exist_is_not_found(admin, method, path):
    body: dict | None = {"metadata": {}} if (method, path) in WITH_BODY else None
    check_shape(await admin.request(method, path, json=body), 404, "not_found")


@pytest.mark.parametrize(
    "bad", ["x", "job-1", "JOB-6F9C0000-0000-4000-8000-000000000000", "%00", "%FF", "a%2Fb", "%E2%82%AC"]
)
@pytest.mark.parametrize(("method", "path"), ONE)
async def test_a_malformed_id_is_a_validation_error(admin, method, path, bad):
    for known in (JOB, RUN, BATCH, TOKEN):
        path = path.replace(known, bad)
    body: dict | None = {"metadata": {}} if method == "PATCH" and not path.endswith("cancel") else None
    answer = await admin.request(method, path, json=body)
    check_shape(answer, 422, "validation_error")
    assert answer.error["details"][0]["where"].endswith(" id")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/jobs/", "GET, HEAD, POST"),
        ("DELETE", "/v1/jobs", "GET, HEAD, POST"),
        ("POST", f"/v1/jobs/{JOB}", "DELETE, GET, HEAD, PATCH"),
        ("GET", f"/v1/jobs/{JOB}/cancel", "PATCH"),
        ("POST", f"/v1/jobs/{JOB}/cancel/", "PATCH"),
        ("GET", "/v1/agents/a/messages/cancel", "POST"),
        ("OPTIONS", "/api/jobs", "GET, HEAD, POST"),
        ("TRACE", "/v1/events", "GET, HEAD, POST"),
    ],
)
async def test_a_method_that_a_route_does_not_know_is_not_allowed(admin, method, path, allowed):
    answer = await admin.request(method, path)
    check_shape(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize(
    "path", ["/", "/v2/jobs", "/v1", "/v1/jobs/x/y/z", "/v1/tools", "/api/runs", "/v1/jobs//events", "/%"]
)
async def test_an_unknown_route_is_not_found_with_or_without_a_token(admin, path):
    check_shape(await admin.get(path), 404, "not_found")
    check_shape(await admin.service.request("GET", path), 404, "not_found")


@pytest.mark.parametrize(("method", "path"), [case for case in ALL if case[1] != "/v1/ledger"])
async def test_unknown_parameters_are_named_each(admin, method, path):
    answer = await admin.request(method, f"{path}?colour=red&size=2")
    check_shape(answer, 422, "validation_error")
    assert [fault["where"] for fault in answer.error["details"]] == ["colour", "size"]


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
async def test_unknown_fields_are_named_each_with_what_is_allowed(admin, method, path):
    answer = await admin.request(method, path, json={"colour": "red", "size": 2})
    check_shape(answer, 422, "validation_error")
    assert {"colour", "size"} <= {fault["where"] for fault in answer.error["details"]}
    assert all(isinstance(fault["allowed"], list) for fault in answer.error["details"] if fault["where"] == "size")


@pytest.mark.parametrize("body", [
    b"{", b"nope", b"{'a': 1}", b'{"a": 1}x', b"\xff\xfe", b'{"a": "\xff"}', b"NaN", b'{"a":\x00}', b"\xef\xbb\xbf{}",
    b'{"metadata": {"a": "\\ud800"}}', b'{"\\udc00": 1}',
])  # fmt: skip
@pytest.mark.parametrize(("method", "path"), WITH_BODY)
async def test_a_body_that_is_no_json_is_a_bad_request(admin, method, path, body):
    check_shape(await admin.request(method, path, data=body), 400, "invalid_request")


@pytest.mark.parametrize("body", [b"[]", b"null", b"7", b'"x"', b"true"])
@pytest.mark.parametrize(("method", "path"), WITH_BODY)
async def test_a_body_that_is_no_object_is_a_validation_error(admin, method, path, body):
    answer = await admin.request(method, path, data=body)
    check_shape(answer, 422, "validation_error")
    assert answer.error["details"][0]["where"] == "body"


def nested(depth, opening=b'{"a":', closing=b"}", middle=b"1"):
    return b'{"metadata":' + opening * (depth - 1) + middle + closing * (depth - 1) + b"}"


@pytest.mark.parametrize(("opening", "closing"), [(b'{"a":', b"}"), (b"[", b"]")])
@pytest.mark.parametrize("depth", [65, 100_000])
@pytest.mark.parametrize(("method", "path"), WITH_BODY)
async def test_json_deeper_than_64_is_a_validation_error(admin, method, path, depth, opening, closing):
    check_shape(await admin.request(method, path, data=nested(depth, opening, closing)), 422, "validation_error")


async def test_json_64_deep_and_brackets_in_texts_are_welcome(user):
    texts = b'{"metadata":{"a":"' + b"[{" * 200 + b'\\"","b":"}}\\\\"}}'
    for body in (nested(64), texts):
        answer = await user.post("/v1/jobs/", data=body)
        assert answer.status == 201, answer.body
        again = await user.get(f"/v1/jobs/{answer.json['id']}")
        assert again.body == answer.body


@pytest.mark.parametrize("number", ["9223372036854775808", "-9223372036854775809", "1" * 400, "18446744073709551616"])
@pytest.mark.parametrize(
    "body", ['{{"metadata":{{"a":{}}}}}', '{{"metadata":{{"a":[[{}]]}}}}', '{{"ttft_ns":{}}}', '{{"x":{}}}']
)
async def test_integers_beyond_64_bits_are_refused(user, number, body):
    answer = await user.post("/v1/jobs/", data=body.format(number))
    check_shape(answer, 422, "validation_error")


@pytest.mark.parametrize("number", ["9223372036854775807", "-9223372036854775808", "1.5e300", "-0.0"])
async def test_numbers_within_bounds_come_back_as_they_were(user, number):
    job = (await user.post("/v1/jobs/", data=f'{{"metadata":{{"a":{number}}}}}')).json
    assert (await user.get(f"/v1/jobs/{job['id']}")).json["metadata"]["a"] == float(number) or str(
        job["metadata"]["a"]
    ) == number


FAULTS = [
    ("/v1/jobs/", {"status": "x", "metadata": 7, "colour": 1, "background": 9},
     {"status", "metadata", "colour", "background"}),
    ("/v1/runs/", {"status": "pending", "colour": 1}, {"status", "colour", "agent_id"}),
    ("/v1/jobs/", {"error": {"type": 7}}, {"error.type"}),
    ("/v1/jobs/", {"error": {"kind": "x"}}, {"error"}),
    ("/v1/jobs/", {"id": "run-6f9c0000-0000-4000-8000-000000000000"}, {"id"}),
    ("/v1/jobs/", {"id": "job-6F9C0000-0000-4000-8000-000000000000"}, {"id"}),
    ("/v1/jobs/", {"agent_id": ""}, {"agent_id"}),
    ("/v1/jobs/", {"agent_id": "a\u0000b"}, {"agent_id"}),
    ("/v1/runs/", {"agent_id": "a" * 257}, {"agent_id"}),
    ("/v1/runs/", {"agent_id": "a", "conversation_id": "\u0007"}, {"conversation_id"}),
    ("/v1/jobs/", {"timeout_s": 0}, {"timeout_s"}),
    ("/v1/jobs/", {"timeout_s": -1}, {"timeout_s"}),
    ("/v1/jobs/", {"timeout_s": 1e300}, {"timeout_s"}),
    ("/v1/jobs/", {"timeout_s": "60"}, {"timeout_s"}),
    ("/v1/jobs/", {"callback_url": "ftp://example.com"}, {"callback_url"}),
    ("/v1/jobs/", {"callback_url": "https://a b"}, {"callback_url"}),
    ("/v1/jobs/", {"callback_url": "https://" + "a" * 2048}, {"callback_url"}),
    ("/v1/jobs/", {"status": "completed", "ttft_ns": -1}, {"ttft_ns"}),
    ("/v1/jobs/", {"status": "completed", "total_duration_ns": 1.5}, {"total_duration_ns"}),
    ("/v1/jobs/", {"time": "yesterday"}, {"time"}),
    ("/v1/jobs/", {"time": "2026-02-30T00:00:00Z"}, {"time"}),
    ("/v1/jobs/", {"time": "0001-01-01T00:00:00+01:00"}, {"time"}),
    ("/v1/jobs/", {"time": "9999-12-31T23:59:59-01:00"}, {"time"}),
    ("/v1/jobs/", {"stop_reason": "end_turn"}, {"status"}),
    ("/v1/jobs/", {"status": "running", "stop_reason": "end_turn"}, {"stop_reason"}),
    ("/v1/jobs/", {"status": "cancelled", "stop_reason": "error"}, {"stop_reason"}),
    ("/v1/jobs/", {"status": "completed", "stop_reason": "bored"}, {"stop_reason"}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "wheres"), FAULTS)
async def test_every_fault_of_a_body_is_listed_with_where_and_what(user, path, body, wheres):
    before = user.service.app.ledger.size
    answer = await user.post(path, json=body)
    check_shape(answer, 422, "validation_error")
    assert {fault["where"] for fault in answer.error["details"]} == wheres
    assert all(set(fault) == {"where", "what", "allowed"} for fault in answer.error["details"])
    assert user.service.app.ledger.size == before


@pytest.mark.parametrize(
    ("path", "wheres"),
    [
        ("/v1/jobs/?limit=x&order=up&active=maybe&status=done&after=1&colour=red",
         ["active", "status", "order", "after", "limit", "colour"]),
        ("/v1/runs/?statuses=pending&duration_operator=gt&duration_percentile=101&run_id=x&start_date=x",
         ["statuses", "run_id", "start_date", "duration_operator", "duration_percentile"]),
        ("/v1/jobs/?limit=1&limit=2&order=asc&order=asc", ["order", "limit"]),
        ("/v1/jobs/?order_by=duration", ["order_by"]),
        ("/v1/jobs/?source_id=%00", ["source_id"]),
        ("/v1/jobs/?status=", ["status"]),
        ("/v1/runs/?agent_ids=,%20,&statuses=created,,running&status=", ["agent_ids", "status"]),
        ("/v1/events?types=", ["types"]),
        ("/v1/jobs/?created_after=yesterday", ["created_after"]),
        ("/v1/events?types=job.started,job.created&subject=x&after=-1", ["after", "types", "subject"]),
    ],
)  # fmt: skip
async def test_every_fault_of_a_query_is_listed(user, path, wheres):
    answer = await user.get(path)
    check_shape(answer, 422, "validation_error")
    assert sorted(fault["where"] for fault in answer.error["details"]) == sorted(wheres)


async def test_a_chosen_id_that_is_taken_already_exists(user):
    for kind, path in (("job", "/v1/jobs/"), ("run", "/v1/runs/")):
        taken = await user.create(kind)
        answer = await user.post(path, json={"id": taken, "agent_id": "a"})
        check_shape(answer, 409, "already_exists")
        assert len(await user.log(taken)) == 1


@pytest.mark.parametrize(("method", "tail", "body"), [
    ("GET", "", None), ("PATCH", "", {"metadata": {}}), ("PATCH", "/cancel", None), ("DELETE", "", None),
])  # fmt: skip
async def test_an_erased_resource_is_gone_and_the_answer_names_the_erasing_event(user, admin, method, tail, body):
    job = await user.create(status="running")
    erased = await user.service.app.ledger.append(job, "job.erased", {"reason": "asked"}, actor=admin.id)
    await user.service.app.engine.wait_for(erased.position)
    answer = await user.request(method, f"/v1/jobs/{job}{tail}", json=body)
    check_shape(answer, 410, "erased")
    assert answer.error["details"]["position"] == erased.position


@pytest.mark.parametrize(("method", "path"), [*WITH_BODY, ("POST", "/v1/events")])
async def test_a_full_queue_is_unavailable_and_says_when_to_come_back(service, method, path):
    # given
    admin = await service.admin()
    job, run = await admin.create(status="running"), await admin.create("run", conversation_id="conv-1")
    service.app.ledger._writer._queue_max = 0
    event = {"specversion": "1.0", "type": "job.created", "subject": JOB, "data": {"user_id": admin.id}}
    body = {"/v1/jobs/": {}, "/v1/runs/": {"agent_id": "a"}, "/v1/events": event,
            "/v1/messages/batches": {"requests": [{"agent_id": "a"}]}}.get(path)  # fmt: skip
    # when
    if method == "PATCH":
        path, body = path.replace(JOB, job).replace(RUN, run), {"metadata": {"a": 1}}
    answer = await admin.request(method, path, json=body)
    # then
    check_shape(answer, 503, "unavailable")
    assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("path", [f"/v1/jobs/{JOB}", "/v1/jobs/", "/v1/events"])
async def test_an_internal_error_shows_a_request_id_and_nothing_of_the_inside(admin, monkeypatch, log_lines, path):
    # given
    def broken(*_, **__):
        raise RuntimeError("secret at /home/me/ledger.db")

    for target in ("projections.views.Views.row", "projections.views.Views.page", "ledger.sqlite.SqliteStore.scan"):
        monkeypatch.setattr(target, broken)
    # when
    answer = await admin.get(path)
    # then
    check_shape(answer, 500, "internal_error")
    assert answer.error["details"] == {"request_id": answer.headers["X-Request-Id"]}
    assert b"secret" not in answer.body
    assert b"Error" not in answer.body.replace(b"internal_error", b"")
    assert answer.headers["X-Request-Id"].encode() in log_lines.getvalue()
    assert b"RuntimeError" in log_lines.getvalue()
    assert b"server/app.py" in log_lines.getvalue()  # where it happened, and nothing that may quote what was asked
    assert b"secret" not in log_lines.getvalue()


@pytest.mark.parametrize(("sent", "kept"), [
    ("abc-1.2:3_4", True), ("a" * 128, True), ("a" * 129, False),
    ("a b", False), ("é", False), ("", False), ("a,b", False),
])  # fmt: skip
async def test_a_clients_request_id_is_kept_when_it_is_harmless(user, sent, kept):
    answer = await user.get("/v1/jobs/", headers={"X-Request-Id": sent})
    assert (answer.headers["X-Request-Id"] == sent) is kept
    assert answer.headers["X-Request-Id"]


async def test_request_ids_differ_and_stand_in_the_history(user):
    answers = [await user.post("/v1/jobs/", json={}) for _ in range(3)]
    seen = [answer.headers["X-Request-Id"] for answer in answers]
    assert len(set(seen)) == 3
    assert (await user.log(answers[0].json["id"]))[0]["correlationid"] == seen[0]


async def test_after_the_ledger_closed_writes_are_unavailable(ledger_file):
    async with serving(ledger_file) as service:
        user = await service.user()
        await service.app.ledger.close_writer()
        check_shape(await user.post("/v1/jobs/", json={}), 503, "unavailable")
