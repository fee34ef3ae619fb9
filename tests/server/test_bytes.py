"""What comes as bytes: bodies too large, broken or slow, headers that are no text, requests that are none."""

import gzip
import io
import subprocess
import sys

import pytest

from tests.server.raw import connection, head, post
from tests.server.serving import serving
from tests.server.test_errors import check_shape

MIB = 1024 * 1024
COMMANDS = ["/v1/jobs/", "/v1/runs/", "/v1/messages/batches", "/v1/agents/a/messages/cancel"]


@pytest.mark.parametrize(("path", "limit"), [*((path, MIB) for path in COMMANDS), ("/v1/events", 64 * MIB)])
async def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(user, path, limit):
    async with connection(user.service) as raw:
        await raw.send(head("POST", path, user.token, f"Content-Length: {limit + 1}"))
        check_shape(await raw.answer(), 413, "payload_too_large")


@pytest.mark.parametrize("path", COMMANDS)
async def test_a_body_of_unknown_size_is_refused_as_soon_as_it_is_too_large(user, path):
    """The client never ends its body: the answer must come without the rest."""
    async with connection(user.service) as raw:
        await raw.send(head("POST", path, user.token, "Transfer-Encoding: chunked"))
        for _ in range(17):
            await raw.send(b"10000\r\n", b" " * 0x10000, b"\r\n")
        answer = await raw.answer()
        check_shape(answer, 413, "payload_too_large")
        assert answer.headers["Connection"] == "close"


async def test_a_body_of_the_limit_is_taken(user):
    body = b'{"metadata":{"a":"' + b"x" * (MIB - 21) + b'"}}'
    assert len(body) == MIB
    assert (await user.post("/v1/jobs/", data=io.BytesIO(body))).status == 201
    assert (await user.post("/v1/jobs/", data=io.BytesIO(body + b" "))).status == 413


async def test_a_small_body_that_unpacks_to_a_large_one_is_refused(user):
    packed = gzip.compress(b" " * (20 * MIB))
    answer = await user.post("/v1/jobs/", data=packed, headers={"Content-Encoding": "gzip"})
    check_shape(answer, 413, "payload_too_large")


@pytest.mark.parametrize(("lines", "body"), [
    (["Content-Encoding: gzip", "Content-Length: 9"], b"not gzip!"),
    (["Content-Encoding: deflate", "Content-Length: 9"], b"not zlib!"),
    (["Transfer-Encoding: chunked"], b"zz\r\nabc\r\n0\r\n\r\n"),
    (["Transfer-Encoding: chunked"], b"2\r\nabcdef"),
])  # fmt: skip
async def test_a_body_that_is_broken_on_its_way_is_a_bad_request(user, lines, body):
    async with connection(user.service) as raw:
        await raw.send(head("POST", "/v1/jobs/", user.token, *lines), body)
        check_shape(await raw.answer(), 400, "invalid_request")


async def test_a_body_that_never_comes_ends_the_wait_and_the_connection(ledger_file):
    async with serving(ledger_file, body_timeout_s=0.01) as service:
        user = await service.user()
        async with connection(service) as raw:
            await raw.send(head("POST", "/v1/jobs/", user.token, "Content-Length: 10"), b"{")
            answer = await raw.answer()
            assert (answer.status, answer.error["type"]) == (408, "request_timeout")
            assert answer.headers["Connection"] == "close"


async def test_a_client_that_asks_before_it_sends_is_told_to_go_on(ledger_file):
    async with serving(ledger_file, body_timeout_s=0.5) as service:
        user = await service.user()
        start, body = post("/v1/jobs/", user.token, {}, "Expect: 100-continue")
        async with connection(service) as raw:
            await raw.send(start)
            assert (await raw.answer()).status == 100
            await raw.send(body)
            assert (await raw.answer()).status == 201


@pytest.mark.parametrize("line", [
    b"user_id: \xff\xfe", b"X-Project-Id: \xff", b"If-Match: \xff", b"Ledger-Position: \xff", b"Idempotency-Key: \xff",
    b"X-Request-Id: \xff", b"If-None-Match: \xff", b"Accept: \xff", b"Content-Type: \xff",
])  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_headers_that_are_no_text_do_not_break_the_server(admin, method, line):
    job = await admin.create()
    async with connection(admin.service) as raw:
        await raw.send(head(method, f"/v1/jobs/{job}", admin.token, line, "Content-Length: 0"))
        answer = await raw.answer()
        assert answer.status < 500, answer.body
        assert answer.headers["X-Request-Id"]
        assert answer.json


@pytest.mark.parametrize("token", [b"\xff\xfe", b"jl_\xc3\xa9", b"jl_" + b"a" * 43 + b"_\xff"])
async def test_a_token_that_is_no_text_is_unknown(service, token):
    async with connection(service) as raw:
        await raw.send(b"GET /v1/jobs/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + b"\r\n\r\n")
        check_shape(await raw.answer(), 401, "unauthorized")


@pytest.mark.parametrize("path", [b"/v1/\xff", b"/v1/jobs/\xff", b"/v1/jobs/?source_id=\xff", b"/v1/jobs/?\xff=1"])
async def test_paths_that_are_no_text_are_refused_in_the_one_shape(admin, path):
    async with connection(admin.service) as raw:
        await raw.send(
            b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + admin.token.encode() + b"\r\n\r\n"
        )
        answer = await raw.answer()
        assert answer.status in (400, 404, 422)
        check_shape(answer, answer.status, answer.error["type"])


@pytest.mark.parametrize("value", ["%ED%A0%80", "%FF", "%C3", "%00", "%", "%zz"])
@pytest.mark.parametrize("path", [
    "/v1/jobs/?source_id={}", "/v1/runs/?agent_ids={}", "/v1/runs/?conversation_id={}", "/v1/jobs/?{}=1",
    "/v1/agents/{}/messages/cancel", "/v1/{}",
])  # fmt: skip
async def test_escapes_that_are_no_text_do_not_break_the_server(user, path, value):
    answer = await user.request("POST" if "agents" in path else "GET", path.format(value))
    assert answer.status < 500
    assert answer.json is not None


@pytest.mark.parametrize("request_bytes", [
    b"GARBAGE\r\n\r\n",
    b"GET /v1/jobs/ HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
    b"BREW /v1/jobs/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/jobs/ HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 10_000 + b"\r\n\r\n",
    b"GET /v1/jobs/ HTTP/1.1\r\nHost: x\r\nBad Header\r\n\r\n",
])  # fmt: skip
async def test_what_is_no_request_is_refused_in_the_one_shape(service, request_bytes):
    async with connection(service) as raw:
        await raw.send(request_bytes)
        check_shape(await raw.answer(), 400, "invalid_request")


def test_the_depth_of_json_is_measured_in_time_that_grows_with_its_size_only():
    """A body of 1 MiB, broken on purpose, must not hold up the server; the limit below is many times what it needs."""
    code = """
from ledger import errors, jsontext
try:
    jsontext.decode(b"[]" * 80 + b'"' + b'\\\\"' * 500_000)
except errors.LedgerError as error:
    print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=10, capture_output=True, text=True, check=False)
    assert done.stdout.strip() in ("BadRequest", "InvalidInput"), done.stderr
