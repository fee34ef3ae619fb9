"""The Merkle tree against RFC 9162: its own recursive definitions, known vectors, and forgeries."""

from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import merkle
from ledger.merkle import Frontier, consistency_proof, inclusion_proof, verify_consistency, verify_inclusion

SIZES = range(131)  # past 128, so that a second tile-sized power of two begins

# The well-known inputs and roots of the certificate transparency test suites.
CT_INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
H01 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
H23 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
H47 = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
H4 = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
H67 = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
H45 = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
CT_INCLUSION = [
    (0, 1, []),
    (0, 8, [H01, H23, H47]),
    (5, 8, [H4, H67, CT_ROOTS[4]]),
    (2, 3, [CT_ROOTS[2]]),
    (1, 5, [CT_ROOTS[1], H23, H4]),
]
CT_CONSISTENCY = [(1, 1, []), (1, 8, [H01, H23, H47]), (6, 8, [H45, H67, CT_ROOTS[4]]), (2, 5, [H23, H4])]


# --- RFC 9162 2.1.1, 2.1.3.1 and 2.1.4.1, word for word and slow: the oracle -----------------------------------------


def split(n):
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(d):
    if not d:
        return sha256().digest()
    if len(d) == 1:
        return sha256(b"\x00" + d[0]).digest()
    k = split(len(d))
    return sha256(b"\x01" + mth(d[:k]) + mth(d[k:])).digest()


def path(m, d):
    if len(d) == 1:
        return []
    k = split(len(d))
    return [*path(m, d[:k]), mth(d[k:])] if m < k else [*path(m - k, d[k:]), mth(d[:k])]


def subproof(m, d, known):
    if m == len(d):
        return [] if known else [mth(d)]
    k = split(len(d))
    if m <= k:
        return [*subproof(m, d[:k], known), mth(d[k:])]
    return [*subproof(m - k, d[k:], False), mth(d[:k])]


# --- what the tests stand on ------------------------------------------------------------------------------------------


def events(count):
    return [b"event %d" % number for number in range(count)]


def hashes(data):
    return [merkle.leaf_hash(each) for each in data]


def grown(leaves):
    frontier = Frontier()
    frontier.extend(leaves)
    return frontier


def nodes_of(leaves):
    """Complete subtrees straight from the leaves; an incomplete one is an error."""

    def node(level, index):
        row = leaves[index << level : index + 1 << level]
        assert len(row) == 1 << level, f"subtree ({level}, {index}) is not complete among {len(leaves)} leaves"
        return merkle.subtree_root(row)

    return node


def nodes_of_tiles(leaves, stored):
    """Complete subtrees as a store finds them: from the nodes kept at every eighth level, rehashing in between."""
    tree = {(level, index): node for level, index, node in stored}
    tree |= {(0, index): leaf for index, leaf in enumerate(leaves)}

    def node(level, index):
        tile = level // merkle.TILE_LEVELS * merkle.TILE_LEVELS
        first, width = index << level - tile, 1 << level - tile
        return merkle.subtree_root([tree[tile, each] for each in range(first, first + width)])

    return node


def flipped(value, bit=0):
    return bytes([value[0] ^ 1 << bit % 8]) + value[1:]


def forgeries(proof):
    """Every way to spoil a path by one step."""
    yield [*proof, bytes(32)]
    yield [bytes(32), *proof]
    for at in range(len(proof)):
        yield proof[:at] + proof[at + 1 :]
        yield [*proof[:at], flipped(proof[at]), *proof[at + 1 :]]
        yield [*proof[:at], proof[at][:-1], *proof[at + 1 :]]
        yield [*proof[: at + 1], *proof[at:]]
    for at, (left, right) in enumerate(pairwise(proof)):
        yield [*proof[:at], right, left, *proof[at + 2 :]]


@pytest.fixture(scope="module")
def roots():
    return [mth(events(size)) for size in range(301)]


# --- the tree ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(9))
def test_the_known_inputs_give_the_known_roots(size):
    assert grown(hashes(map(bytes.fromhex, CT_INPUTS[:size]))).root().hex() == CT_ROOTS[size]


def test_appending_one_by_one_gives_the_defined_root_at_every_size(roots):
    frontier = Frontier()
    for size in SIZES:
        assert (frontier.size, frontier.root()) == (size, roots[size])
        frontier.append(merkle.leaf_hash(b"event %d" % size))


def test_a_frontier_grows_the_same_in_any_two_batches(roots):
    leaves = hashes(events(130))
    for cut in SIZES:
        frontier = grown(leaves[:cut])
        frontier.extend(leaves[cut:])
        assert (frontier.size, frontier.root()) == (130, roots[130])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 700), max_size=8))
def test_a_frontier_grows_the_same_in_any_batches_and_stores_the_same_nodes(batches):
    leaves, frontier, stored = hashes(events(sum(batches))), Frontier(), []
    for batch in batches:
        stored += frontier.extend(leaves[frontier.size : frontier.size + batch])
    expected = Frontier()
    assert sorted(stored) == sorted(node for leaf in leaves for node in expected.append(leaf))
    assert frontier.root() == expected.root() == mth(events(sum(batches)))


def test_extend_returns_each_node_of_every_eighth_level_once_it_is_complete():
    leaves = hashes(events(2 * 65536 + 300))
    stored = grown([]).extend(iter(leaves))
    assert sorted(node[:2] for node in stored) == [(8, index) for index in range(513)] + [(16, 0), (16, 1)]
    node = nodes_of(leaves)
    assert all(found == node(level, index) for level, index, found in stored if index in {0, 1, 255, 256, 512})


def test_blocks_leave_no_seam(monkeypatch, roots):
    monkeypatch.setattr(merkle, "BLOCK_LEAVES", 7)
    assert [grown(hashes(events(size))).root() for size in range(0, 301, 13)] == roots[::13]


def test_a_frontier_survives_being_stored(roots):
    for size in SIZES:
        frontier = grown(hashes(events(size)))
        restored = Frontier.from_bytes(size, frontier.to_bytes())
        restored.append(merkle.leaf_hash(b"event %d" % size))
        assert (restored.size, restored.root()) == (size + 1, roots[size + 1])


def test_a_copy_grows_apart_from_its_original(roots):
    frontier = grown(hashes(events(5)))
    frontier.copy().append(merkle.leaf_hash(b"event 5"))
    assert (frontier.size, frontier.root()) == (5, roots[5])


@pytest.mark.parametrize(("size", "length"), [(-1, 32), (0, 32), (1, 0), (1, 31), (1, 33), (3, 32), (4, 64)])
def test_a_stored_frontier_that_does_not_match_its_size_is_refused(size, length):
    with pytest.raises(ValueError, match="no frontier"):
        Frontier.from_bytes(size, bytes(length))


@pytest.mark.parametrize("leaf", [b"", bytes(31), bytes(33)])
def test_a_leaf_that_is_no_hash_is_refused_and_changes_nothing(leaf):
    frontier = grown(hashes(events(3)))
    before = frontier.to_bytes()
    with pytest.raises(ValueError, match="32 bytes"):
        frontier.extend([bytes(32), leaf])
    assert (frontier.size, frontier.to_bytes()) == (3, before)


@pytest.mark.parametrize("count", [0, 3, 5, 6])
def test_a_row_that_is_no_complete_subtree_is_refused(count):
    with pytest.raises(ValueError, match="complete subtree"):
        merkle.subtree_root([bytes(32)] * count)


# --- proofs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("index", "size", "expected"), CT_INCLUSION)
def test_the_known_inclusion_proofs_come_out(index, size, expected):
    leaves = hashes(map(bytes.fromhex, CT_INPUTS))
    assert [each.hex() for each in inclusion_proof(index, size, nodes_of(leaves[:size]))] == expected


@pytest.mark.parametrize(("first", "second", "expected"), CT_CONSISTENCY)
def test_the_known_consistency_proofs_come_out(first, second, expected):
    leaves = hashes(map(bytes.fromhex, CT_INPUTS))
    assert [each.hex() for each in consistency_proof(first, second, nodes_of(leaves[:second]))] == expected


@pytest.mark.parametrize("size", SIZES[1:])
def test_every_leaf_has_the_defined_inclusion_proof_and_it_verifies(size, roots):
    data = events(size)
    leaves = hashes(data)
    for index in {*range(min(size, 5)), *range(max(0, size - 5), size), size // 2, size // 3}:
        proof = inclusion_proof(index, size, nodes_of(leaves))
        assert proof == path(index, data)
        assert verify_inclusion(index, size, leaves[index], proof, roots[size])


@pytest.mark.parametrize("second", SIZES[1:])
def test_every_pair_of_sizes_has_the_defined_consistency_proof_and_it_verifies(second, roots):
    data = events(second)
    node = nodes_of(hashes(data))
    for first in range(1, second + 1):
        proof = consistency_proof(first, second, node)
        assert verify_consistency(first, second, proof, roots[first], roots[second])
        if first % 7 == second % 7 or second < 40:  # the oracle is slow
            assert proof == subproof(first, data, True)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_proofs_of_larger_trees_come_out_of_stored_tiles(data):
    second = data.draw(st.integers(1, 3000))
    first = data.draw(st.integers(1, second))
    index = data.draw(st.integers(0, first - 1))
    facts = events(second)
    leaves, frontier = hashes(facts), Frontier()
    node = nodes_of_tiles(leaves, frontier.extend(leaves))
    old = grown(leaves[:first]).root()
    assert inclusion_proof(index, first, node) == path(index, facts[:first])
    assert verify_inclusion(index, first, leaves[index], path(index, facts[:first]), old)
    assert consistency_proof(first, second, node) == subproof(first, facts, True)
    assert verify_consistency(first, second, subproof(first, facts, True), old, frontier.root())


def test_the_empty_tree_is_a_prefix_of_every_tree(roots):
    for size in (0, 1, 7):
        assert consistency_proof(0, size, nodes_of([])) == []
        assert verify_consistency(0, size, [], merkle.EMPTY_ROOT, roots[size])
        assert not verify_consistency(0, size, [], bytes(32), roots[size])
        assert not verify_consistency(0, size, [bytes(32)], merkle.EMPTY_ROOT, roots[size])
    assert not verify_consistency(0, 0, [], merkle.EMPTY_ROOT, roots[1])


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 3), (3, 3), (0, -1)])
def test_a_proof_of_a_leaf_that_is_not_there_is_refused(index, size):
    with pytest.raises(ValueError, match="has no leaf"):
        inclusion_proof(index, size, nodes_of([]))
    assert not verify_inclusion(index, size, bytes(32), [], bytes(32))


@pytest.mark.parametrize(("first", "second"), [(4, 3), (-1, 3)])
def test_a_proof_from_a_larger_tree_is_refused(first, second):
    with pytest.raises(ValueError, match="no prefix"):
        consistency_proof(first, second, nodes_of([]))
    assert not verify_consistency(first, second, [], bytes(32), bytes(32))


# --- forgeries --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 8, 9, 64, 100])
def test_a_tampered_inclusion_proof_is_rejected(size, roots):
    leaves = hashes(events(size))
    for index in range(size):
        proof, root = inclusion_proof(index, size, nodes_of(leaves)), roots[size]
        assert not any(verify_inclusion(index, size, leaves[index], forged, root) for forged in forgeries(proof))
        assert not verify_inclusion(index, size, flipped(leaves[index]), proof, root)
        assert not verify_inclusion(index, size, leaves[index], proof, flipped(root))
        assert not any(verify_inclusion(at, size, leaves[index], proof, root) for at in range(size) if at != index)


@pytest.mark.parametrize("second", [2, 3, 6, 7, 8, 9, 64, 100])
def test_a_tampered_consistency_proof_is_rejected(second, roots):
    node = nodes_of(hashes(events(second)))
    for first in range(1, second):
        proof, old, new = consistency_proof(first, second, node), roots[first], roots[second]
        assert not any(verify_consistency(first, second, forged, old, new) for forged in forgeries(proof))
        assert not verify_consistency(first, second, [], old, new)
        assert not verify_consistency(first, second, proof, flipped(old), new)
        assert not verify_consistency(first, second, proof, old, flipped(new))


@pytest.mark.parametrize("changed", range(6))
def test_a_history_rewritten_before_a_checkpoint_is_not_consistent_with_it(changed, roots):
    leaves = hashes(events(11))
    leaves[changed] = merkle.leaf_hash(b"another story")
    proof = consistency_proof(6, 11, nodes_of(leaves))
    assert not verify_consistency(6, 11, proof, roots[6], grown(leaves).root())


def test_a_node_cannot_pass_for_a_leaf():
    left, right = hashes(events(2))
    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)
