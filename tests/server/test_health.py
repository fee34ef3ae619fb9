"""Health: told whatever else fails; what fails is told by it."""

import pytest

from ledger.errors import StoreFailed
from tests.server.test_errors import check_shape


@pytest.fixture
def unreadable(service, monkeypatch):
    """A log that cannot be read."""

    def fails():
        raise StoreFailed(reason="disk I/O error")

    service.app.notice_interval_s = 0.0
    monkeypatch.setattr(service.app.ledger.store, "grown", fails)


async def test_a_server_whose_log_cannot_be_read_is_up_and_not_ready(user, unreadable):
    service = user.service
    assert (await service.request("GET", "/v1/health")).status == 200
    answer = await service.request("GET", "/readyz")
    assert (answer.status, answer.json["status"]) == (503, "not ready")
    assert any("disk I/O error" in problem for problem in answer.json["problems"])
    check_shape(await user.get("/v1/jobs"), 503, "unavailable")


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
async def test_what_needs_no_log_is_answered_without_it(service, unreadable, path):
    assert (await service.request("GET", path)).status == 200
