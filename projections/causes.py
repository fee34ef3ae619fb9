"""Failures by their causes: how often, since when, where; one answer over HTTP and on the files alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from ledger.events import StopReason
from ledger.scalars import Time
from ledger.times import to_text
from projections.failures import FAILURES
from projections.history import AsOf
from projections.projection import Projection
from projections.query import Where
from projections.reader import Reader
from projections.runs import RUNS

READ: Final[tuple[Projection, ...]] = (FAILURES, RUNS)
"""What the questions of this module read."""
SAMPLES: Final = 5
"""Ids that stand for a cause."""
ROWS_OF_SAMPLES: Final = 100
"""Failures among which samples are looked for: a run may fail in one way many times."""
AT_ONCE: Final = 20_000
"""Failures up to which all are read at once, about 20 ms."""
TREND: Final = 12
"""Parts of the time in which failures of a cause happened, each with a count."""
EXAMPLES: Final = 10
TOP: Final = 20
"""Agents and models that are named, those with the most failures."""

Kind = Literal["run", "job", "batch", "step", "tool"]


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Failures of one cause. ``kind``: what failed; ``message``: with what differs masked; ``samples``: newest first.

    ``trend``: counts over twelve equal parts of the time from the first to the last.
    """

    signature: str
    kind: Kind
    count: int
    first_seen: Time
    last_seen: Time
    status: str
    stop_reason: StopReason | None
    error_type: str | None
    tool: str | None
    message: str | None
    samples: list[str]
    trend: list[int]


class Share(msgspec.Struct, frozen=True):
    """How many failures of a cause were an agent's, or came with a model: that of the last step. None: not known."""

    name: str | None
    count: int


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One failure: where it stands in the log, and what was said of it, at most 500 characters."""

    id: str
    position: int
    time: Time
    step_id: str | None
    said: str | None


class Bucket(msgspec.Struct, frozen=True):
    """How many failures there were from ``start`` until the next one begins."""

    start: Time
    count: int


class Cause(Failure, frozen=True, kw_only=True):
    """One cause in full. ``resources``: how many runs or jobs it touched."""

    resources: int
    agents: list[Share]
    models: list[Share]
    buckets: list[Bucket]
    examples: list[Example]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which failures. None: not asked. ``since``: at this time or later, or after this position.

    ``only_new``: only causes that had never been seen before ``since``.
    """

    since: AsOf | None = None
    only_new: bool = False
    kinds: tuple[str, ...] | None = None
    stop_reason: str | None = None
    error_type: str | None = None
    tools: tuple[str, ...] | None = None
    agent_ids: tuple[str, ...] | None = None
    user_id: str | None = None
    project_id: str | None = None
    limit: int = 100


async def causes(reader: Reader, asked: Asked) -> list[Failure]:
    """Return causes, those with the most failures first."""
    where = _where(asked)
    having = ""
    if asked.only_new and asked.since is not None:
        first, sign = ("min(time_us)", ">=") if asked.since.position is None else ("min(position)", ">")
        having = f"HAVING {first} {sign} :since"
        where.parameters["since"] = asked.since.value
    text = f"SELECT {_GROUP} FROM failures WHERE {where} GROUP BY signature {having} ORDER BY 2 DESC, 4 DESC, 1"
    groups = await reader.read(f"{text} LIMIT :limit", {**where.parameters, "limit": asked.limit})
    if sum(group[1] for group in groups) > AT_ONCE:
        return [Failure(**await _told(reader, group, *await _walked(reader, group, where))) for group in groups]
    happened = await _happened(reader, [group[0] for group in groups], where)
    return [Failure(**await _told(reader, group, *_seen(group, happened[group[0]]))) for group in groups]


async def cause(reader: Reader, signature: str, asked: Asked) -> Cause | None:
    """Return one cause in full, None where nothing failed of it."""
    where = _where(asked)
    where.add("signature = :signature", signature=signature)
    text = f"SELECT {_GROUP} FROM failures WHERE {where} GROUP BY signature"
    groups = await reader.read(text, where.parameters)
    if not groups:
        return None
    told = await _told(reader, groups[0], *await _walked(reader, groups[0], where))
    starts, _ = _starts(groups[0])
    return Cause(
        **told,
        resources=await _resources(reader, told, where),
        agents=await _shares(reader, _AGENT, where),
        models=await _shares(reader, "model", where),
        buckets=[Bucket(to_text(start), count) for start, count in zip(starts, told["trend"], strict=True)],
        examples=await _examples(reader, where),
    )


async def _told(reader: Reader, group: Sequence[Any], samples: list[str], trend: list[int]) -> dict[str, Any]:
    """Return what a list tells of a group: a row of signature, count, first and last time."""
    signature, count, first_us, last_us = group
    columns = "kind, status, stop_reason, error_type, tool, message"  # the same in all rows of a signature
    text = f"SELECT {columns} FROM failures WHERE signature = :signature LIMIT 1"
    kind, status, stop_reason, error_type, tool, message = (await reader.read(text, {"signature": signature}))[0]
    return {
        "signature": signature,
        "kind": kind,
        "count": count,
        "first_seen": to_text(first_us),
        "last_seen": to_text(last_us),
        "status": status,
        "stop_reason": stop_reason,
        "error_type": error_type,
        "tool": tool,
        "message": message,
        "samples": samples,
        "trend": trend,
    }


async def _happened(reader: Reader, signatures: Sequence[str], where: Where) -> dict[str, list[Any]]:
    """Return stream and time of all failures of causes, newest first: of few it is quicker to read all at once."""
    only = where.also()
    only.add("signature IN (SELECT value FROM json_each(:listed))", listed=msgspec.json.encode(signatures).decode())
    text = f"SELECT signature, stream, time_us FROM failures WHERE {only} ORDER BY time_us DESC, position DESC"
    found: dict[str, list[Any]] = {signature: [] for signature in signatures}
    for signature, *row in await reader.read(text, only.parameters):
        found[signature].append(row)
    return found


def _seen(group: Sequence[Any], happened: Sequence[Any]) -> tuple[list[str], list[int]]:
    """Return samples and trend of a group from all its failures."""
    starts, width_us = _starts(group)
    trend = [0] * TREND
    for _, time_us in happened:
        trend[(time_us - starts[0]) // width_us] += 1
    return _samples(happened), trend


async def _walked(reader: Reader, group: Sequence[Any], where: Where) -> tuple[list[str], list[int]]:
    """Return samples and trend of a group, each by a walk over the index."""
    only = where.also()
    only.add("signature = :signature", signature=group[0])
    text = f"SELECT stream FROM failures WHERE {only} ORDER BY time_us DESC, position DESC LIMIT {ROWS_OF_SAMPLES}"
    return _samples(await reader.read(text, only.parameters)), await _trend(reader, only, group)


def _samples(rows: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(row[0] for row in rows[:ROWS_OF_SAMPLES]))[:SAMPLES]


def _starts(group: Sequence[Any]) -> tuple[list[int], int]:
    """Return when the parts of a group's time begin, and how long each is, in microseconds."""
    _, _, first_us, last_us = group
    width_us = (last_us - first_us) // TREND + 1
    return [first_us + number * width_us for number in range(TREND)], width_us


async def _trend(reader: Reader, where: Where, group: Sequence[Any]) -> list[int]:
    starts, width_us = _starts(group)
    within = f"SELECT count(*) FROM failures WHERE {where} AND time_us >= part.value AND time_us < part.value + :width"
    text = f"SELECT ({within}) FROM json_each(:starts) AS part ORDER BY part.value"
    bound = {"starts": msgspec.json.encode(starts).decode(), "width": width_us}
    rows = await reader.read(text, {**where.parameters, **bound})
    return [row[0] for row in rows]


async def _resources(reader: Reader, told: dict[str, Any], where: Where) -> int:
    """Return how many runs or jobs a cause touched: one that fails as a whole does so once."""
    count: int = told["count"]
    if told["kind"] in ("step", "tool"):
        rows = await reader.read(f"SELECT count(DISTINCT stream) FROM failures WHERE {where}", where.parameters)
        count = rows[0][0]
    return count


async def _shares(reader: Reader, column: str, where: Where) -> list[Share]:
    """Return the shares of what an SQL expression tells apart."""
    text = f"SELECT {column}, count(*) FROM failures WHERE {where} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {TOP}"
    return [Share(*row) for row in await reader.read(text, where.parameters)]


async def _examples(reader: Reader, where: Where) -> list[Example]:
    rows = await reader.read(
        f"SELECT stream, position, time_us, step_id, said FROM failures WHERE {where} "
        "ORDER BY time_us DESC, position DESC LIMIT :many",
        {**where.parameters, "many": EXAMPLES},
    )
    return [
        Example(id=id, position=position, time=to_text(time_us), step_id=step_id, said=said)
        for id, position, time_us, step_id, said in rows
    ]


_GROUP: Final = "signature, count(*), min(time_us), max(time_us)"
_LATE: Final = "failures.user_id IS NULL AND EXISTS (SELECT 1 FROM runs WHERE runs.id = failures.stream AND {})"
"""The condition on the run of what failed after its end: such a row does not name whose it was."""
_AGENT: Final = (
    "CASE WHEN failures.user_id IS NOT NULL THEN failures.agent_id "
    "ELSE (SELECT runs.agent_id FROM runs WHERE runs.id = failures.stream) END"
)


def _where(asked: Asked) -> Where:
    where = Where()
    where.add("signature IS NOT NULL")
    if asked.kinds is not None:
        where.one_of("kind", asked.kinds, "kind")
    for column, value in (("stop_reason", asked.stop_reason), ("error_type", asked.error_type)):
        if value is not None:
            where.add(f"{column} = :{column}", **{column: value})
    if asked.tools is not None:
        where.one_of("tool", asked.tools, "tool")
    if asked.since is not None and not asked.only_new:
        condition = "time_us >= :since" if asked.since.position is None else "position > :since"
        where.add(condition, since=asked.since.value)
    if asked.agent_ids is not None:
        own = Where()
        own.one_of("failures.agent_id", asked.agent_ids, "agent")
        _add_own(where, own)
    _limit_to_owner(where, asked)
    return where


def _limit_to_owner(where: Where, asked: Asked) -> None:
    """Add the condition that whoever asks may see what failed. Where a row does not name the owner, the run's does."""
    own = Where()
    for column, value in (("user_id", asked.user_id), ("project_id", asked.project_id)):
        if value is not None:
            own.add(f"failures.{column} = :{column}", **{column: value})
    if own.conditions:
        _add_own(where, own)


def _add_own(where: Where, own: Where) -> None:
    """Add conditions on what rows name, or else their runs."""
    where.add(f"(({own}) OR ({_LATE.format(str(own).replace('failures.', 'runs.'))}))", **own.parameters)
