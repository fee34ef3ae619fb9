"""What HTTP tells of callbacks and takes for them: state, attempts, past, and sending again."""

import asyncio

import pytest

from ledger import ids
from ledger.times import to_text
from server.callbacks.history import SHOWN_MAX
from server.callbacks.signing import webhook_id
from tests.server.owing import SECOND_US, URL, attempt, ended, give_up, imported
from tests.server.serving import HOME, MIDNIGHT_US, User, serving

KINDS = {"job": "/v1/jobs", "run": "/v1/runs", "batch": "/v1/jobs"}
NEVER = {
    "url": URL,
    "status": "waiting",
    "webhook_id": None,
    "owed_since": None,
    "next_attempt_at": None,
    "delivered_at": None,
    "abandoned_at": None,
    "abandoned_reason": None,
    "attempt_count": 0,
    "attempts": [],
    "requeued": [],
}


def at(second):
    return to_text(MIDNIGHT_US + round(second * SECOND_US))


def path_of(id, kind="job"):
    return f"{KINDS[kind]}/{id}/callback"


async def told(user, id, kind="job", **more):
    """What the route says of a callback."""
    answer = await user.get(path_of(id, kind), **more)
    assert answer.status == 200, answer.body
    return answer.json


async def again(user, id, kind="job", **more):
    return await user.post(f"{path_of(id, kind)}/redeliver", **more)


async def requeues(user, id):
    return (await user.types(id)).count("callback.requeued")


# --- every state ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_until_the_end_a_callback_is_waiting_and_then_it_is_owed_at_once(user, clock, kind):
    # given
    id = await user.create(kind, callback_url=URL)
    assert await told(user, id, kind) == NEVER
    # when it ends
    clock.advance(10)
    if kind != "batch":
        await user.patch(f"{KINDS[kind]}/{id}", json={"status": "running" if kind == "run" else "pending"})
    if kind == "job":
        await user.patch(f"{KINDS[kind]}/{id}", json={"status": "running"})
    ending = await user.patch(f"{HOME[kind].rstrip('/')}/{id}/cancel")
    # then
    found = await told(user, id, kind)
    version = int(ending.etag.strip('"'))
    owed = {"status": "owed", "owed_since": at(10), "next_attempt_at": at(10), "webhook_id": webhook_id(id, version)}
    assert found == NEVER | owed


@pytest.mark.parametrize("kind", KINDS)
async def test_a_delivered_callback_shows_its_attempts_and_when_it_was_delivered(service, user, clock, kind):
    # given
    id = await ended(user, kind)
    before = await told(user, id, kind)
    # when
    clock.advance(1)
    await attempt(service, id, 500, "http_status", again_in_s=5)
    clock.advance(6)
    await attempt(service, id, None, "timeout", again_in_s=300)
    clock.advance(400)
    await attempt(service, id, 204)
    # then
    shape = {"duration_ns": 250_000_000}
    assert await told(user, id, kind) == before | {
        "status": "delivered",
        "next_attempt_at": None,
        "delivered_at": at(407),
        "attempt_count": 3,
        "attempts": [
            shape
            | {"number": 1, "sent_at": at(0.75), "status_code": 500, "error": "http_status", "next_attempt_at": at(6)},
            shape
            | {"number": 2, "sent_at": at(6.75), "status_code": None, "error": "timeout", "next_attempt_at": at(307)},
            shape | {"number": 3, "sent_at": at(406.75), "status_code": 204, "error": None, "next_attempt_at": None},
        ],
    }


async def test_an_owed_callback_that_failed_says_when_it_is_tried_again(service, user, clock):
    id = await ended(user)
    clock.advance(1)
    await attempt(service, id, None, "name_not_resolved", again_in_s=5)
    found = await told(user, id)
    assert (found["status"], found["owed_since"], found["next_attempt_at"]) == ("owed", at(0), at(6))


@pytest.mark.parametrize(
    ("status_code", "error", "again_in_s", "reason"),
    [
        (410, "gone", None, "gone"),
        (503, "http_status", None, "exhausted"),
        (None, "address_refused", None, "exhausted"),
    ],
)
async def test_an_abandoned_callback_says_when_and_why(service, user, clock, status_code, error, again_in_s, reason):
    id = await ended(user)
    clock.advance(3)
    await attempt(service, id, status_code, error, again_in_s=again_in_s)
    found = await told(user, id)
    assert (found["status"], found["abandoned_at"], found["abandoned_reason"]) == ("abandoned", at(3), reason)
    assert (found["next_attempt_at"], found["delivered_at"], found["attempt_count"]) == (None, None, 1)


async def test_what_an_import_brought_is_abandoned_whether_a_server_has_put_that_on_record_or_not(service, user, clock):
    # given
    id = await imported(service, user.id)
    found = await told(user, id)
    assert (found["status"], found["abandoned_reason"]) == ("abandoned", "imported")
    assert (found["abandoned_at"], found["next_attempt_at"]) == (None, None)
    # when
    clock.advance(2)
    await give_up(service, id)
    # then
    assert await told(user, id) == found | {"abandoned_at": at(2)}


async def test_what_was_imported_to_be_sent_is_owed(service, user):
    id = await imported(service, user.id, owes=True)
    found = await told(user, id)
    assert (found["status"], found["next_attempt_at"]) == ("owed", at(0))


async def test_a_callback_is_owed_since_its_event_happened_by_the_producers_clock(user, clock):
    clock.advance(1000)
    id = await user.create(callback_url=URL, status="running", time=at(0))
    await user.patch(f"/v1/jobs/{id}", json={"status": "completed", "time": at(500)})
    assert (await told(user, id))["owed_since"] == at(500)


async def test_of_many_attempts_the_newest_are_shown_and_all_are_counted(service, user, clock):
    id = await ended(user)
    for _ in range(SHOWN_MAX + 3):
        clock.advance(1)
        await attempt(service, id, 500, "http_status", again_in_s=1)
    found = await told(user, id)
    assert found["attempt_count"] == SHOWN_MAX + 3
    assert [each["number"] for each in found["attempts"]] == list(range(4, SHOWN_MAX + 4))


async def test_steps_and_messages_of_a_run_change_nothing_of_its_callback(user):
    id = await ended(user, "run")
    before = await user.get(path_of(id, "run"))
    await user.post(f"/v1/runs/{id}/steps", json={"model": "m"})
    after = await user.get(path_of(id, "run"))
    assert (after.body, after.etag) == (before.body, before.etag)


# --- there is none ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_where_nobody_asked_for_a_callback_there_is_none(user, kind):
    id = await ended(user, kind, url=None)
    answer = await user.get(path_of(id, kind))
    assert (answer.status, answer.error["type"]) == (404, "not_found")
    assert answer.error["message"] == f"There is no callback of {'run' if kind == 'run' else 'job'} '{id}'."
    refused = await again(user, id, kind)
    assert (refused.status, refused.error["type"]) == (409, "callback_not_owed")
    assert "it has no callback_url" in refused.error["message"]
    assert refused.headers["x-should-retry"] == "false"


async def test_a_run_can_be_read_as_a_job_but_a_job_is_no_run(user):
    run, job = await ended(user, "run"), await ended(user)
    assert await told(user, run) == await told(user, run, "run")
    assert (await user.get(path_of(job, "run"))).status == 422
    assert (await again(user, job, "run")).status == 422


@pytest.mark.parametrize("kind", KINDS)
async def test_the_callback_of_another_user_does_not_exist(service, user, other, admin, kind):
    # given
    id, unknown = await ended(user, kind), ids.make("run" if kind == "run" else "job")
    size = service.app.ledger.size
    # when, then: the answers are those for what is unknown
    for ask in ("", f"?as_of={size}"):
        mine = await other.get(f"{path_of(id, kind)}{ask}")
        nobodys = await other.get(f"{path_of(unknown, kind)}{ask}")
        assert (mine.status, mine.body.replace(id.encode(), unknown.encode())) == (404, nobodys.body)
    refused = await again(other, id, kind)
    assert (refused.status, refused.error["type"]) == (404, "not_found")
    assert service.app.ledger.size == size
    assert (await told(admin, id, kind))["status"] == "owed"


async def test_the_callback_of_another_project_does_not_exist(service):
    here = await service.user(project="here")
    there = await service.user(id=here.id, project="there")
    id = await ended(here)
    assert (await here.get(path_of(id))).status == 200
    assert (await there.get(path_of(id))).status == 404
    assert (await again(there, id)).status == 404


async def test_a_token_that_may_only_read_may_look_but_not_send_again(service, user):
    id = await ended(user)
    reader = await service.user("read", id=user.id)
    writer = await service.user("write", id=user.id)
    assert (await reader.get(path_of(id))).status == 200
    assert (await again(reader, id)).status == 403
    assert (await writer.get(path_of(id))).status == 403
    assert (await service.request("GET", path_of(id))).status == 401


async def test_a_deleted_job_has_no_callback_to_show_or_to_send(user):
    id = await ended(user)
    gone = (await user.delete(f"/v1/jobs/{id}")).position
    assert (await user.get(path_of(id))).status == 404
    assert (await again(user, id)).status == 404
    assert (await user.get(f"{path_of(id)}?as_of={gone}")).status == 404
    assert (await told(user, id, params={"as_of": gone - 1}))["status"] == "owed"


# --- the past, and what others read by it -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["job", "run"])
async def test_each_position_and_time_shows_the_answer_that_was_given_then(service, user, clock, kind):
    # given a callback that is created, owed, tried, given up, sent again and delivered, a second apart
    id = await user.create(kind, callback_url=URL, status="running")

    async def end():
        return (await user.patch(f"{KINDS[kind]}/{id}", json={"status": "completed"})).position

    async def send_again():
        return (await again(user, id, kind, json={"reason": "now it is up"})).position

    acts = [
        end,
        lambda: attempt(service, id, 500, "http_status", again_in_s=1),
        lambda: attempt(service, id, 410, "gone"),
        send_again,
        lambda: attempt(service, id, 200),
        lambda: attempt(service, id, 500, "http_status"),
    ]
    given = {(service.app.ledger.size, at(0)): await user.get(path_of(id, kind))}
    for second, act in enumerate(acts, 1):
        clock.advance(1)
        position = await act()
        given[position, at(second)] = await user.get(path_of(id, kind))
    # when, then
    statuses = [answer.json["status"] for answer in given.values()]
    assert statuses == ["waiting", "owed", "owed", "abandoned", "owed", "delivered", "delivered"]
    assert len({answer.etag for answer in given.values()}) == len(given)
    for (position, time), then in given.items():
        for point in (position, time):
            answer = await user.get(path_of(id, kind), params={"as_of": point})
            assert (answer.status, answer.body, answer.etag) == (200, then.body, then.etag), point
            not_modified = {"If-None-Match": then.etag}
            assert (await user.get(path_of(id, kind), params={"as_of": point}, headers=not_modified)).status == 304


async def test_a_time_is_reached_by_whatever_happened_in_the_run(user, clock):
    # given a run whose end was told by a clock behind that of its step
    id = await user.create("run", callback_url=URL, status="running")
    await user.post(f"/v1/runs/{id}/steps", json={"model": "m", "time": at(60)})
    await user.patch(f"/v1/runs/{id}", json={"status": "completed", "time": at(30)})
    # then the end took effect no earlier than the step, as on the run itself
    for second, status, of_run in ((45, "waiting", "running"), (60, "owed", "completed")):
        assert (await told(user, id, "run", params={"as_of": at(second)}))["status"] == status
        assert (await user.get(f"/v1/runs/{id}", params={"as_of": at(second)})).json["status"] == of_run


@pytest.mark.parametrize("value", ["x", "-1", "", "9" * 40])
async def test_a_point_that_is_none_is_refused(user, value):
    id = await ended(user)
    answer = await user.get(f"{path_of(id)}?as_of={value}")
    assert (answer.status, answer.error["details"][0]["where"]) == (422, "as_of")


async def test_before_its_creation_there_was_no_job_and_so_no_callback(service, user):
    before = service.app.ledger.size
    id = await ended(user)
    answer = await user.get(f"{path_of(id)}?as_of={before}")
    assert (answer.status, answer.error["message"]) == (404, f"There is no job '{id}'.")


@pytest.mark.parametrize("kind", KINDS)
async def test_the_resource_tells_of_the_last_attempt_and_its_etag_moves(service, user, clock, kind):
    id = await ended(user, kind)
    home = f"{KINDS[kind]}/{id}"
    fields = ("callback_url", "callback_sent_at", "callback_status_code", "callback_error")
    outcomes = [(500, "http_status", 5), (None, "tls_failed", 5), (302, "redirect", 5), (200, None, None)]
    seen = [(await user.get(home)).etag]
    assert [(await user.get(home)).json[name] for name in fields] == [URL, None, None, None]
    for number, (status_code, error, again_in_s) in enumerate(outcomes, 1):
        clock.advance(10)
        await attempt(service, id, status_code, error, again_in_s=again_in_s)
        answer = await user.get(home)
        assert [answer.json[name] for name in fields] == [URL, at(number * 10 - 0.25), status_code, error]
        assert answer.etag == (await user.get(path_of(id, kind))).etag
        seen.append(answer.etag)
    assert len(set(seen)) == len(seen)
    if kind != "run":  # attempts do not hide who changed the job
        assert (await user.get(home)).json["last_updated_by_id"] == user.id


# --- sending again ----------------------------------------------------------------------------------------------------


async def delivered(service, user):
    id = await ended(user)
    await attempt(service, id, 200)
    return id


async def untried(service, user):
    return await ended(user)


async def abandoned(service, user):
    id = await ended(user)
    await attempt(service, id, 410, "gone")
    return id


async def owed_later(service, user):
    id = await ended(user)
    await attempt(service, id, 500, "http_status", again_in_s=3600)
    return id


async def brought(service, user):
    return await imported(service, user.id)


async def brought_and_given_up(service, user):
    id = await imported(service, user.id)
    await give_up(service, id)
    return id


@pytest.mark.parametrize("make", [untried, delivered, abandoned, owed_later, brought, brought_and_given_up])
async def test_whatever_became_of_it_a_callback_is_owed_anew_at_once(service, user, clock, make):
    # given
    id = await make(service, user)
    before = await told(user, id)
    clock.advance(60)
    # when
    answer = await again(user, id, json={"reason": "lost in the outage"})
    # then
    assert answer.status == 200, answer.body
    assert answer.position == service.app.ledger.size
    assert answer.etag == (await user.get(f"/v1/jobs/{id}")).etag == (await user.get(path_of(id))).etag
    assert answer.json == await told(user, id)
    requeued = {"at": at(60), "actor": user.id, "by": None, "reason": "lost in the outage"}
    settled = dict.fromkeys(("delivered_at", "abandoned_at", "abandoned_reason"))
    owed = {"status": "owed", "owed_since": at(60), "next_attempt_at": at(60), "requeued": [requeued]}
    assert answer.json == before | settled | owed
    assert not await service.app.ledger.store.imported({service.app.ledger.size})


@pytest.mark.parametrize("kind", KINDS)
async def test_what_has_not_ended_is_not_owed(service, user, kind):
    id = await user.create(kind, callback_url=URL)
    size = service.app.ledger.size
    answer = await again(user, id, kind)
    assert (answer.status, answer.error["type"]) == (409, "callback_not_owed")
    assert "not at its end" in answer.error["message"]
    assert service.app.ledger.size == size


@pytest.mark.parametrize("make", [delivered, abandoned, owed_later, brought])
async def test_asked_by_many_at_once_it_is_owed_and_each_of_them_is_on_record(service, user, make):
    id = await make(service, user)
    answers = await asyncio.gather(*(again(user, id, json={"reason": f"{number}"}) for number in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert {answer.json["status"] for answer in answers} == {"owed"}
    assert await requeues(user, id) == 20


async def test_two_servers_on_one_file_agree_on_what_is_owed(ledger_file, clock):
    async with serving(ledger_file, clock) as first, serving(ledger_file, clock) as second:
        user = await first.user()
        id = await delivered(first, user)
        there = User(second, user.id, user.token)
        await second.app.engine.wait_for(first.app.ledger.size)
        answers = await asyncio.gather(*(again(asker, id) for asker in (user, there) for _ in range(5)))
        assert [answer.status for answer in answers] == [200] * 10
        size = {"Ledger-Position": str(max(answer.position for answer in answers))}
        assert (await there.get(path_of(id), headers=size)).body == (await user.get(path_of(id), headers=size)).body
        assert await requeues(user, id) == 10


async def test_under_a_key_the_first_answer_is_given_again_whatever_came_of_it(service, user, clock):
    # given
    id = await delivered(service, user)
    sent = {"headers": {"Idempotency-Key": "again-1"}, "json": {"reason": "r"}}
    first = await again(user, id, **sent)
    clock.advance(1)
    await attempt(service, id, 200)
    size = service.app.ledger.size
    # when
    second = await again(user, id, **sent)
    # then
    assert (second.status, second.body, second.etag) == (200, first.body, first.etag)
    assert second.headers["Idempotency-Replayed"] == "true"
    assert service.app.ledger.size == size
    conflict = await again(user, id, headers={"Idempotency-Key": "again-1"}, json={"reason": "another"})
    assert (conflict.status, conflict.error["type"]) == (409, "idempotency_conflict")


async def test_an_import_sent_again_under_a_key_is_so_once(service, user):
    id = await imported(service, user.id)
    answers = [await again(user, id, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].body == answers[1].body
    assert (await user.types(id))[-1:] == ["callback.requeued"]


async def test_the_schedule_begins_anew_and_the_id_that_receivers_know_stays(service, user, clock):
    id = await abandoned(service, user)
    before = await told(user, id)
    await again(user, id)
    clock.advance(1)
    await attempt(service, id, 503, "http_status", again_in_s=5)
    after = await told(user, id)
    assert (after["status"], after["attempt_count"], after["webhook_id"]) == ("owed", 2, before["webhook_id"])
    assert [each["number"] for each in after["attempts"]] == [1, 2]


async def test_an_admin_who_acts_for_a_user_is_named(service, user, admin):
    id = await delivered(service, user)
    answer = await again(admin, id, headers={"user_id": user.id})
    (requeued,) = answer.json["requeued"]
    assert (requeued["actor"], requeued["by"], requeued["reason"]) == (user.id, admin.id, None)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"reason": ""}, "reason"),
        ({"reason": "x" * 1025}, "reason"),
        ({"reason": "a\nb"}, "reason"),
        ({"reason": 5}, "reason"),
        ({"because": "x"}, "because"),
        ([], "body"),
    ],
)
async def test_a_reason_is_a_short_text_and_nothing_else_is_taken(service, user, body, where):
    id = await delivered(service, user)
    size = service.app.ledger.size
    answer = await again(user, id, json=body)
    assert (answer.status, answer.error["details"][0]["where"]) == (422, where), answer.body
    assert service.app.ledger.size == size


async def test_the_callback_is_read_under_the_old_spelling_too(service, user):
    id = await delivered(service, user)
    assert (await user.get(f"/api/jobs/{id}/callback/")).json == await told(user, id)
    assert (await user.post(f"/api/jobs/{id}/callback/redeliver")).json["status"] == "owed"
