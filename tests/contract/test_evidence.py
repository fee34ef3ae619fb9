"""Proofs and checkpoints of every log engine, checked by two implementations that are not ours."""

import asyncio
import random
import re

import pytest
from pymerkle import InmemoryTree
from pymerkle.proof import InclusionProof

from ledger.checkpoint import Kept, Signer, parse
from ledger.errors import Damaged, InvalidInput
from ledger.leaf import leaf_data
from ledger.merkle import EMPTY_ROOT
from tests.ledger import checker
from tests.ledger.engines import ME, create, log_of, scramble
from tests.ledger.histories import START_US, Clock, job

SIZES = [1, 2, 3, 255, 256, 257, 300, 511, 512, 513, 700]


@pytest.fixture
async def grown(ledger):
    """A ledger of more than 700 events, and the tree of a package from PyPI over the same leaves."""
    await scramble(ledger, seed=1)
    await grow(ledger, max(SIZES))
    other = InmemoryTree(algorithm="sha256")
    for event in await log_of(ledger):
        other.append_entry(leaf_data(event))
    return ledger, other


async def grow(ledger, count):
    """Append the creations of so many more jobs."""
    numbers = range(1000 + ledger.size, 1000 + ledger.size + count)
    await asyncio.gather(*(ledger.execute(create(job(number)), ME) for number in numbers))


def raw(*hashes):
    return [bytes.fromhex(each) for each in hashes]


async def test_every_event_is_shown_to_be_in_every_tree_that_holds_it(grown):
    ledger, other = grown
    for size in [*SIZES, ledger.size]:
        some = random.Random(size).choices(range(1, size + 1), k=9)
        for position in {1, min(2, size), max(1, size - 1), size, *some}:
            proof = await ledger.store.prove(lambda tree, at=position, size=size: tree.inclusion(at, size))
            assert (proof.position, proof.size) == (position, size)
            leaf, root, *path = raw(proof.leaf_hash, proof.root, *proof.path)
            # The checker from the RFC's text believes it, and no proof with a bit changed
            assert checker.inclusion_holds(position - 1, size, leaf, path, root)
            assert not checker.inclusion_holds(position - 1, size, leaf, [*path, leaf], root)
            for wrong in (0, 1):
                changed = [*path, leaf]
                changed[wrong % len(changed)] = bytes(32)
                assert not checker.inclusion_holds(position - 1, size, changed.pop(), changed, root)
            # The package makes the same root and path of the same leaves, and believes ours
            theirs = other.prove_inclusion(position, size)
            assert other.get_root(size) == root
            assert theirs.path == [leaf, *path]
            proof_of_theirs = InclusionProof.deserialize(
                theirs.serialize() | {"path": [each.hex() for each in (leaf, *path)]}
            )
            proof_of_theirs.verify(leaf, root, size=size)


async def test_every_older_tree_is_shown_to_be_the_beginning_of_every_later_one(grown):
    ledger, other = grown
    ends = [*SIZES, ledger.size]
    for first in [0, *ends]:
        for second in (end for end in ends if end >= first):
            proof = await ledger.store.prove(lambda tree, a=first, b=second: tree.consistency(a, b))
            before, after, *path = raw(proof.root_from, proof.root_to, *proof.path)
            assert checker.consistency_holds(first, second, before, after, path)
            assert before == (other.get_root(first) if first else EMPTY_ROOT)
            assert after == other.get_root(second)
            if 0 < first < second:
                assert not checker.consistency_holds(first, second, bytes(32), after, path)
                assert not checker.consistency_holds(first, second, before, after, path[:-1])
                theirs = other.prove_consistency(first, second)
                theirs.verify(before, after, prior_size=first, later_size=second)


@pytest.mark.parametrize(
    ("ask", "where"),
    [
        (lambda tree: tree.inclusion(0), "position"),
        (lambda tree: tree.inclusion(tree.size + 1), "position"),
        (lambda tree: tree.inclusion(2, 1), "position"),
        (lambda tree: tree.inclusion(1, 0), "size"),
        (lambda tree: tree.inclusion(1, tree.size + 1), "size"),
        (lambda tree: tree.consistency(-1), "from"),
        (lambda tree: tree.consistency(tree.size + 1), "from"),
        (lambda tree: tree.consistency(2, 1), "from"),
        (lambda tree: tree.consistency(0, tree.size + 1), "to"),
    ],
)
async def test_a_proof_of_what_is_not_there_is_refused_and_named(ledger, ask, where):
    await scramble(ledger, seed=1)
    with pytest.raises(InvalidInput, match=re.escape(where)) as caught:
        await ledger.store.prove(ask)
    assert caught.value.faults[0]["where"] == where


async def test_an_empty_log_has_a_checkpoint_and_no_event_to_prove(ledger):
    kept = await ledger.checkpoint()
    assert parse(kept.note)[:3] == (ledger.name, 0, EMPTY_ROOT)
    with pytest.raises(InvalidInput, match="the log has 0 events"):
        await ledger.store.prove(lambda tree: tree.inclusion(1))


async def test_a_checkpoint_tells_name_size_and_root_and_is_kept(open_ledger):
    async with open_ledger(Clock(start=START_US)) as ledger:
        await scramble(ledger, seed=3)
        kept = await ledger.checkpoint()
        vkey = str((await ledger.store.signer()).verifier)
        root = (await ledger.store.head()).frontier.root()
        assert checker.checkpoint_of(kept.note, vkey) == (ledger.name, ledger.size, root)
        # The same log gives the same note again
        assert await ledger.checkpoint() == kept == await ledger.store.last_checkpoint()
        # And a longer log another, which goes on from the first
        await grow(ledger, 9)
        later = await ledger.checkpoint()
        assert later.size == ledger.size > kept.size
        assert later.made_us > kept.made_us
        assert await ledger.store.last_checkpoint() == later


async def test_a_fresh_key_signs_from_then_on(ledger):
    await scramble(ledger, seed=5)
    old = await ledger.checkpoint()
    before = (await ledger.store.signer()).verifier
    new = await ledger.checkpoint(new_key=True)
    after = (await ledger.store.signer()).verifier
    assert before != after
    assert checker.checkpoint_of(old.note, str(before))[1:] == checker.checkpoint_of(new.note, str(after))[1:]
    # One of that size is kept already: the file keeps the first, and later ones are by the new key
    assert await ledger.store.last_checkpoint() == old
    await grow(ledger, 9)
    assert after.made(
        parse((await ledger.checkpoint()).note).signatures[0], parse((await ledger.checkpoint()).note).text
    )


async def test_nothing_is_signed_that_contradicts_what_was_signed_before(ledger):
    await scramble(ledger, seed=7)
    kept = await ledger.checkpoint()
    signer = await ledger.store.signer()
    # Given that a log of one event more was signed
    await ledger.store.keep_checkpoint(Kept(kept.size + 1, kept.made_us, signer.sign(kept.size + 1, bytes(32))))
    # When the log is shorter than that, then it is not signed
    with pytest.raises(Damaged, match=f"it ends at {kept.size}, but a checkpoint of {kept.size + 1} events"):
        await ledger.checkpoint()
    # And not when it is longer, but another
    await grow(ledger, 9)
    with pytest.raises(Damaged, match=f"first {kept.size + 1} events are not those of the checkpoint"):
        await ledger.checkpoint()


@pytest.mark.parametrize(
    ("note", "said"),
    [
        (
            lambda ledger, true: Signer.new(ledger.name).sign(true.size, parse(true.note).root),
            "by a key that is not known",
        ),
        (lambda ledger, true: Signer.new("another.example").sign(true.size, bytes(32)), "of 'another.example'"),
    ],
)
async def test_nothing_is_signed_behind_a_kept_checkpoint_that_is_not_the_ledgers(ledger, note, said):
    await scramble(ledger, seed=7)
    true = await ledger.checkpoint()
    await grow(ledger, 9)
    # Given that somebody with the file in hand put a note of his own into it
    kept = Kept(ledger.size, 1, note(ledger, true._replace(size=ledger.size)))
    await ledger.store.keep_checkpoint(kept)
    # Then the true key signs nothing behind it
    with pytest.raises(Damaged, match=said):
        await ledger.checkpoint()


async def test_a_note_that_is_kept_under_another_size_is_refused(ledger):
    await scramble(ledger, seed=7)
    true = await ledger.checkpoint()
    await grow(ledger, 9)
    await ledger.store.keep_checkpoint(true._replace(size=ledger.size))
    with pytest.raises(Damaged, match=f"its checkpoint of {ledger.size} events is one of {true.size} events"):
        await ledger.checkpoint()


async def test_no_key_is_replaced_where_the_log_cannot_be_signed(ledger):
    await scramble(ledger, seed=7)
    await ledger.checkpoint()
    signer = await ledger.store.signer()
    await ledger.store.keep_checkpoint(Kept(ledger.size + 1, 1, signer.sign(ledger.size + 1, bytes(32))))
    with pytest.raises(Damaged):
        await ledger.checkpoint(new_key=True)
    assert (await ledger.store.signer()).verifier == signer.verifier
