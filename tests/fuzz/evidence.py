"""Parsers of what is to be believed under attack: notes, keys, proofs, and the small files beside a ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from ledger import checkpoint, jsontext, keys, merkle
from ledger.errors import InvalidInput, invalid
from ledger.merkle import Frontier, verify_consistency, verify_inclusion
from ledger.witnesses import Witnesses
from server.callbacks import secret
from server.cli import evidence
from tests.fuzz.attack import Target
from tests.fuzz.values import SECRETS, text_of, texts
from tests.scratch import scratch

NAME = "ledger.example/one"
SIGNER = checkpoint.Signer(NAME, bytes(32))
WITNESS = checkpoint.Signer("witness.example", bytes([2] * 32))
ROOT = bytes(range(32))
NOTE = SIGNER.sign(1042, ROOT)
SIGNED_TWICE = NOTE + WITNESS.sign(1042, ROOT).rpartition("\n\n")[2]


def feed_note(raw: bytes) -> None:
    """A note is believed only as it was signed."""
    found = checkpoint.parse(text_of(raw))
    assert 0 <= found.size < 10**19
    signer = checkpoint.signer_of(found, [SIGNER.verifier, WITNESS.verifier])
    assert signer is None or (found.origin, found.size, found.root) == (NAME, 1042, ROOT)
    witnesses = Witnesses(NAME, [SIGNER.verifier])
    witnesses.remember(text_of(raw), "the file")
    witnesses.keep([(found.size, text_of(raw))])


def feed_keys(raw: bytes) -> None:
    for key in checkpoint.parse_keys(text_of(raw)):
        assert checkpoint.VerifierKey.parse(str(key)) == key


def feed_signer(raw: bytes) -> None:
    try:
        signer = checkpoint.Signer.parse(text_of(raw))
    except InvalidInput as error:
        assert SIGNER.to_text().rpartition("+")[2] not in str(error), "a secret is shown"
        raise
    assert checkpoint.Signer.parse(signer.to_text()).verifier == signer.verifier


def beside(suffix: str, read: Callable[[Path], Any]) -> Callable[[bytes], None]:
    """Return what reads a file beside a ledger that holds the input."""

    def feed(raw: bytes) -> None:
        with scratch() as folder:
            path = folder / suffix
            path.touch(0o600)
            path.write_bytes(raw)
            read(folder / "ledger.db")

    return feed


def _note_file(db: Path) -> None:
    checkpoint.parse(evidence.read_note(str(db.with_name("note"))))


@cache
def proofs() -> tuple[bytes, bytes]:
    """A proof that an event is in a tree of seven, and one that the tree went on from three."""
    hashes = [merkle.leaf_hash(bytes([number])) for number in range(7)]

    def node(level: int, index: int) -> bytes:
        return merkle.subtree_root(hashes[index << level : (index + 1) << level])

    inclusion = {
        "position": 3, "size": 7, "leaf_hash": hashes[2].hex(), "root": merkle.tree_root(7, node).hex(),
        "path": [each.hex() for each in merkle.inclusion_proof(2, 7, node)],
    }  # fmt: skip
    consistency = {
        "from": 3, "to": 7, "path": [each.hex() for each in merkle.consistency_proof(3, 7, node)],
        "root_from": merkle.tree_root(3, node).hex(), "root_to": merkle.tree_root(7, node).hex(),
    }  # fmt: skip
    return json.dumps(inclusion).encode(), json.dumps(consistency).encode()


def feed_proof(raw: bytes) -> None:
    """Nothing but the proof proves, whatever numbers and hashes an auditor is sent."""
    value = jsontext.decode(raw)
    good = next(
        (each for each in map(json.loads, proofs()) if isinstance(value, dict) and each.keys() <= value.keys()), None
    )
    if good is None:
        raise invalid("proof", "is none")
    try:
        path = [bytes.fromhex(each) for each in value["path"]]
        told = {name: bytes.fromhex(value[name]) for name in good if isinstance(good[name], str)}
    except (TypeError, ValueError) as error:
        raise invalid("proof", "holds no hashes") from error
    one, other = (value[name] for name in good if isinstance(good[name], int))
    if type(one) is not int or type(other) is not int:
        raise invalid("proof", "has sizes that are none")
    if "leaf_hash" in told:
        holds = verify_inclusion(one - 1, other, told["leaf_hash"], path, told["root"])
    else:
        holds = verify_consistency(one, other, path, told["root_from"], told["root_to"])
    if not holds:
        raise invalid("proof", "does not hold")
    is_trivial = one in (0, other)  # a tree goes on from itself and from nothing
    assert is_trivial or told == {name: bytes.fromhex(good[name]) for name in told}


def feed_frontier(raw: bytes) -> None:
    size = int.from_bytes(raw[:4], "big", signed=True)
    frontier = Frontier.from_bytes(size, raw[4:])
    assert (frontier.to_bytes(), len(frontier.roots)) == (raw[4:], size.bit_count())
    frontier.root()


TARGETS = [
    Target("note", feed_note, texts(NOTE, SIGNED_TWICE), covers=("ledger.checkpoint.parse", "ledger.checkpoint.verify")),
    Target("verifier keys", feed_keys, texts(str(SIGNER.verifier), f"# keys\n{SIGNER.verifier}\n\n{WITNESS.verifier}\n"),
           covers=("ledger.checkpoint.parse_keys",)),
    Target("signer's key", feed_signer, texts(SIGNER.to_text())),
    Target("key file", beside("ledger.key", lambda db: keys.load(db, NAME)), texts(f"{SIGNER.to_text()}\n"),
           covers=("ledger.keys.load",), weight=8),
    Target("keys file", beside("ledger.pub", keys.published), texts(f"{SIGNER.verifier}\n"),
           covers=("ledger.keys.read_keys",), weight=8),
    Target("signed file", beside("ledger.db.signed", keys.remembered), texts(NOTE), weight=8),
    Target("secret file", beside("ledger.secret", lambda db: secret.read(db, {})), texts(*SECRETS),
           covers=("server.callbacks.secret.load", "server.callbacks.secret.read"), weight=8),
    Target("note file", beside("note", _note_file), texts(NOTE, NOTE.replace("\n", "\r\n")),
           covers=("server.cli.evidence.read_note", "server.cli.evidence.read_bytes"), weight=8),
    Target("proof", feed_proof, proofs, covers=("ledger.merkle.verify_inclusion", "ledger.merkle.verify_consistency")),
    Target("frontier", feed_frontier, lambda: [bytes([0, 0, 0, 3]) + bytes(64)], (ValueError,),
           ("ledger.merkle.from_bytes",)),
]  # fmt: skip
