"""Reading the sums of jobs, runs or batches: histograms by the day or hour of creation, and the busiest agents.

Whole days are read from sums, whole hours too where they are kept, and what is left at the ends of a period from the
rows; so every period is counted exactly, and none by reading all its rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from projections.period import DAY_US, Period, Piece, pieces
from projections.reader import Reader
from projections.tally import (
    AGENT,
    ALL,
    HOUR_US,
    HOURS,
    NOTES,
    OWN,
    PROJECT,
    TALLY,
    WIDTH,
    Histogram,
    add,
    block_of,
    codes_of,
    notes_of,
)

AT_ONCE_SIZE: Final = 50_000
"""Bytes of sums up to which they are added up on the event loop, about 5 ms; more are left to a thread."""
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


async def histograms(reader: Reader, table: str, whose: Whose, period: Period, *, hourly: bool) -> Hours:
    """Return what was created in the period: by days, or (``hourly``) by hours."""
    cut = list(pieces(period, _sizes(whose, hourly=hourly)))
    units = 1 if hourly else 24
    found: Hours = {}
    for piece in cut:
        if piece.size_us == 1:
            await _add_rows(reader, table, whose, piece, found, units)
    kept = [piece for piece in cut if piece.size_us > 1]
    if kept:
        rows = await _sums(reader, table, whose, kept)
        if sum(len(said) for *_, said in rows) > AT_ONCE_SIZE:
            await asyncio.to_thread(_add_sums, rows, whose, kept, found, units)
        else:
            _add_sums(rows, whose, kept, found, units)
    return {hour: counts for hour, counts in found.items() if any(counts.values())}


def _sizes(whose: Whose, *, hourly: bool) -> list[int]:
    """Return the sizes of what sums are kept of."""
    by_hours = [HOUR_US] if whose.family == ALL else []
    return [*([] if hourly else [DAY_US]), *by_hours, 1]


async def _add_rows(reader: Reader, table: str, whose: Whose, piece: Piece, found: Hours, units: int) -> None:
    """Add what only the rows themselves tell."""
    where = f"created_us >= :since AND created_us < :until AND {SHOWN} AND {whose.condition()}"
    bound = {"since": piece.since_us, "until": piece.until_us, **whose.named}
    for created_us, *row in await reader.read(f"SELECT {_ROW} FROM {table} WHERE {where}", bound):
        histogram = found.setdefault(created_us // HOUR_US // units * units, {})
        for code in codes_of(created_us, *row):
            histogram[code] = histogram.get(code, 0) + 1


async def _sums(reader: Reader, table: str, whose: Whose, kept: Sequence[Piece]) -> list[Any]:
    """Return rows of sums, and the notes that they have not taken in: of one moment, as one query reads them."""
    bound: dict[str, Any] = {"agent": whose.agent_id or ""}
    selects = []
    for number, piece in enumerate(kept):
        family = whose.family if piece.size_us == DAY_US else HOURS
        width_us = piece.size_us * WIDTH[family]
        bound |= {
            f"family{number}": family,
            f"low{number}": piece.since_us // width_us,
            f"high{number}": (piece.until_us - 1) // width_us,
        }
        selects.append(
            f"SELECT family, said FROM {table}_{TALLY} WHERE family = :family{number} AND agent_id = :agent "
            f"AND block BETWEEN :low{number} AND :high{number}{_owner(whose, bound)}"
        )
    selects.append(f"SELECT {_NOTED}, said FROM {table}_{NOTES}")
    return await reader.read(" UNION ALL ".join(selects), bound)


def _owner(whose: Whose, bound: dict[str, Any]) -> str:
    """Return the condition on whose the sums are; those of all owners have no owner."""
    named = {name: value for name, value in whose.named.items() if name != "agent_id"}
    if whose.family in (ALL, PROJECT):
        named["user_id"] = ""
    bound |= named
    return "".join(f" AND {name} = :{name}" for name in named)


def _add_sums(rows: Sequence[Any], whose: Whose, kept: Sequence[Piece], found: Hours, units: int) -> None:
    for family, said in rows:
        if family == _NOTED:
            _add_notes(said, whose, kept, found, units)
            continue
        hours = 1 if family == HOURS else 24
        mine = [piece for piece in kept if (piece.size_us == HOUR_US) == (family == HOURS)]
        for unit, counts in block_of(said).items():
            hour = unit * hours
            if any(piece.covers(hour) for piece in mine):
                add(found.setdefault(hour // units * units, {}), counts)


def _add_notes(said: str, whose: Whose, kept: Sequence[Piece], found: Hours, units: int) -> None:
    for hour, agent, user, project, count, codes in notes_of(said):
        told = Whose(user, project, agent)
        if all(getattr(told, name) == value for name, value in whose.named.items()) and any(
            piece.covers(hour) for piece in kept
        ):
            add(found.setdefault(hour // units * units, {}), dict.fromkeys(codes, 1), count)


async def busiest(reader: Reader, table: str, whose: Whose, period: Period, limit: int) -> Mapping[str, Histogram]:
    """Return the agents with the most resources of the period, most first, and what theirs count for."""
    size_us = DAY_US * WIDTH[AGENT]
    bound: dict[str, Any] = {"limit": limit, **whose.named}
    selects = []
    for number, piece in enumerate(pieces(period, (size_us, 1))):
        since, until = f"since{number}", f"until{number}"
        mine = whose.condition()
        if piece.size_us == 1:
            bound |= {since: piece.since_us, until: piece.until_us}
            within = f"created_us >= :{since} AND created_us < :{until} AND {SHOWN} AND {mine}"
            selects.append(f"SELECT agent_id AS agent, 1 AS many FROM {table} WHERE agent_id <> '' AND {within}")
            continue
        bound |= {since: piece.since_us // size_us, until: piece.until_us // size_us}
        within = f"block >= :{since} AND block < :{until} AND agent_id <> '' AND {mine}"
        selects.append(f"SELECT agent_id AS agent, total AS many FROM {table}_{TALLY} WHERE {within}")
        selects.append(_noted(table, since, until, size_us, whose))
    if not selects:
        return {}
    ranked = (
        f"SELECT agent, sum(many) AS count FROM ({' UNION ALL '.join(selects)}) GROUP BY agent HAVING count > 0 "
        "ORDER BY count DESC, agent LIMIT :limit"
    )
    names = [name for name, _ in await reader.read(ranked, bound)]
    found = {}
    for name in names:
        days = await histograms(reader, table, whose._replace(agent_id=name), period, hourly=False)
        found[name] = total(days)
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


def total(hours: Hours) -> Histogram:
    """Return the histogram of all of them."""
    found: Histogram = {}
    for counts in hours.values():
        add(found, counts)
    return found
