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
"""``COUNTS`` and ``TOLD_RUNS`` by hour and model; "" where the model is not known."""
TOLD_RUNS: Final = "told_runs"
"""Runs of which tokens count that were told of the whole run."""
_SUMS: Final = ", ".join(f"sum({name})" for name in COUNTS)
_OF_STEPS: Final = ", ".join(
    ["count(*)", "sum(steps.status = 'failed')", *(f"ifnull(sum(steps.{name}), 0)" for name in TOKENS)]
)
_HOUR: Final = f"(steps.began_us - ((steps.began_us % {HOUR_US}) + {HOUR_US}) % {HOUR_US}) / {HOUR_US}"
"""Hours since 1970, rounded down before it too."""
_told = msgspec.json.Decoder(TokenUsage).decode


async def spent(reader: Reader, whose: Whose, period: Period) -> Spent:
    """Return what was spent in a period."""
    found: Spent = {}
    if whose.named:
        await _add_steps(reader, whose, period, found)
    else:
        for piece in pieces(period, (HOUR_US, 1)):
            await (_add_sums if piece.size_us > 1 else _add_steps)(reader, whose, piece, found)
    await _add_told(reader, whose, period, found)
    return {key: counts for key, counts in found.items() if any(counts.values())}


async def _add_sums(reader: Reader, whose: Whose, piece: Piece, found: Spent) -> None:
    text = f"SELECT hour, model, {_SUMS} FROM steps_{PART} WHERE hour >= :since AND hour < :until GROUP BY hour, model"
    bound = {"since": piece.since_us // HOUR_US, "until": piece.until_us // HOUR_US}
    _count(await reader.read(text, bound), found)


async def _add_steps(reader: Reader, whose: Whose, period: Period | Piece, found: Spent) -> None:
    """Add up steps themselves."""
    bound = {"since": period.since_us, "until": period.until_us, **whose.named}
    within = "steps.began_us >= :since AND steps.began_us < :until"
    source = "steps"
    if whose.named:
        # CROSS JOIN keeps the order: by the period where it is one, else by whose runs they are
        by_time = isinstance(period, Period) and not period.is_open and whose.agent_id is None
        tables = ("steps", "runs") if by_time else ("runs", "steps")
        source = f"{tables[0]} CROSS JOIN {tables[1]} ON steps.run_id = runs.id"
        within += f" AND {whose.condition('runs.')}"
    text = f"SELECT {_HOUR}, ifnull(steps.model, ''), {_OF_STEPS} FROM {source} WHERE {within} GROUP BY 1, 2"
    _count(await reader.read(text, bound), found)


def _count(rows: Sequence[Any], found: Spent) -> None:
    for hour, model, *counts in rows:
        found.setdefault((hour, model), Counter()).update(dict(zip(COUNTS, counts, strict=True)))


async def _add_told(reader: Reader, whose: Whose, period: Period, found: Spent) -> None:
    sums = ", ".join(f"sum(steps.{name})" for name in TOKENS)
    text = (
        f"SELECT runs.created_us, runs.usage, min(steps.model), max(steps.model), {sums} "
        "FROM runs LEFT JOIN steps ON steps.run_id = runs.id "
        f"WHERE runs.usage IS NOT NULL AND runs.created_us >= :since AND runs.created_us < :until "
        f"AND {whose.condition('runs.')} GROUP BY runs.created_position"
    )
    bound = {"since": period.since_us, "until": period.until_us, **whose.named}
    for created_us, usage, first, last, *counted in await reader.read(text, bound):
        told = dict(_untold(_told(usage), dict(zip(TOKENS, counted, strict=True))))
        if told:
            model = first if first is not None and first == last else ""
            counts = found.setdefault((created_us // HOUR_US, model), Counter())
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
