"""Cancelling the runs of an agent or a conversation: which are cancelled, which are said to have failed."""

import pytest

from ledger import ids

AGENT = "/v1/agents/agent-1/messages/cancel"
CONVERSATION = "/v1/conversations/conv-1/cancel"
OWNERS = [(AGENT, {"agent_id": "agent-1"}), (CONVERSATION, {"agent_id": "agent-9", "conversation_id": "conv-1"})]


@pytest.mark.parametrize("body", [None, {}, {"run_ids": None}])
@pytest.mark.parametrize(("path", "facts"), OWNERS)
async def test_without_run_ids_all_active_runs_are_cancelled_and_no_others(user, path, facts, body):
    # given
    active = {await user.create("run", **facts), await user.create("run", status="running", **facts)}
    done = await user.create("run", status="completed", **facts)
    stranger = await user.create("run", agent_id="agent-2", conversation_id="conv-2")
    # when
    answer = await user.post(path, json=body)
    # then
    assert (answer.status, answer.json) == (200, dict.fromkeys(active, "cancelled"))
    shown = {run["id"]: run["status"] for run in (await user.get("/v1/runs/")).json}
    assert shown == {**dict.fromkeys(active, "cancelled"), done: "completed", stranger: "created"}
    assert (await user.types(done))[-1] == "run.completed"


@pytest.mark.parametrize(("path", "facts"), OWNERS)
async def test_named_runs_are_cancelled_or_said_to_have_failed_in_the_asked_order(user, other, path, facts):
    # given
    named = {
        await user.create("run", status="completed", **facts): "failed",
        await user.create("run", status="running", **facts): "cancelled",
        await user.create("run", agent_id="agent-2", conversation_id="conv-2"): "failed",
        await other.create("run", **facts): "failed",
        ids.make("run"): "failed",
        "garbage": "failed",
        await user.create("run", **facts): "cancelled",
    }
    untouched = await user.create("run", **facts)
    # when
    answer = await user.post(path, json={"run_ids": [*named, *named]})
    # then
    assert (answer.status, answer.json) == (200, named)
    assert list(answer.json) == list(named)
    assert (await user.get(f"/v1/runs/{untouched}")).json["status"] == "created"


async def test_a_deleted_run_is_not_cancelled(user, admin):
    run = await user.create("run", status="running")
    await user.delete(f"/v1/runs/{run}")
    assert (await user.post(AGENT, json={"run_ids": [run]})).json == {run: "failed"}
    assert (await user.post(AGENT)).status == 409
    assert (await admin.types(run))[-1] == "run.deleted"


async def test_all_cancels_of_one_request_come_in_one_append_that_the_answer_names(user):
    runs = {await user.create("run") for _ in range(3)}
    answer = await user.post(AGENT)
    events = await user.service.app.ledger.store.scan(answer.position - 3, 3)
    assert {(event.type, event.stream) for event in events} == {("run.cancelled", run) for run in runs}
    assert len({event.recorded for event in events}) == 1
    assert answer.position == user.service.app.ledger.size


@pytest.mark.parametrize("status", [None, "completed", "failed", "cancelled"])
@pytest.mark.parametrize(("path", "facts"), OWNERS)
async def test_nothing_to_cancel_is_a_conflict_that_clients_do_not_retry(user, path, facts, status):
    if status:
        await user.create("run", status=status, **facts)
    before = user.service.app.ledger.size
    answer = await user.post(path)
    assert (answer.status, answer.error["type"]) == (409, "nothing_to_cancel")
    assert answer.headers["x-should-retry"] == "false"
    assert user.service.app.ledger.size == before


async def test_an_empty_list_of_runs_is_nothing_to_cancel(user):
    run = await user.create("run")
    assert (await user.post(AGENT, json={"run_ids": []})).status == 409
    assert (await user.get(f"/v1/runs/{run}")).json["status"] == "created"


async def test_runs_of_others_with_the_same_agent_stay_active(user, other):
    theirs = await other.create("run", status="running")
    mine = await user.create("run", status="running")
    assert (await user.post(AGENT)).json == {mine: "cancelled"}
    assert (await other.get(f"/v1/runs/{theirs}")).json["status"] == "running"


async def test_an_agent_that_was_given_to_a_run_later_does_not_own_it_before(user, admin):
    # given a run whose agent changed
    run = await user.create("run", agent_id="agent-2")
    ledger = user.service.app.ledger
    await ledger.append(run, "run.updated", {"agent_id": "agent-1"}, actor=user.id)
    # when, then
    assert (await user.post("/v1/agents/agent-2/messages/cancel")).status == 409
    assert (await user.post(AGENT)).json == {run: "cancelled"}


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [
        (AGENT, {"runs": []}, "runs"),
        (AGENT, {"run_ids": "all"}, "run_ids"),
        (AGENT, {"run_ids": [7]}, "run_ids[0]"),
        (AGENT, {"run_ids": [f"run-{number}" for number in range(1001)]}, "run_ids"),
        (AGENT + "?force=true", {}, "force"),
        ("/v1/agents/%00/messages/cancel", {}, "agent_id"),
        (f"/v1/agents/{'a' * 257}/messages/cancel", {}, "agent_id"),
        ("/v1/conversations/%0a/cancel", {}, "conversation_id"),
    ],
)
async def test_what_is_no_list_of_runs_of_an_owner_is_refused(user, path, body, where):
    answer = await user.post(path, json=body)
    assert answer.status == 422
    assert [fault["where"] for fault in answer.error["details"]] == [where]


@pytest.mark.parametrize(
    "path", ["/v1/conversations/default/cancel?agent_id=agent-1", "/v1/conversations/agent-1/cancel"]
)
async def test_the_default_conversation_of_an_agent_means_all_its_runs_as_v1_had_it(user, path):
    # given
    mine = {await user.create("run"), await user.create("run", conversation_id="conv-1")}
    await user.create("run", agent_id="agent-2", conversation_id="default")
    # when
    answer = await user.post(path)
    # then
    assert (answer.status, answer.json) == (200, dict.fromkeys(mine, "cancelled"))
    assert (await user.post(path)).status == 409


async def test_the_agent_makes_no_difference_to_a_conversation_with_a_name(user):
    run = await user.create("run", agent_id="agent-9", conversation_id="conv-1")
    answer = await user.post("/v1/conversations/conv-1/cancel?agent_id=agent-1")
    assert answer.json == {run: "cancelled"}


async def test_one_key_does_not_cancel_the_default_conversations_of_two_agents(user):
    await user.create("run")
    await user.create("run", agent_id="agent-2")
    answers = [
        await user.post(f"/v1/conversations/default/cancel?agent_id={agent}", headers={"Idempotency-Key": "k"})
        for agent in ("agent-1", "agent-1", "agent-2")
    ]
    assert [answer.status for answer in answers] == [200, 200, 409]
    assert answers[2].error["type"] == "idempotency_conflict"
