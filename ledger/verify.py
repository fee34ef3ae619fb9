"""Verification of a log: every leaf, the tree, gap-free positions and versions, every transition legal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from ledger import engine
from ledger.events import TYPES, Recorded
from ledger.leaf import leaf_hash
from ledger.merkle import Frontier
from ledger.queries import COLUMNS, read_head
from ledger.transitions import LEGAL

PROBLEMS_MAX = 100
"""Problems that are told; a damaged file can have millions."""
BATCH = 10_000
Progress = Callable[[int, int], None]


class Problem(msgspec.Struct, frozen=True):
    """Something wrong, and the position where it shows."""

    position: int
    problem: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found. ``root``: of the tree as recomputed from the events, hex."""

    ok: bool
    size: int
    root: str
    erased: int
    problems: list[Problem]


class Verifier:
    """Checks events in the order of their positions; feed it batches, then ask for the verdict."""

    def __init__(self) -> None:
        self.size = 0
        self.erased = 0
        self.problems: list[Problem] = []
        self.nodes: list[tuple[int, int, bytes]] = []
        self.frontier = Frontier()
        self._recorded_us = 0
        self._streams: dict[str, tuple[int, str | None, str]] = {}

    def feed(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Check rows of ``COLUMNS`` and the stored leaf hash."""
        leaves = []
        for row in rows:
            event = Recorded(*row[:-1])
            if event.position != self.size + 1:
                self._tell(event.position, f"position follows {self.size}: events between them are missing")
            self.size = event.position
            leaf = self._leaf(event, row[-1])
            leaves.append(leaf)
            if event.recorded < self._recorded_us:
                self._tell(event.position, "recorded before the event at the position before it")
            self._recorded_us = event.recorded
            self._check_stream(event)
        self.nodes += self.frontier.extend(leaves)

    def _leaf(self, event: Recorded, stored: bytes) -> bytes:
        if event.data is None or event.salt is None:
            self.erased += 1
            if event.digest is None or (event.data is None) != (event.salt is None):
                self._tell(event.position, "data or salt is gone, but not by erasure: there is no digest of it")
        elif event.digest is not None:
            self._tell(event.position, "has both data and the digest of erased data")
            event = msgspec.structs.replace(event, digest=None)
        leaf = leaf_hash(event)
        if leaf != stored:
            self._tell(event.position, "does not match its leaf hash: the event was changed")
        return leaf

    def _check_stream(self, event: Recorded) -> None:
        info = TYPES.get(event.type)
        kind = event.type.partition(".")[0]
        version, status, first_kind = self._streams.get(event.stream, (0, None, kind))
        if event.version != version + 1:
            self._tell(event.position, f"version {event.version} of {event.stream} follows version {version}")
        if kind != first_kind:
            self._tell(event.position, f"an event of a {kind} in the stream of a {first_kind}")
        if info is None:
            self._tell(event.position, f"type '{event.type}' is unknown to this program")
        elif info.status is not None:
            if status not in LEGAL[info.kind] or info.status not in LEGAL[info.kind][status]:
                self._tell(event.position, f"{event.stream} went from {status or 'nothing'} to {info.status}")
            status = info.status
        elif info.kind != "access":
            status = self._check_other(event, info.verb, status)
        self._streams[event.stream] = (event.version, status, first_kind)

    def _check_other(self, event: Recorded, verb: str, status: str | None) -> str | None:
        if status is None:
            self._tell(event.position, f"{event.stream} was {verb} before it was created")
        elif status == "deleted" and verb != "erased":
            self._tell(event.position, f"{event.stream} was {verb} after it was deleted")
        return "deleted" if verb == "deleted" else status

    def _tell(self, position: int, problem: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(Problem(position, problem))


def verify(connection: Any, progress: Progress | None = None) -> Verdict:
    """Verify the log that a connection shows, within one snapshot."""
    verifier = Verifier()
    try:
        connection.execute("BEGIN")
        head = read_head(connection)
        cursor = connection.execute(f"SELECT {COLUMNS}, leaf FROM events ORDER BY position")
        while rows := cursor.fetchmany(BATCH):
            verifier.feed(rows)
            if progress:
                progress(verifier.size, head.size)
        _check_tree(verifier, head, connection)
        connection.execute("COMMIT")
    except (engine.Error, msgspec.MsgspecError, TypeError, UnicodeDecodeError) as error:
        verifier.problems.append(Problem(verifier.size + 1, f"the file cannot be read on: {error}"))
    verifier.problems.sort(key=lambda problem: problem.position)
    return Verdict(
        ok=not verifier.problems,
        size=verifier.size,
        root=verifier.frontier.root().hex(),
        erased=verifier.erased,
        problems=verifier.problems,
    )


def _check_tree(verifier: Verifier, head: Any, connection: Any) -> None:
    tell = verifier.problems.append
    if head.size != verifier.size:
        tell(Problem(verifier.size + 1, f"the log ends at {verifier.size}, but its head says {head.size}"))
    elif head.frontier.root() != verifier.frontier.root() and not verifier.problems:
        tell(Problem(verifier.size, "the root of the events is not that of the stored frontier"))
    stored = {(level, index): node for level, index, node in connection.execute("SELECT level, idx, hash FROM tree")}
    for level, index, node in verifier.nodes:
        if stored.pop((level, index), None) != node:
            position = (index << level) + 1
            tell(
                Problem(
                    position, f"the stored tree node over positions {position} to {(index + 1) << level} is another"
                )
            )
    for level, index in stored:
        tell(Problem((index << level) + 1, f"the stored tree has a node (level {level}, index {index}) too many"))
