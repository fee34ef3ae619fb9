"""Whether histories keep the rules: versions without a gap, legal transitions, callbacks that something owed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ledger import callbacks
from ledger.decider import STREAMS
from ledger.events import TYPES, TypeInfo
from ledger.transitions import LEGAL, TERMINAL

_DELETED = ("deleted", "deleted after its end")
"""What stands for the status of what was deleted, by whether it had ended."""
_ERASED = "erased"
"""What stands for the status of what was erased: nothing follows that."""
Tell = Callable[[int, str], None]
_Known = tuple[int, str | None, str | None]
_NEW: Final[_Known] = (0, None, None)
"""Version, status and kind of a stream before its first event."""
_STEPS: Final = {
    (info.name, before, None if before is None else info.kind): (info.status, info.kind)
    for info in TYPES.values()
    if info.status is not None
    for before, after in LEGAL[info.kind].items()
    if info.status in after
}
"""(type, status before, kind of the stream) -> status and kind after it, for every legal step."""


class Legality:
    """Follows every stream of a log, event by event, and tells position and problem of what the rules forbid."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.unexplained: dict[str, int] = {}
        """Streams with data that is gone, and no event yet that tells of its erasure: the first such position."""
        self._streams: dict[str, _Known] = {}
        self._callbacks: dict[str, str] = {}
        """What became of the callbacks of those streams that may have one: owed from the end on."""

    def check(self, position: int, stream: str, version: int, type: str, data: bytes | None) -> None:
        """Follow one event of the log."""
        known = self._streams.get(stream, _NEW)
        after = _STEPS.get((type, known[1], known[2]))
        if after is None or version != known[0] + 1 or data is None:
            self._check_closely(position, stream, version, type, data)
            return
        status, kind = after
        self._streams[stream] = (version, status, kind)
        if status == "created":
            self._check_birth(position, stream, kind)
            if callbacks.may_name(data):
                self._callbacks[stream] = "owed"

    def _check_closely(self, position: int, stream: str, version: int, type: str, data: bytes | None) -> None:
        """Follow an event that is no step from one status to the next, or none that is legal."""
        info = TYPES.get(type)
        kind = type.partition(".")[0]
        last, status, first_kind = self._streams.get(stream, _NEW)
        if data is None:
            self._check_gone(position, stream, info)
        if last == 0:
            self._check_birth(position, stream, kind)
        if version != last + 1:
            self._tell(position, f"version {version} of {stream} follows version {last}")
        if kind not in (first_kind or kind, "callback"):  # events of a callback stand in the stream of what owes it
            self._tell(position, f"an event of a {kind} in the stream of a {first_kind}")
        if info is None:
            self._tell(position, f"type '{type}' is unknown to this program")
        elif status == _ERASED:
            self._tell(position, f"{type} of {stream} stands after its erasure")
        elif info.status is not None:
            status = self._check_status(position, stream, info, status, data)
        elif info.kind != "access":
            status = self._check_other(position, stream, info, status)
        self._streams[stream] = (version, status, first_kind or kind)

    def _check_birth(self, position: int, stream: str, kind: str) -> None:
        if stream.partition("-")[0] not in STREAMS.get(kind, ()):
            self._tell(position, f"an event of a {kind} in the stream {stream}")

    def _check_gone(self, position: int, stream: str, info: TypeInfo | None) -> None:
        if info is not None and info.verb == "erased":  # it says who erased what was before it, and why
            self._tell(position, f"data of {info.name} itself is gone, which no erasure takes")
        else:
            self.unexplained.setdefault(stream, position)

    def _check_status(
        self, position: int, stream: str, info: TypeInfo, status: str | None, data: bytes | None
    ) -> str | None:
        legal = LEGAL[info.kind]
        if status not in legal or info.status not in legal[status]:
            self._tell(position, f"{stream} went from {status or 'nothing'} to {info.status}")
        if info.status == "created" and callbacks.may_name(data):
            self._callbacks[stream] = "owed"
        return info.status

    def _check_other(self, position: int, stream: str, info: TypeInfo, status: str | None) -> str | None:
        if status is None:
            self._tell(position, f"{info.name} of {stream} stands before its creation")
        elif info.kind == "callback":
            self._check_callback(position, stream, info, status)
        elif status in _DELETED and info.verb != "erased":
            self._tell(position, f"{info.name} of {stream} stands after its deletion")
        if info.verb == "erased":
            self.unexplained.pop(stream, None)
            self._callbacks.pop(stream, None)
            return _ERASED
        if info.verb == "deleted":
            return _DELETED[status in TERMINAL]
        return status

    def _check_callback(self, position: int, stream: str, info: TypeInfo, status: str) -> None:
        found = self._callbacks.get(stream)
        if found is None:
            self._tell(position, f"{info.name} of {stream}, which has no callback")
        elif status not in TERMINAL and status != _DELETED[True]:
            self._tell(position, f"{info.name} of {stream} stands before its end")
        elif info.verb == "requeued":
            self._callbacks[stream] = "owed"
        elif info.verb != "attempted":
            if found != "owed":
                self._tell(position, f"{info.name} of {stream}, whose callback was {found} already")
            self._callbacks[stream] = info.verb
