"""Verification of a log: every leaf, the tree, gap-free positions and versions, every transition legal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from types import MappingProxyType
from typing import Any

import msgspec

from ledger import engine
from ledger.checkpoint import VerifierKey
from ledger.entropy import Entropy
from ledger.leaf import row_hash
from ledger.legality import Legality
from ledger.merkle import EMPTY_ROOT, Frontier
from ledger.queries import IN_MAX
from ledger.scan import batches
from ledger.witnesses import Witnesses

PROBLEMS_MAX = 100
"""Problems that are told; a damaged file can have millions."""
_NOT_GONE = """
SELECT events.position FROM events LEFT JOIN erasures ON erasures.position = events.position
WHERE events.position IN ({marks}) AND NOT iif(
    erasures.position IS NULL,
    data IS NULL AND salt IS NULL,
    events.digest IS NULL AND data IS zeroblob(length(data)) AND salt IS zeroblob(16)
)
"""
Progress = Callable[[int, int], None]


class Problem(msgspec.Struct, frozen=True):
    """Something wrong, and the position where it shows: 0 where it is the file, and no event."""

    position: int
    problem: str


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Return problems by their positions, those of none last, and no more than are told."""
    return sorted(problems, key=lambda problem: problem.position or sys.maxsize)[:PROBLEMS_MAX]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found. ``root``: of the tree as recomputed from the events, hex.

    ``checkpoints``: how many the log was compared with; ``signatures``: how many of those a known key signed;
    ``signed``: the size of the largest of these. What stands behind it, nobody vouches for yet.
    """

    ok: bool
    name: str
    size: int
    root: str
    erased: int
    checkpoints: int
    signatures: int
    signed: int
    problems: list[Problem]


class Verifier:
    """Checks events in the order of their positions; feed it batches, then ask for the verdict."""

    def __init__(self, sizes: Iterable[int] = ()) -> None:
        """``sizes``: those of which the roots are wanted, rising."""
        self.size = 0
        self.erased: list[int] = []
        """Positions of events whose data is gone."""
        self.roots: dict[int, bytes] = {0: EMPTY_ROOT}
        self._wanted = [size for size in sizes if size][::-1]
        self._leaves = 0
        self.problems: list[Problem] = []
        self.nodes: list[tuple[int, int, bytes]] = []
        self.frontier = Frontier()
        self.recorded_us = 0
        self.legality = Legality(self._tell)
        self._follow = self.legality.check

    def feed(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Check rows of ``COLUMNS`` and the stored leaf hash."""
        leaves = []
        for row in rows:
            position, stream, version, type, _, _, recorded_us, _, _, _, data, salt, digest, stored = row
            if position != self.size + 1:
                self._tell(self.size + 1, f"is missing; the next event stands at position {position}")
                if position <= self.size:
                    continue  # what does not even follow is no part of the log
            self.size = position
            try:
                if digest is None and data is not None and salt is not None and len(salt) == Entropy.SIZE:
                    digest = sha256(salt + data).hexdigest()
                else:
                    digest = self._digest(data, salt, digest)
                leaf = row_hash(row[:10], digest)
                if leaf != stored:
                    self._tell(position, "does not match its leaf hash: the event was changed")
                if recorded_us < self.recorded_us:
                    self._tell(position, "recorded before the event at the position before it")
                self.recorded_us = recorded_us
                self._follow(position, stream, version, type, data)
            except (AttributeError, TypeError, ValueError, msgspec.MsgspecError) as error:
                self._tell(position, f"does not match its leaf hash: a value cannot be one of an event ({error})")
                leaf = bytes(32)
            leaves.append(leaf)
        self._grow(leaves)

    def _grow(self, leaves: list[bytes]) -> None:
        """Add leaves to the tree, and look at its root where that is wanted."""
        start, self._leaves = self._leaves, self._leaves + len(leaves)
        done = start
        while self._wanted and self._wanted[-1] <= self._leaves:
            size = self._wanted.pop()
            self.nodes += self.frontier.extend(leaves[done - start : size - start])
            self.roots[size] = self.frontier.root()
            done = size
        self.nodes += self.frontier.extend(leaves[done - start :])

    def _digest(self, data: bytes | None, salt: bytes | None, digest: str | None) -> str:
        """Return the digest of data that is gone, or that has one beside it though it should not."""
        if data is not None and salt is not None:
            if digest is not None:
                self._tell(self.size, "has both data and the digest of erased data")
            if len(salt) != Entropy.SIZE:  # the digest is of both in a row: where the one ends, the other begins
                self._tell(self.size, f"has a salt of {len(salt)} bytes, not of {Entropy.SIZE}")
            return sha256(salt + data).hexdigest()
        self.erased.append(self.size)
        if digest is None or data is not salt:
            self._tell(self.size, "data or salt is gone, but not by erasure: there is no digest of it")
        return digest or ""

    def _tell(self, position: int, problem: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(Problem(position, problem))


def verify(
    connection: Any,
    progress: Progress | None = None,
    *,
    keys: Sequence[VerifierKey] = (),
    must_sign: bool = False,
    against: Mapping[str, str] = MappingProxyType({}),
    remembered: tuple[str, str] | None = None,
) -> Verdict:
    """Verify the log that a connection shows, within one snapshot, with the checkpoints that stand in it.

    ``keys``: those that are known, by which signatures are checked; ``must_sign``: a checkpoint must be by one of them.
    ``against``: notes of checkpoints that were kept elsewhere, by the names of their places; ``remembered``: place and
    note of what was signed last here. Raises ``InvalidInput`` where one of ``against`` is no checkpoint of this ledger.
    """
    connection.execute("BEGIN")
    try:
        name, unnamed = _name(connection)
        witnesses = Witnesses(name, keys, must_sign=must_sign)
        if remembered is not None:
            witnesses.remember(remembered[1], remembered[0])
        for source, note in against.items():
            witnesses.bring(note, source)
        verifier = _verify(connection, progress, witnesses)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    problems = in_order([*unnamed, *verifier.problems])
    return Verdict(
        ok=not problems,
        name=name,
        size=verifier.size,
        root=verifier.frontier.root().hex(),
        erased=len(verifier.erased),
        checkpoints=len(witnesses),
        signatures=witnesses.signatures,
        signed=witnesses.signed,
        problems=problems,
    )


def _name(connection: Any) -> tuple[str, list[Problem]]:
    """Return the ledger's name; where it cannot be read, no checkpoint seems to be of this ledger, so why is told."""
    try:
        row = connection.execute("SELECT name FROM ledger").fetchone()
    except (engine.Error, UnicodeDecodeError) as error:
        return "", [Problem(0, f"the name of the ledger cannot be read: {error}")]
    return ("", [Problem(0, "the ledger has no name")]) if row is None else (str(row[0]), [])


def _verify(connection: Any, progress: Progress | None, witnesses: Witnesses) -> Verifier:
    verifier = Verifier()
    is_read = False
    try:
        witnesses.keep(connection.execute("SELECT size, note FROM checkpoints ORDER BY size"))
        verifier = Verifier(witnesses.sizes())
        head = connection.execute("SELECT size, recorded, frontier FROM head").fetchone()
        for rows in batches(connection):
            verifier.feed(rows)
            if progress and head:
                progress(verifier.size, head[0])
        is_read = True
        _check_end(verifier, head)
        _check_tree(verifier, connection)
        _check_erasures(verifier, connection)
    except (engine.Error, TypeError, UnicodeDecodeError) as error:
        verifier.problems.append(Problem(verifier.size + 1, f"the file cannot be read on: {error}"))
    if is_read:
        told = witnesses.problems(verifier.size, verifier.roots, is_whole=not verifier.problems)
        verifier.problems += [Problem(position, problem) for position, problem in told]
    return verifier


def _check_end(verifier: Verifier, head: tuple[int, int, bytes] | None) -> None:
    """Compare the end of the log with what its head says: size, time of recording, and the tree's frontier."""
    tell = verifier.problems.append
    if head is None:
        tell(Problem(verifier.size + 1, "the head of the log is gone, which says where it ends"))
        return
    size, recorded_us, frontier = head
    if size != verifier.size:
        tell(Problem(verifier.size + 1, f"the log ends at {verifier.size}, but its head says {size}"))
    elif recorded_us != verifier.recorded_us:
        tell(Problem(verifier.size, "the last event was not recorded when the head says"))
    if size == verifier.size and frontier != verifier.frontier.to_bytes() and not verifier.problems:
        tell(Problem(verifier.size, "the root of the events is not that of the stored frontier"))
    verifier.problems += [
        Problem(position, f"data of {stream} is gone, and no event tells of its erasure")
        for stream, position in verifier.legality.unexplained.items()
    ]


def _check_erasures(verifier: Verifier, connection: Any) -> None:
    """Tell where data that reads as gone is still there, and where an erasure is one of nothing.

    Gone is what was overwritten with zero bytes and has its digest among the erasures, or what an export restored as
    erased: nothing at all, and the digest in the row.
    """
    told = []
    for start in range(0, len(verifier.erased), IN_MAX):
        part = verifier.erased[start : start + IN_MAX]
        sql = _NOT_GONE.format(marks=",".join("?" * len(part)))
        told += [
            (position, "was erased, but not all of its data is blank") for (position,) in connection.execute(sql, part)
        ]
    gone = set(verifier.erased)
    for (position,) in connection.execute("SELECT position FROM erasures"):
        if position > verifier.size or position < 1:
            told.append((position, "was erased, but there is no such event"))
        elif position not in gone:
            told.append((position, "was erased, but its data is there"))
    verifier.problems += [Problem(position, problem) for position, problem in told]


def _check_tree(verifier: Verifier, connection: Any) -> None:
    """Compare the stored tree nodes with those of the events, as far as the events are right."""
    known = [problem.position for problem in verifier.problems]
    stored = {(level, index): node for level, index, node in connection.execute("SELECT level, idx, hash FROM tree")}
    wrong = []
    for level, index, node in verifier.nodes:
        if stored.pop((level, index), None) != node:
            wrong.append((level, index, "is another"))
    wrong += [(level, index, "is too many") for level, index in stored]
    for level, index, what in wrong:
        first, last = (index << level) + 1, (index + 1) << level
        if not known or last < min(known):
            text = f"the stored tree node over positions {first} to {last} {what}"
            verifier.problems.append(Problem(first, text))
