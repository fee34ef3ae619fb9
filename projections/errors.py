"""The error of a job or run, as its metadata shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.events import ErrorInfo


def error_of(metadata: Mapping[str, Any] | None) -> ErrorInfo:
    """Return what a producer told of why it failed; what is no text is left out: metadata is anybody's."""
    told = (metadata or {}).get("error")
    error = told if isinstance(told, dict) else {"message": told}
    type, message, traceback = (value if isinstance(value := error.get(name), str) else None for name in _FIELDS)
    return ErrorInfo(type, message, traceback)


_FIELDS = ErrorInfo.__struct_fields__
