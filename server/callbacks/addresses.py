"""The address rules of callbacks: which addresses, ports and URLs the ledger may send to.

A caller names the receiver, so a callback is a request that somebody else aims from inside our network. Whatever is
not public (``server.callbacks.networks``) is therefore refused, unless the operator opens it with ``--callback-allow``:
from the URL where its text shows it (``Rules.check_url``), and at each connection, after name resolution
(``server.callbacks.guard``), where it cannot be talked around.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, NamedTuple

import msgspec
from yarl import URL

from ledger.errors import InvalidInput, invalid
from ledger.scalars import URL_SIZE_MAX
from server.callbacks.networks import PORT_MAX, PORTS, why_not_public

NAME_SIZE_MAX: Final = 253
"""Characters of a host name without its final dot: what the 255 bytes of RFC 1035 hold as text."""
SHOWN_SIZE_MAX: Final = 80
"""Characters of a bad value that a message shows: enough to find it, too few to flood a log."""

LOOPBACK: Final = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
"""What the name localhost stands for."""
_ALLOW: Final = "an address or a network, with a port or without: 127.0.0.1, 10.0.0.0/8:8443, fd00::/8, [::1]:8080"
_URL: Final = "an http or https URL of a public host, as https://example.com/hook"
_OPENED: Final = f"{_URL}; what is not public must be opened: jobledger serve --callback-allow CIDR[:PORT]"
_PLAIN_PORT: Final = re.compile(r"[0-9]{1,5}")
_AUTHORITY: Final = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)
_HOST_AND_PORT: Final = re.compile(r"(\[[^\[\]]+\]|[^\[\]:]+)(?::([0-9]*))?")
_NAME: Final = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}")
_UNWRITABLE: Final = re.compile(r"[\x00-\x20\x7f-\x9f\\\s]")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label that makes a host an IPv4 address to ``inet_aton`` and to the URL standard (section "Host parsing")."""


class Allowed(NamedTuple):
    """One thing the operator opened: a network as integers (version 4 or 6, mask, value), and a port or all."""

    version: int
    mask: int
    network: int
    port: int | None


class Target(NamedTuple):
    """Where a URL leads: host in lower case (IDNA; without brackets or final dot), port, and its address if literal."""

    scheme: str
    host: str
    port: int
    address: IPv4Address | IPv6Address | None


class Rules(msgspec.Struct, frozen=True):
    """What callbacks may be sent to: what is public, on ports that are not blocked, and what ``allowed`` opens."""

    allowed: tuple[Allowed, ...] = ()

    @classmethod
    def parse(cls, allow: Sequence[str]) -> Rules:
        """Read entries of ``--callback-allow CIDR[:PORT]``; raise ``InvalidInput`` for one that cannot be read.

        With a port, an entry opens that port alone, even a blocked one; without, all ports that are not blocked.
        A port of an IPv6 address needs brackets: ``::1:8080`` is itself an address. An entry of IPv4 opens no IPv6
        form of its addresses: ``::ffff:127.0.0.1`` stays refused beside ``127.0.0.0/8``.
        """
        return cls(tuple(_entry(text) for text in allow))

    def verdict(self, address: str, port: int) -> str | None:
        """Return None when a connection to the address may be made, else why not, as "127.0.0.1 is loopback (…)".

        ``address`` is what a resolver or a socket gives: canonical text, perhaps with a ``%scope``, which is refused.
        The answer holds the address: it is for logs, not for whoever chose the name behind it.
        """
        if "%" in address:
            return f"{_shown(address)} has a scope, so it is not public"
        try:
            parsed = ip_address(address)
        except ValueError:
            return f"{_shown(address)} is not an address"
        return self._judge(parsed, port)

    def check_url(self, url: str) -> None:
        """Raise ``InvalidInput`` for a callback URL whose text alone shows that nothing may be sent there.

        A name is not resolved: what it stands for now says nothing of later. RFC 6761, section 6.3, says what
        ``localhost`` and names below it stand for.
        """
        target = read(url)
        if target.address is not None:
            why = self._judge(target.address, target.port)
        elif is_localhost(target.host):
            whys = [self._judge(address, target.port) for address in LOOPBACK]
            why = None if None in whys else f"{_shown(target.host)} stands for {LOOPBACK[0]} (RFC 6761): {whys[0]}"
        else:
            opened = any(entry.port == target.port for entry in self.allowed)
            why = None if opened else _why_blocked(target.port)
        if why is not None:
            raise _bad_url(why, _OPENED)

    def _judge(self, address: IPv4Address | IPv6Address, port: int) -> str | None:
        if not 0 < port <= PORT_MAX:
            return f"{port} is not a port"
        blocked = _why_blocked(port)
        value, version = int(address), address.version
        opened = False
        for entry in self.allowed:
            if entry.version == version and value & entry.mask == entry.network:
                if entry.port == port:
                    return None
                opened = opened or entry.port is None
        words = None if opened else why_not_public(address)
        return blocked if words is None else f"{address} is {words}"


def read(url: str) -> Target:
    """Read where a callback URL leads, as aiohttp will; raise ``InvalidInput`` for what parsers might read apart.

    Hosts that are addresses must be written as such: 127.0.0.1 or [::1], not 2130706433, 0x7f.1, 127.1 or 127.0.0.1.
    with a final dot. Userinfo is refused, since it would be kept in the log, and a fragment, since it is never sent.
    """
    host, port = _authority(url)
    try:
        parsed = URL(url)
    except ValueError as error:
        raise _bad_url(f"{_shown(host)} is not a host that can be looked up") from error
    address = _literal(host, parsed.raw_host or "")
    name = (parsed.raw_host or "").removesuffix(".")
    if address is None and (not _NAME.fullmatch(name) or len(name) > NAME_SIZE_MAX):
        raise _bad_url(f"{_shown(host)} is not a host name")
    default = 443 if parsed.scheme == "https" else 80
    return Target(parsed.scheme, name if address is None else str(address), port or default, address)


def is_localhost(host: str) -> bool:
    """Tell whether a name is ``localhost`` or below it, which RFC 6761, section 6.3, gives to loopback."""
    name = host.lower().removesuffix(".")
    return name == "localhost" or name.endswith(".localhost")


def origin(url: str) -> str:
    """Return ``scheme://host:port`` of a callback URL, alike for all spellings of one; raise ``InvalidInput``."""
    scheme, host, port, _ = read(url)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _authority(url: str) -> tuple[str, int | None]:
    """Return host and port as they are written, by a grammar narrower than that of any parser."""
    if len(url) > URL_SIZE_MAX:
        raise _bad_url(f"is longer than {URL_SIZE_MAX} characters", f"at most {URL_SIZE_MAX} characters")
    if _UNWRITABLE.search(url):
        raise _bad_url("holds a blank, a control character or a backslash")
    authority = _AUTHORITY.match(url)
    if authority is None:
        raise _bad_url("is not an http or https URL")
    if "@" in authority[1]:
        raise _bad_url("holds a user or password, which would be kept in the log")
    if "#" in url:
        raise _bad_url("has a fragment, which is never sent")
    match = _HOST_AND_PORT.fullmatch(authority[1])
    if match is None:
        raise _bad_url("has no host, or its port is not a number")
    if match[2] and not (len(match[2]) <= 5 and 0 < int(match[2]) <= PORT_MAX):
        raise _bad_url("has a port that does not exist", f"1 to {PORT_MAX}")
    return match[1], int(match[2]) if match[2] else None


def _literal(written: str, host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a host is, None when it is a name; ``host`` is what aiohttp makes of what is written."""
    if written.startswith("["):
        try:
            if "%" not in host and written.isascii():
                return IPv6Address(host)
        except ValueError:
            raise _bad_url(f"{_shown(written)} is not an IPv6 address") from None
        raise _bad_url(f"{_shown(written)} is not a plain IPv6 address: write it without zone, in ASCII")
    if not _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        return None
    try:
        if written == host:
            return IPv4Address(host)
    except ValueError:
        raise _bad_url(f"{_shown(written)} is not a plain IPv4 address", _URL) from None
    raise _bad_url(f"{_shown(written)} is an odd spelling: write it as an ordinary address")


def _entry(text: str) -> Allowed:
    network, port = _split(text)
    address, slash, prefix = network.partition("/")
    if "%" in address:
        raise _bad_entry(text, "a scope cannot be allowed")
    try:
        version = ip_address(address).version
    except ValueError:
        raise _bad_entry(text, "that is no IPv4 or IPv6 address, and names are not looked up") from None
    bits = 32 if version == 4 else 128
    if slash and not (re.fullmatch(r"[0-9]{1,3}", prefix) and int(prefix) <= bits):
        raise _bad_entry(text, f"the length of the network must be a number from 0 to {bits}")
    found = ip_network(network, strict=False)
    if slash and found.network_address != ip_address(address):
        raise _bad_entry(text, f"that is an address inside a network, not the network; write {found} or {address}")
    if port is not None and not (_PLAIN_PORT.fullmatch(port) and 0 < int(port) <= PORT_MAX):
        raise _bad_entry(text, f"the port must be a number from 1 to {PORT_MAX}")
    return Allowed(version, int(found.netmask), int(found.network_address), None if port is None else int(port))


def _split(text: str) -> tuple[str, str | None]:
    """Split an entry into its network and its port, if any."""
    if text.startswith("["):
        network, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in network or (rest and not rest.startswith(":")):
            raise _bad_entry(text, "in brackets there must be IPv6, and after them nothing but a port")
        return network, rest[1:] if rest else None
    if text.count(":") == 1:
        network, _, port = text.partition(":")
        return network, port
    address, slash, tail = text.partition("/")
    prefix, colon, port = tail.partition(":")
    return address + slash + prefix, port if colon else None


def _why_blocked(port: int) -> str | None:
    return f"port {port} is blocked ({PORTS[port]})" if port in PORTS else None


def _shown(text: str) -> str:
    return f"'{text[:SHOWN_SIZE_MAX]}'"


def _bad_url(what: str, allowed: str = _URL) -> InvalidInput:
    return invalid("callback_url", what, allowed)


def _bad_entry(text: str, what: str) -> InvalidInput:
    return invalid("--callback-allow", f"{_shown(text)}: {what}", _ALLOW)
