"""Steps and messages brought as events: the same checks as by their own routes, whole lines or none."""

import random

import msgspec
import pytest

from ledger import ids
from tests.ledger.test_messages import GOOD, nested
from tests.server.said import message_id, step_id, text
from tests.server.test_bulk_append import bring, event
from tests.server.test_errors import check_shape


@pytest.fixture
async def run(user):
    return await user.create("run", status="running")


def said(run, message, **more):
    return event("run.message", run, {"message": message}, **more)


@pytest.mark.parametrize(("name", "own"), GOOD)
async def test_a_message_of_each_type_is_brought_to_the_letter(user, run, name, own):
    message = {
        "mine": [1, {"é": None}],
        "id": message_id(1),
        "date": "2020-01-01T00:00:00Z",
        "message_type": name,
        **own,
    }
    answer = await bring(user, [said(run, message)])
    assert answer.status == 200, answer.body
    assert list((await user.get(f"/v1/runs/{run}/messages")).json[0].items()) == [*message.items(), ("run_id", run)]


async def test_blanks_between_the_words_of_a_message_are_not_kept(user, run):
    raw = msgspec.json.format(msgspec.json.encode(text(1, mine={"a": [1, 2]}, content=" a  b ")), indent=4)
    line = msgspec.json.encode(said(run, {})).replace(b'"message":{}', b'"message": ' + raw.replace(b"\n", b"\t"))
    assert (await bring(user, [line])).status == 200
    stored = (await user.service.app.ledger.read(run))[-1].data
    assert stored == b'{"message":' + msgspec.json.encode(text(1, mine={"a": [1, 2]}, content=" a  b ")) + b"}"


STRANGER = "run-00000000-0000-4000-8000-000000000009"
BAD = [
    ("run.message", {}, "validation_error"),
    ("run.message", {"message": 5}, "validation_error"),
    ("run.message", {"message": []}, "validation_error"),
    ("run.message", {"message": {}}, "validation_error"),
    ("run.message", {"message": {"message_type": "user_message", "content": "no id"}}, "validation_error"),
    ("run.message", {"message": text(1, content=7)}, "validation_error"),
    ("run.message", {"message": text(1, run_id=STRANGER)}, "validation_error"),
    ("run.message", {"message": text(1, date="soon")}, "validation_error"),
    ("run.message", {"message": text(1, mine=nested(65))}, "validation_error"),
    ("run.message", {"message": text(1, mine=2**63)}, "validation_error"),
    ("run.message", {"message": text(1), "colour": 1}, "validation_error"),
    ("run.step", {}, "validation_error"),
    ("run.step", {"id": "step-1"}, "validation_error"),
    ("run.step", {"id": step_id(2), "status": "done"}, "validation_error"),
    ("run.step", {"id": step_id(2), "prompt_tokens": -1}, "validation_error"),
    ("run.step", {"id": step_id(2), "tags": [""]}, "validation_error"),
    ("run.step", {"id": step_id(2), "colour": 1}, "validation_error"),
    ("run.step", {"id": step_id(2), "feedback": "positive"}, "not_found"),
    ("run.step", {"id": step_id(1), "status": "success"}, "invalid_job_status_transition"),
]


@pytest.mark.parametrize(("type", "data", "inner"), BAD)
async def test_a_bad_line_is_named_by_its_number_and_nothing_is_appended(user, run, type, data, inner):
    size = user.service.app.ledger.size
    lines = [event("run.step", run, {"id": step_id(1), "status": "failed"}), said(run, text(2)), event(type, run, data)]
    answer = await bring(user, [*lines, said(run, text(3))])
    check_shape(answer, 422, "validation_error")
    assert (answer.error["details"]["line"], answer.error["details"]["type"]) == (3, inner)
    assert user.service.app.ledger.size == size
    assert (await user.post(f"/v1/runs/{run}/steps", json={"id": step_id(1)})).status == 201


@pytest.mark.parametrize("whose", ["other's", "no run", "a job", "deleted"])
async def test_what_happened_in_no_run_of_the_bringer_s_is_refused(user, other, whose):
    subject = await other.create("run") if whose == "other's" else ids.make("run")
    if whose == "a job":
        subject = await user.create("job")
    if whose == "deleted":
        subject = await user.create("run")
        await user.delete(f"/v1/runs/{subject}")
    for line in (said(subject, text(1)), event("run.step", subject, {"id": step_id(1)})):
        answer = await bring(user, [line])
        check_shape(answer, 422, "validation_error")
        assert answer.error["details"]["type"] == ("validation_error" if whose == "a job" else "not_found")


async def test_lines_brought_twice_add_nothing(user, run):
    lines = [
        said(run, text(1), idempotencykey="a"),
        event("run.step", run, {"id": step_id(1), "status": "success"}, idempotencykey="b"),
        said(run, text(2), streamversion=5),
    ]
    assert (await bring(user, lines)).json["appended"] == 3
    assert (await bring(user, lines)).json | {"position": 0} == {"appended": 0, "duplicate": 3, "position": 0}
    changed = [said(run, text(9), idempotencykey="a")]
    answer = await bring(user, changed)
    assert answer.error["details"]["type"] == "idempotency_conflict"


@pytest.mark.parametrize("seed", range(3))
async def test_steps_and_messages_never_change_the_etag_or_the_wire_of_their_run(user, run, seed):
    chance = random.Random(seed)
    before = await user.get(f"/v1/runs/{run}")
    position = before.headers.get("Ledger-Position") or user.service.app.ledger.size
    for number in range(1, 15):
        path, body = chance.choice(
            [(f"/v1/runs/{run}/messages", text(number, date="2026-11-21")), (f"/v1/runs/{run}/steps", {"model": "m"})]
        )
        answer = await user.post(path, json=body)
        after = await user.get(f"/v1/runs/{run}", headers={"Ledger-Position": str(answer.position)})
        assert (after.body, after.etag) == (before.body, before.etag)
        assert (await user.get(f"/v1/runs/{run}", headers={"If-None-Match": before.etag})).status == 304
    for at in (position, user.service.app.ledger.size):
        assert (await user.get(f"/v1/runs/{run}?as_of={at}")).json == before.json
    ended = await user.patch(f"/v1/runs/{run}", json={"status": "completed"}, headers={"If-Match": before.etag})
    assert ended.status == 200
