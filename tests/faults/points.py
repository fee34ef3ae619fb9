"""A fault at every write point of an action: counted once, then done again and again, with a fault at each."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.cli.commandline import Done
from tests.faults import shim
from tests.faults.actions import Action
from tests.faults.forkserver import ForkServer
from tests.faults.powercut import Disk, read_journal
from tests.faults.shim import Fault
from tests.faults.starts import Starts, leaves_of

RECOVERED = "recovered"
KILLED = -9
REFUSED_SHARE = 5
"""By what to divide the points of calls that fail, as there are many more ways to fail than to die."""
SHARES = (0.0, 0.3, 0.7, 1.0)
"""Of what was not synced, how much a power cut leaves."""
OURS = (
    *("ledger.db-wal", "ledger.db-shm", "ledger.views.db-wal", "ledger.views.db-shm"),  # of the readers that look here
    *(
        "ledger.db",
        "ledger.views.db",
        "ledger.key",
        "ledger.pub",
        "ledger.secret",
        "ledger.db.signed",
        "ledger.db.verified",
    ),
    *("ledger.views.db.rebuild", "ledger.db.writer", "copy.db", "copy.db.verified", "copy.jsonl", "first.swf"),
)
"""What may be in a ledger's folder when all is done: no file that was begun and never finished."""


@dataclass
class Bench:
    """Where faults are tried: a process that forks, folders to start from, seeded chance, and how much may be done."""

    forks: ForkServer
    starts: Starts
    folder: Path
    """Holds the ledger's folder; what is in it beside that is out of reach of all faults."""
    chance: random.Random
    seed: int
    points_max: int
    """Write points of one action that are tried at most, spread evenly over all."""
    kills: int = 0

    @property
    def place(self) -> Path:
        """The folder of the ledger."""
        return self.folder / "place"


@contextmanager
def bench(points_max: int, seed: int, folder: Path) -> Iterator[Bench]:
    """Set all up in a folder."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="jobledger-faults-") as name:
        root = Path(name)
        (root / "starts").mkdir()
        with ForkServer(root) as forks:
            yield Bench(forks, Starts(root / "starts"), root, random.Random(seed), seed, points_max)


def points(
    bench: Bench,
    action: Action,
    kinds: tuple[str, ...] = shim.WRITING,
    name: str | None = None,
    *,
    share: int = 1,
) -> list[int]:
    """Return the numbers of the calls to try: all that the action makes, or as many as may be, evenly.

    ``share``: by what to divide how many may be; then each is taken by chance from its part of all.
    """
    db = bench.starts.copy(action.start, bench.place)
    counting = Fault(do="EIO", at=0, kinds=kinds, name=name)
    with shim.Control(bench.folder / "control", is_on=1) as control:
        asked = shim.environment(bench.place, counting, control=control.path)
        done = bench.forks.run(*action.arguments(db), environment=asked)
        assert done.code == 0, f"{action.name} fails without any fault: {done}"
        count = control.get("seen")
    assert count, f"{action.name} makes no such call"
    wanted = max(2, bench.points_max // share)
    if count <= wanted:
        return list(range(1, count + 1))
    if share > 1:
        edges = [round(step * count / wanted) for step in range(wanted + 1)]
        return [bench.chance.randint(first + 1, last) for first, last in pairwise(edges)]
    return sorted({1 + round(step * (count - 1) / (wanted - 1)) for step in range(wanted)})


def killed(bench: Bench, action: Action) -> Iterator[str]:
    """Kill the action at its write points, in turn before, in the middle of and after the call."""
    for number, point in enumerate(points(bench, action)):
        how = ("kill", "torn", "after")[number % 3]
        db = bench.starts.copy(action.start, bench.place)
        done = bench.forks.run(
            *action.arguments(db), environment=shim.environment(bench.place, Fault(do=how, at=point))
        )
        bench.kills += 1
        yield f"exit {done.code}, not killed" if done.code != KILLED else told(point, recovered(bench, action, done))


def cut_off(bench: Bench, action: Action) -> Iterator[str]:
    """Cut the power at the write points of the action."""
    for number, point in enumerate(points(bench, action)):
        db = bench.starts.copy(action.start, bench.place)
        disk, journal = Disk(bench.place), bench.folder / "journal"
        journal.unlink(missing_ok=True)
        asked = shim.environment(bench.place, Fault(do="after", at=point), journal=journal)
        done = bench.forks.run(*action.arguments(db), environment=asked)
        bench.kills += 1
        disk.play(read_journal(journal))
        shutil.rmtree(bench.place)
        bench.place.mkdir()
        disk.after_a_cut(bench.place, bench.chance, SHARES[number % len(SHARES)])
        yield f"exit {done.code}, not killed" if done.code != KILLED else told(point, recovered(bench, action, done))


def ended(bench: Bench, action: Action) -> Iterator[str]:
    """Cut the power when the action has answered that it is done: nothing of that may be lost."""
    for share in SHARES:
        db = bench.starts.copy(action.start, bench.place)
        disk, journal = Disk(bench.place), bench.folder / "journal"
        journal.unlink(missing_ok=True)
        done = bench.forks.run(*action.arguments(db), environment=shim.environment(bench.place, journal=journal))
        disk.play(read_journal(journal))
        shutil.rmtree(bench.place)
        bench.place.mkdir()
        disk.after_a_cut(bench.place, bench.chance, share)
        problem = action.check(bench.place, done, bench.forks)
        yield f"lost: {problem}" if problem else recovered(bench, action, done)


def lost(bench: Bench, action: Action) -> Iterator[str]:
    """Let an fsync lose what was written and kill the action there; do the same again, then cut the power.

    Memory shows the lost pages until then: what the second process is told to be on the disk must not stand on them.
    """
    again = action.arguments if action.again is None else action.again
    for number, point in enumerate(points(bench, action, ("fsync",))):
        db = bench.starts.copy(action.start, bench.place)
        disk, journal = Disk(bench.place), bench.folder / "journal"
        journal.unlink(missing_ok=True)
        asked = shim.environment(bench.place, Fault(do="lose", at=point, kinds=("fsync",)), journal=journal)
        first = bench.forks.run(*action.arguments(db), environment=asked)
        bench.kills += 1
        second = bench.forks.run(*(again(db) or ()), environment=shim.environment(bench.place, journal=journal))
        disk.play(read_journal(journal))
        shutil.rmtree(bench.place)
        bench.place.mkdir()
        disk.after_a_cut(bench.place, bench.chance, SHARES[number % len(SHARES)])
        if (first.code, second.code) != (KILLED, 0):
            yield f"exit {first.code} and {second.code}, not killed and done"
        elif problem := action.check(bench.place, second, bench.forks):
            yield told(point, f"lost: {problem}")
        else:
            yield told(point, recovered(bench, action, first))


def refused(bench: Bench, action: Action, fault: Fault) -> Iterator[str]:
    """Let calls of the action fail at each of its points; say how it ended, and whether all was well afterwards."""
    for point in points(bench, action, fault.kinds, fault.name, share=REFUSED_SHARE):
        db = bench.starts.copy(action.start, bench.place)
        wanted = Fault(do=fault.do, at=point, more=fault.more, kinds=fault.kinds, name=fault.name)
        done = bench.forks.run(*action.arguments(db), environment=shim.environment(bench.place, wanted))
        yield told(point, f"{clear_end(done)}, then {recovered(bench, action, done)}")


def told(point: int, seen: str) -> str:
    """Return what was seen, with the point where it is not what should be."""
    return seen if seen.endswith(RECOVERED) else f"{seen} (at call {point})"


def clear_end(done: Done) -> str:
    """Say how a command ended: with success, a clear error, or what should not be."""
    if "Traceback" in done.err:
        return f"a traceback: {done.err.strip().splitlines()[-1]}"
    if done.code == 0:
        return "done"
    said = done.err.strip() or done.out.strip()
    if done.code in (1, 2) and said:
        return "a clear error"
    return f"exit {done.code} without a word" if not said else f"exit {done.code}: {said.splitlines()[-1]}"


# --- what must be so afterwards ---------------------------------------------------------------------------------------


def recovered(bench: Bench, action: Action, done: Done) -> str:
    """Open again with plain commands alone, and look whether all is well; say what is not, or that it is."""
    db, before = bench.place / "ledger.db", bench.starts.leaves[action.start]
    run = bench.forks.run
    if before and (first := run("verify", "--views", "--db", db)).code:
        return f"not whole after it: {_said(first)}"
    again = action.arguments(db) if action.again is None else action.again(db)
    if again is not None and (repeated := run(*again)).code:
        return f"the same again fails: {_said(repeated)}"
    if (last := run("verify", "--views", "--db", db)).code:
        return f"not whole at the end: {_said(last)}"
    if leaves_of(db)[: len(before)] != before:
        return "what was recorded before is another"
    if problem := action.check(bench.place, done, bench.forks):
        return problem
    left = sorted(path.name for path in bench.place.iterdir() if path.name not in OURS)
    return f"left behind: {', '.join(left)}" if left else RECOVERED


def _said(done: Done) -> str:
    lines = (done.err or done.out).strip().splitlines()
    return f"exit {done.code}: {lines[-1] if lines else 'nothing said'}"
