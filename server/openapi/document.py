"""The OpenAPI 3.1 document of a route table."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any, Final

import msgspec

from ledger import ids
from ledger.messages import LettaMessage
from ledger.scalars import LABEL
from server.exchange import JSON
from server.openapi import about, answers
from server.openapi.answers import SSE, Schema
from server.openapi.recorder import parameters
from server.problems import Error
from server.routing import Route

NAMED: Final[dict[str, Any]] = {"LettaMessage": LettaMessage}
"""Unions that get a component of their own: msgspec gives one to Structs alone."""
_REF: Final = "#/components/schemas/{name}"
_SCHEMA_REF: Final = re.compile(r'"#/components/schemas/([^"]+)"')


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the document: each route once, its other spellings left out."""
    shown = [route for route in routes if not route.alias_of]
    schemas = Schemas(shape for route in shown for shape in _shapes(route))
    paths: dict[str, dict[str, Any]] = {}
    for route, name in zip(shown, _operation_ids(shown), strict=True):
        paths.setdefault(route.pattern, {})[route.method.lower()] = _operation(route, name, schemas)
    tags = dict.fromkeys(tag_of(route) for route in shown)
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Job Ledger",
            "version": version("jobledger"),
            "description": about.INFO,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag, "description": about.TAGS.get(tag, "")} for tag in tags],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": answers.refusal_components(),
            "parameters": answers.parameter_components(),
            "headers": answers.header_components(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": about.TOKEN}},
        },
    }
    _prune(found)
    return found


def _prune(document: dict[str, Any]) -> None:
    """Leave out the schemas that nothing refers to any more."""
    components = document["components"]
    schemas = components.pop("schemas")
    wanted, todo = set[str](), [document["paths"], components]
    while todo:
        new = set(_SCHEMA_REF.findall(msgspec.json.encode(todo.pop()).decode())) - wanted
        wanted |= new
        todo += [schemas[name] for name in new]
    components["schemas"] = {name: schema for name, schema in schemas.items() if name in wanted}


def tag_of(route: Route) -> str:
    """Return the heading that a route stands under: what the first segment of its path names."""
    first = route.pattern.removeprefix("/v1").strip("/").partition("/")[0]
    return about.TAG_OF_SEGMENT.get(first, first)


def _operation_ids(routes: Sequence[Route]) -> list[str]:
    """Return a name for each route: its tag and what its handler is called, such as ``jobs.retrieve``.

    Where two routes share a handler, the later one's name ends in the last literal segment of its path.
    """
    names: list[str] = []
    for route in routes:
        tag = tag_of(route)
        name = f"{tag}.{route.handler.__name__.removesuffix(f'_{tag}').removesuffix(f'_{tag[:-1]}')}"
        if name in names:
            literals = [part for part in route.pattern.strip("/").split("/") if not part.startswith("{")]
            name = f"{name}_{literals[-1].strip('_')}"
        names.append(name)
    return names


def _operation(route: Route, name: str, schemas: Schemas) -> dict[str, Any]:
    query = parameters(route.query)
    headers = [{"$ref": f"#/components/parameters/{header}"} for header in answers.header_parameters(route)]
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": route.summary,
        "description": (inspect.getdoc(route.handler) or "").replace("``", "`"),
        "tags": [tag_of(route)],
        "parameters": [*map(_path_parameter, answers.placeholders(route)), *query, *headers],
        "responses": _responses(route, [each["name"] for each in query], schemas),
        "security": [] if route.scope is None else [{"token": [route.scope]}],
    }
    if route.body is not None and not _is_empty(route.body):
        content = {media: {"schema": schemas.of(route.body)} for media in route.body_media}
        operation["requestBody"] = {"required": not _may_be_absent(route.body), "content": content}
    if route.deprecated:
        operation["deprecated"] = True
    return operation


def _path_parameter(name: str) -> dict[str, Any]:
    kinds = answers.TYPED.get(name)
    schema = LABEL if kinds is None else {"pattern": ids.pattern(*kinds)}
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": about.PATHS.get(name, ""),
        "schema": {"type": "string", **schema},
    }


def _responses(route: Route, query: list[str], schemas: Schemas) -> dict[str, Any]:
    found: dict[str, Any] = {str(route.status): _good(route, query, schemas)}
    if route.etag and route.method == "GET":
        found["304"] = {"description": about.STATUSES[304], "headers": _header_references(["ETag", "X-Request-Id"])}
    for status in answers.refusals(route, query):
        found[str(status)] = {"$ref": f"#/components/responses/{status}"}
    for status, shape in route.also.items():
        either = [schemas.of(shape), *([schemas.of(Error)] if str(status) in found else [])]
        found[str(status)] = {
            "description": about.STATUSES[status],
            "headers": _header_references(["X-Request-Id"]),
            "content": {JSON: {"schema": {"anyOf": either}}},
        }
    return dict(sorted(found.items()))


def _good(route: Route, query: list[str], schemas: Schemas) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if route.answer is not None:
        content[route.media] = {"schema": schemas.of(route.answer)}
    elif route.stream is None:
        content[route.media] = {"schema": {"type": "string"}}
    if route.stream is not None:
        content[SSE] = {"schema": _event(schemas.of(route.stream))}
    headers = [*answers.answer_headers(route, query), "X-Request-Id"]
    return {"description": about.STATUSES[route.status], "headers": _header_references(headers), "content": content}


def _event(data: Schema) -> Schema:
    """Return the schema of each server-sent event of a stream, as OpenAPI 3.2 writes it; V1 streams end with [DONE]."""
    shape = {"anyOf": [{"const": "[DONE]"}, {"type": "string", "contentMediaType": JSON, "contentSchema": data}]}
    return {
        "type": "object",
        "description": "One server-sent event; its data is JSON, or [DONE] where a run's stream is over.",
        "properties": {"data": shape, "id": {"type": "string"}, "event": {"type": "string"}},
        "required": ["data"],
    }


def _header_references(names: list[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _shapes(route: Route) -> list[Any]:
    shapes = [route.body, route.answer, route.stream, *route.also.values()]
    return [shape for shape in shapes if shape is not None]


def _is_empty(shape: Any) -> bool:
    return isinstance(shape, type) and issubclass(shape, msgspec.Struct) and not shape.__struct_fields__


def _may_be_absent(shape: Any) -> bool:
    """Tell whether no body will do: it is read as an empty object."""
    try:
        msgspec.convert({}, shape)
    except msgspec.ValidationError:
        return False
    return True


class Schemas:
    """The schemas of all shapes that routes name, made in one go so that their components agree."""

    def __init__(self, shapes: Iterable[Any]) -> None:
        self._shapes = [Error, *NAMED.values(), *shapes]
        found, components = msgspec.json.schema_components(self._shapes, ref_template=_REF)
        named = dict(zip(NAMED, found[1:], strict=False))
        self.components = {name: _tidy(schema, named) for name, schema in sorted({**components, **named}.items())}
        self._found = [_tidy(schema, named) for schema in found]

    def of(self, shape: Any) -> Schema:
        """Return the schema of a shape, a reference where it has a name."""
        schema: Schema = self._found[next(place for place, each in enumerate(self._shapes) if each is shape)]
        return schema


def _tidy(schema: Any, named: dict[str, Schema], *, is_top: bool = True) -> Any:
    """Return a schema with named unions referred to, and docstrings' backticks as Markdown has them."""
    if isinstance(schema, list):
        return [_tidy(each, named, is_top=False) for each in schema]
    if not isinstance(schema, dict):
        return schema
    for name, union in named.items():
        if schema == union and not is_top:
            return {"$ref": _REF.format(name=name)}
    tidied = {name: _tidy(each, named, is_top=False) for name, each in schema.items()}
    if isinstance(text := tidied.get("description"), str):
        tidied["description"] = text.replace("``", "`")
    return tidied
