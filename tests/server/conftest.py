"""A server for each test, an admin and a user who may use it, and the log lines it writes."""

from __future__ import annotations

import io

import pytest
import structlog

import projections.engine
import server.app
import server.expiry
from server import logs
from tests.server.serving import Clock, scratch, serving


@pytest.fixture(autouse=True)
def log_lines(monkeypatch):
    """What the server logs meanwhile, as the bytes that it would send to stderr."""
    stream = io.TextIOWrapper(io.BytesIO())
    before = structlog.get_config()
    logs.configure(stream)
    structlog.configure(cache_logger_on_first_use=False)
    for module in (server.app, server.expiry, projections.engine):
        monkeypatch.setattr(module, "log", structlog.get_logger())
    yield stream.buffer
    structlog.configure(**before)


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
