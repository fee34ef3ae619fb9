"""A program that appends to a ledger, one by one and several at once, and tells of each answer as it comes.

    python -m tests.faults.appending DB PREFIX ROUNDS

It prints ``ok ID`` or ``refused ID: why`` a line; a line that is there was said before the program died.
"""

from __future__ import annotations

import asyncio
import os
import sys

from ledger import Ledger
from ledger.errors import LedgerError
from tests.ledger.engines import ME, create

GROUP = 4
"""Callers at the same time, beside those that are alone."""


def job_of(prefix: int, number: int) -> str:
    """Return the id of an append."""
    return f"job-{prefix:08x}-0000-4000-8000-{number:012x}"


async def _append(ledger: Ledger, id: str) -> None:
    try:
        await ledger.execute(create(id, "running", metadata={"text": "x" * 100}), ME)
    except LedgerError as error:
        _say(f"refused {id}: {error}")
    else:
        _say(f"ok {id}")


def _say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


async def _run(db: str, prefix: int, rounds: int) -> None:
    number = iter(range(10_000))
    async with Ledger.open(db) as ledger:
        for _ in range(rounds):
            await _append(ledger, job_of(prefix, next(number)))
            await asyncio.gather(*(_append(ledger, job_of(prefix, next(number))) for _ in range(GROUP)))


def main() -> int:
    """Append as the arguments say; return 1 where the ledger could not be opened."""
    db, prefix, rounds = sys.argv[1:]
    try:
        asyncio.run(_run(db, int(prefix), int(rounds)))
    except LedgerError as error:
        print(f"appending: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
