"""A server for each test, an admin and a user who may use it, and the log lines it writes."""

from __future__ import annotations

import io
import re

import pytest
import structlog

import projections.engine
import server.app
import server.expiry
from tests.scratch import scratch
from tests.server.serving import Clock, logging_to, serving

SECRET = re.compile(rb"jl_[A-Za-z0-9_-]{16}|whs[ek][a-z]*_[A-Za-z0-9+/]{16}|Bearer ")


@pytest.fixture(autouse=True)
def log_lines(monkeypatch):
    """What the server logs meanwhile, as the bytes that it would send to stderr; no test makes it show a secret."""
    stream = io.TextIOWrapper(io.BytesIO())
    with logging_to(stream):
        structlog.configure(cache_logger_on_first_use=False)
        for module in (server.app, server.expiry, projections.engine):
            monkeypatch.setattr(module, "log", structlog.get_logger())
        yield stream.buffer
    shown = stream.buffer.getvalue()
    assert not SECRET.search(shown), shown
    assert all(line.startswith(b"{") for line in shown.splitlines())


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ledger_file():
    with scratch() as folder:
        yield folder / "ledger.db"


@pytest.fixture
async def service(ledger_file, clock):
    async with serving(ledger_file, clock) as service:
        yield service


@pytest.fixture
async def admin(service):
    return await service.admin()


@pytest.fixture
async def user(service):
    return await service.user()


@pytest.fixture
async def other(service):
    """A second user, who must see nothing of the first."""
    return await service.user()
