"""Who may do what: scopes, users, projects; and that nothing gives away what belongs to others."""

import pytest

from ledger import ids
from tests.server.serving import HOME, User
from tests.server.test_errors import ALL, check_shape

# --- scopes ---


@pytest.mark.parametrize(("method", "path"), [case for case in ALL if case[0] != "GET" and "tokens" not in case[1]])
async def test_a_reader_changes_nothing(service, method, path):
    reader = await service.user("read")
    check_shape(await reader.request(method, path), 403, "forbidden")


@pytest.mark.parametrize(("method", "path"), [case for case in ALL if case[0] == "GET"])
async def test_a_mere_writer_reads_nothing(service, method, path):
    writer = await service.user("write")
    check_shape(await writer.get(path), 403, "forbidden")


@pytest.mark.parametrize(("method", "path"), [case for case in ALL if "tokens" in case[1] or "/ledger" in case[1]])
async def test_tokens_and_the_whole_ledger_are_for_admins(user, method, path):
    check_shape(await user.request(method, path), 403, "forbidden")


@pytest.mark.parametrize("path", ["/v1/health", "/readyz", "/v1/health/"])
async def test_health_is_open_to_all(service, path):
    answer = await service.request("GET", path)
    assert (answer.status, answer.json["status"]) == (200, "ok")


# --- users and projects ---


@pytest.fixture(params=["another user", "another project", "no project", "another users admin stand-in"])
async def strangers(request, service):
    """Somebody with a full token and the owner of things that they must not see."""
    owner = await service.user(project="project-a")
    if request.param == "another user":
        return await service.user(project="project-a"), owner
    if request.param == "another project":
        return await service.user(id=owner.id, project="project-b"), owner
    if request.param == "no project":
        plain = await service.user()
        return await service.user(id=plain.id, project="project-b"), plain
    admin = await service.admin()
    admin.headers["user_id"] = ids.make("user")
    return admin, owner


ROUTES = [
    ("GET", "/v1/jobs/{job}", None),
    ("GET", "/v1/jobs/{job}?as_of={size}", None),
    ("GET", "/v1/jobs/{job}/events", None),
    ("PATCH", "/v1/jobs/{job}", {"metadata": {"a": 1}}),
    ("PATCH", "/v1/jobs/{job}", {"status": "completed"}),
    ("PATCH", "/v1/jobs/{job}/cancel", None),
    ("DELETE", "/v1/jobs/{job}", None),
    ("GET", "/v1/jobs/{run}", None),
    ("GET", "/v1/runs/{run}", None),
    ("GET", "/v1/runs/{run}?as_of={size}", None),
    ("GET", "/v1/runs/{run}/events", None),
    ("PATCH", "/v1/runs/{run}", {"status": "running"}),
    ("PATCH", "/v1/runs/{run}/cancel", None),
    ("DELETE", "/v1/runs/{run}", None),
    ("GET", "/v1/messages/batches/{batch}", None),
    ("GET", "/v1/jobs/{batch}/events", None),
    ("PATCH", "/v1/messages/batches/{batch}/cancel", None),
    ("PATCH", "/v1/jobs/{batch}/cancel", None),
    ("DELETE", "/v1/jobs/{batch}", None),
]


@pytest.mark.parametrize(
    "headers", [{}, {"If-Match": '"99"'}, {"Idempotency-Key": "k"}], ids=["plain", "if-match", "key"]
)
async def test_what_belongs_to_others_does_not_exist_on_any_route(strangers, headers):
    # given
    stranger, owner = strangers
    made = {
        "job": await owner.create(status="running"),
        "run": await owner.create("run"),
        "batch": await owner.create("batch"),
    }
    size = owner.service.app.ledger.size
    none = {"job": ids.make("job"), "run": ids.make("run"), "batch": ids.make("job"), "size": size}
    for method, path, body in ROUTES:
        # when
        answer = await stranger.request(method, path.format(**made, size=size), json=body, headers=headers)
        unknown = await stranger.request(method, path.format(**none), json=body, headers=headers)
        # then the answer is the one for what was never there
        check_shape(answer, 404, "not_found")
        text = answer.body.decode()
        for kind in ("job", "run", "batch"):
            text = text.replace(made[kind], none[kind])
        assert text == unknown.body.decode(), (method, path)
    assert owner.service.app.ledger.size == size


async def test_what_belongs_to_others_is_in_no_list_and_no_feed(strangers):
    stranger, owner = strangers
    for kind in HOME:
        await owner.create(kind)
    for path in [
        *HOME.values(),
        "/v1/jobs/active",
        "/v1/runs/active",
        "/v1/jobs/?job_type=run",
        "/v1/events",
        "/v1/_internal_runs/",
    ]:
        assert (await stranger.get(path)).json == [], path
    run = (await owner.get("/v1/runs/")).ids[0]
    assert (await stranger.post("/v1/agents/agent-1/messages/cancel", json={"run_ids": [run]})).json == {run: "failed"}
    check_shape(await stranger.post("/v1/agents/agent-1/messages/cancel"), 409, "nothing_to_cancel")


async def test_what_belongs_to_others_cannot_be_changed_through_the_log(strangers):
    # given
    stranger, owner = strangers
    job = await owner.create(status="running")
    size = owner.service.app.ledger.size
    for name, data in (("cancelled", {}), ("updated", {"metadata": {"a": 1}}), ("deleted", {}), ("completed", {})):
        # when
        event = {"specversion": "1.0", "type": f"job.{name}", "subject": job, "data": data}
        answer = await stranger.post("/v1/events", json=event)
        # then
        assert answer.status in (403, 404, 422), name
    assert owner.service.app.ledger.size == size


@pytest.mark.parametrize("kind", ["job", "run", "batch"])
async def test_an_admin_bound_to_a_project_sees_that_project_only(service, user, kind):
    # given
    bound = await service.admin(project="project-b")
    heading = await service.admin()
    heading.headers["X-Project-Id"] = "project-b"
    found = await user.create(kind)
    # when, then
    for admin in (bound, heading):
        home = HOME[kind].rstrip("/")
        check_shape(await admin.get(f"{home}/{found}"), 404, "not_found")
        check_shape(await admin.get(f"/v1/jobs/{found}/events"), 404, "not_found")
        assert (await admin.get(home)).json == []
        assert (await admin.get("/v1/events")).json == []


async def test_an_admin_sees_all_users_and_acts_for_one_by_header(admin, user, other):
    # given
    mine, theirs = await user.create(), await other.create()
    acting = User(admin.service, user.id, admin.token, headers={"user_id": user.id})
    # when
    made = await acting.create(status="running")
    # then
    assert sorted((await admin.get("/v1/jobs/")).ids) == sorted([mine, theirs, made])
    assert (
        sorted((await acting.get("/v1/jobs/")).ids) == sorted((await user.get("/v1/jobs/")).ids) == sorted([mine, made])
    )
    check_shape(await acting.get(f"/v1/jobs/{theirs}"), 404, "not_found")
    first = (await user.log(made))[0]
    assert (first["actor"], first["data"]["by"], first["data"]["user_id"]) == (user.id, admin.id, user.id)


async def test_the_user_header_must_name_the_tokens_own_user_unless_an_admin_sends_it(user, other):
    for path in ("/v1/jobs/", "/v1/events"):
        assert (await user.get(path, headers={"user_id": user.id})).status == 200
        check_shape(await user.get(path, headers={"user_id": other.id}), 403, "forbidden")
    check_shape(await user.post("/v1/jobs/", json={}, headers={"user_id": other.id}), 403, "forbidden")


@pytest.mark.parametrize("value", ["me", "", "user-1", "USER-00000000-0000-4000-8000-000000000000", "null"])
async def test_a_malformed_user_header_is_refused(admin, value):
    check_shape(await admin.get("/v1/jobs/", headers={"user_id": value}), 422, "validation_error")


@pytest.mark.parametrize("name", ["X-Project-Id", "X-Project"])
async def test_the_project_header_limits_reads_and_marks_writes(user, name):
    # given
    inside = User(user.service, user.id, user.token, headers={name: "project-a"})
    elsewhere = User(user.service, user.id, user.token, headers={name: "project-b"})
    made = {kind: await inside.create(kind) for kind in HOME}
    plain = await user.create()
    # then
    for kind, path in HOME.items():
        assert made[kind] in (await inside.get(path)).ids
        assert plain not in (await inside.get(path)).ids
        assert (await elsewhere.get(path)).ids == []
    assert sorted((await user.get("/v1/jobs/")).ids) == sorted([made["job"], plain])
    check_shape(await inside.get(f"/v1/jobs/{plain}"), 404, "not_found")
    assert (await user.log(made["job"]))[0]["data"]["project_id"] == "project-a"
    assert [event["subject"] for event in (await inside.get("/v1/events?types=job.created")).json] == [made["job"]]


async def test_a_token_of_a_project_stays_in_it(service):
    bound = await service.user(project="project-a")
    assert (await bound.get("/v1/jobs/", headers={"X-Project-Id": "project-a"})).status == 200
    check_shape(await bound.get("/v1/jobs/", headers={"X-Project-Id": "project-b"}), 403, "forbidden")
    check_shape(await bound.post("/v1/jobs/", json={}, headers={"X-Project": "project-b"}), 403, "forbidden")
    check_shape(await bound.get("/v1/runs/?project_id=project-b"), 404, "not_found")
    assert (await bound.log(await bound.create()))[0]["data"]["project_id"] == "project-a"


@pytest.mark.parametrize("value", ["", "a" * 257, "a\u0085b"])
async def test_a_malformed_project_header_is_refused_rather_than_ignored(user, value):
    await user.create()
    check_shape(await user.get("/v1/jobs/", headers={"X-Project-Id": value}), 422, "validation_error")
