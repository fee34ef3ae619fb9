"""The address rules: what is not public is refused in every spelling, and an operator opens exactly what they name."""

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import InvalidInput
from ledger.scalars import URL_SIZE_MAX
from server.callbacks.addresses import SHOWN_SIZE_MAX, Rules, origin
from server.callbacks.networks import IPV4, IPV6, PORTS, Network

NOTHING = Rules()
EVERYTHING = Rules.parse(["0.0.0.0/0", "::/0"])
PUBLIC = None


def case(address, words):
    return pytest.param(address, words, id=address)


def host_of(address):
    return f"[{address}]" if ":" in address else address


def fault(rules, url):
    """What is wrong with a URL, None if nothing is."""
    try:
        rules.check_url(url)
    except InvalidInput as error:
        (found,) = error.faults
    else:
        return None
    assert found["where"] == "callback_url"
    assert found["allowed"]
    return found["what"]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        case("0.0.0.0", "this network (0.0.0.0/8)"),  # noqa: S104 (nothing is bound to it)
        case("0.255.255.255", "this network (0.0.0.0/8)"),
        case("1.0.0.0", PUBLIC),
        case("9.255.255.255", PUBLIC),
        case("10.0.0.0", "private (10.0.0.0/8)"),
        case("10.255.255.255", "private (10.0.0.0/8)"),
        case("11.0.0.0", PUBLIC),
        case("100.63.255.255", PUBLIC),
        case("100.64.0.0", "CGNAT (100.64.0.0/10)"),
        case("100.100.100.200", "cloud metadata (100.100.100.200/32)"),
        case("100.127.255.255", "CGNAT (100.64.0.0/10)"),
        case("100.128.0.0", PUBLIC),
        case("126.255.255.255", PUBLIC),
        case("127.0.0.1", "loopback (127.0.0.0/8)"),
        case("127.255.255.255", "loopback (127.0.0.0/8)"),
        case("128.0.0.0", PUBLIC),
        case("168.63.129.15", PUBLIC),
        case("168.63.129.16", "cloud host (168.63.129.16/32)"),
        case("168.63.129.17", PUBLIC),
        case("169.253.255.255", PUBLIC),
        case("169.254.0.0", "link-local and cloud metadata (169.254.0.0/16)"),
        case("169.254.169.254", "link-local and cloud metadata (169.254.0.0/16)"),
        case("169.254.170.2", "link-local and cloud metadata (169.254.0.0/16)"),
        case("169.255.0.0", PUBLIC),
        case("172.15.255.255", PUBLIC),
        case("172.16.0.0", "private (172.16.0.0/12)"),
        case("172.31.255.255", "private (172.16.0.0/12)"),
        case("172.32.0.0", PUBLIC),
        case("191.255.255.255", PUBLIC),
        case("192.0.0.8", "IETF protocol assignments (192.0.0.0/24)"),
        case("192.0.0.192", "IETF protocol assignments (192.0.0.0/24)"),
        case("192.0.1.0", PUBLIC),
        case("192.0.2.1", "documentation (192.0.2.0/24)"),
        case("192.31.196.1", "AS112 (192.31.196.0/24)"),
        case("192.52.193.1", "AMT (192.52.193.0/24)"),
        case("192.88.99.1", "6to4 relay (192.88.99.0/24)"),
        case("192.167.255.255", PUBLIC),
        case("192.168.0.1", "private (192.168.0.0/16)"),
        case("192.169.0.0", PUBLIC),
        case("192.175.48.1", "AS112 (192.175.48.0/24)"),
        case("198.17.255.255", PUBLIC),
        case("198.18.0.0", "benchmarking (198.18.0.0/15)"),
        case("198.19.255.255", "benchmarking (198.18.0.0/15)"),
        case("198.20.0.0", PUBLIC),
        case("198.51.100.1", "documentation (198.51.100.0/24)"),
        case("203.0.113.1", "documentation (203.0.113.0/24)"),
        case("223.255.255.255", PUBLIC),
        case("224.0.0.1", "multicast (224.0.0.0/4)"),
        case("239.255.255.255", "multicast (224.0.0.0/4)"),
        case("240.0.0.1", "reserved (240.0.0.0/4)"),
        case("255.255.255.255", "broadcast (255.255.255.255/32)"),
        case("::", "unspecified (::/128)"),
        case("::1", "loopback (::1/128)"),
        case("::2", "IPv4-compatible (::/96)"),
        case("::127.0.0.1", "IPv4-compatible (::/96)"),
        case("::8.8.8.8", "IPv4-compatible (::/96)"),
        case("::ffff:127.0.0.1", "IPv4-mapped (::ffff:0:0/96)"),
        case("::ffff:7f00:1", "IPv4-mapped (::ffff:0:0/96)"),
        case("::ffff:169.254.169.254", "IPv4-mapped (::ffff:0:0/96)"),
        case("::ffff:8.8.8.8", "IPv4-mapped (::ffff:0:0/96)"),
        case("::ffff:0:127.0.0.1", "IPv4-translated (::ffff:0:0:0/96)"),
        case("64:ff9b::127.0.0.1", "NAT64 of 127.0.0.1, loopback (127.0.0.0/8)"),
        case("64:ff9b::a9fe:a9fe", "NAT64 of 169.254.169.254, link-local and cloud metadata (169.254.0.0/16)"),
        case("64:ff9b::10.0.0.1", "NAT64 of 10.0.0.1, private (10.0.0.0/8)"),
        case("64:ff9b::8.8.8.8", PUBLIC),
        case("64:ff9b:0:0:0:1:808:808", "outside of the public 2000::/3"),
        case("64:ff9b:1::8.8.8.8", "NAT64 for local use (64:ff9b:1::/48)"),
        case("100::1", "discard-only (100::/64)"),
        case("100:0:0:1::1", "dummy prefix (100:0:0:1::/64)"),
        case("200::1", "outside of the public 2000::/3"),
        case("1fff:ffff::1", "outside of the public 2000::/3"),
        case("2000::1", PUBLIC),
        case("2001::7f00:1", "Teredo (2001::/32)"),
        case("2001:1::1", "port control anycast (2001:1::1/128)"),
        case("2001:1::2", "TURN anycast (2001:1::2/128)"),
        case("2001:1::3", "DNS-SD registration anycast (2001:1::3/128)"),
        case("2001:1::4", "IETF protocol assignments (2001::/23)"),
        case("2001:2::1", "benchmarking (2001:2::/48)"),
        case("2001:3::1", "AMT (2001:3::/32)"),
        case("2001:4:112::1", "AS112 (2001:4:112::/48)"),
        case("2001:10::1", "ORCHID (2001:10::/28)"),
        case("2001:20::1", "ORCHIDv2 (2001:20::/28)"),
        case("2001:30::1", "drone remote ID (2001:30::/28)"),
        case("2001:1ff:ffff::1", "IETF protocol assignments (2001::/23)"),
        case("2001:200::1", PUBLIC),
        case("2001:db8::1", "documentation (2001:db8::/32)"),
        case("2001:db9::1", PUBLIC),
        case("2002:7f00:1::1", "6to4 (2002::/16)"),
        case("2002:808:808::1", "6to4 (2002::/16)"),
        case("2003::1", PUBLIC),
        case("2606:4700:4700::1111", PUBLIC),
        case("2620:4f:8000::1", "AS112 (2620:4f:8000::/48)"),
        case("3fff:fff::1", "documentation (3fff::/20)"),
        case("3fff:1000::1", PUBLIC),
        case("4000::1", "outside of the public 2000::/3"),
        case("5f00::1", "segment routing (5f00::/16)"),
        case("fbff::1", "outside of the public 2000::/3"),
        case("fc00::1", "unique local (fc00::/7)"),
        case("fd00:ec2::254", "cloud metadata (fd00:ec2::254/128)"),
        case("fd20:ce::254", "cloud metadata (fd20:ce::254/128)"),
        case("fdff::1", "unique local (fc00::/7)"),
        case("fe80::1", "link-local (fe80::/10)"),
        case("fec0::1", "site-local (fec0::/10)"),
        case("ff02::1", "multicast (ff00::/8)"),
        case("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "multicast (ff00::/8)"),
    ],
)
def test_an_address_is_public_or_the_verdict_says_what_it_is_alike_at_connect_and_in_a_url(address, words):
    expected = words and f"{ip_address(address)} is {words}"
    assert NOTHING.verdict(address, 443) == expected
    assert fault(NOTHING, f"https://{host_of(address)}/hook") == expected
    assert EVERYTHING.verdict(address, 443) is None


@pytest.mark.parametrize(
    ("host", "what"),
    [
        case("2130706433", "not a plain IPv4"),
        case("017700000001", "not a plain IPv4"),
        case("0x7f000001", "not a plain IPv4"),
        case("0X7F000001", "odd spelling"),
        case("0x7f.1", "not a plain IPv4"),
        case("0x7f.0.0.1", "not a plain IPv4"),
        case("127.0.0.0x1", "not a plain IPv4"),
        case("127.1", "not a plain IPv4"),
        case("127.0.1", "not a plain IPv4"),
        case("127.0.0.1.", "not a plain IPv4"),
        case("127.0.0.1..", "not a plain IPv4"),
        case("0177.0.0.1", "not a plain IPv4"),
        case("127.0.0.01", "not a plain IPv4"),
        case("127.0.0.256", "not a plain IPv4"),
        case("127.0.0.1.1", "not a plain IPv4"),
        case("0", "not a plain IPv4"),
        case("0x", "not a plain IPv4"),
        case("134744072", "not a plain IPv4"),
        case("8.8.2056", "not a plain IPv4"),
        case("example.0x7f", "not a plain IPv4"),
        case("%31%32%37.0.0.1", "not a plain IPv4"),
        case("127%2e0%2e0%2e1", "not a host name"),
        case("127.0.0.1%00.example.com", "not a host name"),
        case("127.0.0.1%eth0", "not a host name"),
        case("１２７.0.0.1", "odd spelling"),
        case("①②⑦.0.0.1", "odd spelling"),
        case("127。0。0。1", "odd spelling"),
        case("127．0｡0。1", "odd spelling"),
        case("127.0.0.1。", "odd spelling"),
        case("١٢٧.0.0.1", "odd spelling"),
        case("8。8.8.8", "odd spelling"),
        case("[::１]", "not a plain IPv6"),
        case("[fe80::1%eth0]", "not a plain IPv6"),
        case("[fe80::1%25eth0]", "not a plain IPv6"),
        case("[::1%1]", "not a plain IPv6"),
        case("[2606:4700:4700::1111%1]", "not a plain IPv6"),
        case("[::ffff:0x7f.1]", "not an IPv6 address"),
        case("[::ffff:127.1]", "not an IPv6 address"),
        case("[::ffff:0177.0.0.1]", "not an IPv6 address"),
        case("[v1.x]", "not an IPv6 address"),
        case("[:::1]", "not an IPv6 address"),
        case("[]", "no host"),
        case("", "no host"),
        case(".", "not a host name"),
        case("..", "not a host name"),
        case(".example.com", "not a host name"),
        case("example..com", "not a host name"),
        case("example.com..", "not a host name"),
        case("example!.com", "not a host name"),
        case("exa%6dple.com", "not a host name"),
        case("%6cocalhost", "not a host name"),
        case("exa\u200bmple.com", "not a host that can be looked up"),
        case("lo\u00adcalhost", "not a host that can be looked up"),
        case("exam／ple.com", "not a host that can be looked up"),
        case("\ud800.example.com", "not a host that can be looked up"),
        case(f"{'a' * 64}.com", "not a host name"),
        case(f"{'ä' * 64}.com", "not a host"),
        case(".".join(["a" * 63] * 4), "not a host name"),
    ],
)
def test_a_host_that_is_neither_a_plain_address_nor_a_name_is_refused_whatever_is_allowed(host, what):
    for rules in (NOTHING, EVERYTHING):
        found = fault(rules, f"http://{host}/hook")
        assert what in (found or "nothing")
        assert rules.verdict(host.strip("[]"), 443) is not None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        case("https://example.com", "https://example.com:443"),
        case("https://EXAMPLE.com./hook?a=1", "https://example.com:443"),
        case("HTTPS://example.com:443/", "https://example.com:443"),
        case("https://example.com:/", "https://example.com:443"),
        case("http://example.com", "http://example.com:80"),
        case("http://example.com:8443/a//b/../c", "http://example.com:8443"),
        case("https://my_service-1.example.com/ä?ö=%20", "https://my_service-1.example.com:443"),
        case("https://exämple.com/", "https://xn--exmple-cua.com:443"),
        case("https://ｅｘａｍｐｌｅ。com/", "https://example.com:443"),
        case("https://127.0.0.1.example.com/", "https://127.0.0.1.example.com:443"),
        case("https://1.1.1.1/", "https://1.1.1.1:443"),
        case("https://[2606:4700:4700:0:0:0:0:1111]:8443/", "https://[2606:4700:4700::1111]:8443"),
        case("https://receiver/@user:/", "https://receiver:443"),
        case(f"https://{'.'.join(['a' * 49] * 5)}/", f"https://{'.'.join(['a' * 49] * 5)}:443"),
        case(f"https://{'.'.join(['a' * 63] * 3)}.{'a' * 61}./", f"https://{'.'.join(['a' * 63] * 3)}.{'a' * 61}:443"),
    ],
)
def test_a_url_of_a_name_or_a_public_address_is_taken_and_has_one_origin(url, expected):
    assert fault(NOTHING, url) is None
    assert origin(url) == expected


@pytest.mark.parametrize(
    ("url", "what"),
    [
        case("", "not an http or https URL"),
        case("example.com", "not an http or https URL"),
        case("//example.com/", "not an http or https URL"),
        case("http:/example.com", "not an http or https URL"),
        case("https:example.com", "not an http or https URL"),
        case("ftp://example.com/", "not an http or https URL"),
        case("file:///etc/passwd", "not an http or https URL"),
        case("gopher://example.com/", "not an http or https URL"),
        case("unix:///run/docker.sock", "not an http or https URL"),
        case("ws://example.com/", "not an http or https URL"),
        case("javascript:alert(1)", "not an http or https URL"),
        case("http:///path", "no host"),
        case("http://", "no host"),
        case("http://[::1", "no host"),
        case("http://::1/", "no host"),
        case("http://a[::1]/", "no host"),
        case("http://[::1]a/", "no host"),
        case("http://[[::1]]/", "no host"),
        case("http://[127.0.0.1]/", "not a host that can be looked up"),
        case("http://?x", "no host"),
        case("https://user:secret@example.com/", "a user or password"),
        case("https://user@example.com/", "a user or password"),
        case("https://@example.com/", "a user or password"),
        case("https://example.com@127.0.0.1/", "a user or password"),
        case("https://127.0.0.1:443@example.com/", "a user or password"),
        case("https://example.com/#@127.0.0.1/", "a fragment"),
        case("https://example.com#", "a fragment"),
        case("https://example.com\\@127.0.0.1/", "a backslash"),
        case("https://example.com/a\\b", "a backslash"),
        case(" https://example.com/", "a blank"),
        case("https://example.com/ ", "a blank"),
        case("https://exa mple.com/", "a blank"),
        case("https://example.com:\t443/", "a blank"),
        case("https://example.com/\r\nHost: x", "a blank"),
        case("https://example.com/\x00", "a control character"),
        case("https://example.com/\x7f", "a control character"),
        case("https://example.com/\x85", "a control character"),
        case("https://example.com/\u3000", "a blank"),
        case("https://example.com:https/", "its port is not a number"),
        case("https://example.com:-1/", "its port is not a number"),
        case("https://example.com:+443/", "its port is not a number"),
        case("https://example.com:٤٤٣/", "its port is not a number"),
        case("https://example.com:443:443/", "its port is not a number"),
        case("https://example.com:0/", "a port that does not exist"),
        case("https://example.com:65536/", "a port that does not exist"),
        case(f"https://example.com:{'9' * 1000}/", "a port that does not exist"),
        case("https://example.com:22/", "port 22 is blocked (ssh)"),
        case("https://1.1.1.1:25/", "port 25 is blocked (smtp)"),
        case("https://[2606:4700:4700::1111]:6667/", "port 6667 is blocked (ircu)"),
        case("http://localhost/", "loopback"),
        case("http://LOCALHOST./", "loopback"),
        case("http://hook.localhost/", "loopback"),
        case("http://ℓocalhost/", "loopback"),
        case("http://localhost:8080/", "loopback"),
    ],
)
def test_a_url_whose_text_shows_that_nothing_may_be_sent_there_is_refused_with_the_reason(url, what):
    assert what in fault(NOTHING, url)


def test_a_url_may_be_as_long_as_the_wire_says_and_no_longer():
    start = "https://example.com/"
    assert fault(NOTHING, start + "a" * (URL_SIZE_MAX - len(start))) is None
    assert "longer than" in fault(NOTHING, start + "a" * (URL_SIZE_MAX - len(start) + 1))


@pytest.mark.parametrize(
    "url",
    [
        "https://user:secret@example.com/",
        "https://user:secret/@example.com/",
        "https://secret@[::1]:secret/",
        "https://secret:@[::1",
        "https://user:secret@exa mple.com/",
    ],
)
def test_a_message_never_tells_the_userinfo(url):
    assert "secret" not in fault(NOTHING, url)


@pytest.mark.parametrize("host", ["x" * 1500, "9" * 1500, "ä" * 1500, f"[{'1:' * 700}]"])
def test_a_message_shows_only_the_start_of_what_is_wrong(host):
    assert len(fault(NOTHING, f"https://{host}/")) < SHOWN_SIZE_MAX + 80
    assert len(NOTHING.verdict(host, 443)) < SHOWN_SIZE_MAX + 80
    with pytest.raises(InvalidInput) as caught:
        Rules.parse([host])
    assert len(caught.value.faults[0]["what"]) < SHOWN_SIZE_MAX + 80


@pytest.mark.parametrize(
    "address",
    ["", " ", "localhost", "example.com", "127.0.0.1 ", "127.0.0.1:80", "[::1]", "fe80::1%eth0", "1.1.1.1%1", "0x7f.1"],
)
def test_what_is_no_plain_address_is_refused_at_connect_whatever_is_allowed(address):
    assert EVERYTHING.verdict(address, 443) is not None


@pytest.mark.parametrize("port", [-1, 0, 65536, 2**32 + 80])
def test_what_is_no_port_is_refused_whatever_is_allowed(port):
    for rules in (NOTHING, EVERYTHING):
        assert rules.verdict("1.1.1.1", port) == f"{port} is not a port"


def test_the_blocked_ports_are_the_bad_ports_of_the_fetch_standard_and_zero():
    assert len(PORTS) == 1 + 82
    lately_added = {69, 137, 161, 554, 989, 990, 1719, 1720, 1723, 4190, 5060, 5061, 6566, 6679, 6697, 10080}
    assert lately_added <= PORTS.keys()
    assert not {80, 443, 3000, 5000, 8000, 8080, 8283, 8443, 9000} & PORTS.keys()


@pytest.mark.parametrize("port", sorted(PORTS.keys() - {0}))
def test_a_blocked_port_is_refused_on_an_allowed_network_unless_it_is_named(port):
    assert f"port {port} is blocked" in NOTHING.verdict("1.1.1.1", port)
    assert f"port {port} is blocked" in fault(NOTHING, f"https://example.com:{port}/")
    assert f"port {port} is blocked" in EVERYTHING.verdict("127.0.0.1", port)
    named = Rules.parse([f"127.0.0.0/8:{port}"])
    assert named.verdict("127.0.0.1", port) is None
    assert fault(named, f"http://127.0.0.1:{port}/") is None
    assert named.verdict("1.1.1.1", port) is not None


@pytest.mark.parametrize(
    ("entry", "opened", "closed"),
    [
        ("127.0.0.0/8", [("127.0.0.1", 80), ("127.9.9.9", 9000)], [("::1", 80), ("::ffff:127.0.0.1", 80)]),
        ("127.0.0.1", [("127.0.0.1", 80), ("127.0.0.1", 9000)], [("127.0.0.2", 80), ("127.0.0.1", 22)]),
        ("127.0.0.1:9000", [("127.0.0.1", 9000)], [("127.0.0.1", 9001), ("127.0.0.2", 9000)]),
        ("127.0.0.1/32:22", [("127.0.0.1", 22)], [("127.0.0.1", 23), ("127.0.0.1", 80)]),
        ("10.0.0.0/8:8443", [("10.1.2.3", 8443)], [("10.1.2.3", 443), ("11.0.0.0", 22), ("64:ff9b::10.1.2.3", 8443)]),
        ("10.0.0.0/8", [("10.1.2.3", 443)], [("192.168.0.1", 443), ("2002:a01:203::1", 443), ("10.1.2.3", 25)]),
        ("0.0.0.0/0", [("169.254.169.254", 80), ("0.0.0.1", 80)], [("::1", 80), ("::ffff:10.0.0.1", 80)]),
        ("fd00::/8", [("fd00::1", 443), ("fdff::1", 8080)], [("fc00::1", 443), ("fd00::1", 22), ("10.0.0.1", 443)]),
        ("fd00::/8:443", [("fd00::1", 443)], [("fd00::1", 444)]),
        ("[fd00::/8]:443", [("fd00::1", 443)], [("fd00::1", 444)]),
        ("[fd00::/8]", [("fd00::1", 443), ("fd00::1", 444)], [("fe00::1", 443)]),
        ("[::1]:8080", [("::1", 8080)], [("::1", 80), ("127.0.0.1", 8080)]),
        ("[::1]", [("::1", 8080)], [("::2", 8080)]),
        ("::1", [("::1", 80)], [("::2", 80), ("127.0.0.1", 80), ("::127.0.0.1", 80)]),
        ("0:0:0:0:0:0:0:1", [("::1", 80)], [("::2", 80)]),
        ("::1:8080", [("::1:8080", 80)], [("::1", 8080)]),
        ("::ffff:127.0.0.0/104", [("::ffff:127.0.0.1", 80)], [("127.0.0.1", 80), ("::ffff:10.0.0.1", 80)]),
        ("64:ff9b::/96", [("64:ff9b::10.0.0.1", 80)], [("10.0.0.1", 80)]),
        ("fe80::/10", [("fe80::1", 80)], [("fe80::1%eth0", 80), ("fe80::1%1", 80)]),
        ("1.1.1.1:25", [("1.1.1.1", 25), ("1.1.1.1", 443)], [("1.1.1.1", 22), ("1.1.1.2", 25)]),
    ],
)
def test_an_entry_opens_the_network_and_port_it_names_and_nothing_else(entry, opened, closed):
    rules = Rules.parse([entry])
    assert {pair for pair in opened if NOTHING.verdict(*pair) is None} <= {("1.1.1.1", 443)}
    assert [pair for pair in opened if rules.verdict(*pair) is not None] == []
    assert [pair for pair in closed if rules.verdict(*pair) is None] == []
    for address, port in (*opened, *closed):
        if "%" not in address:
            expected = rules.verdict(address, port)
            assert fault(rules, f"http://{host_of(address)}:{port}/") == expected


def test_entries_add_up():
    rules = Rules.parse(["127.0.0.1:9000", "10.0.0.0/8", "127.0.0.1:9001"])
    assert [port for port in (8999, 9000, 9001, 9002) if rules.verdict("127.0.0.1", port) is None] == [9000, 9001]
    assert rules.verdict("10.0.0.1", 80) is None
    assert Rules.parse([]) == NOTHING


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        case("", "no IPv4 or IPv6 address"),
        case(":80", "no IPv4 or IPv6 address"),
        case("*", "no IPv4 or IPv6 address"),
        case("localhost", "names are not looked up"),
        case("localhost:8080", "names are not looked up"),
        case("example.com/8", "names are not looked up"),
        case("http://127.0.0.1", "no IPv4 or IPv6 address"),
        case("127.0.0.1 ", "no IPv4 or IPv6 address"),
        case("127.1", "no IPv4 or IPv6 address"),
        case("127.0.0.01", "no IPv4 or IPv6 address"),
        case("2130706433", "no IPv4 or IPv6 address"),
        case("10/8", "no IPv4 or IPv6 address"),
        case("１27.0.0.1", "no IPv4 or IPv6 address"),
        case("10.0.0.1/8", "write 10.0.0.0/8 or 10.0.0.1"),
        case("fd00::1/8", "write fd00::/8 or fd00::1"),
        case("10.0.0.0/33", "from 0 to 32"),
        case("10.0.0.0/", "from 0 to 32"),
        case("10.0.0.0/255.0.0.0", "from 0 to 32"),
        case("10.0.0.0/-8", "from 0 to 32"),
        case("10.0.0.0/٨", "from 0 to 32"),
        case("fd00::/129", "from 0 to 128"),
        case("fd00::/8/8", "from 0 to 128"),
        case("127.0.0.1:0", "from 1 to 65535"),
        case("127.0.0.1:65536", "from 1 to 65535"),
        case("127.0.0.1:", "from 1 to 65535"),
        case("127.0.0.1:http", "from 1 to 65535"),
        case("127.0.0.1:٨٠", "from 1 to 65535"),
        case("127.0.0.1:80-90", "from 1 to 65535"),
        case("fd00::/8:", "from 1 to 65535"),
        case("[::1]:", "from 1 to 65535"),
        case("[::1", "in brackets"),
        case("[::1]8080", "in brackets"),
        case("[fd00::]/8", "in brackets"),
        case("[127.0.0.1]:80", "in brackets"),
        case("[localhost]", "in brackets"),
        case("fe80::1%eth0", "a scope cannot be allowed"),
        case("[fe80::1%1]:80", "a scope cannot be allowed"),
    ],
)
def test_an_entry_that_cannot_be_read_is_refused_with_what_to_write(entry, what):
    with pytest.raises(InvalidInput) as caught:
        Rules.parse(["127.0.0.1", entry])
    (found,) = caught.value.faults
    assert found["where"] == "--callback-allow"
    assert what in found["what"]
    assert f"'{entry}'" in found["what"]
    assert "10.0.0.0/8:8443" in found["allowed"]


@pytest.mark.parametrize("entry", ["127.0.0.0/8", "127.0.0.1:8080", "::1", "[::1]:8080"])
def test_localhost_is_taken_where_loopback_is_allowed(entry):
    rules = Rules.parse([entry])
    assert fault(rules, "http://localhost:8080/") is None
    assert fault(rules, "http://hook.localhost.:8080/") is None
    assert "loopback" in fault(Rules.parse(["10.0.0.0/8"]), "http://localhost:8080/")


def test_localhost_is_refused_on_another_port_than_the_allowed_and_on_a_blocked_one():
    assert "loopback" in fault(Rules.parse(["127.0.0.1:8080"]), "http://localhost:8081/")
    assert "port 22 is blocked" in fault(Rules.parse(["127.0.0.0/8"]), "http://localhost:22/")


# --- the tables as wholes ---------------------------------------------------------------------------------------------

inside_ipv4 = st.sampled_from(IPV4).flatmap(lambda row: st.ip_addresses(v=4, network=row.cidr))
near_ipv6 = st.one_of(
    st.ip_addresses(v=6),
    st.sampled_from([*(row.cidr for row in IPV6), "2000::/3", "64:ff9b::/96"]).flatmap(
        lambda cidr: st.ip_addresses(v=6, network=cidr)
    ),
)


def spellings(address):
    """The forms of an IPv4 address that some resolver, socket or gateway takes for it."""
    number, octets = int(address), address.packed
    a, b, c, d = octets
    tail = f"{number >> 16:x}:{number & 0xFFFF:x}"
    yield from (f"[::ffff:{address}]", f"[::ffff:{tail}]", f"[::{address}]", f"[::ffff:0:{tail}]")
    yield from (f"[64:ff9b::{address}]", f"[64:ff9b::{tail}]", f"[64:ff9b:1::{address}]", f"[2002:{tail}::1]")
    inverted = number ^ 0xFFFFFFFF
    yield from (f"[2001:0:{tail}::]", f"[2001::{inverted >> 16:x}:{inverted & 0xFFFF:x}]")
    yield from (str(number), hex(number), f"0{number:o}", f"{number:#X}", f"0x{number:016x}")
    yield from (f"{a}.{(b << 16) + (c << 8) + d}", f"{a}.{b}.{(c << 8) + d}", f"{address}.")
    yield ".".join(hex(octet) for octet in octets)
    yield ".".join(f"0{octet:o}" for octet in octets)
    yield "".join(f"%{ord(digit):x}" if digit.isdigit() else digit for digit in str(address))
    yield str(address).replace(".", "。")
    yield "".join(chr(ord(digit) - ord("0") + ord("０")) if digit.isdigit() else digit for digit in str(address))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(address=inside_ipv4)
def test_an_ipv4_address_of_a_refused_network_is_refused_in_all_its_spellings(address):
    beside = Rules.parse([str(address)])
    assert NOTHING.verdict(str(address), 443) is not None
    assert beside.verdict(str(address), 443) is None
    for spelling in spellings(address):
        for rules in (NOTHING, beside):
            assert fault(rules, f"http://{spelling}/") is not None, spelling
            assert rules.verdict(spelling.strip("[]"), 443) is not None, spelling


@settings(max_examples=500, derandomize=True, deadline=None)
@given(address=st.one_of(st.ip_addresses(v=4), inside_ipv4))
def test_a_verdict_of_ipv4_is_that_of_the_table_read_row_by_row(address):
    rows = [row for row in IPV4 if address in IPv4Network(row.cidr)]
    assert_is_said(NOTHING.verdict(str(address), 443), address, rows)
    if not address.is_global:
        assert rows


@settings(max_examples=500, derandomize=True, deadline=None)
@given(address=near_ipv6)
def test_a_verdict_of_ipv6_is_that_of_the_table_read_row_by_row(address):
    rows = [row for row in IPV6 if address in IPv6Network(row.cidr)]
    said = NOTHING.verdict(str(address), 443)
    if address in IPv6Network("64:ff9b::/96"):
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
        assert (said is None) == (NOTHING.verdict(str(inner), 443) is None)
    elif address in IPv6Network("2000::/3") or rows:
        assert_is_said(said, address, rows)
    else:
        assert said == f"{address} is outside of the public 2000::/3"


def assert_is_said(said, address, rows):
    narrowest = max(rows, key=lambda row: ip_network(row.cidr).prefixlen, default=None)
    assert said == (narrowest and f"{address} is {narrowest.name} ({narrowest.cidr})")


@pytest.mark.parametrize("row", [*IPV4, *IPV6], ids=lambda row: row.cidr)
def test_a_row_of_the_table_refuses_its_network_from_end_to_end_and_names_its_source(row: Network):
    network = ip_network(row.cidr)
    for address in (network[0], network[-1]):
        assert NOTHING.verdict(str(address), 443) is not None
        assert EVERYTHING.verdict(str(address), 443) is None
    assert row.name
    assert row.source
