"""What a log line tells of an error: its kinds and where it came from, and no word that may quote a request.

A traceback as Python prints it ends in the error's text, and that of a ``KeyError`` or ``ValueError`` is what somebody
sent: a name, a message, a token. Only errors of the ledger, the database and the system have their words told.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any, Final

from ledger import engine as sqlite
from ledger.errors import LedgerError
from server import audit

FRAMES_MAX: Final = 20
"""Calls that are told of each error, the innermost: what is further out is the server's loop."""
CHAIN_MAX: Final = 4
"""Errors that are told of a chain of causes."""
WORDS_MAX: Final = 300
"""Characters of an error's words."""
_ROOT: Final = Path(__file__).parent.parent


def tell(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put ``exception`` in the place of ``exc_info``: a processor of structlog."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["exception"] = "\n".join(text_of(each) for each in _chain(error))
    return event


def words(error: BaseException) -> str:
    """Return the kind of an error, with its words where those are ours, the database's or the system's."""
    kind = type(error).__name__
    if not isinstance(error, LedgerError | sqlite.Error | OSError):
        return kind
    text = audit.told(str(error))
    return f"{kind}: {text[:WORDS_MAX]}{'…' if len(text) > WORDS_MAX else ''}"


def text_of(error: BaseException) -> str:
    """Return an error in words, and the calls that led to it, innermost first."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES_MAX:]
    calls = (f"  {_place(frame.filename)}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    return "\n".join([words(error), *calls])


def _place(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(_ROOT)) if path.is_relative_to(_ROOT) else "/".join(path.parts[-2:])


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what caused it."""
    found: BaseException | None = error
    for _ in range(CHAIN_MAX):
        if found is None:
            return
        yield found
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
