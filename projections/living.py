"""Who was alive at a point: of a million lives few were, and those are found by how long lives last.

A life of class k lasts less than 2**k microseconds or positions, so that one which was alive at T began after T - 2**k:
one range of an index for each class, in which most were alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from projections.history import AsOf

SHORTEST: Final = {"us": 16, "position": 8}
"""The class of the shortest lives: all that last less than 65 milliseconds, or 256 positions: few are at once."""
LONGEST: Final = {"us": 46, "position": 38}
"""The class of the longest lives, which last two years or end as many events later as no log has; few last longer."""
OPEN: Final = 62
"""The class of lives that have not ended, and of longer ones."""
CLASSES: Final = {unit: (*range(SHORTEST[unit], LONGEST[unit] + 1), OPEN) for unit in SHORTEST}
SPANS: Final = {unit: str(list(classes)) for unit, classes in CLASSES.items()}
"""All classes of a unit, as JSON."""
EVER: Final = -(2**63)
"""Before all points."""


def _classes_of(unit: str) -> tuple[int, ...]:
    return tuple(OPEN if bits > LONGEST[unit] else max(bits, SHORTEST[unit]) for bits in range(65))


SPAN_OF: Final = {unit: _classes_of(unit) for unit in SHORTEST}
"""The class of a life of a unit, by how many bits its length has."""


def counted(at: AsOf, table: str) -> str:
    """Return the query of how many rows of each class may have been alive, as a JSON array; binds as ``alive`` does."""
    end = at.suffix
    found = f"span_{end} = value AND created_{end} > :as_of - (1 << value) AND created_{end} <= :as_of"
    count = f"SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {found} LIMIT :living_max)"
    return f"SELECT json_group_array(({count})) FROM json_each(:spans)"


def alive(at: AsOf, table: str) -> str:
    """Return the query of where rows stand that began after ``:since`` and had not ended then, and of a few that had.

    Binds ``:as_of``, ``:spans`` and ``:living_max`` too. The limit also keeps SQLite from mixing it with what else is
    asked, which would lead it to other indexes.
    """
    end = at.suffix
    began = f"created_{end} > max(:as_of - (1 << span), :since) AND created_{end} <= :as_of"
    return (
        f"SELECT created_position AS found FROM (SELECT value AS span FROM json_each(:spans)) CROSS JOIN {table} "
        f"ON span_{end} = span AND {began} LIMIT :living_max"
    )


def window(at: AsOf, counts: Sequence[int], wanted: int) -> int | None:
    """Return after which point so many began that may have been alive, by the counts; None: perhaps ever.

    Those of a class are taken to have begun evenly over its length.
    """
    classes = [(span, count) for span, count in zip(CLASSES[at.suffix], counts, strict=True) if count]
    rate = sum(count / (1 << span) for span, count in classes)
    whole = 0
    for span, count in classes:
        if span == OPEN:
            break
        if whole + rate * (1 << span) >= wanted:
            return at.value - int((wanted - whole) / rate)
        whole += count
        rate -= count / (1 << span)
    return None
