"""The same Idempotency-Key and request: the first answer again, nothing appended; another request: a conflict."""

import asyncio

import pytest

from ledger import ids
from tests.server.serving import serving

KEY = {"Idempotency-Key": "key-1"}
AGENT = "/v1/agents/agent-1/messages/cancel"


async def prepare(user):
    """Make what the requests of the table are about."""
    return {
        "running": await user.create(status="running"),
        "created": await user.create(),
        "done": await user.create(status="completed"),
        "run": await user.create("run"),
        "run2": await user.create("run", status="running"),
        "ended": await user.create("run", status="completed"),
        "batch": await user.create("batch", requests=[{"agent_id": "agent-2"}]),
        "fresh": ids.make("job"),
    }


REQUESTS = {
    "create a job": ("POST", "/v1/jobs/", {"metadata": {"a": 1}}, 201),
    "create a job of a chosen id": ("POST", "/v1/jobs/", {"id": "{fresh}", "status": "completed"}, 201),
    "create a run": ("POST", "/v1/runs/", {"agent_id": "agent-9", "status": "running"}, 201),
    "create a batch": ("POST", "/v1/messages/batches", {"requests": [{"agent_id": "a"}, {"agent_id": "b"}]}, 201),
    "advance a job": ("PATCH", "/v1/jobs/{created}", {"status": "pending"}, 200),
    "update a job": ("PATCH", "/v1/jobs/{done}", {"metadata": {"b": 2}}, 200),
    "end a run": ("PATCH", "/v1/runs/{run2}", {"status": "completed", "stop_reason": "end_turn"}, 200),
    "cancel a job": ("PATCH", "/v1/jobs/{running}/cancel", None, 200),
    "cancel a run": ("PATCH", "/v1/runs/{run}/cancel", None, 200),
    "cancel a batch": ("PATCH", "/v1/messages/batches/{batch}/cancel", None, 200),
    "be refused a cancel": ("PATCH", "/v1/jobs/{done}/cancel", None, 409),
    "be refused a step": ("PATCH", "/v1/jobs/{created}", {"status": "completed"}, 409),
    "cancel an agent's runs": ("POST", AGENT, None, 200),
    "cancel named runs": ("POST", AGENT, {"run_ids": ["{run}", "{ended}", "x"]}, 200),
    "cancel runs that all ended": ("POST", AGENT, {"run_ids": ["{ended}"]}, 200),
}


def filled(value, made):
    if isinstance(value, str):
        return value.format(**made)
    if isinstance(value, list | tuple):
        return [filled(one, made) for one in value]
    if isinstance(value, dict):
        return {name: filled(one, made) for name, one in value.items()}
    return value


@pytest.mark.parametrize("name", REQUESTS)
async def test_the_same_request_again_gets_the_first_answer_and_appends_nothing(user, clock, name):
    # given
    method, path, body, status = filled(REQUESTS[name], await prepare(user))
    first = await user.request(method, path, json=body, headers=KEY)
    size = user.service.app.ledger.size
    # when
    clock.advance(100)
    again = await user.request(method, path, json=body, headers=KEY)
    # then
    assert first.status == status, first.body
    assert (again.status, again.json) == (status, first.json)
    assert user.service.app.ledger.size == size
    for header in ("ETag", "Location", "Ledger-Position", "x-should-retry"):
        assert again.headers.get(header) == first.headers.get(header), header


@pytest.mark.parametrize("name", ["create a job", "advance a job", "cancel a job", "cancel an agent's runs"])
async def test_the_first_answer_comes_again_after_the_resource_moved_on(user, name):
    # given
    made = await prepare(user)
    method, path, body, status = filled(REQUESTS[name], made)
    first = await user.request(method, path, json=body, headers=KEY)
    # when all that it touched changes and goes
    for one in (*made.values(), first.json.get("id", made["run"])):
        home = "/v1/runs" if one.startswith("run") else "/v1/jobs"
        await user.patch(f"{home}/{one}", json={"metadata": {"later": True}})
        await user.delete(f"{home}/{one}")
    again = await user.request(method, path, json=body, headers=KEY)
    # then
    assert (again.status, again.json) == (status, first.json)


@pytest.mark.parametrize("name", REQUESTS)
async def test_twenty_requests_at_once_lead_to_one_append_and_one_answer(user, name):
    # given
    method, path, body, status = filled(REQUESTS[name], await prepare(user))
    before = user.service.app.ledger.size
    # when
    answers = await asyncio.gather(*(user.request(method, path, json=body, headers=KEY) for _ in range(20)))
    # then
    assert {answer.status for answer in answers} == {status}
    assert len({str(sorted(answer.json.items())) for answer in answers}) == 1
    events = await user.service.app.ledger.store.scan(before, 1000)
    assert [event.key for event in events if event.key] == ["key-1"]
    assert len({event.recorded for event in events}) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("POST", "/v1/jobs/", {"metadata": {"a": 1}}), ("POST", "/v1/jobs/", {"metadata": {"a": 2}})),
        (("POST", "/v1/jobs/", {}), ("POST", "/v1/runs/", {"agent_id": "a"})),
        (
            ("PATCH", "/v1/jobs/{created}", {"status": "pending"}),
            ("PATCH", "/v1/jobs/{created}", {"status": "running"}),
        ),
        (("PATCH", "/v1/jobs/{running}/cancel", None), ("PATCH", "/v1/jobs/{done}/cancel", None)),
        (("PATCH", "/v1/jobs/{done}/cancel", None), ("PATCH", "/v1/jobs/{running}/cancel", None)),
        (("POST", AGENT, None), ("POST", AGENT, {"run_ids": ["{run}"]})),
        (("POST", AGENT, None), ("POST", "/v1/agents/agent-2/messages/cancel", None)),
    ],
)
async def test_the_same_key_with_another_request_is_a_conflict_that_changes_nothing(user, first, second):
    # given
    made = await prepare(user)
    (method, path, body) = filled(first, made)
    await user.request(method, path, json=body, headers=KEY)
    size = user.service.app.ledger.size
    # when
    (method, path, body) = filled(second, made)
    answer = await user.request(method, path, json=body, headers=KEY)
    # then
    assert (answer.status, answer.error["type"]) == (409, "idempotency_conflict")
    assert answer.headers["x-should-retry"] == "false"
    assert user.service.app.ledger.size == size


async def test_the_key_of_another_user_never_gives_away_their_answer(user, other):
    first = await user.post("/v1/jobs/", json={"metadata": {"secret": 1}}, headers=KEY)
    answer = await other.post("/v1/jobs/", json={"metadata": {"secret": 1}}, headers=KEY)
    assert (answer.status, answer.error["type"]) == (409, "idempotency_conflict")
    assert first.json["id"] not in answer.body.decode()


async def test_a_request_that_was_wrong_may_be_put_right_under_its_key(user):
    assert (await user.post("/v1/jobs/", json={"status": "x"}, headers=KEY)).status == 422
    assert (await user.post("/v1/jobs/", json={"status": "running"}, headers=KEY)).status == 201


async def test_a_key_lasts_over_a_restart(ledger_file, clock):
    async with serving(ledger_file, clock) as service:
        user = await service.user()
        first = await user.post("/v1/jobs/", json={"status": "running"}, headers=KEY)
    async with serving(ledger_file, clock) as service:
        again = await type(user)(service, user.id, user.token).post(
            "/v1/jobs/", json={"status": "running"}, headers=KEY
        )
        assert (again.status, again.body, again.position) == (201, first.body, first.position)


@pytest.mark.parametrize("key", ["", " ", "a" * 256, "a\tb", "ключ", "\u00ff"])
async def test_a_key_has_1_to_255_visible_characters(user, key):
    answer = await user.post("/v1/jobs/", json={}, headers={"Idempotency-Key": key})
    assert answer.status == 422
    assert answer.error["details"][0]["where"] == "header Idempotency-Key"


@pytest.mark.parametrize("key", ["a" * 255, "with blank", "~!@#$%^&*()", "jobledger:first-token?"])
async def test_any_visible_characters_make_a_key(user, key):
    first, again = [await user.post("/v1/jobs/", json={}, headers={"Idempotency-Key": key}) for _ in range(2)]
    assert (first.status, again.body) == (201, first.body)


async def test_a_key_on_a_new_token_does_not_make_two_tokens(admin):
    answers = [await admin.post("/v1/tokens", json={}, headers=KEY) for _ in range(2)]
    granted = [
        event for event in (await admin.get("/v1/events?types=access.granted")).json if event["actor"] == admin.id
    ]
    assert len(granted) <= 1, [answer.status for answer in answers]
