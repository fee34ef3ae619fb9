"""Putting together what sends callbacks, from what the server was told."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack

import structlog
from aiohttp import AsyncResolver
from aiohttp.abc import AbstractResolver
from prometheus_client import CollectorRegistry

from ledger.ledger import Ledger
from projections.engine import Engine
from projections.views import Views
from server.callbacks import guard, secret
from server.callbacks.delivery import Delivery
from server.callbacks.dispatcher import Dispatcher
from server.callbacks.lanes import Lanes, Limits
from server.callbacks.metrics import CallbackMetrics
from server.callbacks.sender import Sender, Timeouts
from server.config import Config

log = structlog.get_logger("callbacks")


async def open_dispatcher(
    config: Config,
    ledger: Ledger,
    engine: Engine,
    views: Views,
    registry: CollectorRegistry,
    resolver: AbstractResolver | None = None,
    limits: Limits | None = None,
) -> Dispatcher:
    """Return a dispatcher, which sends nothing before its first beat; its ``close`` releases all that it has.

    Raises ``InvalidInput`` or ``Unreadable`` when there is something wrong with the secrets.
    """
    signer = await asyncio.to_thread(secret.load, config.db, os.environ)
    limits = limits or Limits()
    timeouts = Timeouts(
        total_s=config.callback_timeout_s,
        connect_s=min(Timeouts().connect_s, config.callback_timeout_s),
        read_s=config.callback_timeout_s,
    )
    async with AsyncExitStack() as stack:
        if resolver is None:
            # Without threads: names whose servers do not answer must not hold up the others.
            resolver = AsyncResolver()
            stack.push_async_callback(resolver.close)
        connector = guard.connector(config.callback_rules, resolver=resolver, limit=limits.prompt + limits.held)
        log.info(
            "callbacks.open", secrets=secret.origin(config.db, os.environ), allowed=len(config.callback_rules.allowed)
        )
        sender = Sender(connector, guard.is_refusal, timeouts)
        stack.push_async_callback(sender.close)
        delivery = Delivery(ledger, sender, signer, config.callback_schedule, CallbackMetrics(registry))
        return Dispatcher(ledger, engine, views, delivery, Lanes(limits), stack.pop_all())
