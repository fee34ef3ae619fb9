"""Lists: from query parameters to a page of stored wire bytes, kept until the views change (contract 3, Lists)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from ledger import ids
from ledger.errors import BadRequest, invalid
from ledger.jsontext import INT_MAX
from ledger.scalars import DURATION_MAX_NS
from ledger.transitions import STOP_REASONS, statuses
from projections import jobs
from projections.history import AsOf
from projections.progress import with_progress
from projections.query import Filters, Query
from projections.transcript import Pages
from projections.views import Page
from server.exchange import JSON, Exchange
from server.params import LIMIT_DEFAULT, LIMIT_MAX, Params

LIMIT_ACTIVE = 50
STUCK_FOR_MAX_S = 100 * 365 * 86_400
"""How long a silence can be asked for, a hundred years: the oldest histories that are imported are of 1996."""


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What a list route has of its own."""

    table: str
    kind: str
    filters: Callable[[Params], Filters]
    active: bool = False
    by_duration: bool = False
    job_types: bool = False

    def read(self, params: Params) -> Query:
        """Return what the query parameters ask for, before it is limited to what the caller may see."""
        table = self.table
        if self.job_types:
            table = _TABLES[params.choice("job_type", tuple(_TABLES)) or "job"]
        filters = msgspec.structs.replace(self.filters(params), project_id=params.text("project_id"))
        if self.active:
            filters = msgspec.structs.replace(filters, active=True)
        orders = ("created_at", "duration") if self.by_duration else ("created_at",)
        kinds = ("job", "run") if self.job_types else ("run" if self.kind == "run" else "job",)
        return Query(
            table=table,
            filters=filters,
            descending=_descending(params, self),
            by_duration=params.choice("order_by", orders) == "duration",
            after=_cursor(params, "after", kinds),
            before=_cursor(params, "before", kinds),
            limit=params.integer("limit", 1, LIMIT_MAX, LIMIT_ACTIVE if self.active else LIMIT_DEFAULT) or 1,
            as_of=params.point("as_of"),
        )


_TABLES = {"job": "jobs", "run": "runs", "batch": "batches"}


async def answer(exchange: Exchange, listing: Listing) -> web.Response:
    """Return the page that the request asks for."""
    exchange.reads_rows()
    if "Ledger-Position" in exchange.request.headers:
        await exchange.wait_for_position()
    return kept(exchange) or await made(exchange, lambda: _make(exchange, listing))


async def _make(exchange: Exchange, listing: Listing) -> Made:
    query = await _query(exchange, listing)
    render = jobs.render if listing.job_types and query.table == "runs" else None
    page = await exchange.app.views.page(query, render)
    link = next_link(exchange, page, backwards=query.backwards)
    wires = page.wires
    if query.table == "batches":
        wires = await with_progress(exchange.app.views, wires, query.as_of)
    return Made(b"[" + b",".join(wires) + b"]", link, query.as_of is None and query.filters.stuck_for_us is None)


class Made(NamedTuple):
    """The body of a list, its Link header, and whether it stays the same until the views change.

    What depends on the clock does not.
    """

    body: bytes
    link: str | None
    is_current: bool = True


def _key(exchange: Exchange) -> tuple[str, str, str | None, str | None]:
    """Return what an answer depends on beside the views: what is asked for, and what the caller may see."""
    caller = exchange.caller
    return exchange.path, exchange.query_string, caller.owner_filter, caller.project_id


def kept(exchange: Exchange) -> web.Response | None:
    """Return the answer that was kept since the views last changed, if there is one."""
    found = exchange.app.views.kept(_key(exchange))
    return None if found is None else web.Response(body=found[1], headers=found[0])


async def made(exchange: Exchange, make: Callable[[], Awaitable[Made]]) -> web.Response:
    """Return an answer that is made now, and keep it until the views change."""
    views = exchange.app.views
    stamp = views.stamp
    body, link, is_current = await make()
    headers = {"Content-Type": JSON, "Link": link} if link else {"Content-Type": JSON}
    if is_current:
        views.keep(_key(exchange), (headers, body), len(body) + 500, stamp)
    return web.Response(body=body, headers=headers)


async def _query(exchange: Exchange, listing: Listing) -> Query:
    query = exchange.asked(listing.read)
    if query.as_of is not None:
        await check_as_of(exchange, query.as_of)
        if query.by_duration:
            raise BadRequest(reason="order_by=duration cannot be combined with as_of: durations were others then.")
        if query.filters.stuck_for_us is not None:
            raise BadRequest(reason="stuck_for cannot be combined with as_of: it is about what is silent now.")
    return msgspec.structs.replace(query, filters=own(exchange, query.filters), now_us=exchange.app.ledger.clock())


def own(exchange: Exchange, filters: Filters) -> Filters:
    """Return filters limited to what the caller may see; raise ``NotFound`` where they ask for another project."""
    user_id, project_id = exchange.limits(filters.project_id)
    return msgspec.structs.replace(filters, user_id=user_id, project_id=project_id)


def _descending(params: Params, listing: Listing) -> bool:
    order = params.choice("order", ("asc", "desc"))
    ascending = params.boolean("ascending")
    if order is not None:
        return order == "desc"
    return not (listing.active if ascending is None else ascending)


def _cursor(params: Params, name: str, kinds: tuple[str, ...]) -> str | None:
    return params.id(name, lambda text: ids.parse(text, *kinds, where=name))


async def check_as_of(exchange: Exchange, at: AsOf) -> None:
    """Raise ``InvalidInput`` for a position that the log does not have yet; wait until the views have it."""
    ledger = exchange.app.ledger
    if at.position is None:
        await exchange.app.engine.wait_for(ledger.size, exchange.app.config.wait_timeout_s)
        return
    if at.position > ledger.size:
        await ledger.refresh(surely=True)  # another server may have told of it
    if at.position > ledger.size:
        raise invalid("as_of", f"the log ends at position {ledger.size}", f"0 to {ledger.size}, or a time")
    await exchange.app.engine.wait_for(at.position, exchange.app.config.wait_timeout_s)


def next_link(exchange: Exchange, page: Page, *, backwards: bool) -> str | None:
    """Return the Link header that leads on from a page, None where there is no more."""
    if not page.more:
        return None
    dropped = "before" if backwards else "after"
    pairs = [(name, value) for name, value in exchange.request.query.items() if name != dropped]
    pairs.append((dropped, str(page.first if backwards else page.last)))
    return f'<{exchange.path}?{urlencode(pairs)}>; rel="next"'


def pages(params: Params, kind: str, default: str) -> Pages:
    """Return which page of messages or steps a query asks for. ``kind``: of their ids; ``default``: asc or desc."""

    def cursor(name: str) -> str | None:
        return params.id(name, lambda text: ids.parse(text, kind, where=name))

    asked = Pages(
        descending=(params.choice("order", ("asc", "desc")) or default) == "desc",
        after=cursor("after"),
        before=cursor("before"),
        limit=params.integer("limit", 1, LIMIT_MAX, LIMIT_DEFAULT) or 1,
    )
    params.choice("order_by", ("created_at",))
    return asked


def job_filters(params: Params) -> Filters:
    """Return the filters of ``GET /v1/jobs/``."""
    agent = params.text("agent_id")
    return Filters(
        source_id=_source(params),
        active=params.boolean("active"),
        statuses=params.many(("status", "statuses"), statuses("job")),
        agent_ids=None if agent is None else (agent,),
        stop_reason=params.choice("stop_reason", STOP_REASONS),
        background=params.boolean("background"),
        created_after_us=params.time_us("created_after"),
        created_before_us=params.time_us("created_before"),
        stuck_for_us=_stuck_for(params),
    )


def _stuck_for(params: Params) -> int | None:
    return params.duration_us("stuck_for", STUCK_FOR_MAX_S)


def _source(params: Params) -> str | None:
    source, folder = params.text("source_id"), params.text("folder_id")
    if source is not None and folder is not None and source != folder:
        params.fault("folder_id", "is another name of source_id; they differ")
    return folder if source is None else source


def active_job_filters(params: Params) -> Filters:
    """Return the filters of ``GET /v1/jobs/active``."""
    return Filters(source_id=_source(params))


def run_filters(params: Params) -> Filters:
    """Return the filters of ``GET /v1/runs/``."""
    agent = params.text("agent_id")
    agents = params.many(("agent_ids",))
    if agent is not None:
        agents = (agent,) if agents is None or agent in agents else ()
    return Filters(
        agent_ids=agents,
        statuses=params.many(("statuses", "status"), statuses("run")),
        background=params.boolean("background"),
        stop_reason=params.choice("stop_reason", STOP_REASONS),
        conversation_id=params.text("conversation_id"),
        active=params.boolean("active"),
        id=params.id("run_id", lambda text: ids.parse(text, "run", where="run_id")),
        template=params.text("template_family"),
        start_us=params.time_us("start_date"),
        end_us=params.time_us("end_date"),
        duration=_duration(params),
        duration_percentile=params.integer("duration_percentile", 1, 100),
        step_count=_step_count(params),
        tools=params.many(("tools_used",)),
        stuck_for_us=_stuck_for(params),
    )


def _step_count(params: Params) -> tuple[str, int] | None:
    value = params.integer("step_count", 0, INT_MAX)
    operator = params.choice("step_count_operator", ("eq", "gte", "lte"))
    if operator is not None and "step_count" not in params:
        params.fault("step_count_operator", "goes with step_count")
    return None if value is None else (operator or "eq", value)


def _duration(params: Params) -> tuple[str, int] | None:
    value = params.integer("duration_value", 0, DURATION_MAX_NS)
    operator = params.choice("duration_operator", ("gt", "lt", "eq"))
    if operator is not None and "duration_value" not in params:
        params.fault("duration_operator", "goes with duration_value")
    return None if value is None else (operator or "gt", value)


def batch_filters(params: Params) -> Filters:
    """Return the filters of ``GET /v1/messages/batches``."""
    return Filters(stuck_for_us=_stuck_for(params))
