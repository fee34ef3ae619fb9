"""The guard of callbacks: no connection is made but to an address that the rules allow, looked at when it is made.

A name may stand for another address at each lookup (DNS rebinding), so a check before the request proves nothing.
Here every answer of the resolver is checked and the connection goes to exactly those addresses, and the very socket
address is looked at again before a socket exists for it: that also covers literal addresses, for which aiohttp asks
no resolver. Only public hooks of aiohttp are used: ``AbstractResolver`` and ``socket_factory``.

A session over this connector must not be given ``trust_env`` or a proxy: a proxy would connect to any address.
"""

from __future__ import annotations

import errno
import socket
from collections import Counter
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from server.callbacks.addresses import LOOPBACK, Rules, is_localhost

ANSWERS_MAX: Final = 64
"""Addresses of one name; a name with more is refused. Large services have some 10 to 20."""
TRIED_MAX: Final = 2
"""Addresses of each family that one connection may try: enough to get past a dead one. aiohttp tries up to
n * (n + 1) / 2 times for n addresses, and a name must not make us knock at a list of others' doors."""
KEEPALIVE_S: Final = 20.0
"""How long an idle connection is kept; short, since it goes on to an address that the name may have left."""
HAPPY_EYEBALLS_S: Final = 0.25
"""How long IPv6 has a head start over IPv4, as RFC 8305, section 8, recommends."""

_NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class AddressRefused(OSError):
    """The address rules refuse a connection; ``reason`` says why, for the log alone: it holds the address.

    All refusals read alike, so that nothing of a resolved address gets into texts that callers see, and so that
    aiohappyeyeballs raises one of several as it is instead of a new error with their texts joined.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EACCES, "refused by the address rules of callbacks")
        self.reason = reason


class CheckedResolver(AbstractResolver):
    """A resolver whose answers the rules allow, all of them: one that is refused refuses the name.

    ``inner`` does the lookups (by default the system's, in threads) and belongs to the caller.
    """

    def __init__(self, rules: Rules, inner: AbstractResolver | None = None) -> None:
        self._rules = rules
        self._inner = aiohttp.ThreadedResolver() if inner is None else inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host that may be tried, numeric; raise ``AddressRefused``, ``OSError`` if none.

        ``localhost`` is not looked up, as RFC 6761, section 6.3, advises: it is what of loopback is opened, so that
        opening 127.0.0.0/8 is enough where the system says ::1 too.
        """
        if is_localhost(host):
            return self._loopback(host, port)
        try:
            answers = await self._inner.resolve(host, port, family)
        except UnicodeError as error:  # Python's IDNA codec, of a label that is empty or too long
            raise socket.gaierror(socket.EAI_NONAME, "not a host name") from error
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        if len(answers) > ANSWERS_MAX:
            raise AddressRefused(f"the name has {len(answers)} addresses, at most {ANSWERS_MAX} are allowed")
        for answer in answers:
            reason = self._rules.verdict(answer["host"], port)
            if reason is not None:
                raise AddressRefused(reason)
        return [_numeric(host, answer["host"], port) for answer in _few(answers)]

    def _loopback(self, host: str, port: int) -> list[ResolveResult]:
        whys = {str(address): self._rules.verdict(str(address), port) for address in LOOPBACK}
        opened = [address for address, why in whys.items() if why is None]
        if not opened:
            raise AddressRefused(next(why for why in whys.values() if why is not None))
        return [_numeric(host, address, port) for address in opened]

    async def close(self) -> None:
        """Do nothing: the inner resolver is closed by its owner."""


def socket_factory(rules: Rules) -> aiohttp.SocketFactoryType:
    """Return what makes the sockets of a ``TCPConnector``, but first raises ``AddressRefused`` where that is due."""

    def make(info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        reason = _why_not(rules, family, address)
        if reason is not None:
            raise AddressRefused(reason)
        return socket.socket(family, kind, protocol)

    return make


def connector(rules: Rules, *, resolver: AbstractResolver | None = None, limit: int) -> aiohttp.TCPConnector:
    """Return a connector that connects by the rules, each time resolved anew; ``limit`` bounds its connections."""
    return aiohttp.TCPConnector(
        resolver=CheckedResolver(rules, resolver),
        use_dns_cache=False,
        keepalive_timeout=KEEPALIVE_S,
        limit=limit,
        happy_eyeballs_delay=HAPPY_EYEBALLS_S,
        socket_factory=socket_factory(rules),
    )


def is_refusal(error: BaseException) -> bool:
    """Tell whether an error is, or comes from, an ``AddressRefused``: in its causes, contexts and groups."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        if isinstance(found, AddressRefused):
            return True
        seen.add(id(found))
        waiting += [found.__cause__, found.__context__]
        if isinstance(found, BaseExceptionGroup):
            waiting += found.exceptions
    return False


def _why_not(rules: Rules, family: int, address: tuple[object, ...]) -> str | None:
    """Return why a socket address, as ``getaddrinfo`` has it, is refused."""
    host, port, *rest = address
    if family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(host, str) or not isinstance(port, int):
        return "not an address of the internet"
    if (":" in host) != (family == socket.AF_INET6):
        return "an address of another family than its socket"
    if len(rest) > 1 and rest[1]:
        return f"{host} has a scope, so it is not public"
    return rules.verdict(host, port)


def _few(answers: list[ResolveResult]) -> list[ResolveResult]:
    taken: Counter[bool] = Counter()
    few = []
    for answer in answers:
        is_ipv6 = ":" in answer["host"]
        taken[is_ipv6] += 1
        if taken[is_ipv6] <= TRIED_MAX:
            few.append(answer)
    return few


def _numeric(name: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(hostname=name, host=address, port=port, family=family, proto=0, flags=_NUMERIC)
