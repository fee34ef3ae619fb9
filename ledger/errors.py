"""The error tree: every way in which the ledger says no.

    LedgerError
    ├── InvalidInput            a value is of the wrong type or form; lists each fault
    ├── BadRequest              the request contradicts itself or names an unknown cursor
    ├── NotFound                no such resource, or none that the asker may see
    ├── Erased                  the resource was erased for good
    ├── Conflict
    │   ├── InvalidTransition   the rules do not allow this status change
    │   ├── AlreadyExists       the chosen id is taken
    │   ├── IdempotencyConflict the key was used for another request
    │   ├── NothingToCancel     there is no active run to cancel
    │   └── NothingOwed         there is no callback to send
    ├── VersionMismatch         the expected version is not the current one
    ├── Unavailable             try again later
    │   ├── QueueFull           the write queue is at its limit
    │   ├── StoreClosed         the ledger is closing or closed
    │   ├── StoreFailed         the disk or the database refused; nothing was recorded
    │   ├── InDoubt             the disk failed in a commit; the log will tell whether that was recorded
    │   └── NotShown            it was recorded, and the views do not have it yet
    ├── Unreadable              a file is not a ledger that this program can read
    └── Damaged                 what the file holds contradicts itself

The docstring of a class is its message; facts are attached as attributes and in ``facts``.
"""

from __future__ import annotations

from typing import Any, ClassVar


class LedgerError(Exception):
    """The ledger could not do what was asked."""

    message: ClassVar[str] = "The ledger could not do what was asked."

    def __init_subclass__(cls) -> None:
        cls.message = (cls.__doc__ or "").strip().splitlines()[0]

    def __init__(self, **facts: Any) -> None:
        self.facts = facts
        super().__init__(self.message.format_map(facts))

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["facts"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (type(self), self.facts)


def _remake(kind: type[LedgerError], facts: dict[str, Any]) -> LedgerError:
    return kind(**facts)


class InvalidInput(LedgerError):
    """{summary}

    ``faults`` is a list of ``{"where", "what", "allowed"}``.
    """

    def __init__(self, faults: list[dict[str, Any]]) -> None:
        first = faults[0]
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(summary=f"{first['where']}: {first['what']}{more}", faults=faults)

    def __reduce__(self) -> tuple[Any, ...]:
        return InvalidInput, (self.facts["faults"],)


def invalid(where: str, what: str, allowed: Any = None) -> InvalidInput:
    """Make the error for one fault: ``where`` it is, ``what`` is wrong, and what is ``allowed``."""
    return InvalidInput([{"where": where, "what": what, "allowed": allowed}])


class BadRequest(LedgerError):
    """{reason}"""


class NotFound(LedgerError):
    """There is no {what} '{id}'."""


class Erased(LedgerError):
    """'{id}' was erased; the event at position {position} says who did it and why."""


class Conflict(LedgerError):
    """The request conflicts with what is recorded."""


class InvalidTransition(Conflict):
    """Cannot transition from '{current_status}' to '{requested_status}'."""


class AlreadyExists(Conflict):
    """'{id}' already exists."""


class IdempotencyConflict(Conflict):
    """The idempotency key '{key}' was used for another request."""


class NothingToCancel(Conflict):
    """There is no active run to cancel for '{id}'."""


class NothingOwed(Conflict):
    """There is no callback to send for '{id}': {reason}."""


class VersionMismatch(LedgerError):
    """'{id}' is at version {current}, not at {expected}."""


class Unavailable(LedgerError):
    """The ledger cannot take this now: {reason}."""


class QueueFull(Unavailable):
    """The write queue is full ({waiting} waiting, at most {limit})."""


class StoreClosed(Unavailable):
    """The ledger is closed; nothing was recorded."""


class StoreFailed(Unavailable):
    """The database refused ({reason}); nothing of this request was recorded."""


class InDoubt(Unavailable):
    """The disk failed in the commit ({reason}); it may be recorded or not: look, or repeat it with the same key."""


class NotShown(Unavailable):
    """It is recorded, up to position {position}, but {reason}: read it later, and repeat it with the same key only."""


class Unreadable(LedgerError):
    """{path} cannot be read: {reason}"""


class Damaged(LedgerError):
    """The ledger's file is damaged: {reason}. `jobledger verify` names where."""
