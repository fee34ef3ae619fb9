"""The messages of a batch in the older shape: one message for the parts that share an id, with a role and contents."""

import pytest

from ledger import ids
from tests.server.said import follow, message_id, step_id, text, walk
from tests.server.test_errors import check_shape

CALL = {"name": "look", "arguments": '{"a":1}', "tool_call_id": "c1"}
OTHER_CALL = {"name": "run", "arguments": "{}", "tool_call_id": "c2"}
NULLS = dict.fromkeys((
    "agent_id", "name", "otid", "sender_id", "step_id", "is_err", "tool_calls", "tool_call_id", "tool_returns",
    "approve", "approval_request_id", "approvals", "denial_reason",
))  # fmt: skip


def call(one):
    return {"id": one["tool_call_id"], "function": {"name": one["name"], "arguments": one["arguments"]},
            "type": "function"}  # fmt: skip


def returned(id="c1", status="success", response="ok", stdout=None, stderr=None):
    return {"tool_call_id": id, "status": status, "func_response": response, "stdout": stdout, "stderr": stderr}


def words(text):
    return {"type": "text", "text": text}


IMAGE = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
TYPES = [
    ({"message_type": "system_message", "content": "s"}, "system", [{**words("s"), "signature": None}], {}),
    ({"message_type": "user_message", "content": [words("u"), IMAGE]}, "user",
     [{**words("u"), "signature": None}, IMAGE], {}),
    ({"message_type": "assistant_message", "content": "a"}, "assistant", [{**words("a"), "signature": None}], {}),
    ({"message_type": "reasoning_message", "reasoning": "r", "source": "reasoner_model", "signature": "x"}, "assistant",
     [{"type": "reasoning", "is_native": True, "reasoning": "r", "signature": "x"}], {}),
    ({"message_type": "reasoning_message", "reasoning": "r"}, "assistant",
     [{"type": "reasoning", "is_native": False, "reasoning": "r", "signature": None}], {}),
    ({"message_type": "hidden_reasoning_message", "state": "redacted", "hidden_reasoning": "h"}, "assistant",
     [{"type": "redacted_reasoning", "data": "h"}], {}),
    ({"message_type": "hidden_reasoning_message", "state": "omitted"}, "assistant",
     [{"type": "omitted_reasoning"}], {}),
    ({"message_type": "tool_call_message", "tool_call": CALL}, "assistant", [], {"tool_calls": [call(CALL)]}),
    ({"message_type": "tool_call_message", "tool_call": CALL, "tool_calls": [CALL, OTHER_CALL]}, "assistant", [],
     {"tool_calls": [call(CALL), call(OTHER_CALL)]}),
    ({"message_type": "tool_return_message", "tool_return": "ok", "status": "success", "tool_call_id": "c1",
      "stdout": ["o"]}, "tool", [words("ok")], {"tool_call_id": "c1", "tool_returns": [returned(stdout=["o"])]}),
    ({"message_type": "tool_return_message", "tool_return": "ok", "status": "success", "tool_call_id": "c1",
      "tool_returns": [
          {"type": "tool", "tool_call_id": "c1", "status": "success", "tool_return": "ok"},
          {"type": "tool", "tool_call_id": "c2", "status": "error", "tool_return": [words("x")], "stderr": ["e"]}]},
     "tool", [words("ok")],
     {"tool_call_id": "c1", "tool_returns": [returned(), returned("c2", "error", None, stderr=["e"])]}),
    ({"message_type": "approval_request_message", "tool_call": CALL}, "approval", [], {"tool_calls": [call(CALL)]}),
    ({"message_type": "approval_response_message", "approve": False, "approval_request_id": message_id(9),
      "reason": "no", "approvals": [{"type": "approval", "approve": False, "tool_call_id": "c1", "reason": "r"},
                                    {"type": "tool", "tool_call_id": "c2", "status": "error", "tool_return": "x"}]},
     "approval", [],
     {"approve": False, "approval_request_id": message_id(9), "denial_reason": "no", "approvals": [
         {"approve": False, "tool_call_id": "c1", "reason": "r", "type": "approval"},
         returned("c2", "error", "x")]}),
    ({"message_type": "summary_message", "summary": "s"}, "user", [words("s")], {}),
    ({"message_type": "event_message", "event_type": "compaction", "event_data": {"a": 1}}, "system",
     [words('{"event_type":"compaction","event_data":{"a":1}}')], {}),
]  # fmt: skip


@pytest.fixture
async def batch(user):
    """A batch of three runs, of agents 0 to 2."""
    return await user.create("batch", requests=[{"agent_id": f"agent-{number}"} for number in range(3)])


@pytest.fixture
async def runs(user, batch):
    found = (await user.get("/v1/runs/?order=asc")).json
    return [run["id"] for run in sorted(found, key=lambda run: run["agent_id"])]


def home(batch):
    return f"/v1/messages/batches/{batch}/messages"


async def said(user, run, *messages):
    answer = await user.post(f"/v1/runs/{run}/messages", json=list(messages))
    assert answer.status == 201, answer.body


@pytest.mark.parametrize(("message", "role", "content", "more"), TYPES)
async def test_each_type_has_its_role_and_contents(user, batch, runs, message, role, content, more):
    await said(user, runs[0], {"id": message_id(1), **message})
    assert (await user.get(home(batch))).json == {"messages": [
        {**NULLS, "id": message_id(1), "role": role, "content": content, "run_id": runs[0], "agent_id": "agent-0",
         "created_at": "2026-11-22T00:00:00.000000Z", **more}
    ]}  # fmt: skip


async def test_what_every_message_may_have_is_shown(user, batch, runs):
    named = {"name": "n", "otid": "o", "sender_id": "s", "step_id": step_id(1), "is_err": True}
    await said(user, runs[0], text(1, date="2020-01-01T00:00:00Z", **named))
    (shown,) = (await user.get(home(batch))).json["messages"]
    assert {name: shown[name] for name in named} == named
    assert shown["created_at"] == "2020-01-01T00:00:00Z"


PARTS = [
    {"id": message_id(1), "message_type": "reasoning_message", "reasoning": "hm"},
    {"id": message_id(1), "message_type": "assistant_message", "content": "well"},
    {"id": message_id(1), "message_type": "tool_call_message", "tool_call": CALL},
    {"id": message_id(1), "message_type": "tool_call_message", "tool_call": OTHER_CALL},
]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_the_parts_of_a_message_are_one_in_their_order_whatever_came_in_between(user, batch, runs, order, limit):
    await said(user, runs[0], PARTS[0])
    await said(user, runs[1], text(2))
    await said(user, runs[0], PARTS[1], text(3), PARTS[2])
    await said(user, runs[1], PARTS[3] | {"id": message_id(2)})
    pages = await walk(user, home(batch), "after", order=order, limit=limit)
    shown = [message for page in pages for message in page]
    assert [message["id"] for message in shown] == [message_id(number) for number in (1, 2, 3)][
        :: 1 if order == "asc" else -1
    ]
    first = shown[0 if order == "asc" else -1]
    assert [part["type"] for part in first["content"]] == ["reasoning", "text"]
    assert first["tool_calls"] == [call(CALL)]
    assert shown[1]["tool_calls"] == [call(OTHER_CALL)]
    assert (first["role"], first["run_id"], shown[1]["run_id"]) == ("assistant", runs[0], runs[1])


async def test_messages_come_newest_first_unless_asked_otherwise_and_page_by_id(user, batch, runs):
    for number in range(6):
        await said(user, runs[number % 3], text(number + 1))
    expected = [message_id(number) for number in range(6, 0, -1)]

    def named(answer):
        return [message["id"] for message in answer.json["messages"]]

    assert named(await user.get(home(batch))) == expected
    assert named(await user.get(home(batch) + "?order=asc")) == expected[::-1]
    assert named(await user.get(f"{home(batch)}?after={expected[1]}&limit=2")) == expected[2:4]
    assert named(await user.get(f"{home(batch)}?before={expected[4]}&limit=2")) == expected[2:4]
    for limit in range(1, 8):
        for order in ("asc", "desc"):
            pages = await walk(user, home(batch), "after", limit=limit, order=order)
            assert [m["id"] for page in pages for m in page] == (expected if order == "desc" else expected[::-1])
            assert [
                page["messages"] for page in await follow(user, f"{home(batch)}?limit={limit}&order={order}")
            ] == pages
    check_shape(await user.get(f"{home(batch)}?after={message_id(9)}"), 400, "invalid_request")
    check_shape(await user.get(f"{home(batch)}?limit=0"), 422, "validation_error")


async def test_one_id_in_two_runs_is_two_messages_that_no_walk_loses(user, batch, runs):
    await said(user, runs[0], text(1), text(2))
    await said(user, runs[1], text(3), text(1, content="again"), text(4))
    for limit, order in ((1, "asc"), (1, "desc"), (2, "asc"), (100, "desc")):
        pages = await walk(user, home(batch), "after", limit=limit, order=order)
        shown = sorted((message["id"], message["run_id"]) for page in pages for message in page)
        assert shown == sorted(
            [(message_id(1), runs[0]), (message_id(2), runs[0]), (message_id(1), runs[1]), (message_id(3), runs[1]),
             (message_id(4), runs[1])]
        )  # fmt: skip


async def test_messages_of_one_agent_are_those_of_its_runs(user, batch, runs):
    for number in range(6):
        await said(user, runs[number % 3], text(number + 1))
    answer = await user.get(f"{home(batch)}?agent_id=agent-1&order=asc")
    assert [message["id"] for message in answer.json["messages"]] == [message_id(2), message_id(5)]
    assert (await user.get(f"{home(batch)}?agent_id=nobody")).json == {"messages": []}
    check_shape(await user.get(f"{home(batch)}?agent_id=agent-0&after={message_id(2)}"), 400, "invalid_request")


async def test_messages_of_a_batch_are_seen_by_whom_it_is_seen_by(user, other, batch, runs):
    await said(user, runs[0], text(1))
    job = await user.create("job")
    for who, id, status in ((other, batch, 404), (user, job, 404), (user, ids.make("job"), 404), (user, "x", 422)):
        assert (await who.get(home(id))).status == status
    await user.delete(f"/v1/runs/{runs[0]}")
    assert (await user.get(home(batch))).json == {"messages": []}


async def test_a_page_finds_the_other_parts_of_a_message_by_its_id_however_many_runs_the_batch_has(
    user, batch, runs, monkeypatch
):
    # given
    await said(user, runs[0], text(1), text(2), text(3, step_id=step_id(1)))
    await user.post(f"/v1/runs/{runs[0]}/steps", json={"id": step_id(1)})
    views, plans = user.service.app.views, []
    read = views.read

    async def explain(query, parameters):
        plans.extend(row[3] for row in views._single.execute(f"EXPLAIN QUERY PLAN {query}", parameters))
        return await read(query, parameters)

    monkeypatch.setattr(views, "read", explain)
    for path, key in (
        (home(batch), "(id=?"),
        (f"/v1/runs/{runs[0]}/messages", "(id=? AND run_id=?"),
        (f"/v1/steps/{step_id(1)}/messages", "(id=? AND run_id=?"),
    ):
        # when
        plans.clear()
        assert (await user.get(path)).status == 200
        # then
        looks = [plan for plan in plans if " other " in plan]
        assert len(looks) == 2
        for plan in looks:
            assert plan.startswith("SEARCH other USING")
            assert "messages_id_" in plan
            assert key in plan
            assert "run_id=?" in key or "run_id" not in plan
