"""The Merkle tree over the log: append, root, inclusion and consistency proofs as RFC 9162 section 2.1 defines them.

All hashes are 32 raw bytes of SHA-256. A node is named by (level, index): it covers the 2**level leaves from
index * 2**level on, counted from 0, and exists once all of them do. Nothing here stores anything: a `Frontier` holds
the few roots that appending needs, and proofs ask their caller for complete nodes.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from itertools import islice
from typing import TypeAlias

Node: TypeAlias = Callable[[int, int], bytes]  # (level, index) of a complete subtree -> its hash
StoredNode: TypeAlias = tuple[int, int, bytes]  # level, index, hash

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()

TILE_LEVELS = 8
"""Levels between stored nodes: a node of a proof is rehashed from at most 128 of them; one is stored per 255 leaves."""

BLOCK_LEAVES = 1 << 16
"""Leaves hashed at a time by `extend`: memory stays at some 10 MB, yet the loop's overhead vanishes."""

_LEAF, _NODE = b"\x00", b"\x01"  # the prefixes that keep a leaf from passing for a node


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf, given its data."""
    return sha256(_LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an interior node, given the hashes of its two children."""
    return sha256(_NODE + left + right).digest()


def subtree_root(row: Sequence[bytes]) -> bytes:
    """Return the hash of the complete subtree over a whole row of 2**n sibling nodes; ValueError for other lengths."""
    if len(row).bit_count() != 1:
        raise ValueError(f"a complete subtree has 1, 2, 4, 8 … nodes in a row, not {len(row)}")
    while len(row) > 1:
        row = _parents(row)
    return row[0]


class Frontier:
    """The edge of a growing tree: its size and the roots of its complete subtrees, all that appending needs.

    `roots` has one hash for each 1 bit of `size`, the largest subtree first.
    """

    __slots__ = ("roots", "size")

    def __init__(self) -> None:
        self.size = 0
        self.roots: list[bytes] = []

    @classmethod
    def from_bytes(cls, size: int, raw: bytes) -> "Frontier":
        """Restore the frontier of a tree of `size` leaves from `to_bytes`; ValueError when the two do not match."""
        if size < 0 or len(raw) != HASH_BYTES * size.bit_count():
            raise ValueError(f"{len(raw)} bytes are no frontier of a tree of {size} leaves")
        frontier = cls()
        frontier.size = size
        frontier.roots = [raw[at : at + HASH_BYTES] for at in range(0, len(raw), HASH_BYTES)]
        return frontier

    def to_bytes(self) -> bytes:
        """Return the roots, largest first, 32 bytes each; the size is to be kept beside them."""
        return b"".join(self.roots)

    def copy(self) -> "Frontier":
        """Return an independent frontier in the same state."""
        return Frontier.from_bytes(self.size, self.to_bytes())

    def root(self) -> bytes:
        """Return the root hash of the tree as it stands."""
        return _join(self.roots)

    def append(self, leaf: bytes) -> list[StoredNode]:
        """Add one leaf hash; as `extend`."""
        return self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> list[StoredNode]:
        """Add leaf hashes and return the nodes to store: those just completed at levels 8, 16 and so on.

        ValueError for a leaf hash that is not 32 bytes; blocks of BLOCK_LEAVES before its own stay added.
        """
        stored, rest = list[StoredNode](), iter(leaves)
        while row := list(islice(rest, BLOCK_LEAVES)):
            if set(map(len, row)) != {HASH_BYTES}:
                raise ValueError(f"a leaf hash has {HASH_BYTES} bytes")
            self._extend_block(row, stored)
        return stored

    def _extend_block(self, row: list[bytes], stored: list[StoredNode]) -> None:
        """Pair up a row of new nodes level by level; a node without a sibling becomes a root and waits for one."""
        size, roots, waiting, level = self.size, self.roots, [], 0
        self.size += len(row)
        while row:
            if level and level % TILE_LEVELS == 0:
                stored.extend((level, index, node) for index, node in enumerate(row, size >> level))
            if size >> level & 1:
                row.insert(0, roots.pop())
            if len(row) & 1:
                waiting.append(row.pop())
            row = _parents(row)
            level += 1
        roots.extend(reversed(waiting))


def tree_root(size: int, node: Node) -> bytes:
    """Return the root of the tree of the first ``size`` leaves; ``node`` is asked for complete subtrees of it only."""
    return _range_root(0, size, node)


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """Return the path that shows leaf `index` (from 0) in the tree of `size` leaves, lowest sibling first.

    `node` is asked for complete subtrees of that tree only. ValueError when there is no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range_root(middle, end, node))
            end = middle
        else:
            path.append(_range_root(start, middle, node))
            start = middle
    return path[::-1]


def consistency_proof(first: int, second: int, node: Node) -> list[bytes]:
    """Return the path that shows the tree of `first` leaves to be a prefix of the tree of `second` leaves.

    `node` is asked for complete subtrees of the second tree only. Empty when `first` is 0 or equals `second`.
    ValueError when `first` is larger.
    """
    if not 0 <= first <= second:
        raise ValueError(f"a tree of {first} leaves is no prefix of one of {second}")
    path: list[bytes] = []
    start, end = 0, second if first else 0
    while end != first:
        middle = start + _split(end - start)
        if first <= middle:
            path.append(_range_root(middle, end, node))
            end = middle
        else:
            path.append(_range_root(start, middle, node))
            start = middle
    if start:  # the first tree's last part is not its root, which the verifier has, so it belongs to the path
        path.append(_range_root(start, end, node))
    return path[::-1]


def verify_inclusion(index: int, size: int, leaf_hash: bytes, path: Sequence[bytes], root: bytes) -> bool:
    """Return whether `path` shows `leaf_hash` as leaf `index` of the tree of `size` leaves with this root."""
    if not 0 <= index < size or not _are_hashes(leaf_hash, root, *path):
        return False
    at, last, found = index, size - 1, leaf_hash
    for sibling in path:
        if not last:
            return False
        if at & 1 or at == last:
            found = node_hash(sibling, found)
            at, last = _skip_lonely(at, last)
        else:
            found = node_hash(found, sibling)
        at, last = at >> 1, last >> 1
    return not last and found == root


def verify_consistency(first: int, second: int, path: Sequence[bytes], root_from: bytes, root_to: bytes) -> bool:
    """Return whether `path` shows that the tree (first, root_from) is a prefix of the tree (second, root_to).

    The empty tree is a prefix of every tree and every tree of itself, both shown by an empty path.
    """
    if not 0 <= first <= second or not _are_hashes(root_from, root_to, *path):
        return False
    if first == second:
        return not path and root_from == root_to and (first > 0 or root_to == EMPTY_ROOT)
    if first == 0 or not path:
        return first == 0 and not path and root_from == EMPTY_ROOT
    siblings = list(path) if first & (first - 1) else [root_from, *path]  # a complete first tree is its own start
    return _replay(first - 1, second - 1, siblings) == (root_from, root_to)


def _replay(at: int, last: int, siblings: list[bytes]) -> tuple[bytes, bytes] | None:
    """Return the roots of both trees that a consistency path leads to, or None when its length is wrong."""
    at, last = _skip_right(at, last)
    old = new = siblings[0]
    for sibling in siblings[1:]:
        if not last:
            return None
        if at & 1 or at == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            at, last = _skip_lonely(at, last)
        else:
            new = node_hash(new, sibling)
        at, last = at >> 1, last >> 1
    return None if last else (old, new)


def _skip_right(at: int, last: int) -> tuple[int, int]:
    """Climb while `at` is a right child."""
    while at & 1:
        at, last = at >> 1, last >> 1
    return at, last


def _skip_lonely(at: int, last: int) -> tuple[int, int]:
    """Climb while `at` is the last node of its level and has no sibling."""
    while at and not at & 1:
        at, last = at >> 1, last >> 1
    return at, last


def _parents(row: Sequence[bytes]) -> list[bytes]:
    """Return the nodes above a row of an even number of nodes; the hot loop, so `node_hash` is spelled out."""
    pairs, hash_of, prefix = iter(row), sha256, _NODE
    return [hash_of(prefix + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]


def _range_root(start: int, end: int, node: Node) -> bytes:
    """Return the root over leaves start..end-1, where `start` is a multiple of the largest complete subtree inside."""
    roots: list[bytes] = []
    while start < end:
        level = (end - start).bit_length() - 1
        roots.append(node(level, start >> level))
        start += 1 << level
    return _join(roots)


def _join(roots: Sequence[bytes]) -> bytes:
    """Return the root over neighbouring subtrees, the largest first: the smallest two are joined, again and again."""
    if not roots:
        return EMPTY_ROOT
    joined = roots[-1]
    for left in roots[-2::-1]:
        joined = node_hash(left, joined)
    return joined


def _split(size: int) -> int:
    """Return the largest power of two below `size`: the leaves in the left half."""
    return 1 << (size - 1).bit_length() - 1


def _are_hashes(*values: bytes) -> bool:
    return all(len(value) == HASH_BYTES for value in values)
