"""What a row's wire was at an earlier point: its later statuses, callbacks and changes taken back, without the log."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw

from ledger import undo
from ledger.times import to_text
from projections.history import AsOf
from projections.jobs import Job
from projections.runs import Run

SAME, UNENDED, LATER, FOLDED = range(4)
"""How a row is to be shown: as it stands; before its end, and thus before its callback; after its end or without one,
but before something else; or as its events say, because the row does not tell."""
_NULL: Final = Raw(b"null")
_STATUS: Final = {status: Raw(f'"{status}"'.encode()) for status in ("created", "pending", "running")}
_STATUS_THEN: Final = {status: b',"status":' + bytes(raw) for status, raw in _STATUS.items()}
_NO_END: Final = (
    b',"stop_reason":null,"callback_url":null,"callback_sent_at":null,"callback_status_code":null,"callback_error":null'
)
_OF_END: Final = ("stop_reason", "total_duration_ns")
_encode = msgspec.json.Encoder().encode


def _decoder(shape: type[msgspec.Struct]) -> Any:
    """Return what splits a wire into the bytes of its fields."""
    fields = [(name, Raw) for name in shape.__struct_fields__]
    return msgspec.json.Decoder(msgspec.defstruct(f"Raw{shape.__name__}", fields, gc=False)).decode


_split_run, _split_job = _decoder(Run), _decoder(Job)


def taken_back(
    at: AsOf,
    wire: bytes,
    how: int,
    status: str,
    old: bytes | None,
    ended_position: int | None,
    changed_us: int | None,
) -> bytes:
    """Return the wire as of a point. ``how``: ``UNENDED`` or ``LATER``; ``status``: the one then; ``old``: the undo.

    ``changed_us``: when the row had changed last but for what the undo tells; None for runs, which do not show it.
    """
    if changed_us is None and how == UNENDED and old is None and (cut := _cut(wire, status)) is not None:
        return cut
    shown = _split_run(wire) if changed_us is None else _split_job(wire)
    if how == UNENDED:
        shown.completed_at = shown.stop_reason = shown.total_duration_ns = _NULL
        shown.callback_sent_at = shown.callback_status_code = shown.callback_error = _NULL
    if status in _STATUS:
        shown.status = _STATUS[status]
    if old is not None:
        changed_us = _undo(shown, undo.entries(old), at, ended_position if how == UNENDED else None, changed_us)
    if changed_us is not None:
        shown.updated_at = Raw(f'"{to_text(changed_us)}"'.encode())
    return _encode(shown)


def _cut(wire: bytes, status: str) -> bytes | None:
    """Return the wire of a run before its end, cut out of the one after it, which takes half the time.

    Names stand between quotes that no text holds bare, so that from the left they are found before any metadata, and
    from the right behind it. None for a run with a callback, whose address stands between.
    """
    reason = wire.rindex(b',"stop_reason":')
    if wire.rfind(b',"callback_url":null,') < reason:
        return None
    begin = wire.index(b',"status":')
    created = wire.index(b',"created_at":', begin)
    ended = wire.index(b',"completed_at":', created)
    agent = wire.index(b',"agent_id":', ended)
    ttft = wire.rindex(b',"ttft_ns":')
    duration = wire.rindex(b',"total_duration_ns":')
    return b"".join(
        (
            wire[:begin], _STATUS_THEN[status], wire[created:ended], b',"completed_at":null', wire[agent:reason],
            _NO_END, wire[ttft:duration], b',"total_duration_ns":null}',
        )
    )  # fmt: skip


def _undo(
    shown: Any, entries: list[undo.Entry], at: AsOf, ended_position: int | None, changed_us: int | None
) -> int | None:
    """Put the old values back that an event after the point changed; return when the last of the others took effect.

    ``ended_position``: of an end after the point; what came after that cannot tell what the end brought.
    """
    for entry in reversed(entries):
        if (entry.position if at.time_us is None else entry.time_us) > at.value:
            is_after_end = ended_position is not None and entry.position > ended_position
            for name, value in entry.old.items():
                if name in shown.__struct_fields__ and not (is_after_end and name in _OF_END):
                    setattr(shown, name, value)
        elif changed_us is not None:
            changed_us = max(changed_us, entry.time_us)
    return changed_us
