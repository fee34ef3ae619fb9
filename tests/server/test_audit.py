"""The line of each request: who read or changed what, and how it went."""

from typing import Any, NamedTuple

import msgspec
import pytest

from ledger import ids
from server import audit
from server.app import ROUTER
from tests.server.following import said
from tests.server.owing import ended
from tests.server.request_lines import line_of
from tests.server.serving import User, until

ROUTES = {(route.method, route.pattern): route for route in ROUTER.routes if not route.alias_of}
BODY_TEXT = "what-a-body-holds"
QUERY_TEXT = "what-a-query-holds"


# --- what each route tells --------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """A request that its route answers well, and what its line is about; ``{…}`` is what the world has."""

    path: str
    resource: str
    body: Any = None
    of_all: bool = False
    """Whether an admin asks who acts for nobody."""


OWN, ALL = "owner:{user}", "owner:any"
EVENT = {"specversion": "1.0", "type": "job.created", "subject": "{new_job}", "data": {"user_id": "{user}"}}
WHY = {"reason": BODY_TEXT}
CASES = {
    ("GET", "/v1/jobs"): Case("/v1/jobs?limit=5", OWN),
    ("GET", "/v1/jobs/active"): Case("/v1/jobs/active", OWN),
    ("POST", "/v1/jobs"): Case("/v1/jobs", "{made}", {"metadata": {"a": BODY_TEXT}}),
    ("GET", "/v1/jobs/{job_id}"): Case("/v1/jobs/{job}?as_of=2099-01-01", "{job}"),
    ("PATCH", "/v1/jobs/{job_id}"): Case("/v1/jobs/{job}", "{job}", {"metadata": {"a": BODY_TEXT}}),
    ("DELETE", "/v1/jobs/{job_id}"): Case("/v1/jobs/{job}", "{job}"),
    ("PATCH", "/v1/jobs/{job_id}/cancel"): Case("/v1/jobs/{job}/cancel", "{job}"),
    ("GET", "/v1/jobs/{job_id}/events"): Case("/v1/jobs/{job}/events", "{job}"),
    ("POST", "/v1/jobs/{job_id}/erase"): Case("/v1/jobs/{job}/erase", "{job}", WHY, of_all=True),
    ("GET", "/v1/jobs/{job_id}/callback"): Case("/v1/jobs/{ended_job}/callback", "{ended_job}"),
    ("POST", "/v1/jobs/{job_id}/callback/redeliver"): Case(
        "/v1/jobs/{ended_job}/callback/redeliver", "{ended_job}", WHY
    ),
    ("GET", "/v1/runs"): Case("/v1/runs", OWN),
    ("GET", "/v1/_internal_runs"): Case("/v1/_internal_runs", ALL, of_all=True),
    ("GET", "/v1/runs/active"): Case("/v1/runs/active", OWN),
    ("POST", "/v1/runs"): Case("/v1/runs", "{made}", {"agent_id": "agent-1", "metadata": {"a": BODY_TEXT}}),
    ("GET", "/v1/runs/{run_id}"): Case("/v1/runs/{run}", "{run}"),
    ("PATCH", "/v1/runs/{run_id}"): Case("/v1/runs/{run}", "{run}", {"status": "completed"}),
    ("DELETE", "/v1/runs/{run_id}"): Case("/v1/runs/{run}", "{run}"),
    ("PATCH", "/v1/runs/{run_id}/cancel"): Case("/v1/runs/{run}/cancel", "{run}"),
    ("GET", "/v1/runs/{run_id}/events"): Case("/v1/runs/{run}/events", "{run}"),
    ("POST", "/v1/runs/{run_id}/erase"): Case("/v1/runs/{run}/erase", "{run}", WHY, of_all=True),
    ("GET", "/v1/runs/{run_id}/callback"): Case("/v1/runs/{ended_run}/callback", "{ended_run}"),
    ("POST", "/v1/runs/{run_id}/callback/redeliver"): Case("/v1/runs/{ended_run}/callback/redeliver", "{ended_run}"),
    ("GET", "/v1/runs/{run_id}/messages"): Case("/v1/runs/{run}/messages", "{run}"),
    ("POST", "/v1/runs/{run_id}/messages"): Case("/v1/runs/{run}/messages", "{run}", said(2, BODY_TEXT)),
    ("GET", "/v1/runs/{run_id}/steps"): Case("/v1/runs/{run}/steps", "{run}"),
    ("POST", "/v1/runs/{run_id}/steps"): Case("/v1/runs/{run}/steps", "{run}", [{"model": BODY_TEXT}] * 2),
    ("GET", "/v1/runs/{run_id}/usage"): Case("/v1/runs/{run}/usage", "{run}"),
    ("GET", "/v1/runs/{run_id}/metrics"): Case("/v1/runs/{run}/metrics", "{run}"),
    ("GET", "/v1/search"): Case(f"/v1/search?query={QUERY_TEXT}", OWN),
    ("GET", "/v1/runs/{run_id}/trace"): Case("/v1/runs/{run}/trace", "{run}"),
    ("GET", "/v1/runs/{run_id}/report"): Case("/v1/runs/{run}/report?full=true", "{run}"),
    ("GET", "/v1/runs/diff"): Case("/v1/runs/diff?a={run}&b={ended_run}", "{run} {ended_run}"),
    ("POST", "/v1/runs/{run_id}/stream"): Case("/v1/runs/{ended_run}/stream", "{ended_run}"),
    ("GET", "/v1/stats"): Case(f"/v1/stats?agent_id={QUERY_TEXT}", OWN),
    ("GET", "/v1/steps"): Case(f"/v1/steps?model={QUERY_TEXT}", OWN),
    ("GET", "/v1/steps/{step_id}"): Case("/v1/steps/{step}", "{step}"),
    ("GET", "/v1/steps/{step_id}/messages"): Case("/v1/steps/{step}/messages", "{step}"),
    ("GET", "/v1/steps/{step_id}/metrics"): Case("/v1/steps/{step}/metrics", "{step}"),
    ("GET", "/v1/steps/{step_id}/trace"): Case("/v1/steps/{step}/trace", "{step}"),
    ("PATCH", "/v1/steps/{step_id}/feedback"): Case("/v1/steps/{step}/feedback", "{step}", {"feedback": "positive"}),
    ("GET", "/v1/messages/batches"): Case("/v1/messages/batches", OWN),
    ("POST", "/v1/messages/batches"): Case(
        "/v1/messages/batches", "{made}", {"requests": [{"agent_id": "a", "text": BODY_TEXT}]}
    ),
    ("GET", "/v1/messages/batches/{batch_id}"): Case("/v1/messages/batches/{batch}", "{batch}"),
    ("PATCH", "/v1/messages/batches/{batch_id}/cancel"): Case("/v1/messages/batches/{batch}/cancel", "{batch}"),
    ("GET", "/v1/messages/batches/{batch_id}/messages"): Case("/v1/messages/batches/{batch}/messages", "{batch}"),
    ("POST", "/v1/agents/{agent_id}/messages/cancel"): Case("/v1/agents/agent-1/messages/cancel", "agent:agent-1"),
    ("POST", "/v1/conversations/{conversation_id}/cancel"): Case(
        "/v1/conversations/conv-1/cancel", "conversation:conv-1"
    ),
    ("GET", "/v1/events"): Case("/v1/events?types=job.created", OWN),
    ("POST", "/v1/events"): Case("/v1/events", "events:{next}-{next}", EVENT),
    ("GET", "/v1/failures"): Case("/v1/failures?error_type=E", OWN),
    ("GET", "/v1/failures/{signature}"): Case("/v1/failures/{cause}", OWN),
    ("GET", "/v1/tokens"): Case("/v1/tokens", ALL, of_all=True),
    ("POST", "/v1/tokens"): Case("/v1/tokens", "{made}", {"scopes": ["read"]}, of_all=True),
    ("DELETE", "/v1/tokens/{token_id}"): Case("/v1/tokens/{token}", "{token}", of_all=True),
    ("GET", "/v1/health"): Case("/v1/health", ""),
    ("GET", "/readyz"): Case("/readyz", ""),
    ("GET", "/v1/ledger"): Case("/v1/ledger", "", of_all=True),
    ("GET", "/v1/ledger/checkpoint"): Case("/v1/ledger/checkpoint", "events:1-{last}"),
    ("GET", "/v1/ledger/proof/inclusion"): Case("/v1/ledger/proof/inclusion?position=2", "events:2-2"),
    ("GET", "/v1/ledger/proof/consistency"): Case("/v1/ledger/proof/consistency?from=1", "events:1-{last}"),
    ("GET", "/metrics"): Case("/metrics", ""),
    ("GET", "/openapi.json"): Case("/openapi.json", ""),
    ("GET", "/docs"): Case("/docs", ""),
}


def filled(value: Any, names: dict[str, Any]) -> Any:
    """The value with each ``{name}`` in its texts replaced."""
    text = msgspec.json.encode(value).decode()
    for name, found in names.items():
        text = text.replace(f"{{{name}}}", str(found))
    return msgspec.json.decode(text)


@pytest.fixture
async def world(service, user, admin):
    """What the paths of the table name."""
    step = ids.make("step")
    names = {
        "user": user.id,
        "job": await user.create(status="running"),
        "run": await user.create("run", status="running", conversation_id="conv-1"),
        "ended_job": await ended(user),
        "ended_run": await ended(user, "run"),
        "batch": await user.create("batch"),
        "new_job": ids.make("job"),
        "step": step,
        "token": (await service.user()).token_id,
    }
    assert (await user.post(f"/v1/runs/{names['run']}/steps", json={"id": step})).status == 201
    assert (await user.post("/v1/runs", json={"agent_id": "a", "status": "failed"})).status == 201
    names["cause"] = (await user.get("/v1/failures")).json[0]["signature"]
    return {**names, "last": service.app.ledger.size, "next": service.app.ledger.size + 1}


def test_the_table_has_every_route_and_no_other():
    assert CASES.keys() == ROUTES.keys()


@pytest.mark.parametrize(("method", "pattern"), CASES)
async def test_a_line_tells_who_did_what_and_that_it_went_well(world, user, admin, log_lines, method, pattern):
    # given
    route, case = ROUTES[method, pattern], CASES[method, pattern]
    who = admin if case.of_all else user
    # when
    answer = await who.request(method, filled(case.path, world), json=filled(case.body, world))
    # then
    assert answer.status == route.status, answer.body
    await until(lambda: answer.headers["X-Request-Id"].encode() in log_lines.getvalue())
    line = line_of(log_lines, answer)
    made = answer.json["id"] if "{made}" in case.resource else ""
    assert line["resource"] == filled(case.resource, {**world, "made": made})
    assert (line["method"], line["route"], line["status"], line["outcome"]) == (method, pattern, route.status, "ok")
    known = (who.id, who.token_id) if route.scope else (None, None)
    assert (line["user"], line["token"], line["by"], line["project"]) == (*known, None, None)
    assert line["duration_us"] > 0
    # and nothing of what only the body, the query and the headers held
    text = log_lines.getvalue().decode()
    assert BODY_TEXT not in text
    assert QUERY_TEXT not in text
    assert not any(each.token in text for each in (user, admin))
    assert made == "" or pattern != "/v1/tokens" or answer.json["token"] not in text


NAMED = [(method, pattern) for method, pattern in CASES if "_id}" in pattern]
OURS = [case for case in NAMED if "agent_id" not in case[1] and "conversation_id" not in case[1]]
SCOPED = [key for key, route in ROUTES.items() if route.scope is not None]
REASONED = {case: WHY for case in CASES if case[1].endswith("/erase")} | {
    case: {"metadata": {}} for case in CASES if case[0] == "PATCH" and case[1].endswith(("job_id}", "run_id}"))
}
REASONED |= {("PATCH", "/v1/steps/{step_id}/feedback"): {"feedback": "positive"}}
REASONED |= {("POST", "/v1/runs/{run_id}/messages"): said(1), ("POST", "/v1/runs/{run_id}/steps"): {}}


def path_of(pattern, value):
    """The path of a route with one value in the place of whatever it names."""
    return "/".join(value if segment.startswith("{") else segment for segment in pattern.split("/"))


def kind_of(pattern):
    return pattern.partition("{")[2].partition("_id")[0].replace("batch", "job")


@pytest.mark.parametrize(("method", "pattern"), OURS)
async def test_what_was_not_found_is_named_and_so_is_who_looked_for_it(admin, log_lines, method, pattern):
    id = ids.make(kind_of(pattern))
    answer = await admin.request(method, path_of(pattern, id), json=REASONED.get((method, pattern)))
    line = line_of(log_lines, answer)
    assert (line["status"], line["outcome"]) == (404, "not_found"), answer.body
    assert (line["route"], line["resource"], line["user"], line["token"]) == (pattern, id, admin.id, admin.token_id)


@pytest.mark.parametrize(("method", "pattern"), OURS)
async def test_what_is_no_id_is_not_named(admin, log_lines, method, pattern):
    for bad in (admin.token, admin.token[3:46], "a%0Ab", "%E2%80%A8", "x" * 3000):
        answer = await admin.request(method, path_of(pattern, bad), json=REASONED.get((method, pattern)))
        line = line_of(log_lines, answer)
        assert (line["route"], line["resource"], line["outcome"]) == (pattern, "", "validation_error"), answer.body
        assert (line["user"], line["token"]) == (admin.id, admin.token_id)


@pytest.mark.parametrize(("method", "pattern"), SCOPED)
@pytest.mark.parametrize("why", ["revoked", "expired"])
async def test_a_token_that_was_once_in_force_is_told_by_its_id(service, admin, log_lines, method, pattern, why):
    late = await service.user("read", "write", "admin", project="project-a", days=1)
    if why == "expired":
        service.clock.advance(86_401)
    else:
        assert (await admin.delete(f"/v1/tokens/{late.token_id}")).status == 200
    answer = await late.request(method, path_of(pattern, "x"))
    line = line_of(log_lines, answer)
    assert (line["status"], line["outcome"], line["route"], line["resource"]) == (401, "unauthorized", pattern, "")
    assert (line["user"], line["token"], line["project"]) == (late.id, late.token_id, "project-a")


@pytest.mark.parametrize(("method", "pattern"), SCOPED)
async def test_a_token_that_never_was_is_not_told_at_all(service, log_lines, method, pattern):
    id = ids.make("run")
    strangers = [User(service, "", token) for token in ("jl_" + "a" * 43 + "_0000000", "x", "\u00fc")]
    answers = [await each.request(method, path_of(pattern, id)) for each in strangers]
    answers.append(await service.request(method, path_of(pattern, id)))
    answers.append(await service.request(method, path_of(pattern, id), headers={"Authorization": "Basic abc"}))
    for answer in answers:
        line = line_of(log_lines, answer)
        assert (line["status"], line["outcome"], line["route"]) == (401, "unauthorized", pattern)
        assert (line["user"], line["token"], line["by"], line["project"]) == (None, None, None, None)
    assert b"aaaaaaaa" not in log_lines.getvalue()


@pytest.mark.parametrize(("method", "pattern"), SCOPED)
async def test_a_token_that_lacks_the_right_is_told(service, log_lines, method, pattern):
    weak = await service.user("write" if ROUTES[method, pattern].scope == "read" else "read")
    answer = await weak.request(method, path_of(pattern, "x"))
    line = line_of(log_lines, answer)
    assert (line["status"], line["outcome"], line["user"], line["token"]) == (403, "forbidden", weak.id, weak.token_id)


@pytest.mark.parametrize(
    ("headers", "outcome"),
    [
        ({"user_id": ids.derive("user", "test", "another")}, "forbidden"),
        ({"X-Project-Id": "project-b"}, "forbidden"),
        ({"X-Project-Id": "p" * 300}, "validation_error"),
    ],
)
async def test_who_acts_for_whom_or_where_they_may_not_is_told_as_who_they_are(service, log_lines, headers, outcome):
    bound = await service.user(project="project-a")
    line = line_of(log_lines, await bound.get("/v1/jobs", headers=headers))
    assert (line["outcome"], line["user"], line["token"]) == (outcome, bound.id, bound.token_id)
    assert (line["project"], line["by"], line["resource"]) == ("project-a", None, "")


# --- who acts for whom, and where -------------------------------------------------------------------------------------


async def test_an_admin_who_acts_for_another_is_told_beside_them(admin, user, log_lines):
    answer = await admin.post("/v1/jobs", json={}, headers={"user_id": user.id, "X-Project-Id": "project-a"})
    line = line_of(log_lines, answer)
    assert (line["user"], line["by"], line["token"]) == (user.id, admin.id, admin.token_id)
    assert (line["project"], line["resource"]) == ("project-a", answer.json["id"])


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/runs/active", "/v1/messages/batches", "/v1/steps", "/v1/events"])
async def test_a_list_is_told_by_whose_rows_it_could_show(admin, user, log_lines, path):
    for who, headers, rows in (
        (user, {}, f"owner:{user.id}"),
        (user, {"X-Project-Id": "p q"}, f"owner:{user.id} project:p q"),
        (admin, {}, "owner:any"),
        (admin, {"X-Project": "p"}, "owner:any project:p"),
        (admin, {"user_id": user.id}, f"owner:{user.id}"),
    ):
        for _ in range(2):  # the second answer is kept from the first
            assert line_of(log_lines, await who.get(path, headers=headers))["resource"] == rows


async def test_a_feed_of_one_subject_is_told_by_it(user, log_lines):
    job = await user.create()
    assert line_of(log_lines, await user.get(f"/v1/events?subject={job}"))["resource"] == job
    assert line_of(log_lines, await user.get("/v1/events?subject=x"))["resource"] == f"owner:{user.id}"


# --- creations, appends, refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/runs", "/v1/messages/batches"])
async def test_a_repeated_creation_names_what_was_made_the_first_time(user, log_lines, path):
    body = {"requests": [{"agent_id": "a"}]} if "batches" in path else {"agent_id": "a"}
    lines = [
        line_of(log_lines, await user.post(path, json=body, headers={"Idempotency-Key": "key-of-mine"}))
        for _ in range(2)
    ]
    (job,) = {line["resource"] for line in lines}
    assert ids.is_id(job, "job", "run")
    assert b"key-of-mine" not in log_lines.getvalue()


async def test_a_bulk_append_tells_the_positions_that_it_wrote(user, log_lines):
    first = user.service.app.ledger.size + 1
    events = [
        {**filled(EVENT, {"new_job": ids.make("job"), "user": user.id}), "idempotencykey": f"k{number}"}
        for number in range(30)
    ]
    data = b"\n".join(msgspec.json.encode(each) for each in events)
    answers = [await user.post("/v1/events", data=part) for part in (data, data, b"{")]
    told = [(line["resource"], line["outcome"]) for line in (line_of(log_lines, each) for each in answers)]
    assert told == [(f"events:{first}-{first + 29}", "ok"), ("events:none", "ok"), ("", "validation_error")]


@pytest.mark.parametrize(
    ("request_", "outcome"),
    [
        (("PATCH", "/v1/jobs/{ended_job}/cancel", None), "invalid_job_status_transition"),
        (("POST", "/v1/jobs", {"id": "{job}"}), "already_exists"),
        (("PATCH", "/v1/jobs/{job}", {"metadata": {}}, {"If-Match": '"99"'}), "version_mismatch"),
        (("POST", "/v1/jobs/{job}/callback/redeliver", None), "callback_not_owed"),
        (("POST", "/v1/agents/nobody/messages/cancel", None), "nothing_to_cancel"),
        (("POST", "/v1/jobs", {"colour": "red"}), "validation_error"),
        (("GET", "/v1/jobs?after={new_job}", None), "invalid_request"),
        (("PUT", "/v1/jobs/{job}", None), "method_not_allowed"),
        (("PROPFIND", "/v1/jobs/{job}", None), "method_not_allowed"),
        (("GET", "/v1/jobs/{job}/events/more", None), "not_found"),
    ],
)
async def test_a_refusal_is_told_by_the_type_that_the_body_names(world, user, log_lines, request_, outcome):
    method, path, body, headers = (*filled(request_, world), {})[:4]
    answer = await user.request(method, path, json=body, headers=headers)
    line = line_of(log_lines, answer)
    assert line["outcome"] == answer.error["type"] == outcome
    assert line["method"] == (method if method in audit.METHODS else "other")
    assert (line["status"], line["user"], line["token"]) == (answer.status, user.id, user.token_id)


async def test_a_fault_of_ours_is_told_as_one(user, log_lines, monkeypatch):
    monkeypatch.setattr(type(user.service.app.views), "row", lambda *_: 1 / 0)
    line = line_of(log_lines, await user.get(f"/v1/jobs/{ids.make('job')}"))
    assert (line["status"], line["outcome"], line["user"]) == (500, "internal_error", user.id)


async def test_a_server_that_is_not_ready_says_so_in_its_line(service, log_lines):
    service.app.engine.fault = "the disk is full"
    line = line_of(log_lines, await service.request("GET", "/readyz"))
    assert (line["status"], line["outcome"]) == (503, "unavailable")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_the_client_has_already_is_told_as_read(user, log_lines, method):
    job = await user.create()
    answer = await user.request(method, f"/v1/jobs/{job}", headers={"If-None-Match": "*"})
    line = line_of(log_lines, answer)
    told = [line[name] for name in ("method", "status", "outcome", "resource")]
    assert told == [method, 304, "ok", job]
