"""No line of a request shows a secret or breaks, whatever a client sends."""

import asyncio
import random
from urllib.parse import quote

import msgspec
import pytest

from server import audit
from server.callbacks.signing import new_secret
from tests.server.raw import connection, head
from tests.server.request_lines import line_of

SEED = 20_261_126
BODY_TEXT = "what-a-body-holds"
QUERY_TEXT = "what-a-query-holds"
EVENT = {"specversion": "1.0", "type": "job.created", "subject": "{new_job}", "data": {"user_id": "{user}"}}
WHY = {"reason": BODY_TEXT}


async def test_an_alias_is_told_by_the_pattern_that_was_asked(user, log_lines):
    job = await user.create()
    line = line_of(log_lines, await user.get(f"/api/jobs/{job}/"))
    assert (line["route"], line["resource"]) == ("/api/jobs/{job_id}", job)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/jobs/{t}/{t}", "/v1/jobs/{job_id}/*"),
        ("/v1/{t}", "/v1/*"),
        ("/{t}/v1/jobs", "/*"),
        ("/", "/*"),
        ("/v1", "/v1"),
        ("/v1/jobs/{t}/events/{t}", "/v1/jobs/{job_id}/events/*"),
        ("/v1/agents/{t}", "/v1/agents/{agent_id}"),
        ("/v1//jobs", "/v1/*"),
    ],
)
async def test_of_an_unknown_path_only_what_the_table_knows_is_told(user, log_lines, path, route):
    line = line_of(log_lines, await user.get(path.replace("{t}", user.token)))
    assert (line["route"], line["resource"], line["outcome"]) == (route, "", "not_found")


@pytest.mark.parametrize("secret", ["token", "random part and checksum", "callback secret"])
async def test_a_secret_in_the_place_of_a_name_is_hidden(user, log_lines, secret):
    text = {"token": user.token, "random part and checksum": user.token[3:], "callback secret": new_secret()}[secret]
    path = f"/v1/agents/{quote(text, safe='')}/messages/cancel"
    answers = [await user.post(path), await user.post("/v1/jobs", json={}, headers={"X-Project-Id": text})]
    answers.append(await user.get("/v1/jobs", headers={"X-Request-Id": text[:128]}))
    lines = [line_of(log_lines, answer) for answer in answers]
    assert lines[0]["resource"] == lines[1]["project"] == audit.HIDDEN
    assert text not in log_lines.getvalue().decode()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("агент 7", "агент 7"),
        ("snake_case", "snake_case"),
        ("a\nb", "a\\u000ab"),
        ("\u2028\u0085\x7f\ud800", "\\u2028\\u0085\\u007f\\ud800"),
        ("", ""),
        ("my jl_x", audit.HIDDEN),
        ("whsk_abc", audit.HIDDEN),
    ],
)
def test_what_others_named_is_told_on_one_line(text, told):
    assert audit.told(text) == told


async def test_a_name_that_would_break_a_line_is_told_on_one(user, log_lines):
    agent = "agent\u2028two"
    run = await user.create("run", agent_id=agent, status="running")
    answer = await user.post(f"/v1/agents/{quote(agent)}/messages/cancel")
    assert answer.json == {run: "cancelled"}
    assert line_of(log_lines, answer)["resource"] == "agent:agent\\u2028two"


def hostile(chance, user, secrets):
    """A request with a secret, or half of one, where none belongs, and bytes that break lines."""
    text = chance.choice(secrets)
    if chance.random() < 0.3:
        text = text[3 : chance.randrange(20, 46)]
    start = chance.choice(["", "\r\n "[chance.randrange(3) :], "%0A", "%00", "\u2028", "\x07", '"'])
    path = chance.choice([
        f"/v1/jobs/{start}{text}", f"/{text}", f"/v1/jobs?token={text}", f"/v1/{text}/jobs", f"/v1/jobs?{text}",
        f"/v1/events?subject={text}", f"/v1/runs/{text}/stream", f"http://{text}@h/v1/jobs/{text}",
        f"/v1/jobs/{text}{start}/cancel", f"/v1/x#{text}",
    ])  # fmt: skip
    method = chance.choice(["GET", "POST", "PATCH", "DELETE", text])
    lines = chance.sample(
        [
            f"Idempotency-Key: {start}{text}", f"user_id: {start}{text}", f"If-Match: {text}", f"Last-Event-ID: {text}",
            f"X{start}: {text}", f"Ledger-Position: {text}", f"Cookie: token={text}", f"{text}: 1",
            f"Content-Length: {text}", f"Accept: {text}",
        ],
        chance.randrange(3),
    )  # fmt: skip
    token = chance.choice([user.token, f"{text}{start}", "", text[:30]])
    return head(method, path, token, *lines, "Connection: close")


async def test_whatever_a_client_sends_no_line_breaks_or_shows_a_secret(user, log_lines):
    # given
    chance = random.Random(SEED)
    secrets = [user.token, f"jl_{'Qz' * 21}Q_0123456", "Zx" * 30]
    hidden = [secret[3:46][at : at + 12].encode() for secret in secrets for at in range(31)]

    async def send(request):
        async with connection(user.service) as raw:
            await raw.send(request)
            return await raw.rest()

    # when
    for _ in range(30):
        answers = await asyncio.gather(*(send(hostile(chance, user, secrets)) for _ in range(20)))
        assert all(answer.startswith(b"HTTP/1.") for answer in answers)
    # then
    text = log_lines.getvalue()
    every = [msgspec.json.decode(line) for line in text.decode().splitlines()]
    assert len([line for line in every if line["event"] in ("request", "request.unreadable")]) == 600
    assert {line.get("outcome") for line in every} > {"not_found", "validation_error", "unauthorized", None}
    assert not [each for each in hidden if each in text]
