"""Steps of a run: their statuses, the rule between them, and what a fold of a run's events knows of each step.

pending → success, failed or cancelled; a step may begin with its end. What ended has one end; what else is known of a
step (usage that a provider reports late, feedback) may be added at any time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from ledger import upcast
from ledger.errors import InvalidTransition, NotFound
from ledger.events import Recorded, Step

STATUSES: Final = ("pending", "success", "failed", "cancelled")
ENDED: Final = frozenset({"success", "failed", "cancelled"})
ALLOWED: Final[dict[str | None, tuple[str, ...]]] = {
    None: STATUSES,
    "pending": STATUSES,
    "success": (),
    "failed": (),
    "cancelled": (),
}

Book = dict[str, str]
"""The status of each step of a run, by its id."""


def enter(book: Book, step: Step) -> None:
    """Fold one step event into the book."""
    book[step.id] = step.status or book.get(step.id, "pending")


def admit(book: Book, step: Step) -> None:
    """Raise ``InvalidTransition`` where the step's status may not follow, ``NotFound`` for feedback on no step."""
    found = book.get(step.id)
    if found is None and is_feedback(step):
        raise NotFound(what="step", id=step.id)
    if step.status is not None and step.status not in ALLOWED[found]:
        raise InvalidTransition(
            id=step.id, current_status=found, requested_status=step.status, allowed=list(ALLOWED[found])
        )


def is_feedback(step: Step) -> bool:
    """Tell whether the event says nothing but what somebody thinks of the step, and perhaps how they tag it."""
    return step.feedback is not msgspec.UNSET and step == Step(
        id=step.id, by=step.by, imputed=step.imputed, request=step.request, feedback=step.feedback, tags=step.tags
    )


def fold(events: Iterable[Recorded]) -> Book:
    """Return the book of a run from its events."""
    book: Book = {}
    for event in events:
        if event.type == "run.step" and isinstance(fact := upcast.fact(event), Step):
            enter(book, fact)
    return book
