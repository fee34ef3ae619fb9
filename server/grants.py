"""Putting tokens in and out of force: events of the log, appended by the server and the command line alike."""

from __future__ import annotations

from ledger import ids, tokens
from ledger.errors import NotFound, invalid
from ledger.events import Granted, Recorded, Revoked, Scope, draft
from ledger.ledger import Ledger
from ledger.session import Session

DAY_US = 86_400_000_000
DAYS_MAX = 3650
"""Ten years: a token for longer than that is one without an end."""


async def grant(
    ledger: Ledger,
    *,
    user_id: str,
    scopes: list[Scope],
    project_id: str | None = None,
    expires_days: float | None = None,
    actor: str,
    only_first: bool = False,
) -> tuple[str, str]:
    """Put a new token in force; return (token, id). ``only_first``: ("", "") when the ledger ever had one."""
    if expires_days is not None and not 0 < expires_days <= DAYS_MAX:
        raise invalid("expires", "must be a number of days above 0", f"up to {DAYS_MAX}")
    token, id = tokens.mint(), ids.make("token")
    now_us = ledger.clock()
    fact = Granted(
        user_id=user_id,
        scopes=scopes,
        token_sha256=tokens.digest(token),
        project_id=project_id,
        expires_us=None if expires_days is None else now_us + int(expires_days * DAY_US),
    )

    def work(session: Session) -> list[Recorded]:
        if only_first and session.find(FIRST_KEY) is not None:
            return []
        key = FIRST_KEY if only_first else None
        return session.append([draft(id, "access.granted", fact, time=now_us, actor=actor, key=key)])

    return (token, id) if await ledger.submit(work) else ("", "")


FIRST_KEY = "jobledger:first-token"
"""Idempotency key of the token that the first ``serve`` makes: two servers that start at once make one."""


async def revoke(ledger: Ledger, token_id: str, *, actor: str) -> None:
    """Take a token out of force. Raises ``NotFound`` when it is not in force."""

    def work(session: Session) -> None:
        types = [event.type for event in session.stream(token_id)]
        if not types or types[-1] == "access.revoked":
            raise NotFound(what="token", id=token_id)
        session.append([draft(token_id, "access.revoked", Revoked(), time=ledger.clock(), actor=actor)])

    await ledger.submit(work)
