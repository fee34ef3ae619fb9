"""Erasure over HTTP: an admin removes the data of a resource for good; what is left says who did it and why."""

import asyncio
import json

import pytest

from ledger import engine as sqlite
from ledger.errors import StoreFailed
from tests.ledger.leftovers import holds
from tests.server.serving import HOME, serving

SECRET = "what must go, ä\u2028"
PATHS = {"job": "/v1/jobs/{}/erase", "run": "/v1/runs/{}/erase", "batch": "/v1/jobs/{}/erase"}
WHY = {"reason": "asked for"}


def path_of(kind, id):
    return f"{HOME[kind].rstrip('/')}/{id}"


async def telling(user, kind="run", text=SECRET, **more):
    """A resource that says the text wherever it can be said."""
    if kind == "batch":
        return await user.create(kind, metadata={"text": text}, **more)
    id = await user.create(kind, status="running", metadata={"text": text}, **more)
    if kind == "run":
        said = {"message_type": "user_message", "content": text, "id": f"message-{id[4:]}"}
        called = {
            "message_type": "tool_call_message",
            "tool_call": {"name": text, "arguments": "{}", "tool_call_id": "c"},
        }
        step = {"model": text, "status": "success"}
        for path, body in ((f"/v1/runs/{id}/messages", [said, called]), (f"/v1/runs/{id}/steps", step)):
            answer = await user.post(path, json=body)
            assert answer.status < 300, answer.body
    end = {"status": "failed", "error": {"type": "E", "message": text}}
    assert (await user.patch(path_of(kind, id), json=end)).status == 200
    return id


@pytest.mark.parametrize("kind", HOME)
async def test_an_admin_erases_and_is_told_what_was_done(admin, user, kind):
    id = await telling(user, kind)
    versions = len(await admin.types(id))
    answer = await admin.post(PATHS[kind].format(id), json=WHY)
    assert answer.status == 200, answer.body
    assert answer.json == {
        "id": id, "position": answer.position, "erased_at": answer.json["erased_at"], "erased_by": admin.id,
        "reason": "asked for", "events": versions, "scrubbed": True,
    }  # fmt: skip
    assert (await admin.types(id))[-1] == f"{kind}.erased"


@pytest.mark.parametrize("kind", HOME)
async def test_no_file_of_the_ledger_holds_a_byte_of_it_afterwards(admin, user, ledger_file, kind):
    id = await telling(user, kind)
    assert holds(ledger_file.parent, SECRET)
    await admin.post(PATHS[kind].format(id), json=WHY)
    assert holds(ledger_file.parent, SECRET) == []


@pytest.mark.parametrize("kind", HOME)
async def test_what_was_erased_is_gone_from_every_read(admin, user, kind):
    id = await telling(user, kind)
    before = user.service.app.ledger.size
    erased = (await admin.post(PATHS[kind].format(id), json=WHY)).position
    for reader in (admin, user):
        for query in ("", f"?as_of={before}", f"?as_of={erased}"):
            answer = await reader.get(path_of(kind, id) + query)
            assert (answer.status, answer.error["type"]) == (410, "erased")
            assert answer.error["details"]["position"] == erased
        assert (await reader.get(HOME[kind])).json == []
        assert (await reader.get(f"{HOME[kind]}?as_of={before}")).json == []
    assert (await user.patch(path_of(kind, id), json={"metadata": {}})).status in (405, 410)
    if kind == "run":
        for part in ("messages", "steps", "usage", "metrics", "trace"):
            assert (await user.get(f"/v1/runs/{id}/{part}")).status == 410
        assert (await user.get("/v1/steps/")).json == []


async def test_the_history_shows_that_it_was_erased_by_whom_and_why_and_no_data(admin, user):
    id = await telling(user)
    await admin.post(PATHS["run"].format(id), json=WHY)
    *before, last = await admin.log(id)
    assert all("data" not in event and "salt" not in event and len(event["datadigest"]) == 64 for event in before)
    assert (last["type"], last["actor"], last["data"]["reason"]) == ("run.erased", admin.id, "asked for")
    feed = (await admin.get(f"/v1/events?subject={id}")).body
    assert SECRET.encode() not in feed
    assert json.dumps(SECRET)[1:-1].encode() not in feed


async def test_a_deleted_resource_can_be_erased_too(admin, user, ledger_file):
    id = await telling(user)
    await user.delete(path_of("run", id))
    assert (await admin.post(PATHS["run"].format(id), json=WHY)).status == 200
    assert holds(ledger_file.parent, SECRET) == []
    assert (await user.get(path_of("run", id))).status == 404


async def test_it_is_erased_once_and_a_key_gets_the_first_answer_again(admin, user):
    id = await telling(user)
    path, headers = PATHS["run"].format(id), {"Idempotency-Key": "erase-1"}
    first = await admin.post(path, json=WHY, headers=headers)
    again = await admin.post(path, json=WHY, headers=headers)
    assert (again.status, again.json, again.headers["Idempotency-Replayed"]) == (200, first.json, "true")
    other = await admin.post(path, json=WHY)
    assert (other.status, other.error["type"], other.error["details"]["position"]) == (410, "erased", first.position)
    assert (await admin.types(id)).count("run.erased") == 1


async def test_who_guesses_the_key_of_anothers_request_is_not_told_what_was_erased(admin, user, other):
    """Found by ``scripts/fuzz --only users``, seed 12: the answer named the other's run and its position."""
    key = {"Idempotency-Key": "key-1"}
    id = (await user.post(HOME["run"], json={"agent_id": "agent-1"}, headers=key)).json["id"]
    await admin.post(PATHS["run"].format(id), json=WHY)
    answer = await other.post(HOME["run"], json={"agent_id": "agent-1"}, headers=key)
    assert (answer.status, answer.error["type"]) == (409, "idempotency_conflict")
    assert id.encode() not in answer.body


async def test_the_key_of_a_request_whose_answer_was_erased_says_so(admin, user):
    headers = {"Idempotency-Key": "make-1"}
    body = {"metadata": {"text": SECRET}}
    id = (await user.post("/v1/jobs/", json=body, headers=headers)).json["id"]
    await admin.post(PATHS["job"].format(id), json=WHY)
    again = await user.post("/v1/jobs/", json=body, headers=headers)
    assert (again.status, again.error["type"]) == (410, "erased")


@pytest.mark.parametrize(("body", "status"), [
    (None, 400), ({}, 422), ({"reason": ""}, 422), ({"reason": "  "}, 422), ({"reason": 7}, 422),
    ({"reason": None}, 422), ({"reason": "x" * 100_000}, 422), ({"reason": "x", "more": 1}, 422), ([], 422),
])  # fmt: skip
async def test_an_erasure_without_a_good_reason_erases_nothing(admin, user, body, status):
    id = await telling(user, "job")
    answer = (
        await admin.post(PATHS["job"].format(id), json=body)
        if body is not None
        else await admin.post(PATHS["job"].format(id), data=b"{")
    )
    assert answer.status == status, answer.body
    assert (await user.get(path_of("job", id))).json["metadata"]["text"] == SECRET


async def test_only_an_admin_may_erase_and_only_what_they_may_see(admin, user, service):
    id = await telling(user)
    assert (await user.post(PATHS["run"].format(id), json=WHY)).status == 403
    project = await service.admin(project="project-1")
    acting = {"user_id": "user-00000000-0000-4000-8000-0000000000ff"}
    assert (await project.post(PATHS["run"].format(id), json=WHY)).status == 404
    assert (await admin.post(PATHS["run"].format(id), json=WHY, headers=acting)).status == 404
    assert (await admin.post(PATHS["run"].format("run-00000000-0000-4000-8000-0000000000ff"), json=WHY)).status == 404
    assert (await admin.post(PATHS["run"].format("nonsense"), json=WHY)).status == 422
    assert (await user.get(path_of("run", id))).status == 200


async def test_of_two_who_erase_at_once_one_does(admin, user):
    id = await telling(user)
    answers = await asyncio.gather(*(admin.post(PATHS["run"].format(id), json=WHY) for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [200] + [410] * 7


async def test_a_stream_that_is_open_ends_and_what_was_kept_for_others_is_dropped(admin, user):
    id = await user.create("run", status="running")
    said = {"message_type": "assistant_message", "content": SECRET}
    await user.post(f"/v1/runs/{id}/messages", json=said)
    hub = user.service.app.hub
    assert hub.frames(await user.service.app.ledger.read(id))
    await admin.post(PATHS["run"].format(id), json=WHY)
    assert [data for _, data in hub.frames(await user.service.app.ledger.read(id)) if data] == []


async def test_an_erased_callback_is_owed_no_more(admin, service, ledger_file):
    user = await service.user()
    id = await telling(user, "job", callback_url="https://receiver.example/hook?who=me")
    await admin.post(PATHS["job"].format(id), json=WHY)
    for query in ("", "?as_of=3"):
        assert (await user.get(f"/v1/jobs/{id}/callback{query}")).status == 410
    assert holds(ledger_file.parent, "receiver.example") == []


async def test_a_second_server_on_the_same_file_shows_none_of_it_either(admin, user, ledger_file, clock):
    id = await telling(user)
    async with serving(ledger_file, clock) as second:
        other = await second.admin()
        assert (await other.get(path_of("run", id))).status == 200
        await admin.post(PATHS["run"].format(id), json=WHY)
        position = {"Ledger-Position": str(user.service.app.ledger.size)}
        assert (await other.get(path_of("run", id), headers=position)).status == 410
    assert holds(ledger_file.parent, SECRET) == []


async def test_an_erasure_that_cannot_be_finished_yet_says_so_and_a_beat_finishes_it(
    admin, user, ledger_file, monkeypatch
):
    scrubber = user.service.app.scrubber
    id = await telling(user)

    async def is_read_meanwhile():
        return False

    with monkeypatch.context() as patch:
        patch.setattr(user.service.app.ledger.store, "scrub", is_read_meanwhile)
        patch.setattr(scrubber, "patience_s", 0.0)
        assert (await admin.post(PATHS["run"].format(id), json=WHY)).json["scrubbed"] is False
        assert await scrubber.beat() == 1.0
    assert await scrubber.beat() == 60.0
    assert holds(ledger_file.parent, SECRET) == []


@pytest.mark.parametrize("file", ["log", "views"])
async def test_an_erasure_is_answered_as_recorded_where_a_file_fails_that_is_to_be_scrubbed(
    admin, user, ledger_file, monkeypatch, file
):
    # given a disk that fails once the erasure is recorded (simulator, seed 114: views that were damaged)
    app = user.service.app
    id = await telling(user)
    home = app.ledger.store if file == "log" else app.engine
    error = StoreFailed(reason="disk I/O error") if file == "log" else sqlite.Error("disk I/O error")

    async def fails():
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(home, "scrub", fails)
        # when
        answer = await admin.post(PATHS["run"].format(id), json=WHY)
        # then it says so, and that traces are left
        assert (answer.status, answer.json["scrubbed"], answer.json["position"]) == (200, False, app.ledger.size)
    # and a beat takes them out
    assert await app.scrubber.beat() == 60.0
    assert holds(ledger_file.parent, SECRET) == []
