"""What was recorded is told to be so, also where it cannot be shown yet; what nobody knows is told to be unknown."""

import msgspec
import pytest

from ledger import ids
from ledger.errors import InDoubt

EVENT = {"specversion": "1.0", "type": "job.created", "subject": "{new}", "data": {"user_id": ids.SYSTEM_USER}}
WRITES = [
    pytest.param("POST", "/v1/jobs", {}, id="create"),
    pytest.param("PATCH", "/v1/jobs/{job}", {"status": "pending"}, id="advance"),
    pytest.param("PATCH", "/v1/runs/{run}/cancel", {}, id="cancel"),
    pytest.param("DELETE", "/v1/jobs/{job}", None, id="delete"),
    pytest.param("POST", "/v1/jobs/{job}/erase", {"reason": "asked"}, id="erase"),
    pytest.param("POST", "/v1/messages/batches", {"requests": [{"agent_id": "agent-2"}]}, id="batch"),
    pytest.param("POST", "/v1/runs/{run}/steps", {}, id="step"),
    pytest.param("POST", "/v1/runs/{run}/messages", {"message_type": "user_message", "content": "hello"}, id="message"),
    pytest.param("POST", "/v1/agents/agent-1/messages/cancel", {"run_ids": ["{run}"]}, id="cancel an agent's"),
    pytest.param("POST", "/v1/events", EVENT, id="bulk"),
]


def filled(value, names):
    """A body with the ids of a test in it."""
    if isinstance(value, dict):
        return {name: filled(each, names) for name, each in value.items()}
    if isinstance(value, list):
        return [filled(each, names) for each in value]
    return value.format(**names) if isinstance(value, str) else value


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
async def test_a_write_that_the_views_do_not_have_in_time_is_told_to_be_recorded(admin, method, path, body):
    # given views that do not move, and a server that does not wait for them
    app = admin.service.app
    names = {"job": await admin.create(), "run": await admin.create("run", status="running"), "new": ids.make("job")}
    app.engine._task.cancel()
    app.config = msgspec.structs.replace(app.config, wait_timeout_s=0.001)
    before = app.ledger.size
    # when
    answer = await admin.request(method, filled(path, names), json=filled(body, names))
    # then
    assert (answer.status, answer.error["type"]) == (503, "unavailable"), answer.body
    assert app.ledger.size > before
    assert (answer.position, answer.error["details"]) == (app.ledger.size, {"position": app.ledger.size})
    assert f"recorded, up to position {app.ledger.size}, but the views are" in answer.error["message"]
    assert answer.headers["x-should-retry"] == "false"


async def test_a_write_of_which_nobody_knows_is_told_to_be_looked_for_and_not_repeated_unawares(user, monkeypatch):
    async def fail(*_):
        raise InDoubt(reason="disk I/O error")

    monkeypatch.setattr(user.service.app.ledger.store, "transact", fail)
    answer = await user.post("/v1/jobs", json={})
    assert (answer.status, answer.error["type"]) == (503, "unavailable")
    assert "it may be recorded or not" in answer.error["message"]
    assert answer.headers["x-should-retry"] == "false"
