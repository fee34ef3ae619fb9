"""Reading the sums of jobs, runs or batches: histograms by the day or hour of creation, and the busiest agents.

Whole days are read from sums, whole hours too where they are kept, and what is left at the ends of a period from the
rows; so every period is counted exactly, and none by reading all its rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from projections.period import DAY_US, Period, Piece, pieces
from projections.reader import Reader
from projections.tally import (
    AGENT,
    ALL,
    DAYS,
    HOUR_US,
    HOURS,
    NOTES,
    OWN,
    PROJECT,
    SERIES,
    STATUSES,
    TALLY,
    WIDTH,
    Histogram,
    add,
    block_of,
    codes_of,
    notes_of,
    whole_of,
)

AT_ONCE_SIZE: Final = 50_000
"""Bytes of sums up to which they are added up on the event loop, about 5 ms; more are left to a thread."""
AT_ONCE: Final = 2_000
"""Rows up to which they are counted there, likewise."""
AGENTS_MAX: Final = 5_000
"""Sums of agents that are added up by the day, some 50 ms."""
Take = Callable[..., None]
"""Takes the first hour of what a histogram is of, the histogram, and how many times (1 or -1) it counts."""
_NOTED: Final = -1
SHOWN: Final = "deleted_us IS NULL AND erased_position IS NULL"
_ROW: Final = "created_us, status, stop_reason, duration_ns, running_us, ttft_ns"


class Whose(NamedTuple):
    """Whose resources are meant: all, or those of a user, a project, an agent."""

    user_id: str | None = None
    project_id: str | None = None
    agent_id: str | None = None

    @property
    def family(self) -> int:
        """Which sums by days tell of them."""
        if self.agent_id is not None:
            return AGENT
        return OWN if self.user_id is not None else ALL if self.project_id is None else PROJECT

    @property
    def named(self) -> dict[str, str]:
        """What is asked for, by column."""
        return {name: value for name, value in self._asdict().items() if value is not None}

    def condition(self, table: str = "") -> str:
        """Return the condition on columns of the names; ``table``: with a dot, in joins."""
        return " AND ".join(["1", *(f"{table}{name} = :{name}" for name in self.named)])


Hours = dict[int, Histogram]
"""Histograms by the first hour of what they are of, since 1970."""
_BLOCK_US: Final = DAY_US * DAYS
_WHOLE: Final = {"series": "whole", "rest": "whole_rest"}
"""The column of a whole block for each of its units."""


async def series(reader: Reader, table: str, whose: Whose, period: Period, *, hourly: bool) -> Hours:
    """Return statuses and durations of what was created in the period: by days, or (``hourly``) by hours."""
    units = 1 if hourly else 24
    found: Hours = {}

    def take(hour: int, counts: Histogram, times: int = 1) -> None:
        add(found.setdefault(hour // units * units, {}), counts, times)

    sizes = [*([] if hourly else [DAY_US]), *([HOUR_US] if whose.family == ALL else []), 1]
    await _Reading(reader, table, whose, list(pieces(period, sizes)), "series").read(take)
    told = ((hour, {code: count for code, count in counts.items() if code < SERIES}) for hour, counts in found.items())
    return {hour: counts for hour, counts in told if any(counts.values())}


async def total(reader: Reader, table: str, whose: Whose, period: Period, *, short: bool = False) -> Histogram:
    """Return the histogram of all that was created in the period; ``short``: only of statuses and durations."""
    found: Histogram = {}

    def take(hour: int, counts: Histogram, times: int = 1) -> None:
        add(found, counts, times)

    sizes = [_BLOCK_US, DAY_US, *([HOUR_US] if whose.family == ALL else []), 1]
    columns = ("series",) if short else ("series", "rest")
    await _Reading(reader, table, whose, list(pieces(period, sizes)), *columns).read(take)
    return found


class _Reading:
    """One reading of the sums of a period, cut into pieces; ``columns``: what is wanted of those that no block is."""

    def __init__(self, reader: Reader, table: str, whose: Whose, cut: Sequence[Piece], *columns: str) -> None:
        self._reader = reader
        self._table = table
        self._whose = whose
        self._columns = columns
        self._kept = [piece for piece in cut if piece.size_us > 1]
        self._loose = [piece for piece in cut if piece.size_us == 1]

    async def read(self, take: Take) -> None:
        """Give all histograms to ``take``, each with its hour."""
        for piece in self._loose:
            await self._take_rows(piece, take)
        if self._kept:
            rows = await self._sums()
            if sum(len(said) for *_, said in rows) > AT_ONCE_SIZE:
                await asyncio.to_thread(self._take_sums, rows, take)
            else:
                self._take_sums(rows, take)

    async def _take_rows(self, piece: Piece, take: Take) -> None:
        """Take what only the rows themselves tell."""
        where = f"created_us >= :since AND created_us < :until AND {SHOWN} AND {self._whose.condition()}"
        bound = {"since": piece.since_us, "until": piece.until_us, **self._whose.named}
        rows = await self._reader.read(f"SELECT {_ROW} FROM {self._table} WHERE {where}", bound)
        if len(rows) > AT_ONCE:
            await asyncio.to_thread(_take_all, rows, take)
        else:
            _take_all(rows, take)

    async def _sums(self) -> list[Any]:
        """Return rows of sums, and the notes that they have not taken in: of one moment, as one query reads them."""
        bound: dict[str, Any] = {"agent": self._whose.agent_id or ""}
        owner = _owner(self._whose, bound)
        selects = []
        for number, piece in enumerate(self._kept):
            family = HOURS if piece.size_us == HOUR_US else self._whose.family
            width_us = (HOUR_US if family == HOURS else DAY_US) * WIDTH[family]
            bound |= {
                f"family{number}": family,
                f"low{number}": piece.since_us // width_us,
                f"high{number}": (piece.until_us - 1) // width_us,
            }
            within = f"block BETWEEN :low{number} AND :high{number}"
            where = f"family = :family{number} AND agent_id = :agent AND {within}{owner}"
            columns = [_WHOLE[name] if piece.size_us == _BLOCK_US else name for name in self._columns]
            selects += [
                f"SELECT {number}, block, {column} FROM {self._table}_{TALLY} WHERE {where}" for column in columns
            ]
        selects.append(f"SELECT {_NOTED}, 0, said FROM {self._table}_{NOTES}")
        return await self._reader.read(" UNION ALL ".join(selects), bound)

    def _take_sums(self, rows: Sequence[Any], take: Take) -> None:
        for number, block, said in rows:
            if number == _NOTED:
                self._take_notes(said, take)
                continue
            piece = self._kept[number]
            if piece.size_us == _BLOCK_US:
                take(block * DAYS * 24, whole_of(said))
                continue
            hours = piece.size_us // HOUR_US
            for unit, counts in block_of(said).items():
                if piece.covers(unit * hours):
                    take(unit * hours, counts)

    def _take_notes(self, said: str, take: Take) -> None:
        named = self._whose.named
        for hour, agent, user, project, count, codes in notes_of(said):
            told = Whose(user, project, agent)
            if all(getattr(told, name) == value for name, value in named.items()) and any(
                piece.covers(hour) for piece in self._kept
            ):
                take(hour, dict.fromkeys(codes, 1), count)


def _take_all(rows: Sequence[Any], take: Take) -> None:
    for created_us, *row in rows:
        take(created_us // HOUR_US, dict.fromkeys(codes_of(created_us, *row), 1))


def _owner(whose: Whose, bound: dict[str, Any]) -> str:
    """Return the condition on whose the sums are; those of all owners have no owner."""
    named = {name: value for name, value in whose.named.items() if name != "agent_id"}
    if whose.family in (ALL, PROJECT):
        named["user_id"] = ""
    bound |= named
    return "".join(f" AND {name} = :{name}" for name in named)


async def busiest(reader: Reader, table: str, whose: Whose, period: Period, limit: int) -> Mapping[str, Histogram]:
    """Return the agents with the most resources of the period, most first, and what theirs count for."""
    bound: dict[str, Any] = {"limit": limit, **whose.named}
    selects: list[str] = []
    for number, piece in enumerate(pieces(period, (_BLOCK_US, DAY_US, 1))):
        size_us, since, until = piece.size_us, f"since{number}", f"until{number}"
        days = await _by_days(reader, table, whose, piece) if size_us == DAY_US else None
        bound |= {since: piece.since_us // size_us, until: piece.until_us // size_us}
        if size_us == _BLOCK_US:
            within = f"block >= :{since} AND block < :{until} AND agent_id <> '' AND {whose.condition()}"
            selects.append(f"SELECT agent_id AS agent, total AS many FROM {table}_{TALLY} WHERE {within}")
        elif days is not None:
            bound[f"days{number}"] = msgspec.json.encode(days).decode()
            selects.append(f"SELECT key AS agent, value AS many FROM json_each(:days{number})")
        else:
            bound |= {since: piece.since_us, until: piece.until_us}
            within = f"created_us >= :{since} AND created_us < :{until} AND {SHOWN} AND {whose.condition()}"
            selects.append(f"SELECT agent_id AS agent, 1 AS many FROM {table} WHERE agent_id <> '' AND {within}")
            continue
        selects.append(_noted(table, since, until, size_us, whose))
    if not selects:
        return {}
    ranked = (
        f"SELECT agent, sum(many) AS count FROM ({' UNION ALL '.join(selects)}) GROUP BY agent HAVING count > 0 "
        "ORDER BY count DESC, agent LIMIT :limit"
    )
    names = [name for name, _ in await reader.read(ranked, bound)]
    return {name: await total(reader, table, whose._replace(agent_id=name), period, short=True) for name in names}


async def _by_days(reader: Reader, table: str, whose: Whose, piece: Piece) -> dict[str, int] | None:
    """Return how many resources agents have in the days of a piece; None where rows are quicker to count than sums."""
    blocks = {"low": piece.since_us // _BLOCK_US, "high": (piece.until_us - 1) // _BLOCK_US, **whose.named}
    where = f"block BETWEEN :low AND :high AND agent_id <> '' AND {whose.condition()}"
    read = f"SELECT agent_id, series FROM {table}_{TALLY} WHERE {where} LIMIT {AGENTS_MAX + 1}"
    rows = await reader.read(read, blocks)
    if len(rows) > AGENTS_MAX:
        return None
    if len(rows) > AT_ONCE // 10:
        return await asyncio.to_thread(_add_days, rows, piece)
    return _add_days(rows, piece)


def _add_days(rows: Sequence[Any], piece: Piece) -> dict[str, int]:
    found: dict[str, int] = {}
    for agent_id, said in rows:
        for day, counts in block_of(said).items():
            if piece.covers(day * 24):
                found[agent_id] = found.get(agent_id, 0) + sum(counts.get(code, 0) for code in STATUSES.values())
    return found


def _noted(table: str, since: str, until: str, size_us: int, whose: Whose) -> str:
    """Return the query of what notes add to the totals of agents."""
    hours = size_us // HOUR_US
    places = {"agent_id": "value ->> 1", "user_id": "value ->> 2", "project_id": "value ->> 3"}
    mine = " AND ".join(["1", *(f"{places[name]} = :{name}" for name in whose.named)])
    within = f"value ->> 0 >= :{since} * {hours} AND value ->> 0 < :{until} * {hours} AND value ->> 1 <> ''"
    return (
        f"SELECT value ->> 1 AS agent, value ->> 4 AS many FROM {table}_{NOTES}, json_each({table}_{NOTES}.said) "
        f"WHERE {within} AND {mine}"
    )
