"""The tokens that steps spent, by model and by hour; and those that producers told of whole runs only.

Steps count in the hour in which they began. Who sees all is answered from sums, others from the steps of their runs:
these are as many rows as those runs have steps. Deleted runs count, as their tokens were spent; erased ones are gone.

What a producer told of a whole run counts where no step of the run tells it (as in ``projections.usage``), in the hour
of the run's creation, and under the model of its steps where all that name one name the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from ledger.events import TokenUsage
from projections.period import Period, Piece, pieces
from projections.reader import Reader
from projections.tallied import Whose
from projections.tally import HOUR_US
from projections.tokensums import COUNTS, PART, TOKENS

Spent = dict[tuple[int, str], Counter[str]]
"""``COUNTS`` and ``TOLD_RUNS`` by the first hour of a day (or hour) and model; "" where the model is not known."""
TOLD_RUNS: Final = "told_runs"
"""Runs of which tokens count that were told of the whole run."""
STEPS_FIRST: Final = 4
"""How many times more runs than steps are worth to look for the run of each step, which stand in no order."""
_SUMS: Final = ", ".join(f"sum({name})" for name in COUNTS)
_OF_STEPS: Final = ", ".join(
    ["count(*)", "sum(steps.status = 'failed')", *(f"ifnull(sum(steps.{name}), 0)" for name in TOKENS)]
)
_told = msgspec.json.Decoder(TokenUsage).decode


async def spent(reader: Reader, whose: Whose, period: Period, *, hourly: bool) -> Spent:
    """Return what was spent in a period: by days, or (``hourly``) by hours."""
    found: Spent = {}
    units = 1 if hourly else 24
    if not await _are_all(reader, whose):
        if steps := await _count_steps(reader, period):
            await _add_steps(reader, whose, period, found, units, steps)
    else:
        for piece in pieces(period, (HOUR_US, 1)):
            await (_add_sums if piece.size_us > 1 else _add_steps)(reader, Whose(), piece, found, units)
    await _add_told(reader, whose, period, found, units)
    return {key: counts for key, counts in found.items() if any(counts.values())}


def _floor(name: str, unit: int) -> str:
    """Return the expression of a whole number of units, rounded down before 1970 too."""
    return f"({name} - (({name} % {unit}) + {unit}) % {unit}) / {unit}"


async def _add_sums(reader: Reader, whose: Whose, piece: Piece, found: Spent, units: int) -> None:
    within = "hour >= :since AND hour < :until"
    text = f"SELECT {_floor('hour', units)}, model, {_SUMS} FROM steps_{PART} WHERE {within} GROUP BY 1, 2"
    bound = {"since": piece.since_us // HOUR_US, "until": piece.until_us // HOUR_US}
    _count(await reader.read(text, bound), found, units)


async def _are_all(reader: Reader, whose: Whose) -> bool:
    """Tell whether all runs are meant: nobody's in particular, or those of the one user who has any."""
    if whose.user_id is None or whose.project_id is not None or whose.agent_id is not None:
        return not whose.named
    others = [f"EXISTS (SELECT 1 FROM runs WHERE user_id {sign} :user_id)" for sign in ("<", ">")]  # by the index
    return not (await reader.read(f"SELECT {' OR '.join(others)}", whose.named))[0][0]


async def _count_steps(reader: Reader, period: Period) -> int:
    """Return how many steps of anybody there are in the hours of a period."""
    text = f"SELECT ifnull(sum(steps), 0) FROM steps_{PART} WHERE hour >= :since AND hour < :until"
    bound = {"since": period.since_us // HOUR_US, "until": -(-period.until_us // HOUR_US)}
    return int((await reader.read(text, bound))[0][0])


async def _add_steps(
    reader: Reader, whose: Whose, period: Period | Piece, found: Spent, units: int, steps: int = 0
) -> None:
    """Add up steps themselves; ``steps``: how many there are at most, of all runs."""
    bound: dict[str, Any] = {"since": period.since_us, "until": period.until_us, **whose.named}
    within = "steps.began_us >= :since AND steps.began_us < :until"
    source = "steps"
    if whose.named:
        most = STEPS_FIRST * steps
        text = f"SELECT count(*) FROM (SELECT 1 FROM runs WHERE {whose.condition()} LIMIT :most)"
        runs = (await reader.read(text, {**whose.named, "most": most}))[0][0]
        first, then = ("runs", "steps") if runs < most else ("steps", "runs")
        source = f"{first} CROSS JOIN {then} ON steps.run_id = runs.id"  # which keeps this order
        within += f" AND {whose.condition('runs.')}"
    unit = _floor("steps.began_us", units * HOUR_US)
    text = f"SELECT {unit}, ifnull(steps.model, ''), {_OF_STEPS} FROM {source} WHERE {within} GROUP BY 1, 2"
    _count(await reader.read(text, bound), found, units)


def _count(rows: Sequence[Any], found: Spent, units: int) -> None:
    for unit, model, *counts in rows:
        found.setdefault((unit * units, model), Counter()).update(dict(zip(COUNTS, counts, strict=True)))


async def _add_told(reader: Reader, whose: Whose, period: Period, found: Spent, units: int) -> None:
    """Add what was told of whole runs only. Of all, few are, and their own index finds them (hence the ``+``)."""
    sums = ", ".join(f"sum(steps.{name})" for name in TOKENS)
    text = (
        f"SELECT runs.created_us, runs.usage, min(steps.model), max(steps.model), {sums} "
        "FROM runs LEFT JOIN steps ON steps.run_id = runs.id "
        f"WHERE runs.usage IS NOT NULL AND runs.created_us >= :since AND runs.created_us < :until "
        f"AND {whose.condition('+runs.')} GROUP BY runs.created_position"
    )
    bound = {"since": period.since_us, "until": period.until_us, **whose.named}
    for created_us, usage, first, last, *counted in await reader.read(text, bound):
        told = dict(_untold(_told(usage), dict(zip(TOKENS, counted, strict=True))))
        if told:
            model = first if first is not None and first == last else ""
            counts = found.setdefault((created_us // HOUR_US // units * units, model), Counter())
            counts.update(told)
            counts[TOLD_RUNS] += 1


def _untold(whole: TokenUsage, counted: dict[str, int | None]) -> Iterator[tuple[str, int]]:
    """Yield what is told of the whole run, and of no step of it."""
    for name in TOKENS:
        value: int | None = getattr(whole, name)
        if name == "total_tokens" and value is None and (whole.prompt_tokens, whole.completion_tokens) != (None, None):
            value = (whole.prompt_tokens or 0) + (whole.completion_tokens or 0)
        if value is not None and counted[name] is None:
            yield name, value
