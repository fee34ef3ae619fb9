"""Verification of a log, events a second.

Ours: ``verify_file``, as the command calls it: every leaf, the tree, gap-free positions and versions, the legality of
every transition; beside it, on another thread, SQLite's own check of all pages and indexes. Baseline: reading all
columns of all events in batches, SHA-256 of each event's salt and data, SHA-256 of each leaf's bytes (made outside the
measured time), and of all inner nodes of the tree, with hashlib;
it checks nothing.
Both come to the same root, or the bench fails. Each measurement is a process of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from ledger import engine
from ledger.soundness import verify_file
from scripts.bench.apart import apart
from scripts.bench.contest import Lap, Row, Watch, row, take_turns
from scripts.bench.workplace import Workplace

TARGET = 0.50
BLOCK = 8192
"""Rows read at a time; a power of two, so that each block but the last is a complete subtree."""


def run(place: Workplace) -> Iterator[Row]:
    """Measure, and yield the row."""
    log = place.log(place.scale.served)
    roots: set[str] = set()

    def side(measure: Callable[[Path], tuple[Lap, str]]) -> Lap:
        lap, root = apart(measure, log.path)
        roots.add(root)
        return lap

    pairs = take_turns(lambda: side(ours), lambda: side(scan_and_hash), place.scale.fold_rounds)
    assert len(roots) == 1
    note = f"{place.scale.served:,} events; against reading all columns and hashing the same bytes with hashlib"
    yield row("verify", "whole log", pairs, unit="events/s", target=TARGET, note=note)


def ours(path: Path) -> tuple[Lap, str]:
    """Verify a log; return the rate and the root."""

    with Watch() as watch:
        verdict = asyncio.run(verify_file(path))
    assert verdict.ok
    return watch.lap(verdict.size), verdict.root


def scan_and_hash(path: Path) -> tuple[Lap, str]:
    """Hash all that a verification has to hash; return the rate and the root."""
    connection = engine.connect(path, read_only=True)
    watch = Watch()
    count, blocks = 0, list[bytes]()
    with watch:
        cursor = connection.execute("SELECT * FROM events ORDER BY position")
    names = [column[0] for column in cursor.description]
    data, salt = names.index("data"), names.index("salt")
    while True:
        with watch:
            rows = cursor.fetchmany(BLOCK)
            digests = [sha256(row[salt] + row[data]).hexdigest() for row in rows]
        if not rows:
            break
        leaves = _leaves(rows, digests)
        with watch:
            blocks.append(_root([sha256(leaf).digest() for leaf in leaves]))
        count += len(rows)
    with watch:
        root = _root(blocks)
    connection.close()
    return watch.lap(count), root.hex()


def _leaves(rows: Sequence[tuple[Any, ...]], digests: Sequence[str]) -> list[bytes]:
    """Make the bytes that leaves are hashed from: the first ten columns and the digest of salt and data."""
    encode = msgspec.json.encode
    return [b"\0" + encode((*row[:10], digest)) for row, digest in zip(rows, digests, strict=True)]


def _root(nodes: list[bytes]) -> bytes:
    """Return the root over neighbouring complete subtrees of one size, and a smaller last one."""
    while len(nodes) > 1:
        pairs = zip(nodes[::2], nodes[1::2], strict=False)
        nodes = [sha256(b"\1" + left + right).digest() for left, right in pairs] + nodes[len(nodes) & ~1 :]
    return nodes[0]
