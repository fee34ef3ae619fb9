"""``GET /v1/runs/{run_id}/report``: what the command line tells, for those who may see the run."""

import asyncio
from unittest import mock

import msgspec
import pytest

from ledger import ids
from projections.report import Report
from server.routes import report as route
from tests.server.following import said


@pytest.fixture
async def run(user):
    """A run that failed, with a step and messages in it."""
    id = await user.create("run", status="running", metadata={"agent_cost": 0.25})
    step = ids.make("step")
    call = {"name": "look", "arguments": '{"a": 1}', "tool_call_id": "c"}
    parts = [
        {"message_type": "tool_call_message", "step_id": step, "tool_call": call},
        {
            "message_type": "tool_return_message",
            "step_id": step,
            "tool_call_id": "c",
            "status": "error",
            "tool_return": "no such file " * 500,
        },
    ]
    await user.post(f"/v1/runs/{id}/messages", json=parts)
    await user.post(f"/v1/runs/{id}/steps", json={"id": step, "status": "failed", "error_type": "tool_error"})
    await user.patch(f"/v1/runs/{id}", json={"status": "failed", "error": {"message": "gave up"}})
    return id


async def test_a_report_says_what_went_wrong(user, run):
    answer = await user.get(f"/v1/runs/{run}/report")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    told = msgspec.json.decode(answer.body, type=Report)
    assert (told.header.id, told.header.status, told.header.costs) == (run, "failed", {"agent_cost": 0.25})
    assert (told.first_error.kind, told.first_error.tool, told.first_error.step) == ("tool", "look", 1)
    assert told.verdict.endswith("gave up")
    assert [entry.type for entry in told.timeline] == [
        "run.created", "run.running", "run.message", "run.message", "run.step", "run.failed",
    ]  # fmt: skip


async def test_texts_are_whole_where_that_is_asked_for(user, run):
    short, full = [(await user.get(f"/v1/runs/{run}/report{query}")).json for query in ("", "?full=true")]
    texts = [each["steps"][0]["calls"][0]["answer"] for each in (short, full)]
    assert [text["size"] for text in texts] == [6500, 6500]
    assert [len(text["text"]) for text in texts] == [299, 6500]
    assert (await user.get(f"/v1/runs/{run}/report?full=false")).json == short


async def test_a_long_run_is_reported_on_a_thread_and_the_same(user, run):
    answer = await user.get(f"/v1/runs/{run}/report")
    with (
        mock.patch.object(route, "AT_ONCE", 3),
        mock.patch.object(asyncio, "to_thread", wraps=asyncio.to_thread) as thread,
    ):
        assert (await user.get(f"/v1/runs/{run}/report")).body == answer.body
    assert thread.call_count == 1


async def test_only_those_who_may_see_the_run_get_its_report(user, other, admin, run):
    path = f"/v1/runs/{run}/report"
    assert (await other.get(path)).status == 404
    assert (await admin.get(path)).status == 200
    await user.delete(f"/v1/runs/{run}")
    assert (await user.get(path)).status == 404


async def test_what_was_erased_has_no_report(admin, user, run):
    await admin.post(f"/v1/runs/{run}/erase", json={"reason": "asked"})
    answer = await user.get(f"/v1/runs/{run}/report")
    assert (answer.status, answer.error["type"]) == (410, "erased")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/runs/run-1/report", 422),
        ("/v1/runs/run-00000000-0000-4000-8000-0000000000ff/report", 404),
        ("/v1/runs/{run}/report?full=perhaps", 422),
        ("/v1/runs/{run}/report?as_of=1", 422),
    ],
)
async def test_what_cannot_be_answered_is_refused(user, run, path, status):
    assert (await user.get(path.replace("{run}", run))).status == status


async def test_a_report_waits_for_what_was_just_written(user, run):
    written = await user.post(f"/v1/runs/{run}/messages", json=said(1, "late"))
    headers = {"Ledger-Position": written.headers["Ledger-Position"]}
    told = (await user.get(f"/v1/runs/{run}/report", headers=headers)).json
    assert told["timeline"][-1]["position"] == int(headers["Ledger-Position"])
