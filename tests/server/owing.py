"""What becomes of callbacks, told to a ledger as its dispatcher would, without sending a byte."""

from __future__ import annotations

from typing import Any

import msgspec

from ledger import archive, ids
from ledger.callbacks import Debt
from ledger.decider import Abandon, Report
from ledger.times import to_text
from tests.server.serving import HOME, Service, User

URL = "https://example.com/hook"
SECOND_US = 1_000_000
TOOK_NS = 250_000_000


async def ended(user: User, kind: str = "job", *, status: str = "completed", url: str | None = URL, **body: Any) -> str:
    """Make a job, run or batch that has ended and owes its callback; return its id."""
    named = {} if url is None else {"callback_url": url}
    if kind != "batch":
        return await user.create(kind, status=status, **named, **body)
    found = await user.create(kind, **named, **body)
    assert (await user.patch(f"{HOME[kind]}/{found}/cancel")).status == 200
    return found


async def debt_of(service: Service, id: str) -> Debt:
    state = await service.app.ledger.state(id)
    assert state is not None
    assert state.debt is not None
    return state.debt


async def attempt(
    service: Service, id: str, status_code: int | None = 200, error: Any = None, *, again_in_s: float | None = None
) -> int:
    """Record an attempt that took a quarter of a second, and wait for the views; return the position after it.

    ``again_in_s``: when the next one is due; without it, that was the last.
    """
    debt = await debt_of(service, id)
    clock = service.clock
    due_us = None if again_in_s is None else clock.now_us + round(again_in_s * SECOND_US)
    report = Report(
        id=id,
        owed_position=debt.owed_position,
        duration_ns=TOOK_NS,
        status_code=status_code,
        error=error,
        due_us=due_us,
    )
    return await recorded(service, report)


async def give_up(service: Service, id: str, reason: Any = "imported") -> int:
    debt = await debt_of(service, id)
    return await recorded(service, Abandon(id=id, owed_position=debt.owed_position, reason=reason))


async def recorded(service: Service, command: Report | Abandon) -> int:
    receipt = await service.app.ledger.execute(command)
    await service.app.engine.wait_for(receipt.position)
    return receipt.position


async def imported(service: Service, user_id: str, *, owes: bool = False) -> str:
    """Import a job that completed elsewhere with a callback; return its id. ``owes``: as with --callbacks."""
    id = ids.make("job")
    facts = {"created": {"user_id": user_id, "callback_url": URL}, "pending": {}, "running": {}, "completed": {}}
    lines = [
        msgspec.json.encode(
            {
                "specversion": "1.0",
                "id": str(version),
                "source": "elsewhere.example",
                "type": f"job.{verb}",
                "subject": id,
                "time": to_text(service.clock.now_us),
                "data": data,
                "actor": user_id,
                "streamversion": version,
            }
        )
        for version, (verb, data) in enumerate(facts.items(), 1)
    ]
    async for part in archive.load(service.app.ledger, lines, "jobledger", "elsewhere", owes_callbacks=owes):
        assert (part.appended, part.rejects) == (4, ())
    await service.app.engine.wait_for(service.app.ledger.size)
    return id
