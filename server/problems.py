"""Errors as HTTP: the one place that knows status codes. One shape, always JSON (contract 3, seed 002)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta

from ledger import errors
from ledger.bulk import LineError

RETRY_AFTER_S = 1
"""What ``Retry-After`` says: a full queue is written in well under a second."""


class Unauthorized(errors.LedgerError):
    """{reason}"""


class Forbidden(errors.LedgerError):
    """{reason}"""


class MethodNotAllowed(errors.LedgerError):
    """{method} is not allowed here; allowed: {allowed}."""


class NoSuchRoute(errors.LedgerError):
    """There is no route {path}."""


class PayloadTooLarge(errors.LedgerError):
    """The body is over the limit of {limit} bytes."""


class BrokenBody(errors.BadRequest):
    """The body is broken: its encoding or framing is wrong."""


class SlowBody(errors.LedgerError):
    """The body did not arrive within {timeout_s:g} seconds."""


class SlowHead(errors.LedgerError):
    """The head of the request did not arrive within {timeout_s:g} seconds."""


INTERNAL = "internal_error"
UNAUTHORIZED = "unauthorized"
UNAVAILABLE = "unavailable"
_KINDS: tuple[tuple[type[errors.LedgerError], int, str], ...] = (
    (LineError, 422, "validation_error"),
    (errors.InvalidInput, 422, "validation_error"),
    (errors.BadRequest, 400, "invalid_request"),
    (Unauthorized, 401, UNAUTHORIZED),
    (Forbidden, 403, "forbidden"),
    (errors.NotFound, 404, "not_found"),
    (NoSuchRoute, 404, "not_found"),
    (MethodNotAllowed, 405, "method_not_allowed"),
    (SlowBody, 408, "request_timeout"),
    (SlowHead, 408, "request_timeout"),
    (errors.InvalidTransition, 409, "invalid_job_status_transition"),
    (errors.AlreadyExists, 409, "already_exists"),
    (errors.IdempotencyConflict, 409, "idempotency_conflict"),
    (errors.NothingToCancel, 409, "nothing_to_cancel"),
    (errors.NothingOwed, 409, "callback_not_owed"),
    (errors.Erased, 410, "erased"),
    (errors.VersionMismatch, 412, "version_mismatch"),
    (PayloadTooLarge, 413, "payload_too_large"),
    (errors.Unavailable, 503, UNAVAILABLE),
)
ERROR_TYPES: dict[int, tuple[str, ...]] = {
    status: tuple(dict.fromkeys(name for _, known, name in _KINDS if known == status))
    for status in sorted({status for _, status, _ in _KINDS})
} | {500: (INTERNAL,)}
"""The error types that each status can have."""
_RETRY = (408, 429, 500, 503)
"""Statuses after which the same request may succeed; all others are final and say so."""


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong with the values of a request: where, what, and what is allowed there."""

    where: str
    what: str
    allowed: Any


_TypeName = Annotated[
    str, Meta(extra_json_schema={"enum": sorted({name for names in ERROR_TYPES.values() for name in names})})
]


class Refusal(msgspec.Struct, frozen=True):
    """Why there is no other answer. ``details`` lists each fault of a ``validation_error``, else holds the facts."""

    type: _TypeName
    message: str
    details: list[Fault] | dict[str, Any]


class Error(msgspec.Struct, frozen=True):
    """The one shape of all errors."""

    error: Refusal


def to_response(error: BaseException, request_id: str) -> web.Response:
    """Return the answer that tells of an error; of what is no ``LedgerError`` no word is shown."""
    for kind, status, name in _KINDS:
        if isinstance(error, kind):
            return _response(status, name, str(error), _details(error), _headers(error, status))
    details = {"request_id": request_id}
    return _response(500, INTERNAL, "Something went wrong in the server; its log has the request id.", details, {})


def type_of(error: BaseException) -> str:
    """Return the error type that an answer names."""
    return next((name for kind, _, name in _KINDS if isinstance(error, kind)), INTERNAL)


def _response(status: int, name: str, message: str, details: Any, headers: dict[str, str]) -> web.Response:
    content = Error(Refusal(name, message, details))
    try:
        body = msgspec.json.encode(content)
    except UnicodeEncodeError:  # what the request held was no Unicode
        body = json.dumps(msgspec.to_builtins(content), ensure_ascii=False).encode("utf-8", "replace")
    if status not in _RETRY:
        headers["x-should-retry"] = "false"
    return web.Response(status=status, body=body, headers={"Content-Type": "application/json", **headers})


def _headers(error: errors.LedgerError, status: int) -> dict[str, str]:
    if status == 401:
        return {"WWW-Authenticate": 'Bearer realm="jobledger"'}
    if status == 503:
        return _later(error)
    if isinstance(error, MethodNotAllowed):
        return {"Allow": error.allowed}
    if isinstance(error, SlowBody | PayloadTooLarge | BrokenBody):
        return {"Connection": "close"}
    return {"Ledger-Position": str(error.facts["position"])} if "position" in error.facts else {}


def _later(error: errors.LedgerError) -> dict[str, str]:
    headers = {"Retry-After": str(error.facts.get("retry_after_s", RETRY_AFTER_S))}
    if isinstance(error, errors.NotShown):
        headers["Ledger-Position"] = str(error.facts["position"])
    if isinstance(error, errors.NotShown | errors.InDoubt):
        headers["x-should-retry"] = "false"  # clients that do so by themselves send no key, and would record it twice
    return headers


def _transition(error: errors.InvalidTransition) -> dict[str, Any]:
    return {name: error.facts[name] for name in ("current_status", "requested_status", "allowed")}


def _line(error: LineError) -> dict[str, Any]:
    cause = error.facts["cause"]
    return {"line": error.facts["line"], "type": type_of(cause), "details": _details(cause)}


_DETAILS: dict[type, Callable[[Any], Any]] = {
    LineError: _line,
    errors.InvalidInput: lambda error: error.facts["faults"],
    errors.InvalidTransition: _transition,
}


def _details(error: errors.LedgerError) -> Any:
    for kind, details in _DETAILS.items():
        if isinstance(error, kind):
            return details(error)
    plain = (str, int, float, bool, type(None))
    return {name: value for name, value in error.facts.items() if isinstance(value, plain) and name != "reason"}
