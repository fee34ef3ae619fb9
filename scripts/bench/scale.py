"""How much each size of a run measures."""

from __future__ import annotations

import msgspec


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """The amounts of one size. Lists of event counts are for the rows that tell whether something stays linear."""

    load_s: float
    """Seconds of one measurement of a server."""
    load_rounds: int
    events: tuple[int, ...]
    """Events of the logs that are rebuilt; the last that is no larger than ``served`` is served and verified too."""
    served: int
    ids: int
    """Different ids that are asked for in turn where the rows are warm."""
    cursors: int
    """Different pages that are asked for in turn where none is kept."""
    depth: int
    """How many rows before the deep page."""
    callers: int
    commands: int
    """Commands of each caller, a multiple of 3."""
    append_rounds: int
    singles: int
    """Commands, one after the other, in one round."""
    single_rounds: int
    jobs: int | None
    """Jobs of a generated SWF file; None: the real log where it is at hand."""
    import_rounds: int
    fold_rounds: int
    """Rounds of rebuild and verify."""
    proved: tuple[int, int]
    """Events of the two logs that proofs are made of."""
    clients: int
    """Clients that follow one run; one in fifty more does not read."""
    chunks: int
    """Messages in one round of a stream, a multiple of 20."""
    stream_rounds: int
    owed: int
    """Callbacks that are owed to a dead host."""
    deliveries: int
    """Callbacks to a good receiver in one round."""
    delivery_rounds: int
    hostile: int
    """Callbacks to good receivers beside hostile ones in one round."""
    hostile_rounds: int
    as_of_runs: int
    """Runs of the log whose lists are read as of points in its history."""
    as_of_rounds: int
    as_of_lists: int
    """How many of the lists are read as of points."""
    forensic_runs: int
    """Runs of the log that forensic questions are put to."""
    open_kinds: tuple[str, ...]
    """What is asked at fixed rates: reads, writes, a mix."""
    open_probe_s: float
    """How long each rate is tried on the way to the highest."""
    open_agreed: int
    """How many tries of a rate must agree."""
    open_s: float
    """How long each share of it lasts."""
    open_rounds: int
    open_halvings: int
    """How often the gap between a rate that is sustained and one that is not is halved."""


SCALES = {
    "small": Scale(
        load_s=0.15, load_rounds=1, events=(1_000, 4_000), served=4_000, ids=1000, cursors=500, depth=1000,
        callers=64, commands=6, append_rounds=1, singles=30, single_rounds=1, jobs=500, import_rounds=1, fold_rounds=1,
        proved=(1_000, 4_000),
        clients=50, chunks=40, stream_rounds=1, owed=100,
        deliveries=100, delivery_rounds=1, hostile=18, hostile_rounds=1,
        as_of_runs=10_000, as_of_rounds=1, as_of_lists=1, forensic_runs=1_000,
        open_kinds=("mix",), open_probe_s=0.1, open_agreed=1, open_s=0.2, open_rounds=1, open_halvings=1,
    ),
    "full": Scale(
        load_s=1.0, load_rounds=5, events=(100_000, 1_000_000), served=1_000_000, ids=5000, cursors=20_000,
        depth=200_000, callers=512, commands=60, append_rounds=5, singles=150, single_rounds=21, jobs=None,
        import_rounds=2, fold_rounds=2,
        proved=(100_000, 5_000_000), clients=1000, chunks=400, stream_rounds=4, owed=10_000,
        deliveries=10_000, delivery_rounds=3, hostile=900, hostile_rounds=3,
        as_of_runs=1_000_000, as_of_rounds=3, as_of_lists=5, forensic_runs=1_000_000,
        open_kinds=("reads", "writes", "mix"), open_probe_s=1.0, open_agreed=2,
        open_s=3.0, open_rounds=3, open_halvings=3,
    ),
    "huge": Scale(
        load_s=2.0, load_rounds=9, events=(100_000, 1_000_000, 10_000_000), served=1_000_000, ids=5000, cursors=20_000,
        depth=200_000, callers=512, commands=180, append_rounds=7, singles=250, single_rounds=15, jobs=None,
        import_rounds=3, fold_rounds=3,
        proved=(100_000, 5_000_000), clients=1000, chunks=1000, stream_rounds=5, owed=10_000,
        deliveries=10_000, delivery_rounds=3, hostile=900, hostile_rounds=3,
        as_of_runs=1_000_000, as_of_rounds=3, as_of_lists=5, forensic_runs=1_000_000,
        open_kinds=("reads", "writes", "mix"), open_probe_s=2.0, open_agreed=2,
        open_s=5.0, open_rounds=3, open_halvings=4,
    ),
}  # fmt: skip
