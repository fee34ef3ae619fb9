"""What a callback owes: a fold of the log, and what may happen to the debt.

A terminal event of a resource with a ``callback_url`` owes one POST. Attempts are events; a 2xx answer delivers, 410 or
the end of the schedule abandons, and somebody may queue it again. Pure: when the next attempt is due arrives in the
event of the one before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import msgspec

from ledger.errors import invalid
from ledger.events import Abandoned, Attempted, Fact, Recorded
from ledger.times import TIME_MIN_US

AT_ONCE: Final = 0
"""``due_us`` of what was not tried yet: it is due whatever the producer's clock said."""


class Debt(msgspec.Struct, frozen=True, gc=False):
    """A callback after the events so far: ``owed``, ``delivered`` or ``abandoned`` (then ``reason`` says why).

    ``ended_position`` and ``ended_version`` are those of the terminal event, ``owed_position`` that of the event which
    owes it: the same, or a ``callback.requeued``. ``attempts`` counts all, ``tries`` those since then. ``due_us``:
    when the next one is due, microseconds since 1970 UTC; None: never. ``settled_us``: since when it is not owed.
    """

    ended_position: int
    ended_version: int
    owed_position: int
    status: str = "owed"
    attempts: int = 0
    tries: int = 0
    due_us: int | None = AT_ONCE
    settled_us: int | None = None
    reason: str | None = None

    @property
    def is_owed(self) -> bool:
        """Whether it is still to be sent."""
        return self.status == "owed"


def owe(event: Recorded) -> Debt:
    """Return the debt that the terminal event of a resource with a callback makes."""
    return Debt(event.position, event.version, event.position)


def evolve(debt: Debt, event: Recorded, fact: Fact | None) -> Debt:
    """Fold one ``callback.…`` event into the debt and return the new one."""
    fold = _FOLDS[event.type]
    return fold(debt, event, fact)


def may_name(data: bytes | None) -> bool:
    """Tell whether the data of a creation may name a ``callback_url``: a look that spares decoding most that do not.

    A name in JSON may be written with escapes; data that was erased may have held anything.
    """
    return data is None or b'"callback_url"' in data or b"\\u" in data


def sent_us(event: Recorded, attempted: Attempted) -> int:
    """Return when an attempt was sent, microseconds since 1970 UTC; never before what a calendar can show."""
    return max(event.time - attempted.duration_ns // 1000, TIME_MIN_US)


def check_url(url: str) -> None:
    """Raise ``InvalidInput`` for a callback URL without a host; a server with callbacks is stricter."""
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    if not host:
        raise invalid("callback_url", "names no host that a callback could go to", "https://…")


def receiver(url: str) -> str:
    """Return whose callback it is, as far as the URL tells: ``scheme://host:port`` in lower case."""
    try:
        parts = urlsplit(url)
    except ValueError:  # no attempt at it will get anywhere, but the debt stands
        return url.lower()
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()


def _attempt(debt: Debt, event: Recorded, fact: Fact | None) -> Debt:
    due_us, tries = debt.due_us, debt.tries + 1
    if isinstance(fact, Attempted):
        tries -= fact.error == "interrupted"  # it says nothing of the receiver
        if debt.is_owed and fact.due_us is not None:
            due_us = fact.due_us
    return msgspec.structs.replace(debt, attempts=debt.attempts + 1, tries=tries, due_us=due_us)


def _deliver(debt: Debt, event: Recorded, fact: Fact | None) -> Debt:
    return msgspec.structs.replace(debt, status="delivered", due_us=None, settled_us=event.time, reason=None)


def _abandon(debt: Debt, event: Recorded, fact: Fact | None) -> Debt:
    reason = fact.reason if isinstance(fact, Abandoned) else None
    return msgspec.structs.replace(debt, status="abandoned", due_us=None, settled_us=event.time, reason=reason)


def _requeue(debt: Debt, event: Recorded, fact: Fact | None) -> Debt:
    return msgspec.structs.replace(
        debt, owed_position=event.position, status="owed", tries=0, due_us=AT_ONCE, settled_us=None, reason=None
    )


_FOLDS: Final[dict[str, Callable[[Debt, Recorded, Fact | None], Debt]]] = {
    "callback.attempted": _attempt,
    "callback.delivered": _deliver,
    "callback.abandoned": _abandon,
    "callback.requeued": _requeue,
}
