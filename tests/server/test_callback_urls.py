"""Where callbacks may go is said when they are asked for: on every way in, before anything is recorded."""

import pytest

from ledger import ids
from ledger.scalars import URL_SIZE_MAX
from server.callbacks.addresses import Rules
from tests.server.owing import URL, ended
from tests.server.serving import HOME, serving

BAD = [
    pytest.param("", "must be an http or https URL", id="empty"),
    pytest.param("example.com/hook", "must be an http or https URL", id="no scheme"),
    pytest.param("HTTPS://example.com/hook", "must be an http or https URL", id="scheme in capitals"),
    pytest.param("ftp://example.com/hook", "must be an http or https URL", id="ftp"),
    pytest.param("file:///etc/passwd", "must be an http or https URL", id="file"),
    pytest.param("https://", "host", id="no host"),
    pytest.param("https://example.com/a b", "blank", id="blank"),
    pytest.param("https://example.com/\n", "blank", id="line end"),
    pytest.param("https://example.com\\@127.0.0.1/", "backslash", id="backslash"),
    pytest.param("https://user:word@example.com/", "user or password", id="userinfo"),
    pytest.param("https://example.com/#part", "fragment", id="fragment"),
    pytest.param("https://example.com:0/", "port", id="port 0"),
    pytest.param("https://example.com:65536/", "port", id="port 65536"),
    pytest.param("http://example.com:25/", "blocked", id="port of mail"),
    pytest.param("http://localhost/", "127.0.0.1", id="localhost"),
    pytest.param("http://a.localhost./", "127.0.0.1", id="below localhost"),
    pytest.param("http://127.0.0.1:8283/v1/jobs", "loopback", id="loopback"),
    pytest.param("http://[::1]/", "loopback", id="loopback of IPv6"),
    pytest.param("http://[::ffff:127.0.0.1]/", "IPv4-mapped", id="mapped"),
    pytest.param("http://2130706433/", "IPv4", id="one number"),
    pytest.param("http://0x7f.1/", "IPv4", id="hexadecimal"),
    pytest.param("http://10.1.2.3/", "private", id="private"),
    pytest.param("http://169.254.169.254/latest", "link-local", id="cloud metadata"),
    pytest.param("http://100.64.0.1/", "CGNAT", id="CGNAT"),
    pytest.param("http://[fd00::1]/", "unique local", id="unique local"),
    pytest.param(f"https://example.com/{'a' * URL_SIZE_MAX}", "at most 2048 characters", id="too long"),
]
GOOD = [
    URL,
    "http://example.com:8080/a/b?c=d%20e&f=[g]",
    "https://93.184.215.14/",
    "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]:8443/",
    "https://EXAMPLE.COM",
    "https://bücher.example/hook",
]
BODIES = {"job": {}, "run": {"agent_id": "agent-1"}, "batch": {"requests": [{"agent_id": "agent-1"}]}}


def creation(user, url):
    """The event of a job that is created with a callback, as a bulk append brings it."""
    data = {"user_id": user.id, "callback_url": url}
    return {"specversion": "1.0", "type": "job.created", "subject": ids.make("job"), "data": data}


@pytest.mark.parametrize(("url", "what"), BAD)
@pytest.mark.parametrize("kind", HOME)
async def test_a_url_that_nothing_may_be_sent_to_is_refused_at_creation(service, user, kind, url, what):
    size = service.app.ledger.size
    answer = await user.post(HOME[kind], json={**BODIES[kind], "callback_url": url})
    assert (answer.status, answer.error["type"]) == (422, "validation_error"), answer.body
    (fault,) = answer.error["details"]
    assert fault["where"] == "callback_url"
    assert what in fault["what"]
    assert service.app.ledger.size == size


@pytest.mark.parametrize(("url", "what"), BAD)
async def test_it_is_refused_in_a_bulk_append_with_all_that_came_with_it(service, user, url, what):
    size = service.app.ledger.size
    lines = [creation(user, URL), creation(user, url)]
    answer = await user.post("/v1/events", json=lines, headers={"Content-Type": "application/cloudevents-batch+json"})
    assert (answer.status, answer.error["details"]["line"]) == (422, 2), answer.body
    assert what in answer.error["message"]
    assert service.app.ledger.size == size


@pytest.mark.parametrize("url", GOOD)
@pytest.mark.parametrize("kind", HOME)
async def test_other_urls_are_kept_as_they_came(user, kind, url):
    id = await user.create(kind, **BODIES[kind], callback_url=url)
    assert (await user.get(f"{'/v1/runs' if kind == 'run' else '/v1/jobs'}/{id}")).json["callback_url"] == url


async def test_what_the_operator_opened_is_taken(ledger_file):
    async with serving(ledger_file, callback_rules=Rules.parse(["127.0.0.1:9000"])) as service:
        user = await service.user()
        assert (await user.post("/v1/jobs", json={"callback_url": "http://localhost:9000/"})).status == 201
        assert (await user.post("/v1/jobs", json={"callback_url": "http://127.0.0.1:9000/"})).status == 201
        assert (await user.post("/v1/jobs", json={"callback_url": "http://127.0.0.1:9001/"})).status == 422


# --- callback events that somebody brings -----------------------------------------------------------------------------

EVENTS = [
    ("callback.attempted", {"number": 1, "duration_ns": 5, "status_code": 200}),
    ("callback.delivered", {}),
    ("callback.abandoned", {"reason": "gone"}),
    ("callback.requeued", {"reason": "by hand"}),
]


def told_of(id, type, data):
    return {"specversion": "1.0", "type": type, "subject": id, "data": data}


@pytest.mark.parametrize(("type", "data"), EVENTS)
async def test_only_an_admin_may_bring_events_of_callbacks(service, user, admin, type, data):
    id = await ended(user)
    size = service.app.ledger.size
    refused = await user.post("/v1/events", json=told_of(id, type, data))
    assert (refused.status, refused.error["type"]) == (403, "forbidden")
    assert service.app.ledger.size == size
    assert (await admin.post("/v1/events", json=told_of(id, type, data))).status == 200
    assert (await admin.types(id))[-1] == type


@pytest.mark.parametrize(("type", "data"), EVENTS)
async def test_what_is_not_owed_can_neither_be_tried_nor_settled(service, admin, type, data):
    for id in (await ended(admin, url=None), await admin.create(callback_url=URL)):
        size = service.app.ledger.size
        answer = await admin.post("/v1/events", json=told_of(id, type, data))
        assert (answer.status, answer.error["details"]["type"]) == (422, "callback_not_owed"), answer.body
        assert service.app.ledger.size == size
