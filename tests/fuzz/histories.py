"""Parsers of whole records under attack: foreign histories, CloudEvents, messages, stored events of any age, bundles."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ledger import Ledger, archive, bundle, cloudevents, ids, messages, state, upcast
from ledger.errors import Unreadable
from ledger.events import TYPES, Recorded
from ledger.leaf import leaf_data
from ledger.legality import Legality
from ledger.tokens import Access
from projections import jobs, runs, steps, usage
from projections.trace import spans
from server.cli import transfer
from tests.fuzz.attack import Target
from tests.fuzz.evidence import NAME, SIGNER
from tests.ledger.agent_runs import experiment, line, simulation
from tests.ledger.engines import ME, create, scramble
from tests.ledger.histories import ACTOR, Clock, run

GOLDEN = Path(__file__).parent.parent / "golden"
SWF = (
    b"; UnixStartTime: 844118400\n1 0 5 10 4 -1 -1 4 60 -1 1 1 1 1 1 -1 -1 -1\n2 3 -1 0 1 1 1 1 1 1 5 2 3 1 1 1 -1 -1\n"
)
SWF_MORE = b"3 7 1 99 8 -1 -1 4 60 -1 5 1 1 1 1 -1 -1 -1\n4 8 1 99 8 -1 -1 4 60 -1 0 1 1 1 1 -1 -1 -1\n5 9 1 9 8 -1 -1 4 60 -1 -1 1 1 1 1 -1 -1 -1\n"
GOOGLE = b"0,,3418309,0,user=,3,name=,logical=\n600000000,,3418309,1,u,3,n,l\n700000000,0,3418309,4,u,3,n,l\n" + (
    b"1,,3418314,0,u,,n,l\n2,,3418314,1,u,3,n,l\n3,2,3418314,2,u,3,n,l\n9,,3418314,7,u,3,n,l\n"
)


@cache
def golden() -> list[bytes]:
    """Every shape that an event ever had, a line each."""
    return [each for path in sorted(GOLDEN.glob("events.v*.jsonl")) for each in path.read_bytes().splitlines()]


@cache
def exported() -> list[bytes]:
    """Exports of a ledger: a whole one, and parts of it."""

    async def make() -> list[bytes]:
        async with Ledger.in_memory(clock=Clock()) as ledger:
            await scramble(ledger, seed=3, rounds=6)
            await ledger.execute(create(run(50), "running", callback_url="https://example.com/"), ME)
            lines = [each async for part in archive.dump(ledger.store) for each in part]
        return [b"\n".join(lines) + b"\n", b"\n".join(lines[:6]) + b"\n", b"\n".join(lines[3:9]) + b"\n"]

    return asyncio.run(make())


@cache
def bundles() -> list[bytes]:
    """A bundle whose log an own key signed."""

    async def make() -> bytes:
        async with Ledger.in_memory(clock=Clock()) as ledger:
            await scramble(ledger, seed=1, rounds=5)
            await ledger.execute(create(run(50), "running", metadata={"é": "🦉"}), ME)
            await ledger.append(run(50), "run.failed", {"stop_reason": "error", "error": {"message": "no"}})
            events = await ledger.read(run(50))
            head = await ledger.store.head()
            note = SIGNER.sign(head.size, head.frontier.root())
            return await ledger.store.prove(lambda tree: bundle.pack(NAME, SIGNER.verifier, note, events, tree))

    return [asyncio.run(make())]


def imports(format: str) -> Callable[[bytes], None]:
    """Return what imports a file: it may hold anything, and what of it was taken can be read in every way."""

    def feed(raw: bytes) -> None:
        outcome = asyncio.run(_imported(raw, format))
        if not outcome.appended:
            raise Unreadable(path="the file", reason=outcome.rejects[0].reason if outcome.rejects else "it is empty")

    return feed


async def _imported(raw: bytes, format: str) -> archive.Outcome:
    async with Ledger.in_memory(clock=Clock()) as ledger:
        parts = [part async for part in archive.load(ledger, io.BytesIO(raw), format, "fuzz.jsonl")]
        log = await ledger.store.scan(0, 100_000)
        again = [part async for part in archive.load(ledger, io.BytesIO(raw), format, "fuzz.jsonl")]
        size = (await ledger.store.head()).size
        name = ledger.name
    appended = sum(part.appended for part in parts)
    assert appended == len(log), "something was recorded that was not told"
    assert size == len(log) + sum(part.appended for part in again)
    rejects = tuple(each for part in parts for each in part.rejects)
    assert size == len(log) or rejects, f"the same file again added {size - len(log)} events"
    check_readable(log, name)
    assert all(each.reason and len(each.text) <= 2000 and len(each.reason) <= 2000 for each in rejects)
    return archive.Outcome(appended=appended, duplicate=0, rejects=rejects, lines=0)


def check_readable(log: Sequence[Recorded], name: str) -> None:
    """What stands in a log is legal, is written and read again as it is, and every view of it can be made."""
    problems: list[tuple[int, str]] = []
    legality = Legality(lambda position, problem: problems.append((position, problem)))
    streams: dict[str, list[Recorded]] = {}
    for position, event in enumerate(log, 1):
        assert event.position == position
        legality.check(event.position, event.stream, event.version, event.type, event.data)
        assert cloudevents.to_recorded(cloudevents.decode(cloudevents.encode(event, name))) == event
        assert json.loads(leaf_data(event))[0] == position
        streams.setdefault(event.stream, []).append(event)
    assert not problems
    for events in streams.values():
        found = state.fold(events)
        if found is None:
            continue
        shown = json.loads((runs if found.kind == "run" else jobs).render(found))
        assert shown["status"] == found.status
        for at in (found.created_us, found.effective_us):
            state.as_of(events, time_us=at)
        if found.kind == "run":
            steps.fold(events, found.agent_id, found.project_id)
            usage.folded([], found.usage)
            spans(events)


def feed_event(raw: bytes) -> None:
    event = cloudevents.decode(raw)
    ids.parse(event.subject, "job", "run", "token", where="subject")
    draft = cloudevents.to_draft(event, actor=ACTOR, now_us=Clock()())
    recorded = Recorded(1, draft.stream, 1, draft.type, draft.schema, draft.time, draft.time, draft.actor, draft.key,
                        draft.correlation, draft.data, bytes([1] * 16))  # fmt: skip
    assert upcast.fact(recorded) == draft.fact
    again = cloudevents.decode(cloudevents.encode(recorded, NAME))
    assert cloudevents.to_recorded(again) == recorded
    assert cloudevents.fact_of(again)[0] == draft.fact


def feed_exported_event(raw: bytes) -> None:
    recorded = cloudevents.to_recorded(cloudevents.decode(raw))
    assert cloudevents.to_recorded(cloudevents.decode(cloudevents.encode(recorded, NAME))) == recorded


def feed_stored(raw: bytes) -> None:
    """Data in the log's file, of any schema, is a fact or ``Unreadable``, and a fact that says the same again."""
    for name, info in TYPES.items():
        for schema in {1, info.schema, info.schema + 1}:
            event = Recorded(1, run(1), 1, name, schema, 0, 0, ACTOR, None, None, raw, bytes(16))
            try:
                fact = upcast.fact(event)
            except Unreadable as error:
                assert str(error)
                continue
            assert schema <= info.schema
            assert upcast.fact(event) == fact
            state.fold([event])
    Access().apply([Recorded(1, "token-1", 1, "access.revoked", 1, 0, 0, ACTOR, None, None, b"{}", bytes(16))])


def feed_message(raw: bytes) -> None:
    said = messages.check(raw, run_id=run(1))
    messages.time_us(said)
    messages.calls_of(said)


def feed_bundle(raw: bytes) -> None:
    """A file is a bundle that holds what was signed, or it is not believed."""
    told = bundle.verify(raw, [SIGNER.verifier])
    good = json.loads(bundles()[0])
    if not told.ok:
        assert told.problems
        raise Unreadable(path="the file", reason=told.problems[0].problem)
    found = json.loads(raw)
    assert found["checkpoint"].startswith(good["checkpoint"][:40])
    assert found["events"] == good["events"][: len(found["events"])], "something else than what was signed is believed"


def feed_gzip(raw: bytes) -> None:
    """A file that is packed, or says so, gives lines or a clear error."""
    with io.BufferedReader(io.BytesIO(raw)) as file:  # type: ignore[arg-type]
        for each in transfer._lines(file, Path("packed.gz")):
            assert each


def messages_of(format_line: bytes) -> list[bytes]:
    """Return the messages of a record of letta-evals."""
    told = json.loads(format_line)["result"]["trajectory"][0]
    return [json.dumps(each).encode() for each in told]


def _letta() -> Sequence[bytes]:
    return [line(), line() + line(run=2), line(grade=None, agent_usage=None)]


def _tau2() -> Sequence[bytes]:
    return [
        b"".join(experiment(simulation())),
        b"".join(experiment(simulation(1), simulation(2, termination_reason="agent_error"))),
    ]


def _data() -> list[bytes]:
    found: list[Any] = [json.loads(each).get("data") for each in golden()]
    return [json.dumps(each).encode() for each in found]


TARGETS = [
    Target("import swf", imports("swf"), lambda: [SWF, SWF + SWF_MORE, SWF_MORE], covers=("ledger.formats.swf.parse",), weight=3),
    Target("import google-2011", imports("google-2011"), lambda: [GOOGLE], covers=("ledger.formats.google2011.parse",), weight=3),
    Target("import letta-evals", imports("letta-evals"), _letta, covers=("ledger.formats.letta_evals.parse",), weight=8),
    Target("import tau2", imports("tau2"), _tau2, covers=("ledger.formats.tau2.parse",), weight=8),
    Target("import jobledger", imports("jobledger"), exported, covers=("ledger.archive.load",), weight=8),
    Target("packed file", feed_gzip, lambda: [gzip.compress(SWF * 20, mtime=0), gzip.compress(SWF, mtime=0) * 2]),
    Target("event", feed_event, golden, covers=("ledger.cloudevents.decode",), weight=2),
    Target("exported event", feed_exported_event, golden, weight=2),
    Target("stored event", feed_stored, _data, covers=("ledger.state.fold", "ledger.steps.fold", "projections.steps.fold"),
           weight=8),
    Target("message", feed_message, lambda: messages_of(line()), covers=("ledger.messages.check", "ledger.limits.check")),
    Target("bundle", feed_bundle, bundles, covers=("ledger.bundle.verify",), weight=2),
]  # fmt: skip
