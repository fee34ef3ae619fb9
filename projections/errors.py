"""The error of a job or run, as its metadata shows it."""

from __future__ import annotations

from ledger.events import ErrorInfo
from ledger.state import State


def error_of(resource: State) -> ErrorInfo:
    """Return what a producer told of why it failed; what is no text is left out: metadata is anybody's."""
    told = (resource.metadata or {}).get("error")
    error = told if isinstance(told, dict) else {"message": told}
    type, message, traceback = (value if isinstance(value := error.get(name), str) else None for name in _FIELDS)
    return ErrorInfo(type, message, traceback)


_FIELDS = ErrorInfo.__struct_fields__
