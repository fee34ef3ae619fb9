"""``GET /v1/runs/{id}`` and ``GET /v1/jobs/{id}``, requests a second, with a token.

Ours: ``jobledger serve`` on a generated log (1,000,000 events in a full run), its access log written to a file.
Baseline: a ``web.Application`` with that one route and a handler that returns the same bytes (``bare``), in a process
set up alike and asked in the same way: one load generator, 16 keep-alive connections, equal request headers.
The rows: one id all the time; thousands of ids in random order, all of which ours keeps in memory; and ids in random
order over all runs, more than are kept and new ones each time, so that ours reads the views file. One more row compares
with a bare ``web.Server``, which has no router and is what ours is built on.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from scripts.bench.contest import Pair, Row, row
from scripts.bench.load import Asking, compare
from scripts.bench.served import Served, bare, ours
from scripts.bench.workplace import Log, Workplace

TARGET = 0.70
FRESH_STEP = 12_011
"""Ids further on where each cold measurement begins: about as many as one measurement asks for."""


def run(place: Workplace) -> Iterator[Row]:
    """Measure, and yield the rows."""
    log = place.log(place.scale.served)
    with ours(place, log) as server:
        for kind, ids in (("run", log.runs), ("job", log.jobs)):
            path = f"/v1/{kind}s/{ids[0]}"
            body = server.get(path)
            with bare(place, log, "application", f"/v1/{kind}s/{{id}}", body) as baseline:
                assert baseline.get(path) == body
                yield from _kind(place, log, kind, server, baseline)
        path = f"/v1/runs/{log.runs[0]}"
        with bare(place, log, "server", "", server.get(path)) as low:
            pairs = compare(place, Asking(server, [path]), Asking(low, [path]))
        yield _row("run, one id, against web.Server", pairs, None, "")


def _kind(place: Workplace, log: Log, kind: str, server: Served, baseline: Served) -> Iterator[Row]:
    ids = log.runs if kind == "run" else log.jobs
    every = [f"/v1/{kind}s/{id_}" for id_ in random.Random(1).sample(ids, len(ids))]
    some = every[: place.scale.ids]

    def against(paths: list[str], step: int = 0) -> list[Pair]:
        return compare(place, Asking(server, paths, step), Asking(baseline, paths, step))

    yield _row(f"{kind}, one id", against([f"/v1/{kind}s/{ids[0]}"]), TARGET, "")
    yield _row(f"{kind}, {len(some):,} ids", against(some), TARGET, "random order; all stay in ours' memory")
    if kind == "run":
        note = "random order, new ones each time: ours reads the views file"
        yield _row(f"run, any of {len(every):,} ids", against(every, FRESH_STEP), None, note)


def _row(name: str, pairs: list[Pair], target: float | None, note: str) -> Row:
    versus = "a bare web.Server handler" if "web.Server" in name else "a bare web.Application with this one route"
    text = f"requests/s with a token; against {versus} that returns the same bytes" + (f"; {note}" if note else "")
    return row("retrieve", name, pairs, unit="requests/s", target=target, note=text)
