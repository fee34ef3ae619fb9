"""The sums of a view of jobs, runs or batches: what ``stats`` is made of, kept while the rows are folded.

A resource that can be seen counts under the hour of its creation, its owner and its agent: its status, its stop reason,
and the classes (``histogram``) of its duration, its time in the queue and its time to the first token. What an event
changes is taken off as it was and added as it is, so that sums agree with the rows after every batch.

A change is first only noted (the part ``notes``), as to write to all sums that it moves would cost an append more than
its row does; once there are many notes, the sums (the part ``tally``) take them in. Whoever reads adds both up. Both
parts add up, so that they may be spread over several tables, where notes may be negative.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from ledger import engine as sqlite
from ledger.state import State
from ledger.transitions import STOP_REASONS, statuses
from projections.histogram import class_of
from projections.projection import Memory, part_of

HOUR_US: Final = 3_600_000_000
NOTES_MAX: Final = 1_000
"""Changes that are only noted: reading them takes a few milliseconds, as does taking them in."""
SHARE: Final = 10
"""Batches of many events are taken in once there are so many times their changes: together they touch fewer sums."""

TALLY, NOTES = "tally", "notes"
NOTED: Final = "noted"
"""In the memory of a projection: how many changes are noted."""
PARTS: Final[tuple[str, ...]] = (TALLY, NOTES)

DURATION, SERIES, _REASON, QUEUE, TTFT = 100, 4_000, 4_000, 5_000, 9_000
"""Where the codes of each measure begin: a code is what is counted, such as a status or a class of durations. Those
below ``SERIES`` are told by time, too, and stand apart."""
STATUSES: Final = {status: code for code, status in enumerate(statuses("job"))}
"""The code of each status: those of jobs are all that there are."""
_CODES, _NONE = tuple(STATUSES.values()), [0] * len(STATUSES)
REASONS: Final = {reason: _REASON + code for code, reason in enumerate(STOP_REASONS)}

Histogram = dict[int, int]
"""How many there are of each code."""
Block = dict[int, Histogram]
"""Histograms of the hours or days of a block."""
FEW: Final = 15
"""Codes that are counted faster one by one."""
Note = tuple[int, str, str, str, int, tuple[int, ...]]
"""What a resource counts for: the hour of its creation since 1970, its agent, user and project, 1 or -1, its codes."""

ALL, PROJECT, OWN, AGENT, HOURS = range(5)
"""The families of sums: by days everybody's, those of a project, of an owner in a project, of an agent of such; and
everybody's by hours. Who asks for less than a day of fewer is answered from the rows themselves."""
DAYS: Final = 16
WIDTH: Final = {ALL: DAYS, PROJECT: DAYS, OWN: DAYS, AGENT: DAYS, HOURS: 24}
"""Days or hours in one row: fewer and larger rows are quicker to read, and slower to add to."""

_COLUMNS = (
    "family INTEGER NOT NULL, agent_id TEXT NOT NULL, user_id TEXT NOT NULL, project_id TEXT NOT NULL, "
    "block INTEGER NOT NULL, total INTEGER NOT NULL, whole BLOB NOT NULL, whole_rest BLOB NOT NULL, "
    "series BLOB NOT NULL, rest BLOB NOT NULL"
)
"""``total``: how many resources; ``whole``: the histogram of the block; ``series``: those of its units; the ``rest`` of
each is what is not told by time."""
_WHERE = "family = ? AND agent_id = ? AND user_id = ? AND project_id = ? AND block = ?"

_encode = msgspec.json.Encoder().encode
notes_of = msgspec.json.Decoder(list[Note]).decode
_pack = msgspec.msgpack.Encoder().encode
block_of = msgspec.msgpack.Decoder(dict[int, dict[int, int]]).decode
whole_of = msgspec.msgpack.Decoder(dict[int, int]).decode


def note(state: State) -> Note | None:
    """Return what a resource counts for; None where it cannot be seen."""
    if state.deleted_us is not None or state.erased_position is not None:
        return None
    created_us = state.created_us
    codes = codes_of(created_us, state.status, state.stop_reason, state.duration_ns, state.running_us, state.ttft_ns)
    return created_us // HOUR_US, state.agent_id or "", state.user_id, state.project_id or "", 1, codes


def codes_of(
    created_us: int,
    status: str,
    stop_reason: str | None,
    duration_ns: int | None,
    running_us: int | None,
    ttft_ns: int | None,
) -> tuple[int, ...]:
    """Return what is counted of a resource."""
    codes = [STATUSES[status]]
    if stop_reason is not None:
        codes.append(REASONS[stop_reason])
    if duration_ns is not None:
        codes.append(DURATION + class_of(duration_ns))
    if running_us is not None:
        codes.append(QUEUE + class_of((running_us - created_us) * 1000))
    if ttft_ns is not None:
        codes.append(TTFT + class_of(ttft_ns))
    return tuple(codes)


def create(db: Any, table: str) -> None:
    """Create both parts, with the index that finds sums again."""
    tally, notes = (part_of(table, part) for part in PARTS)
    db.execute(f"CREATE TABLE {tally} ({_COLUMNS}, UNIQUE (family, agent_id, user_id, project_id, block)) STRICT")
    db.execute(f"CREATE TABLE {notes} (size INTEGER NOT NULL, said TEXT NOT NULL) STRICT")


def index(db: Any, table: str, name: str) -> None:
    """Take in all notes, and create the index of the name, which ranks agents."""
    settle(db, table)
    ranks = "(block, agent_id, user_id, project_id, total) WHERE agent_id <> ''"
    db.execute(f"CREATE INDEX {name} ON {part_of(table, TALLY)} {ranks}")


def changes(before: Mapping[str, Note | None], after: Mapping[str, Note | None]) -> list[Note]:
    """Return what is to be taken off and added, by what resources counted for; ``before``: those that there were."""
    found = [each for id, each in after.items() if each is not None and before.get(id) != each]
    for id, each in before.items():
        if each is not None and after.get(id) != each:
            hour, agent, user, project, _, codes = each
            found.append((hour, agent, user, project, -1, codes))
    return found


def write(db: Any, table: str, changes: Sequence[Note], memory: Memory, *, at_once: bool) -> None:
    """Note what a batch of events changed. ``at_once``: take all in, so that nothing is left of what was erased."""
    if changes:
        db.execute(f"INSERT INTO {part_of(table, NOTES)} VALUES (?, ?)", (len(changes), _encode(changes).decode()))
    memory[NOTED] = _noted(db, table, memory, len(changes))
    if at_once or memory[NOTED] > max(NOTES_MAX, SHARE * len(changes)):
        settle(db, table)
        memory[NOTED] = 0


def _noted(db: Any, table: str, memory: Memory, added: int) -> int:
    """Return how many changes are noted, without asking the table for it after every event."""
    known = memory.get(NOTED)
    if known is None:
        known = db.execute(f"SELECT ifnull(sum(size), 0) FROM {part_of(table, NOTES)}").fetchone()[0] - added
    return int(known) + added


def settle(db: Any, table: str) -> None:
    """Take all notes into the sums."""
    tally, notes = (part_of(table, part) for part in PARTS)
    noted = [each for (said,) in db.execute(f"SELECT said FROM {notes}") for each in notes_of(said)]
    if not noted:
        return
    db.execute(f"DELETE FROM {notes}")
    for key, block in _blocks(noted).items():
        _add(db, tally, key, block)


def totals(db: Any, schema: str, table: str) -> dict[tuple[Any, ...], list[Any]]:
    """Return what the sums of a schema are with all notes taken in, which is done elsewhere."""
    mine = sqlite.library.connect("", isolation_level=None)
    try:
        create(mine, table)
        for name in (part_of(table, part) for part in PARTS):
            rows = db.execute(f"SELECT * FROM {schema}.{name}")
            marks = ",".join("?" * len(rows.description))
            mine.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)
        settle(mine, table)
        rows = mine.execute(f"SELECT * FROM {part_of(table, TALLY)}")
        return {row[:6]: [whole_of(row[6]), whole_of(row[7]), block_of(row[8]), block_of(row[9])] for row in rows}
    finally:
        mine.close()


_Key = tuple[int, str, str, str, int]
"""Family, agent, user, project and block: what a row holds the sums of."""


def _blocks(noted: Iterable[Note]) -> dict[_Key, Block]:
    """Return what notes add to each row. Codes are gathered in lists first, which join faster than counts do."""
    hours: dict[tuple[int, str, str, int], list[int]] = {}
    spread: dict[tuple[int, str, str, str, int, int], list[int]] = {}
    for hour, agent, user, project, count, codes in noted:
        _gather(hours, (hour, user, project, count), codes)
        if agent:
            _gather(spread, (AGENT, agent, user, project, hour // 24, count), codes)
    for (hour, user, project, count), gathered in hours.items():
        _gather(spread, (HOURS, "", "", "", hour, count), gathered)
        _gather(spread, (ALL, "", "", "", hour // 24, count), gathered)
        _gather(spread, (OWN, "", user, project, hour // 24, count), gathered)
        if project:
            _gather(spread, (PROJECT, "", "", project, hour // 24, count), gathered)
    blocks: dict[_Key, Block] = {}
    for (family, agent, user, project, unit, count), gathered in spread.items():
        block = blocks.setdefault((family, agent, user, project, unit // WIDTH[family]), {})
        histogram = block.setdefault(unit, {})
        if len(gathered) > FEW:
            add(histogram, Counter(gathered), count)
            continue
        for code in gathered:
            histogram[code] = histogram.get(code, 0) + count
    return blocks


def _gather(lists: dict[Any, list[int]], key: Any, codes: Iterable[int]) -> None:
    known = lists.get(key)
    if known is None:
        lists[key] = [*codes]
    else:
        known += codes


def add(histogram: Histogram, counts: Histogram, times: int = 1) -> None:
    """Add counts to a histogram."""
    if times != 1:
        counts = {code: count * times for code, count in counts.items()}
    if not histogram:
        histogram.update(counts)
        return
    get = histogram.get
    for code, count in counts.items():
        histogram[code] = get(code, 0) + count


def _add(db: Any, tally: str, key: _Key, block: Block) -> None:
    """Add to one row; what has nothing left goes."""
    row = db.execute(f"SELECT whole, whole_rest, series, rest FROM {tally} WHERE {_WHERE}", key).fetchone()
    whole, whole_rest = (whole_of(row[0]), whole_of(row[1])) if row else ({}, {})
    series, rest = (block_of(row[2]), block_of(row[3])) if row else ({}, {})
    added = 0
    for unit, counts in block.items():
        added += sum(map(counts.get, _CODES, _NONE))
        told = {code: count for code, count in counts.items() if code < SERIES}
        other = {code: count for code, count in counts.items() if code >= SERIES}
        add(whole, told)
        add(whole_rest, other)
        _add_unit(series, unit, told)
        _add_unit(rest, unit, other)
    said = (_pack(_left(whole)), _pack(_left(whole_rest)), _pack(series), _pack(rest))
    if not series and not rest:
        db.execute(f"DELETE FROM {tally} WHERE {_WHERE}", key)
    elif row:
        sets = "total = total + ?, whole = ?, whole_rest = ?, series = ?, rest = ?"
        db.execute(f"UPDATE {tally} SET {sets} WHERE {_WHERE}", (added, *said, *key))
    else:
        db.execute(f"INSERT INTO {tally} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*key, added, *said))


def _add_unit(block: Block, unit: int, counts: Histogram) -> None:
    if not counts:
        return
    known = block.setdefault(unit, {})
    add(known, counts)
    block[unit] = known = _left(known)
    if not known:
        del block[unit]


def _left(counts: Histogram) -> Histogram:
    """Return the counts without what there is no more of."""
    return {code: count for code, count in counts.items() if count} if 0 in counts.values() else counts
