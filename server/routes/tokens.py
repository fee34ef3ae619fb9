"""Tokens: list, create, revoke (admin)."""

from __future__ import annotations

from typing import Annotated, get_args

import msgspec
from aiohttp import web
from msgspec import Meta, structs

from ledger import ids, times, tokens
from ledger.errors import NotFound, invalid
from ledger.events import Scope
from ledger.scalars import Label, Time, TokenId, UserId
from server.audit import ANYONE
from server.auth import check_scopes
from server.exchange import Exchange, json_answer
from server.grants import DAYS_MAX, grant, revoke
from server.problems import Forbidden
from server.routing import Route

Days = Annotated[float, Meta(extra_json_schema={"exclusiveMinimum": 0, "maximum": DAYS_MAX})]
ScopeName = Annotated[str, Meta(extra_json_schema={"enum": list(get_args(Scope))})]
Scopes = Annotated[list[ScopeName], Meta(extra_json_schema={"minItems": 1})]
"""What a token may do; the values are checked, with a message of its own, by ``check_scopes``."""


class CreateToken(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A new token, for the caller unless it names a user."""

    user_id: UserId | None = None
    scopes: Scopes = msgspec.field(default_factory=lambda: ["read", "write"])
    project_id: Label | None = None
    expires_days: Days | None = None


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What may be told of a token."""

    id: TokenId
    user: UserId
    scopes: Scopes
    project: str | None
    granted_at: Time
    granted_by: str
    expires_at: Time | None


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token that was just made: the only answer that shows it."""

    token: str
    id: TokenId
    user: UserId
    scopes: Scopes
    project: str | None
    granted_at: Time
    granted_by: str
    expires_at: Time | None


def show(known: tokens.Grant) -> Token:
    """Return what may be told of a token."""
    return Token(
        id=known.id,
        user=known.user_id,
        scopes=sorted(known.scopes, key=("read", "write", "admin").index),
        project=known.project_id,
        granted_at=times.to_text(known.granted_us),
        granted_by=known.granted_by,
        expires_at=None if known.expires_us is None else times.to_text(known.expires_us),
    )


async def list_tokens(exchange: Exchange) -> web.Response:
    """List the tokens that are not revoked."""
    exchange.resource = ANYONE
    return json_answer([show(known) for known in exchange.app.access.all()])


async def create(exchange: Exchange) -> web.Response:
    """Create a token; the answer is the only place where it is shown."""
    if exchange.idempotency_key() is not None:
        raise invalid("header Idempotency-Key", "cannot be kept here: a token is shown once, and only its digest stays")
    body = await exchange.body(CreateToken)
    user = exchange.caller.user_id if body.user_id is None else ids.parse(body.user_id, "user", where="user_id")
    bound = exchange.caller.project_id
    project = bound if body.project_id is None else ids.label(body.project_id, "project_id")
    if bound not in (None, project):
        raise Forbidden(reason="The token that asks is bound to another project.")
    token, id = await grant(
        exchange.app.ledger,
        user_id=user,
        scopes=check_scopes(body.scopes),
        project_id=project,
        expires_days=body.expires_days,
        actor=exchange.caller.by or exchange.caller.user_id,
    )
    exchange.resource = id
    await exchange.app.ledger.refresh(surely=True)
    return json_answer(NewToken(token=token, **structs.asdict(show(_granted(exchange, id)))), status=201)


async def delete(exchange: Exchange, token_id: str) -> web.Response:
    """Revoke a token, at once."""
    ids.parse(token_id, "token", where="token id")
    known = exchange.app.access.get(token_id)
    if known is None:
        raise NotFound(what="token", id=token_id)
    await revoke(exchange.app.ledger, token_id, actor=exchange.caller.by or exchange.caller.user_id)
    return json_answer(show(known))


def _granted(exchange: Exchange, token_id: str) -> tokens.Grant:
    known = exchange.app.access.get(token_id)
    if known is None:
        raise NotFound(what="token", id=token_id)
    return known


ROUTES = [
    Route("GET", "/v1/tokens", list_tokens, "admin", "List tokens", answer=list[Token]),
    Route("POST", "/v1/tokens", create, "admin", "Create a token", body=CreateToken, answer=NewToken, status=201),
    Route("DELETE", "/v1/tokens/{token_id}", delete, "admin", "Revoke a token", answer=Token),
]
