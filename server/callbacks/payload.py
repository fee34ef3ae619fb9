"""What a receiver is told: the body of a callback, the same bytes at each attempt (contract 5).

It is the resource as its terminal event left it, folded from the log; what was said later is not in it, so that a
repeat under the same ``webhook-id`` is a repeat.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ledger import state as states
from ledger.events import Recorded
from ledger.times import to_text

_encode = msgspec.json.Encoder().encode


def body(events: Sequence[Recorded], ended_position: int) -> bytes:
    """Return the JSON body from a stream's events: the ids, ``status``, ``completed_at`` and ``metadata``.

    A run's has its id as ``run_id`` and as ``job_id``.
    """
    state = states.as_of(events, position=ended_position)
    if state is None or state.ended_us is None:
        raise ValueError(f"no resource ended at position {ended_position}")
    ids = {"run_id": state.id} if state.kind == "run" else {}
    return _encode(
        {
            **ids,
            "job_id": state.id,
            "status": state.status,
            "completed_at": to_text(state.ended_us),
            "metadata": state.metadata,
        }
    )
