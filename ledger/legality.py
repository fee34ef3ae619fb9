"""Whether histories keep the rules: versions without a gap, legal transitions, callbacks that something owed."""

from __future__ import annotations

from collections.abc import Callable

from ledger import callbacks
from ledger.events import TYPES, Recorded, TypeInfo
from ledger.transitions import LEGAL, TERMINAL

_DELETED = ("deleted", "deleted after its end")
"""What stands for the status of what was deleted, by whether it had ended."""
Tell = Callable[[int, str], None]


class Legality:
    """Follows every stream of a log, event by event, and tells position and problem of what the rules forbid."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.unexplained: dict[str, int] = {}
        """Streams with data that is gone, and no event yet that tells of its erasure: the first such position."""
        self._streams: dict[str, tuple[int, str | None, str]] = {}
        self._callbacks: dict[str, str] = {}
        """What became of the callbacks of those streams that may have one: owed from the end on."""

    def check(self, event: Recorded) -> None:
        """Follow one event of the log."""
        if event.data is None:
            self.unexplained.setdefault(event.stream, event.position)
        info = TYPES.get(event.type)
        kind = event.type.partition(".")[0]
        version, status, first_kind = self._streams.get(event.stream, (0, None, kind))
        if event.version != version + 1:
            self._tell(event.position, f"version {event.version} of {event.stream} follows version {version}")
        if kind not in (first_kind, "callback"):  # events of a callback stand in the stream of what owes it
            self._tell(event.position, f"an event of a {kind} in the stream of a {first_kind}")
        if info is None:
            self._tell(event.position, f"type '{event.type}' is unknown to this program")
        elif info.status is not None:
            if status not in LEGAL[info.kind] or info.status not in LEGAL[info.kind][status]:
                self._tell(event.position, f"{event.stream} went from {status or 'nothing'} to {info.status}")
            status = info.status
            if status == "created" and callbacks.may_name(event.data):
                self._callbacks[event.stream] = "owed"
        elif info.kind != "access":
            status = self._check_other(event, info, status)
        self._streams[event.stream] = (event.version, status, first_kind)

    def _check_other(self, event: Recorded, info: TypeInfo, status: str | None) -> str | None:
        if status is None:
            self._tell(event.position, f"{event.type} of {event.stream} stands before its creation")
        elif info.kind == "callback":
            self._check_callback(event, info.verb, status)
        elif status in _DELETED and info.verb != "erased":
            self._tell(event.position, f"{event.type} of {event.stream} stands after its deletion")
        if info.verb == "erased":
            self.unexplained.pop(event.stream, None)
            self._callbacks.pop(event.stream, None)
        if info.verb == "deleted":
            return _DELETED[status in TERMINAL]
        return status

    def _check_callback(self, event: Recorded, verb: str, status: str) -> None:
        found = self._callbacks.get(event.stream)
        if found is None:
            self._tell(event.position, f"{event.type} of {event.stream}, which has no callback")
        elif status not in TERMINAL and status != _DELETED[True]:
            self._tell(event.position, f"{event.type} of {event.stream} stands before its end")
        elif verb == "requeued":
            self._callbacks[event.stream] = "owed"
        elif verb != "attempted":
            if found != "owed":
                self._tell(event.position, f"{event.type} of {event.stream}, whose callback was {found} already")
            self._callbacks[event.stream] = verb
