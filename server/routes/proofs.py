"""Evidence for those who trust nobody: the log's signed checkpoint, and RFC 9162 proofs from its tree."""

from __future__ import annotations

import msgspec
from aiohttp import web

from ledger import jsontext
from ledger.proofs import Consistency, Inclusion
from server import audit
from server.exchange import Exchange, json_answer
from server.params import Params
from server.routing import Route

NOTE_MEDIA = "text/plain"


class OfEvent(msgspec.Struct, frozen=True):
    """Which event is to be shown to be in which tree."""

    position: int
    size: int | None


class OfTree(msgspec.Struct, frozen=True):
    """Which tree is to be shown to be the beginning of which."""

    first: int
    second: int | None


def read_inclusion(params: Params) -> OfEvent:
    """Return what the query parameters of an inclusion proof say."""
    high = jsontext.INT_MAX
    return OfEvent(params.required_integer("position", 1, high), params.integer("size", 1, high))


def read_consistency(params: Params) -> OfTree:
    """Return what the query parameters of a consistency proof say."""
    high = jsontext.INT_MAX
    return OfTree(params.required_integer("from", 0, high), params.integer("to", 0, high))


async def checkpoint(exchange: Exchange) -> web.Response:
    """Show the checkpoint of the log as it is now: a C2SP note of its name, size and root, signed with its key.

    It is kept in the ledger. Keep a copy elsewhere: `jobledger verify --against` shows by it whether the log was cut or
    rewritten since.
    """
    kept = await exchange.app.ledger.checkpoint()
    exchange.resource = audit.positions(1, kept.size)
    return web.Response(text=kept.note, content_type=NOTE_MEDIA, charset="utf-8")


async def inclusion(exchange: Exchange) -> web.Response:
    """Prove that an event is in the tree of the first `size` events (RFC 9162, 2.1.3). Hashes are hex.

    Its leaf is the hash of what the event's envelope says, with a digest of its data.
    """
    asked = exchange.asked(read_inclusion)
    exchange.resource = audit.positions(asked.position, asked.position)
    proof: Inclusion = await exchange.app.ledger.store.prove(lambda tree: tree.inclusion(asked.position, asked.size))
    return json_answer(proof)


async def consistency(exchange: Exchange) -> web.Response:
    """Prove that the tree of the first `from` events is the beginning of that of the first `to` (RFC 9162, 2.1.4)."""
    asked = exchange.asked(read_consistency)
    proof: Consistency = await exchange.app.ledger.store.prove(lambda tree: tree.consistency(asked.first, asked.second))
    exchange.resource = audit.positions(1, proof.second)
    return json_answer(proof)


_HOME = "/v1/ledger"
ROUTES = [
    Route(
        "GET", f"{_HOME}/checkpoint", checkpoint, "read", "Sign the log as it is", media=NOTE_MEDIA, positioned=False
    ),
    Route(
        "GET",
        f"{_HOME}/proof/inclusion",
        inclusion,
        "read",
        "Prove that an event is in the log",
        query=read_inclusion,
        answer=Inclusion,
        positioned=False,
    ),
    Route(
        "GET",
        f"{_HOME}/proof/consistency",
        consistency,
        "read",
        "Prove that nothing was rewritten",
        query=read_consistency,
        answer=Consistency,
        positioned=False,
    ),
]
