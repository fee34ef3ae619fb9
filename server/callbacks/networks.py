"""What is no public receiver: the networks and the ports that no callback is sent to unless the operator allows it.

Our own tables, row by row, rather than ``ipaddress.is_global``, which calls 6to4 and NAT64 forms of 127.0.0.1,
``fec0::/10`` and multicast global. They hold every row of the IANA special-purpose registries of IPv4 and IPv6
(RFC 6890, as of 2025-10), also those that IANA calls reachable: anycast of the infrastructure is nobody's receiver.

What no table can know: a network's own NAT64 prefix (RFC 6052, section 2.2) looks like any public address.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, NamedTuple


class Network(NamedTuple):
    """A network that is refused: its CIDR, a short name for messages, and the source of the rule."""

    cidr: str
    name: str
    source: str


IPV4: Final = (
    Network("0.0.0.0/8", "this network", "RFC 791, section 3.2; Linux connects 0.0.0.0 to loopback"),
    Network("10.0.0.0/8", "private", "RFC 1918"),
    Network("100.64.0.0/10", "CGNAT", "RFC 6598"),
    Network("100.100.100.200/32", "cloud metadata", "Alibaba Cloud"),
    Network("127.0.0.0/8", "loopback", "RFC 1122, section 3.2.1.3"),
    Network("168.63.129.16/32", "cloud host", "Microsoft Azure: looks public, but the machine's host answers"),
    Network("169.254.0.0/16", "link-local and cloud metadata", "RFC 3927"),
    Network("172.16.0.0/12", "private", "RFC 1918"),
    Network("192.0.0.0/24", "IETF protocol assignments", "RFC 6890; 192.0.0.192 is Oracle Cloud's old metadata"),
    Network("192.0.2.0/24", "documentation", "RFC 5737"),
    Network("192.31.196.0/24", "AS112", "RFC 7535: anycast, may be answered by a server inside"),
    Network("192.52.193.0/24", "AMT", "RFC 7450: anycast of tunnel relays"),
    Network("192.88.99.0/24", "6to4 relay", "RFC 7526"),
    Network("192.168.0.0/16", "private", "RFC 1918"),
    Network("192.175.48.0/24", "AS112", "RFC 7534: anycast, may be answered by a server inside"),
    Network("198.18.0.0/15", "benchmarking", "RFC 2544"),
    Network("198.51.100.0/24", "documentation", "RFC 5737"),
    Network("203.0.113.0/24", "documentation", "RFC 5737"),
    Network("224.0.0.0/4", "multicast", "RFC 5771"),
    Network("240.0.0.0/4", "reserved", "RFC 1112, section 4"),
    Network("255.255.255.255/32", "broadcast", "RFC 919"),
)
"""Refused in IPv4; of nested networks the narrowest gives the name."""

IPV6: Final = (
    Network("::/96", "IPv4-compatible", "RFC 4291, section 2.5.5.1"),
    Network("::/128", "unspecified", "RFC 4291, section 2.5.2; Linux connects it to loopback"),
    Network("::1/128", "loopback", "RFC 4291, section 2.5.3"),
    Network("::ffff:0:0/96", "IPv4-mapped", "RFC 4291, section 2.5.5.2"),
    Network("::ffff:0:0:0/96", "IPv4-translated", "RFC 2765, section 2.1"),
    Network("64:ff9b:1::/48", "NAT64 for local use", "RFC 8215"),
    Network("100::/64", "discard-only", "RFC 6666"),
    Network("100:0:0:1::/64", "dummy prefix", "RFC 9780"),
    Network("2001::/23", "IETF protocol assignments", "RFC 2928"),
    Network("2001::/32", "Teredo", "RFC 4380"),
    Network("2001:1::1/128", "port control anycast", "RFC 7723"),
    Network("2001:1::2/128", "TURN anycast", "RFC 8155"),
    Network("2001:1::3/128", "DNS-SD registration anycast", "RFC 9665"),
    Network("2001:2::/48", "benchmarking", "RFC 5180"),
    Network("2001:3::/32", "AMT", "RFC 7450"),
    Network("2001:4:112::/48", "AS112", "RFC 7535"),
    Network("2001:10::/28", "ORCHID", "RFC 4843"),
    Network("2001:20::/28", "ORCHIDv2", "RFC 7343"),
    Network("2001:30::/28", "drone remote ID", "RFC 9374"),
    Network("2001:db8::/32", "documentation", "RFC 3849"),
    Network("2002::/16", "6to4", "RFC 3056"),
    Network("2620:4f:8000::/48", "AS112", "RFC 7534"),
    Network("3fff::/20", "documentation", "RFC 9637"),
    Network("5f00::/16", "segment routing", "RFC 9602"),
    Network("fc00::/7", "unique local", "RFC 4193"),
    Network("fd00:ec2::254/128", "cloud metadata", "Amazon Web Services"),
    Network("fd20:ce::254/128", "cloud metadata", "Google Cloud"),
    Network("fe80::/10", "link-local", "RFC 4291, section 2.5.6"),
    Network("fec0::/10", "site-local", "RFC 3879"),
    Network("ff00::/8", "multicast", "RFC 4291, section 2.7"),
)
"""Refused in IPv6, as is all else outside of 2000::/3: IANA gives out global unicast from there alone (RFC 4291)."""

GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
NAT64: Final = IPv6Network("64:ff9b::/96")
"""The well-known prefix (RFC 6052, section 2.1): stands for the IPv4 address in its last 32 bits."""

# fmt: off
PORTS: Final = {
    0: "reserved", 1: "tcpmux", 7: "echo", 9: "discard", 11: "systat", 13: "daytime", 15: "netstat", 17: "qotd",
    19: "chargen", 20: "ftp-data", 21: "ftp", 22: "ssh", 23: "telnet", 25: "smtp", 37: "time", 42: "name",
    43: "nicname", 53: "domain", 69: "tftp", 77: "rje", 79: "finger", 87: "ttylink", 95: "supdup", 101: "hostname",
    102: "iso-tsap", 103: "gppitnp", 104: "acr-nema", 109: "pop2", 110: "pop3", 111: "sunrpc", 113: "auth",
    115: "sftp", 117: "uucp-path", 119: "nntp", 123: "ntp", 135: "epmap", 137: "netbios-ns", 139: "netbios-ssn",
    143: "imap", 161: "snmp", 179: "bgp", 389: "ldap", 427: "svrloc", 465: "submissions", 512: "exec", 513: "login",
    514: "shell", 515: "printer", 526: "tempo", 530: "courier", 531: "chat", 532: "netnews", 540: "uucp", 548: "afp",
    554: "rtsp", 556: "remotefs", 563: "nntps", 587: "submission", 601: "syslog-conn", 636: "ldaps",
    989: "ftps-data", 990: "ftps", 993: "imaps", 995: "pop3s", 1719: "h323gatestat", 1720: "h323hostcall",
    1723: "pptp", 2049: "nfs", 3659: "apple-sasl", 4045: "npp", 4190: "sieve", 5060: "sip", 5061: "sips",
    6000: "x11", 6566: "sane-port", 6665: "ircu", 6666: "ircu", 6667: "ircu", 6668: "ircu", 6669: "ircu",
    6679: "osaut", 6697: "ircs-u", 10080: "amanda",
}
# fmt: on
"""Ports that are refused, with their services: the bad ports of the Fetch standard (section "Port blocking"), whose
servers might take a line of HTTP for a command of their own; and 0, which is no port."""
PORT_MAX: Final = 65535


def _narrowest_first(rows: tuple[Network, ...], kind: type[IPv4Network | IPv6Network]) -> list[tuple[int, int, str]]:
    """Return (mask, network, words) of each row, as integers: comparing those is what makes a verdict quick."""
    networks = sorted(((kind(row.cidr), row) for row in rows), key=lambda pair: -pair[0].prefixlen)
    return [(int(net.netmask), int(net.network_address), f"{row.name} ({row.cidr})") for net, row in networks]


_IPV4: Final = _narrowest_first(IPV4, IPv4Network)
_IPV6: Final = _narrowest_first(IPV6, IPv6Network)
_GLOBAL_UNICAST: Final = int(GLOBAL_UNICAST.network_address) >> 125
_NAT64: Final = int(NAT64.network_address) >> 32


def why_not_public(address: IPv4Address | IPv6Address) -> str | None:
    """Return what an address is instead of public, as in "loopback (127.0.0.0/8)"; None when it is public."""
    value = int(address)
    if address.version == 4:
        return _find(_IPV4, value)
    if value >> 32 == _NAT64:
        inner = IPv4Address(value & 0xFFFFFFFF)
        found = _find(_IPV4, int(inner))
        return found and f"NAT64 of {inner}, {found}"
    found = _find(_IPV6, value)
    if found is None and value >> 125 != _GLOBAL_UNICAST:
        return f"outside of the public {GLOBAL_UNICAST}"
    return found


def _find(rows: list[tuple[int, int, str]], value: int) -> str | None:
    for mask, network, words in rows:
        if value & mask == network:
            return words
    return None
