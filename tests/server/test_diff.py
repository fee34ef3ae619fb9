"""``GET /v1/runs/diff``: two runs that the caller may see, aligned; required ids, and everybody else's refused."""

import json

import pytest

from ledger import ids
from tests.server.test_errors import check_shape

HI = {"message_type": "user_message", "content": "hi"}


def call(**arguments):
    one = {"name": "find", "arguments": json.dumps(arguments), "tool_call_id": "c"}
    return {"message_type": "tool_call_message", "tool_call": one}


@pytest.fixture
async def pair(user):
    made = []
    for number in (1, 2):
        run = await user.create("run", status="running")
        answer = await user.post(f"/v1/runs/{run}/messages", json=[HI, call(n=number)])
        assert answer.status == 201, answer.body
        made.append(run)
    return made


def path(a, b, more=""):
    return f"/v1/runs/diff?a={a}&b={b}{more}"


async def test_two_runs_are_compared(user, pair):
    found = (await user.get(path(*pair))).json
    assert [(row["kind"], row["count"]) for row in found["rows"]] == [("equal", 1), ("changed", 1)]
    assert found["first_divergent_action"]["differs"] == [{"what": "arguments", "path": "n", "a": 1, "b": 2}]
    assert (found["a"]["id"], found["b"]["id"]) == tuple(pair)


async def test_a_run_is_equal_to_itself(user, pair):
    found = (await user.get(path(pair[0], pair[0], "&full=true"))).json
    assert [row["kind"] for row in found["rows"]] == ["equal", "equal"]
    assert found["first_divergence"] is None


async def test_no_list_is_longer_than_asked(user, pair):
    found = (await user.get(path(*pair, "&limit=1"))).json
    assert (len(found["rows"]), found["left_off"]) == (1, 1)


@pytest.mark.parametrize("missing", ["a", "b"])
async def test_both_must_be_named(user, pair, missing):
    named = {"a": pair[0], "b": pair[1]}
    del named[missing]
    ((other, id),) = named.items()
    refused = await user.get(f"/v1/runs/diff?{other}={id}")
    check_shape(refused, 422, "validation_error")
    assert [(fault["where"], fault["what"]) for fault in refused.error["details"]] == [(missing, "is missing")]


@pytest.mark.parametrize("id", ["", "run-1", "job-00000000-0000-4000-8000-000000000000", "x" * 300])
async def test_what_is_no_id_of_a_run_is_refused(user, pair, id):
    assert (await user.get(path(pair[0], id))).status == 422
    assert (await user.get(path(id, pair[0]))).status == 422


async def test_both_must_be_there_and_the_callers(user, other, pair):
    theirs = await other.create("run")
    for hidden in (theirs, ids.make("run")):
        for two in ((pair[0], hidden), (hidden, pair[0])):
            refused = await user.get(path(*two))
            assert (refused.status, refused.error["type"]) == (404, "not_found")
            assert hidden in refused.error["message"]


async def test_of_an_erased_run_nothing_is_told(user, admin, pair):
    assert (await admin.post(f"/v1/runs/{pair[1]}/erase", json={"reason": "asked to"})).status == 200
    assert (await user.get(path(*pair))).status == 410
