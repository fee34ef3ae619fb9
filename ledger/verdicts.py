"""The last verdict of a verification, in a small file beside the ledger: whoever asks the server is told of it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ledger import private
from ledger.errors import InvalidInput, Unreadable
from ledger.verify import Verdict


class Last(msgspec.Struct, frozen=True, kw_only=True):
    """What the last verification found: of which ledger, when (microseconds since 1970 UTC), of how many events."""

    name: str
    verified_us: int
    ok: bool
    size: int
    root: str
    problem: str | None = None
    """The first problem, where there was one."""


def path_of(db: Path) -> Path:
    """Return where the last verdict on a ledger file is."""
    return private.named_after(db, ".verified")


def note(db: Path, verdict: Verdict, now_us: int) -> bool:
    """Note a verdict; tell whether it could be: copies are verified in folders that nobody may write, too."""
    first = verdict.problems[0] if verdict.problems else None
    problem = None if first is None else f"position {first.position}: {first.problem}"[:500]
    last = Last(
        name=verdict.name, verified_us=now_us, ok=verdict.ok, size=verdict.size, root=verdict.root, problem=problem
    )
    try:
        private.replace(path_of(db), msgspec.json.encode(last), private.PUBLIC_MODE)
    except OSError:
        return False
    return True


def last_of(db: Path) -> Last | None:
    """Return the last verdict on a ledger file, None where there is none that can be read."""
    try:
        return msgspec.json.decode(private.read(path_of(db), is_secret=False), type=Last)
    except (OSError, Unreadable, InvalidInput, msgspec.MsgspecError, UnicodeDecodeError):
        return None
