"""What tests of the log share: ids, a clock that is data, and the contract's own words on leaves and roots."""

import json
from hashlib import sha256
from typing import Any

import msgspec

from ledger import state
from ledger.events import Recorded

START_US = 1_700_000_000_000_000
ACTOR = "user-00000000-0000-4000-8000-0000000000aa"
SALT = bytes(range(16))
fold: Any = state.fold  # tests know that there is a state


def id_of(kind, number):
    """`job`, `run` or `token` number n; a batch is a job by its id."""
    return f"{'job' if kind == 'batch' else kind}-00000000-0000-4000-8000-{number:012x}"


def job(number=1):
    return id_of("job", number)


def run(number=1):
    return id_of("run", number)


def birth(kind, **more):
    """The data of a creation: a run has its agent."""
    return {"user_id": ACTOR, **({"agent_id": "agent-1"} if kind == "run" else {}), **more}


class Clock:
    """A clock that is data: each reading is the next of the given times, then one microsecond after the last."""

    def __init__(self, *times, start=START_US):
        self._times = list(times)
        self.now = start

    def __call__(self):
        self.now = self._times.pop(0) if self._times else self.now + 1
        return self.now


def event(type, data=None, *, version=1, time=START_US, position=None, stream=None, **more):
    """A recorded event as a store would give it back."""
    kind = type.partition(".")[0]
    stream = stream or id_of("token" if kind == "access" else kind, 1)
    raw = json.dumps({} if data is None else data, ensure_ascii=False, separators=(",", ":")).encode()
    facts = {"schema": 1, "recorded": time, "actor": ACTOR, "key": None, "correlation": None, "salt": SALT} | more
    return Recorded(
        position=version if position is None else position,
        stream=stream, version=version, type=type, time=time, data=facts.pop("raw", raw), **facts,
    )  # fmt: skip


# --- contract 1, Resources and statuses, as its table says ------------------------------------------------------------

KINDS = ("job", "batch", "run")
STATUSES = ("created", "pending", "running", "completed", "failed", "cancelled", "expired")
TERMINAL = ("completed", "failed", "cancelled", "expired")
_JOB = "created>pending pending>running running>completed running>failed running>cancelled running>expired"
_RUN = "created>running created>failed created>cancelled running>completed running>failed running>cancelled"
MOVES = {
    kind: [tuple(move.split(">")) for move in table.split()]
    for kind, table in zip(KINDS, (_JOB, _JOB, _RUN), strict=True)
}


def statuses_of(kind):
    return [status for status in STATUSES if kind != "run" or status not in {"pending", "expired"}]


def way_to(kind, status):
    """The statuses of a life from its creation to the status, by way of running."""
    steps = [each for each in ("created", "pending", "running") if each in statuses_of(kind)]
    return steps[: steps.index(status) + 1] if status in steps else [*steps, status]


def life(kind, *verbs, **more):
    """The events of one resource, one second apart: each verb is a name, or a name and its data."""
    events = []
    for version, verb in enumerate(verbs, 1):
        name, data = verb if isinstance(verb, tuple) else (verb, {})
        data = birth(kind, **data) if name == "created" else data
        time = START_US + version * 1_000_000
        events.append(event(f"{kind}.{name}", data, version=version, time=time, **more))
    return events


def recorded(state_events, decision, actor=ACTOR, **more):
    """The history with the events of a decision behind it."""
    later = [
        event(
            name,
            msgspec.to_builtins(fact),
            version=len(state_events) + number,
            actor=actor,
            stream=state_events[0].stream if state_events else None,
            **more,
        )
        for number, (name, fact) in enumerate(decision.events, 1)
    ]
    return [*state_events, *later]


# --- contract 2, Tamper evidence, word for word -----------------------------------------------------------------------


def leaf_data(found):
    """[position, stream, version, type, schema, times in microseconds, actor, key, correlation, sha256hex(…)]."""
    payload = found.digest if found.data is None else sha256(found.salt + found.data).hexdigest()
    row = [
        found.position, found.stream, found.version, found.type, found.schema, found.time, found.recorded,
        found.actor, found.key, found.correlation, payload,
    ]  # fmt: skip
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()


def leaf_hash(found):
    return sha256(b"\x00" + leaf_data(found)).digest()


def root(leaves):
    """The root over leaf hashes by RFC 9162 section 2.1.1, which is recursive and slow."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"").digest()
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return sha256(b"\x01" + root(leaves[:half]) + root(leaves[half:])).digest()
