"""The guard: a real session connects to what the rules allow, and to nothing else, whatever resolvers answer.

No packet leaves for anything but this machine: resolvers are stubs, and ``dialled`` lets only loopback through.
"""

import asyncio
import errno
import socket
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver

from server.callbacks.addresses import Rules
from server.callbacks.guard import (
    ANSWERS_MAX,
    TRIED_MAX,
    AddressRefused,
    CheckedResolver,
    connector,
    is_refusal,
    socket_factory,
)

PUBLIC, PUBLIC_IPV6 = "1.1.1.1", "2606:4700:4700::1111"
NOTHING = Rules()


class Answers(AbstractResolver):
    """A resolver that gives one list of addresses after another, and keeps what it was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def resolve(self, host, port=0, family=socket.AF_INET):
        self.asked.append(host)
        found = self.answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return [
            {"hostname": host, "host": address, "port": port, "family": int(family), "proto": 0, "flags": 0}
            for address in found
        ]

    async def close(self):
        raise AssertionError("whoever made a resolver closes it")


class Listener:
    """A receiver that answers 204 to everything and counts its connections."""

    def __init__(self, server):
        self.port = server.sockets[0].getsockname()[1]
        self.connections = 0
        self.requests = 0
        self.keeps = True
        """Whether a connection is kept for more requests."""


@asynccontextmanager
async def listening(host="127.0.0.1"):
    async def answer(reader, writer):
        receiver.connections += 1
        while await reader.readline():
            while (await reader.readline()).strip():
                continue
            receiver.requests += 1
            writer.write(b"HTTP/1.1 204 No Content\r\n" + (b"\r\n" if receiver.keeps else b"Connection: close\r\n\r\n"))
            if not receiver.keeps:
                break
        writer.close()

    server = await asyncio.start_server(answer, host, 0)
    receiver = Listener(server)
    async with server:
        yield receiver


@pytest.fixture
async def listener():
    async with listening() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
async def dialled(monkeypatch):
    """The socket addresses that connections are made to; any that is not of this machine fails the test."""
    loop = asyncio.get_running_loop()
    connect, seen = loop.sock_connect, []

    async def watched(sock, address):
        seen.append(address[:2])
        assert address[0] in ("127.0.0.1", "::1"), f"a packet to {address} was about to be sent"
        return await connect(sock, address)

    monkeypatch.setattr(loop, "sock_connect", watched)
    yield seen
    assert {host for host, _ in seen} <= {"127.0.0.1", "::1"}


@asynccontextmanager
async def session_by(rules, resolver=None):
    async with aiohttp.ClientSession(connector=connector(rules, resolver=resolver, limit=10)) as session:
        yield session


async def post(session, url):
    async with session.post(url, data=b"", allow_redirects=False) as response:
        return response.status


async def refused(session, url):
    with pytest.raises(aiohttp.ClientConnectorError) as caught:
        await post(session, url)
    assert is_refusal(caught.value)
    return caught.value


async def is_untouched(listener):
    """Tell that nobody connected before: a connection of our own, that comes after all others, is the first."""
    async with aiohttp.ClientSession() as session:
        assert await post(session, f"http://127.0.0.1:{listener.port}/") == 204
    return (listener.connections, listener.requests) == (1, 1)


async def test_a_name_that_is_public_when_looked_at_and_loopback_when_connected_to_is_refused(listener, dialled):
    # given
    names = Answers([PUBLIC], ["127.0.0.1"])
    url = f"http://rebinding.example:{listener.port}/"
    NOTHING.check_url(url)
    (first,) = await CheckedResolver(NOTHING, names).resolve("rebinding.example", listener.port)
    assert first["host"] == PUBLIC
    # when
    async with session_by(NOTHING, names) as session:
        await refused(session, url)
    # then
    assert names.asked == ["rebinding.example"] * 2
    assert dialled == []
    assert await is_untouched(listener)


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([PUBLIC, "127.0.0.1"], id="public first"),
        pytest.param(["127.0.0.1", PUBLIC], id="loopback first"),
        pytest.param([PUBLIC_IPV6, PUBLIC, "::1"], id="ipv6 loopback"),
        pytest.param([PUBLIC, PUBLIC_IPV6, "::ffff:127.0.0.1"], id="mapped"),
        pytest.param([*[PUBLIC] * TRIED_MAX, "169.254.169.254"], id="beyond those that are tried"),
        pytest.param([PUBLIC, "fe80::1%lo"], id="scope"),
        pytest.param([PUBLIC, "localhost"], id="a name for an answer"),
        pytest.param([PUBLIC, "2130706433"], id="a number for an answer"),
    ],
)
async def test_one_answer_that_is_refused_refuses_the_name_and_nothing_is_sent(listener, dialled, answers):
    async with session_by(NOTHING, Answers(answers)) as session:
        await refused(session, f"http://mixed.example:{listener.port}/")
    assert dialled == []
    assert await is_untouched(listener)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]"])
@pytest.mark.parametrize("path", ["http", "https"])
async def test_a_literal_address_is_refused_though_no_resolver_is_asked(listener, dialled, host, path):
    names = Answers()
    async with session_by(NOTHING, names) as session:
        await refused(session, f"{path}://{host}:{listener.port}/")
    assert (names.asked, dialled) == ([], [])
    assert await is_untouched(listener)


@pytest.mark.parametrize("host", ["[::ffff:127.0.0.1]", "[64:ff9b::127.0.0.1]", "[::1%25lo]", "[::1%1]", "[fe80::1%1]"])
async def test_an_allowed_ipv4_network_opens_no_ipv6_form_of_it(listener, dialled, host):
    rules = Rules.parse(["127.0.0.0/8", "::1", "fe80::/10"])
    async with session_by(rules, Answers()) as session:
        await refused(session, f"http://{host}:{listener.port}/")
    assert dialled == []
    assert await is_untouched(listener)


@pytest.mark.parametrize("host", ["2130706433", "127.1", "017700000001", "0177.0.0.1"])
async def test_an_odd_number_for_a_host_is_not_connected_to_even_where_loopback_is_allowed(listener, dialled, host):
    names = Answers()
    async with session_by(Rules.parse(["127.0.0.0/8"]), names) as session:
        with pytest.raises(aiohttp.InvalidURL):
            await post(session, f"http://{host}:{listener.port}/")
    assert (names.asked, dialled) == ([], [])
    assert await is_untouched(listener)


@pytest.mark.parametrize("host", ["0x7f.1", "127.0.0.0x1", "localhost"])
async def test_a_name_that_the_system_takes_for_loopback_is_refused(listener, dialled, host):
    async with session_by(NOTHING) as session:
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await post(session, f"http://{host}:{listener.port}/")
    assert is_refusal(caught.value) or isinstance(caught.value.os_error, socket.gaierror)
    assert dialled == []
    assert await is_untouched(listener)


async def test_an_allowed_address_and_port_is_connected_to_exactly_and_another_port_is_not(listener, dialled):
    rules = Rules.parse([f"127.0.0.1:{listener.port}"])
    names = Answers(["127.0.0.1"], ["127.0.0.1"])
    async with listening() as other, session_by(rules, names) as session:
        assert await post(session, f"http://127.0.0.1:{listener.port}/") == 204
        assert await post(session, f"http://receiver.example:{listener.port}/") == 204
        await refused(session, f"http://127.0.0.1:{other.port}/")
        await refused(session, f"http://receiver.example:{other.port}/")
        assert dialled == [("127.0.0.1", listener.port)] * 2
        assert await is_untouched(other)
    assert names.asked == ["receiver.example"] * 2
    assert listener.requests == 2


async def test_an_allowed_ipv6_address_is_connected_to(dialled):
    async with listening("::1") as receiver:
        rules = Rules.parse([f"[::1]:{receiver.port}"])
        async with session_by(rules, Answers(["::1"])) as session:
            assert await post(session, f"http://[::1]:{receiver.port}/") == 204
            assert await post(session, f"http://receiver.example:{receiver.port}/") == 204
        assert dialled == [("::1", receiver.port)] * 2


async def test_the_second_address_is_tried_when_the_first_is_dead(listener, dialled):
    rules = Rules.parse(["127.0.0.1", "::1"])
    async with session_by(rules, Answers(["::1", "127.0.0.1"])) as session:
        assert await post(session, f"http://receiver.example:{listener.port}/") == 204
    assert dialled == [("::1", listener.port), ("127.0.0.1", listener.port)]


async def test_each_new_connection_is_resolved_and_checked_anew(listener, dialled):
    rules = Rules.parse(["127.0.0.1"])
    names = Answers(["127.0.0.1"], ["127.0.0.1"], ["10.0.0.1"])
    listener.keeps = False
    async with session_by(rules, names) as session:
        for _ in range(2):
            assert await post(session, f"http://receiver.example:{listener.port}/") == 204
        await refused(session, f"http://receiver.example:{listener.port}/")
    assert len(names.asked) == 3
    assert dialled == [("127.0.0.1", listener.port)] * 2


async def test_a_connection_that_is_kept_is_used_again_without_a_lookup(listener):
    names = Answers(["127.0.0.1"])
    async with session_by(Rules.parse(["127.0.0.1"]), names) as session:
        for _ in range(5):
            assert await post(session, f"http://receiver.example:{listener.port}/") == 204
    assert (listener.connections, listener.requests) == (1, 5)


async def test_a_proxy_of_the_environment_is_not_used(listener, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{listener.port}")
    async with session_by(Rules.parse(["127.0.0.1"]), Answers(["10.0.0.1"])) as session:
        await refused(session, "http://receiver.example/")
    assert await is_untouched(listener)


async def test_addresses_are_looked_at_before_a_socket_exists_however_they_got_there(listener, dialled):
    answers = ["127.0.0.1", "::1", "10.0.0.1", "::ffff:127.0.0.1", "fe80::1"]
    unchecked = aiohttp.TCPConnector(
        resolver=Answers(answers), use_dns_cache=False, socket_factory=socket_factory(NOTHING)
    )
    async with aiohttp.ClientSession(connector=unchecked) as session:
        await refused(session, f"http://unchecked.example:{listener.port}/")
    assert dialled == []
    assert await is_untouched(listener)


@pytest.mark.parametrize(
    ("family", "address"),
    [
        pytest.param(socket.AF_INET, ("127.0.0.1", 80), id="loopback"),
        pytest.param(socket.AF_INET, (PUBLIC, 22), id="blocked port"),
        pytest.param(socket.AF_INET, (PUBLIC, 0), id="port 0"),
        pytest.param(socket.AF_INET, ("localhost", 80), id="name"),
        pytest.param(socket.AF_INET, ("", 80), id="any address"),
        pytest.param(socket.AF_INET, (PUBLIC_IPV6, 80), id="ipv6 in ipv4"),
        pytest.param(socket.AF_INET6, (PUBLIC, 80, 0, 0), id="ipv4 in ipv6"),
        pytest.param(socket.AF_INET6, ("::ffff:1.1.1.1", 80, 0, 0), id="mapped"),
        pytest.param(socket.AF_INET6, ("fe80::1", 80, 0, 2), id="link-local with scope"),
        pytest.param(socket.AF_INET6, (PUBLIC_IPV6, 80, 0, 2), id="public with scope"),
        pytest.param(socket.AF_INET6, (f"{PUBLIC_IPV6}%lo", 80, 0, 0), id="public with scope in its text"),
        pytest.param(socket.AF_INET6, (b"\x20\x01", 80), id="bytes"),
        pytest.param(socket.AF_UNIX, ("/run/docker.sock", 80), id="unix"),
    ],
)
def test_no_socket_is_made_for_an_address_that_is_refused(family, address):
    with pytest.raises(AddressRefused) as caught:
        socket_factory(NOTHING)((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address))
    assert caught.value.reason


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET, (PUBLIC, 443)),
        (socket.AF_INET6, (PUBLIC_IPV6, 443)),
        (socket.AF_INET6, (PUBLIC_IPV6, 443, 0, 0)),
    ],
)
def test_a_socket_for_a_public_address_is_of_its_family(family, address):
    with socket_factory(NOTHING)((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)) as made:
        assert (made.family, made.type, made.proto) == (family, socket.SOCK_STREAM, socket.IPPROTO_TCP)


async def test_answers_are_given_on_as_numbers_with_the_port_that_was_asked_for():
    names = CheckedResolver(NOTHING, Answers([PUBLIC_IPV6, PUBLIC]))
    found = await names.resolve("receiver.example", 8443, socket.AF_UNSPEC)
    numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    assert found == [
        {"hostname": "receiver.example", "host": host, "port": 8443, "family": family, "proto": 0, "flags": numeric}
        for host, family in ((PUBLIC_IPV6, socket.AF_INET6), (PUBLIC, socket.AF_INET))
    ]


async def test_a_name_of_many_addresses_leads_to_few_attempts_of_each_family():
    many = [address for count in range(ANSWERS_MAX // 2) for address in (f"1.1.1.{count}", f"2606:4700::{count}")]
    found = await CheckedResolver(NOTHING, Answers(many)).resolve("many.example", 443)
    assert [answer["host"] for answer in found] == many[: 2 * TRIED_MAX]


async def test_a_name_of_too_many_addresses_is_refused():
    many = [f"1.1.1.{count}" for count in range(ANSWERS_MAX + 1)]
    with pytest.raises(AddressRefused):
        await CheckedResolver(NOTHING, Answers(many)).resolve("many.example", 443)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param([], id="no address"),
        pytest.param(UnicodeError("label empty or too long"), id="no host name"),
        pytest.param(socket.gaierror(socket.EAI_AGAIN, "try again"), id="lookup failed"),
    ],
)
async def test_a_name_that_cannot_be_looked_up_is_a_failed_lookup_and_no_refusal(answer):
    async with session_by(NOTHING, Answers(answer)) as session:
        with pytest.raises(aiohttp.ClientConnectorDNSError) as caught:
            await post(session, "http://nowhere.example/")
    assert isinstance(caught.value.os_error, socket.gaierror)
    assert not is_refusal(caught.value)


async def test_the_text_of_a_refusal_tells_nothing_of_the_address_but_its_reason_does(listener):
    async with session_by(NOTHING, Answers(["10.20.30.40"])) as session:
        error = await refused(session, f"http://probe.example:{listener.port}/")
    assert "10.20.30.40" not in f"{error} {error!r} {error.os_error!r}"
    assert error.os_error.reason == "10.20.30.40 is private (10.0.0.0/8)"
    assert error.errno == errno.EACCES


async def test_a_refused_port_of_an_allowed_address_is_told_from_a_closed_one(dialled):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with session_by(Rules.parse([f"127.0.0.1:{port}"]), Answers()) as session:
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await post(session, f"http://127.0.0.1:{port}/")
    assert isinstance(caught.value.os_error, ConnectionRefusedError)
    assert not is_refusal(caught.value)
    assert dialled == [("127.0.0.1", port)]


def raised_from(cause):
    error = ConnectionError("outer")
    error.__cause__ = cause
    return error


def raised_during(context):
    error = ConnectionError("outer")
    error.__context__ = context
    return error


def circle():
    first = raised_from(None)
    first.__cause__ = raised_from(first)
    return first


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(AddressRefused("why"), True, id="itself"),
        pytest.param(raised_from(AddressRefused("why")), True, id="cause"),
        pytest.param(raised_during(raised_from(AddressRefused("why"))), True, id="cause of context"),
        pytest.param(ExceptionGroup("all", [OSError(), raised_from(AddressRefused("why"))]), True, id="in a group"),
        pytest.param(raised_from(ExceptionGroup("all", [AddressRefused("why")])), True, id="group as cause"),
        pytest.param(PermissionError(errno.EACCES, "refused"), False, id="same errno"),
        pytest.param(raised_from(TimeoutError()), False, id="another cause"),
        pytest.param(ExceptionGroup("all", [OSError()]), False, id="another group"),
        pytest.param(circle(), False, id="circle"),
    ],
)
def test_a_refusal_is_found_wherever_it_is_in_a_chain(error, expected):
    assert is_refusal(error) is expected


# --- localhost --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allow", "found"),
    [
        pytest.param([], None, id="nothing opened"),
        pytest.param(["127.0.0.0/8"], ["127.0.0.1"], id="IPv4 opened, whatever the system says of IPv6"),
        pytest.param(["::1"], ["::1"], id="IPv6 opened"),
        pytest.param(["127.0.0.1", "::1"], ["127.0.0.1", "::1"], id="both"),
        pytest.param(["127.0.0.1:9000"], ["127.0.0.1"], id="the port opened"),
        pytest.param(["127.0.0.1:9001"], None, id="another port opened"),
        pytest.param(["10.0.0.0/8"], None, id="another network opened"),
    ],
)
@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "localhost.", "a.localhost"])
async def test_localhost_is_what_of_loopback_is_opened_and_nobody_is_asked(host, allow, found):
    class Nobody(AbstractResolver):
        async def resolve(self, host, port=0, family=socket.AF_INET):
            raise AssertionError("localhost is not looked up")

        async def close(self):
            """Nothing to close."""

    resolver = CheckedResolver(Rules.parse(allow), Nobody())
    if found is None:
        with pytest.raises(AddressRefused):
            await resolver.resolve(host, 9000)
    else:
        assert [answer["host"] for answer in await resolver.resolve(host, 9000)] == found
