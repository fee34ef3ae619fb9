"""The sender: one attempt ends in one of the fixed ways, whatever the receiver does, and leaves nothing behind."""

import asyncio
import errno
import socket
import ssl
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver

from server.callbacks.sender import ERRORS, RETRY_AFTER_SIZE_MAX, Sender, Timeouts
from tests.server.callbacks.behaviours import BEHAVIOURS, ONLY_PORTS

BODY = b'{"job_id":"job-1","status":"completed"}'
PATIENT = Timeouts(total_s=10, connect_s=10, read_s=10, body_s=0.05)
"""For what ends by itself, however busy the machine is."""
QUICK = Timeouts(total_s=0.3, connect_s=0.2, read_s=0.25, body_s=0.05)
"""For what ends by its time only."""
SENT_SIZE_MAX = 16 << 20
"""Bytes that a receiver gets rid of, the buffers of both sockets included, which Linux lets grow to several MB."""


class Refused(OSError):
    pass


class Names(AbstractResolver):
    """A resolver that knows two names of 127.0.0.1, and answers some in its own way."""

    async def resolve(self, host, port=0, family=socket.AF_INET):
        match host:
            case "receiver.test" | "other.test":
                known = {"hostname": host, "host": "127.0.0.1", "port": port}
                return [{**known, "family": socket.AF_INET, "proto": 0, "flags": 0}]
            case "refused.test":
                raise Refused("10.0.0.1 is not public")
            case "silent.test":
                await asyncio.Event().wait()
        raise OSError(errno.ENOENT, f"no such name: {host}")

    async def close(self):
        return


def is_refusal(error):
    while error is not None and not isinstance(error, Refused):
        error = error.__cause__
    return error is not None


@asynccontextmanager
async def sending(zoo, timeouts=PATIENT, **options):
    """A sender that must leave neither a connection nor a task behind."""
    tasks = asyncio.all_tasks()
    sender = Sender(aiohttp.TCPConnector(limit=0, resolver=Names(), **options), is_refusal, timeouts)
    try:
        yield sender
    finally:
        await sender.close()
    await zoo.wait_quiet()
    assert asyncio.all_tasks() <= tasks


async def post(sender, url, webhook_id="msg_1", **headers):
    return await sender.post(url, {"webhook-id": webhook_id, **headers}, BODY)


def said(outcome):
    return outcome.status_code, outcome.error


def port_of(url):
    return int(url.split(":")[2].partition("/")[0])


# --- every kind of receiver ---

ROWS = {
    "good": (200, None),
    "created": (201, None),
    "no_content": (204, None),
    "fail": (500, "http_status"),
    "busy": (429, "http_status"),
    "flaky": (500, "http_status"),
    "gone": (410, "gone"),
    "redirect": (302, "redirect"),
    "long_wait": (503, "http_status"),
    "stall": (None, "timeout"),
    "drip": (None, "timeout"),
    "drip_body": (200, None),
    "half_head": (None, "connection_lost"),
    "huge": (200, None),
    "chunks": (200, None),
    "endless_head": (None, "invalid_response"),
    "long_line": (None, "invalid_response"),
    "many_1xx": (None, "invalid_response"),
    "not_http": (None, "invalid_response"),
    "wrong_length": (200, None),
    "overlong": (200, None),
    "eager": (200, None),
    "last_answer": (200, None),
    "closing_keepalive": (200, None),
    "resetting_keepalive": (200, None),
    "reset": (None, "connection_lost"),
    "close": (None, "connection_lost"),
    "reset_at_once": (None, "connection_lost"),
    "tls": (None, "tls_failed"),
    "plain_on_tls": (None, "tls_failed"),
}
"""What one attempt at each receiver tells. ``status`` has a table of its own."""


@pytest.mark.parametrize(("behaviour", "told"), [pytest.param(*row, id=row[0]) for row in ROWS.items()])
async def test_an_attempt_tells_the_status_and_the_class_of_error_and_no_more(zoo, behaviour, told):
    async with sending(zoo, QUICK if told[1] == "timeout" else PATIENT) as sender:
        outcome = await post(sender, f"{zoo.urls[behaviour]}/hook")
    assert said(outcome) == told
    assert outcome.duration_ns > 0
    assert "secret" not in repr(outcome)
    assert zoo.sent[behaviour] <= SENT_SIZE_MAX


def test_every_receiver_of_the_zoo_has_its_row():
    assert {*ROWS, "status"} == {*BEHAVIOURS, *ONLY_PORTS}


@pytest.mark.parametrize(("status", "error"), [
    *[(status, None) for status in (200, 202, 206, 226, 299)],
    *[(status, "redirect") for status in (300, 301, 303, 304, 307, 308, 399)],
    *[(status, "http_status") for status in (400, 401, 404, 408, 409, 411, 425, 499, 500, 501, 503, 504, 599)],
    *[(status, "http_status") for status in (101, 600, 999)],
    (410, "gone"),
])  # fmt: skip
async def test_only_2xx_is_delivered(zoo, status, error):
    async with sending(zoo) as sender:
        assert said(await post(sender, f"{zoo.urls['status']}/{status}")) == (status, error)
    assert zoo.counts["status"] == 1


def test_the_classes_of_errors_are_a_list_without_repeats():
    assert len(set(ERRORS)) == len(ERRORS) == 12
    assert {error for _, error in ROWS.values()} - {None} < set(ERRORS)


async def test_a_redirect_is_not_followed(zoo):
    async with sending(zoo) as sender:
        await post(sender, zoo.urls["redirect"])
    assert (zoo.counts["redirect"], zoo.counts["good"]) == (1, 0)


@pytest.mark.parametrize(("behaviour", "value"), [("busy", "1"), ("long_wait", None), ("good", None), ("stall", None)])
async def test_retry_after_is_told_as_it_came_unless_it_is_too_long_to_be_one(zoo, behaviour, value):
    async with sending(zoo, QUICK if behaviour == "stall" else PATIENT) as sender:
        assert (await post(sender, zoo.urls[behaviour])).retry_after == value
    assert len("Sun, 06 Nov 1994 08:49:37 GMT") <= RETRY_AFTER_SIZE_MAX


async def test_a_request_is_what_was_given_and_who_sends_it(zoo):
    async with sending(zoo) as sender:
        await post(sender, f"{zoo.urls['good']}/a%20b?c=d", "msg_7", **{"webhook-timestamp": "1674087231"})
    arrival = zoo.arrivals[0]
    assert (arrival.path, arrival.body, arrival.webhook_id) == ("/good/a%20b?c=d", BODY, "msg_7")
    assert {name.lower() for name, _ in arrival.headers} == {
        *("host", "user-agent", "content-type", "content-length", "accept", "accept-encoding"),
        *("webhook-id", "webhook-timestamp"),
    }
    assert arrival.header("User-Agent").startswith("jobledger/")
    assert arrival.header("Content-Type") == "application/json"
    assert arrival.header("Content-Length") == str(len(BODY))
    assert arrival.header("Accept-Encoding") == "identity"


async def test_cookies_are_not_kept(zoo):
    async with sending(zoo) as sender:
        for _ in range(2):
            await post(sender, zoo.urls["created"])
    assert [arrival.header("Cookie") for arrival in zoo.arrivals] == [None, None]


async def test_a_proxy_of_the_environment_is_not_used(zoo, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, zoo.urls["fail"])
    async with sending(zoo) as sender:
        assert said(await post(sender, zoo.urls["good"])) == (200, None)
    assert zoo.counts["fail"] == 0


# --- connections ---


@pytest.mark.parametrize("behaviour", ["good", "no_content", "fail", "redirect"])
async def test_one_connection_serves_many_attempts(zoo, behaviour):
    async with sending(zoo) as sender:
        outcomes = [await post(sender, zoo.urls[behaviour], f"msg_{n}") for n in range(20)]
    assert {said(outcome) for outcome in outcomes} == {ROWS[behaviour]}
    assert (zoo.counts[behaviour], zoo.connections[behaviour]) == (20, 1)


@pytest.mark.parametrize("behaviour", ["huge", "chunks", "drip_body", "overlong", "wrong_length"])
async def test_a_connection_whose_answer_did_not_end_well_serves_no_more(zoo, behaviour):
    async with sending(zoo) as sender:
        outcomes = [await post(sender, zoo.urls[behaviour], f"msg_{n}") for n in range(3)]
    assert [said(outcome) for outcome in outcomes] == [(200, None)] * 3
    assert (zoo.counts[behaviour], zoo.connections[behaviour]) == (3, 3)
    assert zoo.sent[behaviour] <= 3 * SENT_SIZE_MAX


@pytest.mark.parametrize("shared", ["all", "all_tls"])
@pytest.mark.parametrize("behaviour", ["closing_keepalive", "resetting_keepalive"])
async def test_a_kept_connection_that_the_receiver_closes_is_no_failure(zoo, behaviour, shared):
    trusted = ssl.create_default_context(cadata=zoo.certificate.decode())
    async with sending(zoo, ssl=trusted) as sender:
        url = f"{zoo.urls[shared]}/{behaviour}"
        outcomes = [await post(sender, url, webhook_id) for webhook_id in ("msg_1", "msg_2")]
    assert [said(outcome) for outcome in outcomes] == [(200, None)] * 2
    assert [arrival.webhook_id for arrival in zoo.arrivals] == ["msg_1", "msg_2", "msg_2"]
    assert zoo.arrivals[2].body == BODY
    assert zoo.connections[shared] == 2


async def test_the_second_try_passes_over_other_kept_connections(zoo):
    async with sending(zoo) as sender:
        url = zoo.urls["closing_keepalive"]
        await asyncio.gather(*(post(sender, url, f"msg_{n}") for n in range(5)))
        assert zoo.connections["closing_keepalive"] == 5
        assert said(await post(sender, url, "msg_5")) == (200, None)
    assert [arrival.webhook_id for arrival in zoo.arrivals][5:] == ["msg_5", "msg_5"]


async def test_there_is_no_third_try(zoo):
    async with sending(zoo) as sender:
        url = zoo.urls["last_answer"]
        assert said(await post(sender, url, "msg_1")) == (200, None)
        assert said(await post(sender, url, "msg_2")) == (None, "connection_lost")
    assert [arrival.webhook_id for arrival in zoo.arrivals] == ["msg_1", "msg_2", "msg_2"]


@pytest.mark.parametrize("behaviour", ["close", "reset", "half_head"])
async def test_a_new_connection_that_is_lost_is_a_failure_at_once(zoo, behaviour):
    async with sending(zoo) as sender:
        assert said(await post(sender, zoo.urls[behaviour])) == (None, "connection_lost")
    assert zoo.counts[behaviour] == 1


async def test_a_kept_connection_that_is_lost_within_the_answer_is_a_failure_at_once(zoo):
    async with sending(zoo) as sender:
        assert said(await post(sender, f"{zoo.urls['all']}/good")) == (200, None)
        assert said(await post(sender, f"{zoo.urls['all']}/half_head")) == (None, "connection_lost")
    assert (zoo.connections["all"], zoo.counts["half_head"]) == (1, 1)


async def test_an_answer_that_nobody_asked_for_answers_nothing(zoo):
    async with sending(zoo) as sender:
        # given a kept connection on which one more answer has come
        assert said(await post(sender, f"{zoo.urls['all']}/eager")) == (200, None)
        await zoo.wait_count("eager answers", 1)
        await post(sender, zoo.urls["good"])
        # when, then
        assert said(await post(sender, f"{zoo.urls['all']}/good")) == (200, None)
    assert zoo.connections["all"] == 2


async def test_a_receiver_with_a_certificate_that_is_trusted_is_served_over_one_connection(zoo):
    trusted = ssl.create_default_context(cadata=zoo.certificate.decode())
    async with sending(zoo, ssl=trusted) as sender:
        outcomes = [await post(sender, zoo.urls["tls"]) for _ in range(3)]
    assert [said(outcome) for outcome in outcomes] == [(200, None)] * 3
    assert zoo.connections["tls"] == 1


async def test_a_certificate_for_another_name_is_refused(zoo):
    trusted = ssl.create_default_context(cadata=zoo.certificate.decode())
    async with sending(zoo, ssl=trusted) as sender:
        port = port_of(zoo.urls["tls"])
        assert said(await post(sender, f"https://receiver.test:{port}/")) == (200, None)
        assert said(await post(sender, f"https://other.test:{port}/")) == (None, "tls_failed")


# --- before there is a connection ---


@pytest.mark.parametrize(("host", "told"), [
    ("receiver.test", (200, None)),
    ("receiver.test.", (None, "name_not_resolved")),
    ("unknown.test", (None, "name_not_resolved")),
    ("refused.test", (None, "address_refused")),
    ("silent.test", (None, "timeout")),
])  # fmt: skip
@pytest.mark.parametrize("use_dns_cache", [True, False])
async def test_a_name_is_what_the_resolver_says(zoo, host, told, use_dns_cache):
    timeouts = QUICK if told[1] == "timeout" else PATIENT
    async with sending(zoo, timeouts, use_dns_cache=use_dns_cache) as sender:
        assert said(await post(sender, f"http://{host}:{port_of(zoo.urls['good'])}/good")) == told


async def test_nobody_listens(zoo):
    with socket.socket() as bound:  # which keeps the port, but does not listen
        bound.bind(("127.0.0.1", 0))
        async with sending(zoo) as sender:
            url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
            assert said(await post(sender, url)) == (None, "connection_failed")


@pytest.mark.parametrize(("number", "error"), [
    *[(number, "connection_failed") for number in (errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH)],
    *[(number, "connection_failed") for number in (errno.ENETUNREACH, errno.EMFILE, errno.EACCES)],
    (errno.ETIMEDOUT, "timeout"),
])  # fmt: skip
async def test_the_system_does_not_connect(zoo, number, error):
    def fails(_):
        raise OSError(number, "secret of the system")

    async with sending(zoo, socket_factory=fails) as sender:
        assert said(await post(sender, zoo.urls["good"])) == (None, error)


async def test_nobody_accepts(zoo):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(8)]  # more than its queue holds
        for one in waiting:
            one.setblocking(False)
            assert one.connect_ex(full.getsockname()) == errno.EINPROGRESS
        async with sending(zoo, QUICK) as sender:
            url = f"http://127.0.0.1:{full.getsockname()[1]}/"
            assert said(await post(sender, url)) == (None, "timeout")
        for one in waiting:
            one.close()


async def test_a_handshake_that_never_ends_is_a_timeout(zoo):
    async with sending(zoo, QUICK) as sender:
        url = f"https://127.0.0.1:{port_of(zoo.urls['stall'])}/"
        assert said(await post(sender, url)) == (None, "timeout")


@pytest.mark.parametrize("url", [
    "", "x", "/path", "//host/path", "ftp://127.0.0.1/", "file:///etc/passwd", "javascript:1", "ws://127.0.0.1/",
    "http://", "http:///path", "http://:80/", "http://user@127.0.0.1/", "http://user:secret@127.0.0.1/",
    "http://127.0.0.1:99999/", "http://127.0.0.1:port/", "http://[::1/", "http://[fe80::1%25eth0]/",
    "http://a..b/", "http://.a/", "http://a b/", "http://a\0b/", "http://a%00b/", "http://%31/", "http://\ud800/",
    f"http://{'a' * 64}.test/", "http://127.1/", "http://2130706433/", "https://", "https://[x", "http://127.0.0.1/#part",
])  # fmt: skip
async def test_what_is_no_url_to_send_to_is_not_sent_to(zoo, url):
    async with sending(zoo) as sender:
        assert said(await post(sender, url)) == (None, "invalid_url")


# --- ends from within ---

PHASES = ["resolving", "connecting", "shaking hands", "waiting", "reading the head", "reading the body"]


@pytest.mark.parametrize("phase", PHASES)
async def test_a_cancelled_attempt_leaves_nothing_behind(zoo, phase):
    url, behaviour = {
        "resolving": ("http://silent.test/", None),
        "connecting": (zoo.urls["good"], None),
        "shaking hands": (f"https://127.0.0.1:{port_of(zoo.urls['stall'])}/", None),
        "waiting": (zoo.urls["stall"], "stall"),
        "reading the head": (zoo.urls["drip"], "drip"),
        "reading the body": (zoo.urls["drip_body"], "drip_body"),
    }[phase]
    async with sending(zoo, Timeouts()) as sender:
        attempt = asyncio.create_task(post(sender, url))
        if behaviour is None:
            await asyncio.sleep(0)
        else:
            await zoo.wait_count(behaviour, 1)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        # what comes after is not touched by it
        assert said(await post(sender, zoo.urls["good"])) == (200, None)


async def test_mistakes_of_the_caller_are_raised(zoo):
    async with sending(zoo) as sender:
        with pytest.raises(ValueError, match="header"):
            await post(sender, zoo.urls["good"], "a\r\nb: c")
    with pytest.raises(RuntimeError, match="closed"):
        await post(sender, zoo.urls["good"])
