"""The report of a run: what was wrong, its steps and its timeline, derived from its events."""

from __future__ import annotations

import asyncio

from aiohttp import web

from projections.report import Report, report
from server.exchange import JSON, Exchange
from server.params import Params
from server.routes.resources import find
from server.routes.runs import RUN
from server.routing import Route

AT_ONCE = 100
"""Events up to which a report is derived on the event loop, about 5 ms; more are left to a thread."""


def read_full(params: Params) -> bool:
    """Return whether texts are asked for whole."""
    return params.boolean("full") or False
