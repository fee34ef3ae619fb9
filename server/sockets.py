"""Listening sockets for several processes on one port: one each, among which the kernel shares out the connections."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from typing import Final

BACKLOG: Final = 1024
"""Connections that may wait to be accepted: a burst of some hundred clients must not run into SYN retries."""
_ABSENT: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""What an address of a family is answered with that the machine does not have, such as the ::1 of ``localhost``."""


def bind(host: str, port: int, count: int) -> list[list[socket.socket]]:
    """Return, for each of ``count`` processes, sockets that listen on every address of the host, on the same port.

    ``port`` 0: a free one. What waits at a socket whose process died is accepted by the next one that gets it. Raises
    ``OSError`` where an address cannot be had, also where it is taken by somebody who would share it; one that this
    machine does not have is left out, unless it is the only one.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    families = {address: family for family, _, _, _, address in found}
    absent = None
    with ExitStack() as stack:
        shares: list[list[socket.socket]] = [[] for _ in range(count)]
        for address, family in families.items():
            try:
                with _listener(family, (address[0], port, *address[2:]), shared=False) as alone:
                    port = alone.getsockname()[1]  # of a second address too, where the first one's was chosen
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                absent = error
                continue
            for share in shares:
                share.append(stack.enter_context(_listener(family, (address[0], port, *address[2:]), shared=True)))
        if absent is not None and not shares[0]:
            raise absent
        stack.pop_all()
    return shares


def _listener(family: int, address: tuple[object, ...], *, shared: bool) -> socket.socket:
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _refusal(error, address) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setblocking(False)
        listener.bind(address)
        if shared:
            listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _refusal(error, address) from error
    return listener


def _refusal(error: OSError, address: tuple[object, ...]) -> OSError:
    return OSError(error.errno, f"cannot listen on {address[0]} port {address[1]}: {error.strerror}")
