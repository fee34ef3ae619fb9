"""Raw HTTP under attack: requests of every route with hostile paths, parameters, headers and bodies, at a real server."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ledger import ids
from ledger.errors import BadRequest
from ledger.soundness import verify_file
from server.app import ROUTER
from tests.fuzz.attack import Target
from tests.fuzz.mutations import ID
from tests.fuzz.values import asks
from tests.scratch import scratch
from tests.server.serving import Service, User, logging_to, serving

HEADERS = (
    *(
        "Idempotency-Key: key-1",
        'If-Match: "1", W/"2"',
        'If-None-Match: "1"',
        "Accept: text/event-stream",
        "user_id: user-",
    ),
    *("Last-Event-ID: 3", "X-Project-Id: p1", "X-Request-Id: req-1", "Ledger-Position: 1", "Content-Encoding: gzip"),
    *("Content-Type: application/cloudevents-batch+json", "Cookie: a=b", "Range: bytes=0-1", "Accept-Encoding: br"),
    *(
        "If-Match: \udcff",
        "Last-Event-ID: \udcff",
        "Ledger-Position: \udcff",
        "user_id: \udcff",
        "X-Project-Id: \udcff\x01",
    ),
)
BODIES = (
    '{"agent_id":"agent-1","status":"running","metadata":{"a":[1]}}',
    '{"status":"completed","stop_reason":"end_turn","time":"2026-11-22T00:00:00Z"}',
    '{"requests":[{"agent_id":"agent-1"}],"metadata":{"a":1}}',
    '{"reason":"asked for"}',
    '{"run_ids":null}',
    '{"starting_after":0,"include_pings":false}',
    f'[{{"id":"step-{ID}","status":"pending","model":"m","prompt_tokens":1}}]',
    f'{{"id":"message-{ID}","message_type":"assistant_message","content":"hello"}}',
    f'{{"specversion":"1.0","type":"job.created","subject":"job-{ID[:-1]}9","data":{{"user_id":"user-{ID}"}}}}',
    '{"feedback":"positive","tags":["a"]}',
    "",
)
FRAMING = re.compile(rb"(?im)^(content-length|transfer-encoding|expect|connection|upgrade)[^\n]*\n")
ANSWER_S = 20.0
"""Seconds within which any whole request has its answer, on a machine under load; the good ones take milliseconds."""
READ_MAX = 1 << 24


@contextmanager
def requests() -> Iterator[Target]:
    """Run a server, give the target that sends it requests, and see at the end that its ledger is whole."""
    with ExitStack() as stack, asyncio.Runner() as runner:
        stack.enter_context(logging_to(io.TextIOWrapper(io.BytesIO())))
        path = stack.enter_context(scratch()) / "ledger.db"
        server = serving(path, wait_timeout_s=0.1, body_timeout_s=2.0)
        service = runner.run(server.__aenter__())
        try:
            user = runner.run(service.admin(id=f"user-{ID}"))
            examples, names = _examples(), _Names(user)

            def feed(raw: bytes) -> None:
                runner.run(_send(service, names, user.token, raw))

            yield Target("requests", feed, lambda: examples, weight=4)
        finally:
            runner.run(server.__aexit__(None, None, None))
        verdict = runner.run(verify_file(path))
        assert verdict.ok, verdict.problems


FRESH_AFTER = 16
"""Requests after which there is a fresh job, batch and run: some of them delete and erase what they name."""


class _Names:
    """What placeholders of paths stand for, now."""

    def __init__(self, user: User) -> None:
        self._user, self._asked = user, 0
        self._known = {
            "token_id": ids.make("token"), "step_id": f"step-{ID}", "agent_id": "agent-2",
            "conversation_id": "default", "signature": "f1-0123456789abcdef",
        }  # fmt: skip

    async def put_into(self, head: bytes) -> bytes:
        if self._asked % FRESH_AFTER == 0:
            for kind, status in (("job", "running"), ("run", "running"), ("batch", None)):
                self._known[f"{kind}_id"] = await self._user.create(kind, **({"status": status} if status else {}))
        self._asked += 1
        return re.sub(rb"\{(\w+)\}", lambda name: self._known.get(name[1].decode(), "x").encode(), head)


def _examples() -> list[bytes]:
    found = []
    for number, route in enumerate(ROUTER.routes):
        header = HEADERS[number % len(HEADERS)]
        queries = [b"", *asks(route.query)()[2::3]] if route.query is not None else [b""]
        for at, body in enumerate(BODIES if route.method in ("POST", "PATCH") else [""] * 6):
            query = queries[(number + at) % len(queries)]
            lines = [
                f"{route.method} {route.pattern}?{query.decode()} HTTP/1.1",
                "Host: a",
                "Authorization: Bearer TOKEN",
            ]
            head = "\r\n".join([*lines, header] if (number + at) % 2 else lines) + "\r\n\r\n"
            found.append((head + body).encode("utf-8", "surrogateescape"))
    return found


async def _send(service: Service, names: _Names, token: str, raw: bytes) -> None:
    """Send a request whose framing is whole, whatever else it is; its answer is one of those that are documented."""
    head, _, body = raw.partition(b"\r\n\r\n")
    head = await names.put_into(head)
    before = service.app.ledger.size
    head = FRAMING.sub(b"", head + b"\r\n").replace(b"TOKEN", token.encode())
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port, limit=READ_MAX)
    try:
        async with asyncio.timeout(ANSWER_S):
            writer.write(head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            top = await reader.readuntil(b"\r\n\r\n")
            if b"text/event-stream" in top:
                return
            said = await reader.read(-1)
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        raise AssertionError("it was not answered") from error
    finally:
        writer.transport.abort()
    status = int(top.split(b" ")[1])
    assert b"\r\nX-Request-Id: " in top
    assert status < 500 or status == 503, said
    if status < 400 or head[:5] == b"HEAD ":
        return
    error = json.loads(said)["error"]
    assert error["message"]
    assert service.app.ledger.size == before or error["type"] == "invalid_job_status_transition", (
        "half of it was recorded"
    )
    raise BadRequest(reason=error["type"])
