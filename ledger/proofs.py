"""Proofs about a log, made from its stored tree nodes: an event is in it, and an older state of it is its beginning.

RFC 9162, 2.1.3 and 2.1.4. The tree stores each 8th level (see ``merkle``), so that a node of a proof costs at most 128
stored hashes, and a proof at most a few of those for each doubling of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from ledger import merkle
from ledger.checkpoint import Checkpoint
from ledger.errors import Damaged, invalid
from ledger.merkle import TILE_LEVELS

Row = Callable[[int, int, int], list[bytes]]
"""(level, first, count) -> the stored hashes of that many nodes of a level 0, 8, 16 …, fewer where some are missing."""

_FORK = (
    "if an older state of it was put back on purpose, or this is a copy that goes on, begin with a fresh key: "
    "jobledger checkpoint --new-key"
)


class Inclusion(msgspec.Struct, frozen=True, kw_only=True):
    """That the event at ``position`` is in the tree of the first ``size`` events. Hashes are hex, lowest sibling first.

    A position counts from 1: it is leaf ``position - 1``.
    """

    position: int
    size: int
    leaf_hash: str
    path: list[str]
    root: str


class Consistency(msgspec.Struct, frozen=True, kw_only=True, rename={"first": "from", "second": "to"}):
    """That the tree of the first ``from`` events is the beginning of the tree of the first ``to`` events."""

    first: int
    second: int
    path: list[str]
    root_from: str
    root_to: str


class Tree:
    """The tree of a log of ``size`` events, whose ``root`` its head tells, over the nodes that are stored.

    One object serves one state of the log; it remembers what it was told.
    """

    def __init__(self, size: int, root: bytes, row: Row) -> None:
        self.size = size
        self._root = root
        self._row = row
        self._known: dict[tuple[int, int], bytes] = {}

    def node(self, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree. Raises ``Damaged`` where a stored one is missing."""
        found = self._known.get((level, index))
        if found is None:
            found = self._known[level, index] = self._made(level, index)
        return found

    def _made(self, level: int, index: int) -> bytes:
        above = level % TILE_LEVELS
        stored, count = level - above, 1 << above
        hashes = self._row(stored, index << above, count)
        if len(hashes) != count or {len(each) for each in hashes} != {merkle.HASH_BYTES}:
            first = (index << level) + 1
            raise Damaged(reason=f"nodes of the tree are missing over positions {first} to {first + (1 << level) - 1}")
        return merkle.subtree_root(hashes)

    def root(self, size: int) -> bytes:
        """Return the root of the tree of the first ``size`` events."""
        root = merkle.tree_root(size, self.node)
        if size == self.size and root != self._root:
            raise Damaged(reason="the root of its tree is not what its head says")
        return root

    def inclusion(self, position: int, size: int | None = None) -> Inclusion:
        """Return the proof that an event is in the log, or in its first ``size`` events.

        Raises ``InvalidInput`` where there is no such event, and ``Damaged`` where the tree contradicts itself.
        """
        size = self._checked(size, "size", 1)
        if not 1 <= position <= size:
            raise invalid("position", f"there is no event {position} among the first {size}", f"1 to {size}")
        leaf, root = self.node(0, position - 1), self.root(size)
        path = merkle.inclusion_proof(position - 1, size, self.node)
        if not merkle.verify_inclusion(position - 1, size, leaf, path, root):
            raise Damaged(reason=f"its tree does not hold the event at position {position}")
        return Inclusion(position=position, size=size, leaf_hash=leaf.hex(), path=_hex(path), root=root.hex())

    def consistency(self, first: int, second: int | None = None) -> Consistency:
        """Return the proof that the first ``first`` events are the beginning of the first ``second``.

        Raises as ``inclusion``.
        """
        second = self._checked(second, "to", 0)
        if not 0 <= first <= second:
            raise invalid("from", f"{first} is not within the first {second} events", f"0 to {second}")
        roots = self.root(first), self.root(second)
        path = merkle.consistency_proof(first, second, self.node)
        if not merkle.verify_consistency(first, second, path, *roots):
            raise Damaged(reason=f"its first {first} events are not the beginning of its first {second}")
        before, after = roots
        return Consistency(first=first, second=second, path=_hex(path), root_from=before.hex(), root_to=after.hex())

    def going_on_from(self, before: Sequence[Checkpoint]) -> tuple[int, bytes]:
        """Return size and root, once the trees of checkpoints that were signed are seen to be its beginning.

        Raises ``Damaged`` where one is not: whoever signed both would vouch for two histories.
        """
        for signed in before:
            if signed.size > self.size:
                what = f"it ends at {self.size}, but a checkpoint of {signed.size} events was signed; {_FORK}"
                raise Damaged(reason=what)
            if bytes.fromhex(self.consistency(signed.size).root_from) != signed.root:
                what = f"its first {signed.size} events are not those of the checkpoint that was signed; {_FORK}"
                raise Damaged(reason=what)
        return self.size, self.root(self.size)

    def _checked(self, size: int | None, name: str, low: int) -> int:
        """Return the size that is asked for, that of the log where none is."""
        if size is None:
            size = self.size
        if not low <= size <= self.size:
            allowed = f"{low} to {self.size}" if low <= self.size else "none: the log is empty"
            raise invalid(name, f"the log has {self.size} events, so no tree of {size}", allowed)
        return size


def _hex(path: list[bytes]) -> list[str]:
    return [node.hex() for node in path]
