"""What requests leave behind: nothing where they are refused, and of large resources nothing but their rows."""

import gc
from contextlib import contextmanager

import pytest

from ledger import ids
from tests.server.raw import connection, head, post

TIMES = 10
"""How often each thing is asked; less than one piece of garbage for each is none of its own."""


@contextmanager
def collected():
    """How many objects only a collection could free of those that were made meanwhile."""
    found = []
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield found
        found.append(gc.collect())
    finally:
        gc.enable()
        gc.unfreeze()


FAILED = b'{"status":"failed"}'


def patch(path, token, body, *lines):
    return head("PATCH", path, token, "Content-Type: application/json", f"Content-Length: {len(body)}", *lines) + body


REFUSED = {
    "a transition that the rules refuse": lambda user, job: patch(f"/v1/jobs/{job}", user.token, FAILED),
    "a cancel of what is over": lambda user, job: head("PATCH", f"/v1/jobs/{job}/cancel", user.token),
    "an id that is in use": lambda user, job: b"".join(post("/v1/jobs", user.token, {"id": job})),
    "an id that nothing has": lambda user, job: patch(f"/v1/jobs/{ids.make('job')}", user.token, b'{"metadata":{}}'),
    "another version": lambda user, job: patch(f"/v1/jobs/{job}", user.token, b'{"metadata":{}}', 'If-Match: "77"'),
    "messages of a run that is none": lambda user, job: b"".join(
        post(f"/v1/runs/{ids.make('run')}/messages", user.token, [{"message_type": "user_message", "content": "hi"}])
    ),
    "a read of nothing": lambda user, job: head("GET", f"/v1/jobs/{ids.make('job')}", user.token),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_a_request_that_is_refused_keeps_nothing_until_a_collection(user, what):
    # given a job that is over, and a connection that knows the answer
    job = await user.create(status="running")
    assert (await user.patch(f"/v1/jobs/{job}", json={"status": "completed"})).status == 200
    request = REFUSED[what](user, job)
    async with connection(user.service) as raw:
        await raw.send(request)
        assert (await raw.answer()).status in {404, 409, 412}
        # when it is refused again and again
        with collected() as found:
            for _ in range(TIMES):
                await raw.send(request)
                await raw.answer()
    # then
    assert found[0] < TIMES


@pytest.mark.parametrize("kind", ["job", "run"])
async def test_of_a_heavy_resource_nothing_is_kept_between_two_requests_and_all_of_it_is_told(user, kind):
    metadata = {"text": "x" * 50_000}
    id = await user.create(kind, status="running", metadata=metadata)
    answer = await user.patch(f"/v1/{kind}s/{id}", json={"status": "completed"})
    assert (answer.status, answer.json["metadata"]) == (200, metadata)
    app = user.service.app
    assert id not in app.ledger.store._states.known
    assert id not in app.engine._memories[f"{kind}s"]


async def test_of_a_heavy_step_nothing_is_kept_between_two_requests_and_all_of_it_is_told(user):
    run = await user.create("run", status="running")
    sent = {"messages": ["x" * 50_000]}
    step = (await user.post(f"/v1/runs/{run}/steps", json={"model": "m", "provider_request": sent})).json["id"]
    again = await user.post(f"/v1/runs/{run}/steps", json={"id": step, "status": "success"})
    assert (again.status, again.json["status"], again.json["model"]) == (201, "success", "m")
    assert (run, step) not in user.service.app.engine._memories["steps"]
    light = (await user.post(f"/v1/runs/{run}/steps", json={"model": "m"})).json["id"]
    assert (run, light) in user.service.app.engine._memories["steps"]
