"""The server keeps what its OpenAPI document says: schemathesis sends it requests that the document allows and forbids.

Cases come from the document by a fixed seed. Whatever is sent, no answer is a 5xx, has a status or a body that the
document does not name, or takes what the document forbids; and what it allows is refused only for reasons that no
schema can tell.
"""

import asyncio
import io
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode, checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from server.app import ROUTER
from server.openapi.document import document
from tests.scratch import scratch
from tests.server.serving import logging_to, serving

POSITIVE_EXAMPLES, NEGATIVE_EXAMPLES = 7, 4
"""Cases for each route: with these the whole file takes about 12 s of one core."""
CHECKS = [
    checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
DEPENDS = [
    "is another name of .*; they differ",
    "goes with a terminal status",
    "only a status after created can come with",
    "names nothing to change",
    "names no value",
    "names no word to find",
    "must have at least 2 letters or digits before a",
    "has more than 32 words and phrases",
    "goes with duration_value",
    "goes with step_count",
    "needs `since`",
    "names another run than",
    "must be an integer from",  # counts in the details of providers, whose shape is theirs
    "a cancel sets 'cancelled'",
    "the log ends at position",
    "there is no event [0-9]+ among the first",
    "[0-9]+ is not within the first",
    "the log has [0-9]+ events, so no tree of",
    r"Expected `int( \| null)?`, got `float`$",  # JSON Schema takes 4.0 for an integer; the server does not
    ".* is not an integer from",  # likewise
    "holds a number out of range",
    "has more than [0-9]+ days of hours here",
    "is an integer beyond 64 bits",
    # Whether brackets hold an address, and where callbacks may go, is no matter of form.
    r"'\[.*\]' is not (an IPv6 address|a host that can be looked up)",
    "has a port that does not exist",
    "port [0-9]+ is blocked",
    "[0-9a-f.:]+ is [a-z]",
]
"""What is said of valid values that do not go together, or not with what the ledger holds."""

DOCUMENT = document(ROUTER.routes)
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = [result.ok() for result in SCHEMA.get_all_operations()]


@schemathesis.serializer("application/x-ndjson")
def as_lines(_, value):
    return b"\n".join(json.dumps(each).encode() for each in (value if isinstance(value, list) else [value]))


class Target:
    """A server in a thread of its own, an admin's headers, and resources that cases may hit."""

    def __init__(self, service, admin, ids) -> None:
        self.url = f"http://127.0.0.1:{service.port}"
        self.headers = {"Authorization": f"Bearer {admin.token}"}
        self.ids = ids
        """Ids of resources, by the name of the placeholder that they can stand for."""
        self.ended = {"run_id": ids["run_id"][2::3], "job_id": ids["job_id"][2::3]}
        self.session = requests.Session()
        self.session.trust_env = False


@contextmanager
def running() -> Iterator[Target]:
    ready, targets = threading.Event(), []

    async def serve():
        with scratch() as folder:
            async with serving(folder / "ledger.db", wait_timeout_s=1.0) as service:
                admin = await service.admin()
                stop = asyncio.Event()
                loop = asyncio.get_running_loop()
                targets.append((Target(service, admin, await seed(admin)), lambda: loop.call_soon_threadsafe(stop.set)))
                ready.set()
                await stop.wait()

    stream = io.TextIOWrapper(io.BytesIO())
    with logging_to(stream):
        thread = threading.Thread(target=asyncio.run, args=(serve(),))
        thread.start()
        assert ready.wait(30)
        ((target, stop),) = targets
        try:
            with target.session:
                yield target
        finally:
            stop()
            thread.join(30)
    assert all(line.startswith(b"{") for line in stream.buffer.getvalue().splitlines())


async def seed(admin):
    """Make resources in different states; many, as cases delete and end them."""
    found = {"job_id": [], "run_id": [], "batch_id": []}
    for _ in range(8):
        for status in ("created", "running", "completed"):  # the order that Target.ended counts on
            found["job_id"].append(await admin.create(status=status, metadata={"a": [1, {}]}))
            found["run_id"].append(await admin.create("run", status=status, conversation_id="conv-1"))
        found["batch_id"].append(await admin.create("batch"))
    return found


@pytest.fixture(scope="module")
def target():
    with running() as target:
        yield target


def aim(case, ids, data):
    """Let half of the cases hit resources that there are, and none wait for positions that never come."""
    known = [name for name in case.path_parameters or {} if name in ids]
    if known and data.draw(st.booleans()):
        for name in known:
            case.path_parameters[name] = data.draw(st.sampled_from(ids[name]))
    for name in ("user_id", "X-Project-Id"):  # another user or project sees none of them
        case.headers.pop(name, None)
    keep_position(case)


def keep_position(case):
    if case.headers.get("Ledger-Position", "").isdigit():
        case.headers["Ledger-Position"] = "1"


def check_acceptance(response):
    """Valid data is refused only where its values do not go together, or not with what the ledger holds."""
    assert response.status_code < 400 or response.status_code in (400, 403, 404, 409, 410, 412, 422)
    if response.status_code == 422:
        details = response.json()["error"]["details"]
        if isinstance(details, list):  # not of a line in a bulk append: a schema cannot say which events may follow
            unexplained = [fault for fault in details if not any(re.match(each, fault["what"]) for each in DEPENDS)]
            assert unexplained == []


def limits(examples):
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def is_stream(operation):
    """Whether the answer may go on as long as the resource does."""
    return any(
        "text/event-stream" in each.get("content", {}) for each in operation.definition.raw["responses"].values()
    )


def has_input(operation):
    return any(True for _ in operation.iter_parameters()) or bool(operation.body)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_what_the_document_allows_is_answered_as_it_says(target, operation):
    @limits(POSITIVE_EXAMPLES)
    @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE), data=st.data())
    def send(case, data):
        aim(case, target.ended if is_stream(operation) else target.ids, data)
        response = case.call(base_url=target.url, session=target.session, headers=target.headers, timeout=10)
        case.validate_response(response, checks=CHECKS)
        check_acceptance(response)

    send()


@pytest.mark.parametrize(
    "operation", [each for each in OPERATIONS if has_input(each)], ids=lambda operation: operation.label
)
def test_what_the_document_forbids_is_refused_as_it_says(target, operation):
    @limits(NEGATIVE_EXAMPLES)
    @given(case=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def send(case):
        keep_position(case)
        response = case.call(base_url=target.url, session=target.session, headers=target.headers, timeout=10)
        case.validate_response(response, checks=CHECKS)

    send()
