"""The sums of the steps view: steps and tokens by model and by the hour in which a step began.

Those of deleted runs count, for they were spent; of erased ones nothing is left. The sums do not tell whose runs the
steps were of: who sees only some reads the steps themselves (``projections.spending``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from projections.tally import HOUR_US

if TYPE_CHECKING:
    from projections.steps import State

PART: Final = "tokens"
TOKENS: Final = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_input_tokens", "reasoning_tokens")
COUNTS: Final = ("steps", "failed", *TOKENS)
_KEY: Final = ("hour", "model")

Counted = tuple[int, str, tuple[int, ...]]
"""What a step counts for: the hour in which it began, since 1970, its model, and ``COUNTS``."""


def create(db: Any, table: str) -> None:
    """Create the part under its whole name."""
    counts = ", ".join(f"{name} INTEGER NOT NULL" for name in COUNTS)
    key = "hour INTEGER NOT NULL, model TEXT NOT NULL"
    db.execute(f"CREATE TABLE {table} ({key}, {counts}, PRIMARY KEY (hour, model)) STRICT, WITHOUT ROWID")


def totals(db: Any, schema: str, table: str) -> dict[tuple[Any, ...], list[Any]]:
    """Return the counts of a schema by their keys."""
    width = len(_KEY)
    return {row[:width]: [*row[width:]] for row in db.execute(f"SELECT * FROM {schema}.{table}")}


def counted(step: State) -> Counted:
    """Return what a step counts for."""
    tokens = tuple(getattr(step, name) or 0 for name in TOKENS)
    return step.began_us // HOUR_US, step.model or "", (1, int(step.status == "failed"), *tokens)


def write(db: Any, table: str, before: Mapping[Any, Counted | None], after: Sequence[Counted]) -> None:
    """Take off what steps counted for before a batch of events, and add what they count for after it."""
    sums: dict[tuple[int, str], list[int]] = {}
    for times, steps in ((-1, before.values()), (1, after)):
        for step in steps:
            if step is not None:
                hour, model, counts = step
                known = sums.setdefault((hour, model), [0] * len(counts))
                for place, count in enumerate(counts):
                    known[place] += times * count
    moved = [(*key, *counts) for key, counts in sums.items() if any(counts)]
    if not moved:
        return
    names, marks = (*_KEY, *COUNTS), ",".join("?" * (len(_KEY) + len(COUNTS)))
    sets = ", ".join(f"{name} = {name} + excluded.{name}" for name in COUNTS)
    text = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks}) ON CONFLICT DO UPDATE SET {sets}"
    db.executemany(text, moved)
    nothing = " AND ".join(f"{name} = 0" for name in COUNTS)
    fewer = [key for key, counts in sums.items() if counts[0] < 0]  # no name of a model outlives what was erased
    db.executemany(f"DELETE FROM {table} WHERE hour = ? AND model = ? AND {nothing}", fewer)
