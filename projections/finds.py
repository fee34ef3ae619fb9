"""Full-text search: the events that say some words, newest first, of what lists show.

Finds are read in the order of the log, from its end, a part at a time, and of each part those are kept whose resource
passes the filters: however many there are, the first page comes at once. Where few pass, their resources are looked up
first and only their events are asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, Final

import msgspec

from ledger.jsontext import INT_MAX
from ledger.scalars import JobOrRunId, JobStatus, JobType, MessageId, StepId, StopReason, Time
from ledger.times import to_text
from projections import query as sql
from projections.documents import WHATS, What
from projections.phrases import Part, Phrase
from projections.query import IN_MAX, Filters, Query, Where
from projections.reader import Reader
from projections.texts import TEXTS, WORDS

PART_MIN, PART_MAX = 100, 5_000
"""Finds that are read at once: few first, as they may do; then more and more."""
WALK: Final = 400
"""Finds that are looked at, some 5 ms, before it is asked how many resources pass the filters at all."""
FEW: Final = 10_000
"""Resources that pass the filters up to which only their events are asked for."""
FEW_TEXTS: Final = 50_000
"""Events of those that may say something, up to which they are."""
WINDOW: Final = 8_192
"""Characters of a text in which a snippet is looked for: a page of megabytes would take seconds to look through."""
_LEAD: Final = 200
"""Characters before the word by which a window is found."""
TABLES: Final = {"job": "jobs", "run": "runs", "batch": "batches"}
"""The tables of kinds of resources."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for: a query as ``Phrase`` reads it. ``filters``: on the resource; times: of the events, in us.

    ``after`` and ``before``: only at positions after and before these. Of ``filters``, those on what happened within
    runs let only runs pass.
    """

    query: str
    whats: tuple[What, ...] = WHATS
    kinds: tuple[str, ...] = tuple(TABLES)
    filters: Filters = Filters()
    since_us: int | None = None
    until_us: int | None = None
    after: int | None = None
    before: int | None = None
    limit: int = 100


class Find(msgspec.Struct, frozen=True, kw_only=True):
    """An event that says what was looked for, and what its resource is now. ``what``: where it says it.

    ``stream``: the id of the job, batch or run. ``snippet``: a part of the text, cut where a word that was found begins
    and ends.
    """

    position: int
    stream: JobOrRunId
    version: int
    kind: JobType
    what: list[What]
    time: Time
    message_id: MessageId | None
    message_type: str | None
    step_id: StepId | None
    agent_id: str | None
    status: JobStatus
    stop_reason: StopReason | None
    snippet: list[Part]


class Finds(msgspec.Struct, frozen=True):
    """A page of finds; ``next_before``: the position before which there are more, None where there are none."""

    found: list[Find]
    next_before: int | None


async def find(reader: Reader, asked: Asked) -> Finds:
    """Return the newest finds that pass the filters. Raises ``InvalidInput`` where the query names nothing to find."""
    search = _Search(reader, asked)
    kept: list[tuple[int, _Resource]] = []
    async for position, resource in search.all():
        kept.append((position, resource))
        if len(kept) > asked.limit:
            break
    page = kept[: asked.limit]
    return Finds(await search.shown(page), page[-1][0] if len(kept) > asked.limit else None)


class _Resource(msgspec.Struct, frozen=True):
    id: str
    kind: str
    agent_id: str | None
    status: str
    stop_reason: str | None


class _Search:
    def __init__(self, reader: Reader, asked: Asked) -> None:
        self._reader = reader
        self._asked = asked
        self._phrase = Phrase(asked.query)
        self._match = self._phrase.match(asked.whats)
        self._places = reader.places(TEXTS.name)
        within = asked.filters.looks_within
        self._kinds = tuple(kind for kind in asked.kinds if kind == "run" or not within)
        self._resources: dict[str, _Resource | None] = {}

    async def all(self) -> AsyncIterator[tuple[int, _Resource]]:
        """Yield the positions of finds that pass the filters, newest first, with their resources."""
        low, high = await self._range()
        size, seen, few = PART_MIN, 0, None
        if self._asked.filters.id is not None:
            few = await self._few(low, high)
        while low <= high:
            rows = await self._part(low, high, size, few)
            await self._look_up({stream for _, stream in rows})
            for position, stream in rows:
                resource = self._resources[stream]
                if resource is not None:
                    yield position, resource
            if len(rows) < size:
                return
            high, seen = rows[-1][0] - 1, seen + size
            if seen > WALK and few is None:
                few = await self._few(low, high)
                seen = -INT_MAX  # asked once
            size = min(size * 4, PART_MAX) if few is None else self._asked.limit + 1  # nearly all of few pass

    async def _range(self) -> tuple[int, int]:
        """Return the first and last position that can be a find, by the times and the page."""
        asked = self._asked
        low = 1 if asked.after is None else asked.after + 1
        high = INT_MAX if asked.before is None else asked.before - 1
        if asked.since_us is None and asked.until_us is None:
            return low, high
        ends = [
            f"SELECT min(position), max(position) FROM {place.schema}.texts WHERE {place.condition} AND {times}"
            for place in self._places
            for times in [self._times()]
        ]
        rows = await self._reader.read(" UNION ALL ".join(ends), self._times().parameters, is_long=True)
        found = [row for row in rows if row[0] is not None]
        if not found:
            return 1, 0
        return max(low, min(row[0] for row in found)), min(high, max(row[1] for row in found))

    def _times(self) -> Where:
        where = Where()
        if self._asked.since_us is not None:
            where.add("time_us >= :since", since=self._asked.since_us)
        if self._asked.until_us is not None:
            where.add("time_us <= :until", until=self._asked.until_us)
        return where

    async def _part(self, low: int, high: int, size: int, few: Sequence[int] | None) -> list[Any]:
        """Return the next finds, position and stream; ``few``: only at these positions."""
        where = self._times()
        where.add("w.rowid BETWEEN :low AND :high", low=low, high=high)
        where.add("texts_words MATCH :match", match=self._match)
        if few is not None:  # with its sign it is no key to go by, for each of which the words were looked up anew
            where.add("+w.rowid IN (SELECT value FROM json_each(:few))", few=msgspec.json.encode(few).decode())
        order = "ORDER BY 1 DESC LIMIT :size"
        parts = [
            f"SELECT * FROM (SELECT w.rowid, stream FROM {place.schema}.{TEXTS.name}_{WORDS} AS w "
            f"CROSS JOIN {place.schema}.{TEXTS.name} AS t ON t.position = w.rowid "
            f"WHERE {where} AND {place.condition} ORDER BY w.rowid DESC LIMIT :size)"
            for place in self._places
        ]
        text = f"{' UNION ALL '.join(parts)} {order}" if len(parts) > 1 else parts[0]
        return await self._reader.read(text, {**where.parameters, "size": size}, is_long=True)

    async def _look_up(self, streams: Collection[str]) -> None:
        """Learn what the resources of some streams are, None where the filters do not let them pass."""
        unknown = [stream for stream in streams if stream not in self._resources]
        self._resources.update(dict.fromkeys(unknown))
        for kind in self._kinds:
            mine = [stream for stream in unknown if stream.startswith("run-") == (kind == "run")]
            for start in range(0, len(mine), IN_MAX):
                where = Where()
                where.one_of("id", tuple(mine[start : start + IN_MAX]), "stream")
                passes = self._passes(kind)
                where.add(f"CASE WHEN {passes} THEN 1 END", **passes.parameters)  # which no index is chosen for
                text = f"SELECT id, kind, agent_id, status, stop_reason FROM {TABLES[kind]} WHERE {where}"
                rows = await self._reader.read(text, where.parameters)
                self._resources.update({row[0]: _Resource(*row) for row in rows})

    def _passes(self, kind: str) -> Where:
        """Return the conditions on resources; on tools by the key of their table, for one run at a time."""
        filters = self._asked.filters
        where = sql.conditions(Query(table=TABLES[kind], filters=msgspec.structs.replace(filters, tools=None)))
        if filters.tools is not None:
            tools = Where()
            tools.one_of("tool", filters.tools, "tool")
            where.add(f"EXISTS (SELECT 1 FROM tools WHERE run_id = runs.id AND {tools})", **tools.parameters)
        return where

    async def _few(self, low: int, high: int) -> list[int] | None:
        """Return the positions of all texts of the resources that pass, None where those are many.

        Only where a filter has an index: else it would take longer to look for them than for the words.
        """
        filters = self._asked.filters
        if not any((filters.id, filters.user_id, filters.statuses, filters.agent_ids, filters.tools)):
            return None
        ids: list[str] = []
        for kind in self._kinds:
            query = Query(table=TABLES[kind], filters=filters)
            where = sql.conditions(query)
            if any((filters.id, filters.statuses, filters.agent_ids, filters.tools)):  # which owners have more of
                where.conditions = [f"+{each}" if each.startswith("user_id") else each for each in where.conditions]
            text = f"SELECT id FROM {query.table} WHERE {where} LIMIT {FEW + 1}"
            ids += [row[0] for row in await self._reader.read(text, where.parameters)]
        return None if len(ids) > FEW else await self._texts_of(ids, low, high)

    async def _texts_of(self, ids: Sequence[str], low: int, high: int) -> list[int] | None:
        found: list[int] = []
        for start in range(0, len(ids), IN_MAX):
            where = Where()
            where.one_of("stream", tuple(ids[start : start + IN_MAX]), "stream")
            where.add("+position BETWEEN :low AND :high", low=low, high=high)
            text = f"SELECT position FROM {TEXTS.name} WHERE {where} LIMIT {FEW_TEXTS + 1}"
            found += [row[0] for row in await self._reader.read(text, where.parameters)]
            if len(found) > FEW_TEXTS:
                return None
        return found

    async def shown(self, page: Sequence[tuple[int, _Resource]]) -> list[Find]:
        """Return finds with what is shown of them."""
        rows: dict[int, Any] = {}
        for start in range(0, len(page), IN_MAX):
            where = Where()
            where.one_of("position", tuple(position for position, _ in page[start : start + IN_MAX]), "position")
            told = ", ".join(f"{_window(name)} AS {name}" for name in WHATS)
            text = (
                f"SELECT position, version, time_us, message_id, message_type, step_id, {told} FROM texts WHERE {where}"
            )
            bound = {**where.parameters, "word": self._phrase.rarest}
            rows.update({row[0]: row for row in await self._reader.read(text, bound, is_long=True)})
        return [self._find(rows[position], resource) for position, resource in page if position in rows]

    def _find(self, row: Sequence[Any], resource: _Resource) -> Find:
        position, version, time_us, message_id, message_type, step_id, *texts = row
        told = {what: text for what, text in zip(WHATS, texts, strict=True) if text and what in self._asked.whats}
        snippets = {what: self._phrase.snippet(text) for what, text in told.items()}
        hits = [what for what, (count, _) in snippets.items() if count] or list(snippets)
        best = max(hits, key=lambda what: snippets[what][0])
        return Find(
            position=position,
            stream=resource.id,
            version=version,
            kind=resource.kind,
            what=hits,
            time=to_text(time_us),
            message_id=message_id,
            message_type=message_type,
            step_id=step_id,
            agent_id=resource.agent_id,
            status=resource.status,
            stop_reason=resource.stop_reason,
            snippet=snippets[best][1],
        )


def _window(name: str) -> str:
    """Return what is read of a text: all of it, or a part of a long one where its words are likely to be."""
    begin = f"max(1, instr(lower({name}), :word) - {_LEAD})"
    return f"CASE WHEN length({name}) <= {WINDOW} THEN {name} ELSE substr({name}, {begin}, {WINDOW}) END"
