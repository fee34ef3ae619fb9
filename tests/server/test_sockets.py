"""Listening on every address of a host that the machine has."""

import errno
import socket

import pytest

from server import sockets


@pytest.fixture
def named(monkeypatch):
    """Let a host have the addresses of a test, in their order."""

    def have(*hosts):
        found = [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (host, 0, 0, 0))
            if ":" in host
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0))
            for host in hosts
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    return have


@pytest.fixture
def without_ipv6(monkeypatch):
    """A kernel that knows no IPv6."""
    real = socket.socket

    def make(family, *rest):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *rest)

    monkeypatch.setattr(socket, "socket", make)


def hosts_of(shares):
    found = [[each.getsockname()[0] for each in share] for share in shares]
    for share in shares:
        for each in share:
            each.close()
    return found


ABSENT = "2001:db8::1"
"""An address that is nobody's: it is for documentation."""


@pytest.mark.parametrize("hosts", [(ABSENT, "127.0.0.1"), ("127.0.0.1", ABSENT)], ids=["first", "last"])
def test_an_address_that_the_machine_does_not_have_is_left_out(named, hosts):
    named(*hosts)
    assert hosts_of(sockets.bind("localhost", 0, 2)) == [["127.0.0.1"]] * 2


def test_a_family_that_the_system_does_not_know_is_left_out(named, without_ipv6):
    named("::1", "127.0.0.1")
    assert hosts_of(sockets.bind("localhost", 0, 2)) == [["127.0.0.1"]] * 2


def test_where_no_address_is_left_it_is_told_which_cannot_be_had(named):
    named(ABSENT)
    with pytest.raises(OSError, match=f"cannot listen on {ABSENT} port 0"):
        sockets.bind("elsewhere", 0, 2)


def test_all_addresses_of_a_host_have_the_port_that_was_free_for_the_first(named):
    named("127.0.0.1", "127.0.0.2")
    shares = sockets.bind("localhost", 0, 3)
    assert len({each.getsockname()[1] for share in shares for each in share}) == 1
    assert hosts_of(shares) == [["127.0.0.1", "127.0.0.2"]] * 3
