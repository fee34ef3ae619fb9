"""The OpenAPI document tells of every route what the server does."""

import re

import msgspec
import pytest

from server.app import ROUTER
from server.openapi import about
from server.openapi.document import document
from server.problems import _KINDS

DOCUMENT = document(ROUTER.routes)
OPERATIONS = [
    (path, method, operation) for path, methods in DOCUMENT["paths"].items() for method, operation in methods.items()
]
NAMES = [operation["operationId"] for _, _, operation in OPERATIONS]
SCOPED = [each for each in OPERATIONS if each[2]["security"]]
IDS = {"run_id": "run", "step_id": "step", "token_id": "token", "message_id": "message"}


def resolved(value):
    """What a reference names."""
    if "$ref" not in value:
        return value
    found = DOCUMENT
    for step in value["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return found


def queries(operation):
    return [each for each in operation["parameters"] if each.get("in") == "query"]


def address(path):
    """A path with its placeholders filled in, by ids that nothing has."""
    uuid = "00000000-0000-4000-8000-000000000000"
    return re.sub(r"\{(\w+)\}", lambda found: f"{IDS.get(found[1], 'job')}-{uuid}", path)


def value_of(schema):
    """A value that the schema allows."""
    if "anyOf" in schema:
        schema = schema["anyOf"][0]
    if schema["type"] == "array":
        return value_of(schema["items"])
    if "enum" in schema:
        return schema["enum"][-1]
    if schema.get("format") == "date-time":
        return "2026-11-22T03:00:00Z"
    if "pattern" in schema and "-[0-9a-f]" in schema["pattern"]:
        kind = re.match(r"\^\(?(\w+)", schema["pattern"])[1]
        return f"{kind}-00000000-0000-4000-8000-000000000000"
    return {"number": "1.5", "integer": schema.get("default", schema.get("minimum")), "boolean": "true", "string": "x"}[
        schema["type"]
    ]


def test_every_route_is_in_the_document_and_the_document_names_no_other():
    routes = {(route.pattern, route.method.lower()) for route in ROUTER.routes if not route.alias_of}
    assert {(path, method) for path, method, _ in OPERATIONS} == routes


async def test_other_spellings_are_those_of_a_documented_route():
    aliases = [route for route in ROUTER.routes if route.alias_of]
    assert aliases
    assert all(route.alias_of in DOCUMENT["paths"] for route in aliases)


def test_operations_have_names_of_their_own():
    assert len(set(NAMES)) == len(NAMES)
    assert {"jobs.list", "jobs.create", "runs.retrieve", "batches.cancel", "events.append"} <= set(NAMES)
    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", name) for name in NAMES)


def test_every_parameter_and_tag_is_explained():
    given = [(name, each) for name, (_, _, op) in zip(NAMES, OPERATIONS, strict=True) for each in op["parameters"]]
    assert [(name, each["name"]) for name, each in given if not resolved(each)["description"]] == []
    assert [tag["name"] for tag in DOCUMENT["tags"] if not tag["description"]] == []


def test_nothing_is_explained_that_no_route_has():
    names = {each["name"] for _, _, operation in OPERATIONS for each in queries(operation)}
    assert set(about.PARAMETERS) <= names


def test_every_reference_leads_somewhere():
    for reference in set(re.findall(r'"\$ref":"([^"]+)"', msgspec.json.encode(DOCUMENT).decode())):
        assert resolved({"$ref": reference}), reference


@pytest.mark.parametrize(("_", "status", "name"), _KINDS)
def test_every_error_type_is_documented_under_its_status(_, status, name):
    (_, narrowed) = DOCUMENT["components"]["responses"][str(status)]["content"]["application/json"]["schema"]["allOf"]
    assert name in narrowed["properties"]["error"]["properties"]["type"]["enum"]
    assert name in DOCUMENT["components"]["schemas"]["Refusal"]["properties"]["type"]["enum"]


def test_deprecated_routes_say_so():
    deprecated = {path for path, _, operation in OPERATIONS if operation.get("deprecated")}
    assert deprecated == {"/v1/jobs/active", "/v1/runs/active", "/v1/_internal_runs"}


def test_what_a_route_needs_follows_from_its_scope():
    by_name = dict(zip(NAMES, (operation for _, _, operation in OPERATIONS), strict=True))
    assert by_name["jobs.create"]["security"] == [{"token": ["write"]}]
    assert by_name["server.health"]["security"] == []
    assert not {"401", "403"} & by_name["server.health"]["responses"].keys()
    assert set(by_name["jobs.cancel"]["responses"]) >= {"200", "401", "403", "404", "409", "410", "412", "422"}
    assert "409" not in by_name["jobs.list"]["responses"]
    assert "304" in by_name["runs.retrieve"]["responses"]


GO_TOGETHER = {"duration_operator": "&duration_value=1", "step_count_operator": "&step_count=1", "new": "&since=1"}


def required(operation, name):
    """What a request must have beside the parameter of that name."""
    others = [each for each in queries(operation) if each.get("required") and each["name"] != name]
    return "".join(f"&{each['name']}={value_of(each['schema'])}" for each in others)


@pytest.mark.parametrize(("path", "method", "operation"), SCOPED, ids=[op["operationId"] for _, _, op in SCOPED])
async def test_each_parameter_of_the_document_is_accepted_and_any_other_refused(admin, path, method, operation):
    known = sorted(each["name"] for each in queries(operation))
    refused = await admin.request(method.upper(), f"{address(path)}?colour=red")
    assert refused.status == 422
    (allowed,) = (fault["allowed"] for fault in refused.error["details"] if fault["where"] == "colour")
    assert allowed == known
    for parameter in queries(operation):
        name, value = parameter["name"], value_of(parameter["schema"])
        with_it = GO_TOGETHER.get(name, "") + required(operation, name)
        answer = await admin.request(method.upper(), f"{address(path)}?{name}={value}{with_it}")
        # a cursor or a resource may be unknown, or unfit: that the parameter is known shows all the same
        assert answer.status in (200, 400, 404, 409), (name, answer.body)


async def test_the_document_is_open_to_all_and_the_same_for_all(service):
    answer = await service.request("GET", "/openapi.json")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json == msgspec.json.decode(msgspec.json.encode(DOCUMENT))
    assert (await service.request("GET", "/openapi.json/")).body == answer.body
