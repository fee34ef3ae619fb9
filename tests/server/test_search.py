"""``GET /v1/search``: who finds what, page by page, and what is refused."""

from urllib.parse import quote

import pytest

TRAPS = "</script><img src=x onerror=alert(1)>\x1b[2J\u202e"


def positions(answer):
    assert answer.status == 200, answer.body
    return [each["position"] for each in answer.json]


def text_of(find):
    return "".join(part["text"] for part in find["snippet"])


@pytest.fixture
async def run(user):
    """A run that asked a tool, was answered, and failed."""
    id = await user.create("run", agent_id="agent-7", metadata={"task": "nightly zebra"})
    await user.patch(f"/v1/runs/{id}", json={"status": "running"})
    call = {"name": "get_user_details", "arguments": '{"user": "mia"}', "tool_call_id": "call-1"}
    answer = {"tool_call_id": "call-1", "status": "error", "tool_return": "no zebra of that name"}
    for message in (
        {"message_type": "user_message", "content": "Where is my zebra?"},
        {"message_type": "tool_call_message", "tool_call": call},
        {"message_type": "tool_return_message", **answer},
    ):
        assert (await user.post(f"/v1/runs/{id}/messages", json=message)).status == 201
    error = {"type": "LookupError", "message": "zebra lost"}
    ended = await user.patch(f"/v1/runs/{id}", json={"status": "failed", "stop_reason": "error", "error": error})
    assert ended.status == 200, ended.body
    return id


async def test_all_that_was_said_is_found_newest_first(user, run):
    answer = await user.get("/v1/search?query=zebra")
    assert [(each["what"], each["message_type"]) for each in answer.json] == [
        (["error"], None),
        (["error"], "tool_return_message"),
        (["message"], "user_message"),
        (["metadata"], None),
    ]
    assert {each["stream"] for each in answer.json} == {run}
    assert {(each["kind"], each["status"], each["agent_id"]) for each in answer.json} == {("run", "failed", "agent-7")}
    assert [text_of(each) for each in answer.json] == [
        "LookupError zebra lost", "no zebra of that name", "Where is my zebra?", "task: nightly zebra",
    ]  # fmt: skip
    assert all([part["text"] for part in each["snippet"] if part["hit"]] == ["zebra"] for each in answer.json)
    log = {event["position"]: event for event in await user.log(run)}
    assert [log[each["position"]]["streamversion"] for each in answer.json] == [each["version"] for each in answer.json]


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ("what=message", 1), ("what=error", 2), ("what=error,metadata", 3), ("what=tool", 0),
        ("kind=run", 4), ("kind=job", 0), ("agent_id=agent-7", 4), ("agent_id=agent-8", 0),
        ("status=failed", 4), ("status=running,completed", 0), ("stop_reason=error", 4), ("stop_reason=end_turn", 0),
        ("tools_used=get_user_details", 4), ("tools_used=other", 0), ("subject={run}", 4), ("subject={other}", 0),
        ("since=2000-01-01", 4), ("since=2100-01-01", 0), ("until=2100-01-01", 4), ("until=2000-01-01", 0),
        ("before=1", 0), ("project_id=project-1", 0),
    ],
)  # fmt: skip
async def test_filters_let_through_what_they_say(user, run, filters, count):
    filters = filters.format(run=run, other=await user.create("job"))
    assert len(positions(await user.get(f"/v1/search?query=zebra&{filters}"))) == count


async def test_pages_lead_on_to_the_end(user, run):
    whole = positions(await user.get("/v1/search?query=zebra"))
    path, found = "/v1/search?query=zebra&limit=3", []
    while path:
        answer = await user.get(path)
        found.append(positions(answer))
        path = answer.next_path
    assert found == [whole[:3], whole[3:]]


async def test_nobody_finds_what_is_not_theirs(service, user, other, admin, run):
    mine = await other.create("job", metadata={"note": "my own zebra"})
    assert len(positions(await user.get("/v1/search?query=zebra"))) == 4
    assert {each["stream"] for each in (await other.get("/v1/search?query=zebra")).json} == {mine}
    assert len(positions(await admin.get("/v1/search?query=zebra"))) == 5
    bound = await service.user(project="project-1")
    assert positions(await bound.get("/v1/search?query=zebra")) == []
    assert (await bound.get("/v1/search?query=zebra&project_id=project-2")).status == 404


async def test_what_was_deleted_or_erased_is_not_found(user, admin, run):
    job = await user.create("job", metadata={"note": "another zebra"})
    assert (await user.delete(f"/v1/jobs/{job}")).status == 200
    assert job not in {each["stream"] for each in (await user.get("/v1/search?query=zebra")).json}
    assert (await admin.post(f"/v1/runs/{run}/erase", json={"reason": "asked for"})).status == 200
    assert positions(await user.get("/v1/search?query=zebra")) == []


async def test_what_was_just_written_is_found(user):
    run = await user.create("run")
    message = {"message_type": "user_message", "content": "a late zebra"}
    written = await user.post(f"/v1/runs/{run}/messages", json=message)
    found = await user.get("/v1/search?query=zebra", headers={"Ledger-Position": str(written.position)})
    assert positions(found) == [written.position]


async def test_a_snippet_is_plain_text_that_nobody_must_trust(user):
    await user.create("job", metadata={"note": f"{TRAPS} zebra {TRAPS}"})
    (found,) = (await user.get("/v1/search?query=zebra")).json
    assert [part["text"] for part in found["snippet"] if part["hit"]] == ["zebra"]
    assert TRAPS in text_of(found)


@pytest.mark.parametrize(
    ("query", "where", "what"),
    [
        ("", "query", "is missing"),
        ("query=", "query", "1 to 256 characters"),
        ("query=...", "query", "names no word to find"),
        ("query=-x", "query", "names no word to find"),
        ("query=a*", "query", "before a *"),
        ("query=a&query=b", "query", "more than once"),
        ("query=" + "x+" * 60, "query", "more than 32 words"),
        ("query=" + "x" * 257, "query", "1 to 256 characters"),
        ("query=a&what=nothing", "what", "not allowed"),
        ("query=a&limit=201", "limit", "1 to 200"),
        ("query=a&before=0", "before", "not an integer from 1"),
        ("query=a&subject=agent-1", "subject", "job-<uuid4>"),
        ("query=a&as_of=5", "as_of", "not a parameter"),
    ],
)
async def test_what_is_no_search_is_refused_with_what_to_give(user, query, where, what):
    answer = await user.get(f"/v1/search?{query}")
    assert answer.status == 422
    (fault,) = answer.error["details"]
    assert fault["where"] == where
    assert what in fault["what"] + str(fault["allowed"])


STRANGE = [
    "\0", '"\0', "NEAR(a b)", "a AND", "{message}:x", '"', 'a"b""', "🦉", "(((", "*", "'; DROP TABLE texts; --",
    "texts_words:x", "^x", "a + b", "\u202ea", "a\0b", "\ufffd\uffff", "-", '-"', "OR OR OR",
]  # fmt: skip


@pytest.mark.parametrize("query", [*map(quote, STRANGE), "%ff%fe", "%ed%a0%80"])
async def test_no_query_breaks_it(user, run, query):
    assert (await user.get(f"/v1/search?query={query}")).status in (200, 422)


async def test_views_that_were_rebuilt_are_searched_at_once(service, user, run):
    before = positions(await user.get("/v1/search?query=zebra"))
    await service.app.engine.rebuild()
    assert positions(await user.get("/v1/search?query=zebra&limit=199")) == before
