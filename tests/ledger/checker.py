"""A checker of its own: proofs and notes, from RFC 9162 (2.1.3.2, 2.1.4.2) and C2SP (tlog-checkpoint) alone.

It imports nothing of ours. Its words are those of the standards: fn, sn, fr, sr.
"""

import base64
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def digest(data):
    return sha256(data).digest()


def inclusion_holds(leaf_index, tree_size, hash, inclusion_path, root_hash):
    if leaf_index >= tree_size:
        return False
    fn, sn, r = leaf_index, tree_size - 1, hash
    for p in inclusion_path:
        if sn == 0:
            return False
        if fn % 2 == 1 or fn == sn:
            r = digest(b"\x01" + p + r)
            while fn % 2 == 0 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = digest(b"\x01" + r + p)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and r == root_hash


def consistency_holds(first, second, first_hash, second_hash, consistency_path):
    if first == second:
        return not consistency_path and first_hash == second_hash
    if first == 0:
        return not consistency_path and first_hash == digest(b"")
    if not consistency_path:
        return False
    path = [first_hash, *consistency_path] if first & (first - 1) == 0 else list(consistency_path)
    fn, sn = first - 1, second - 1
    while fn % 2 == 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            return False
        if fn % 2 == 1 or fn == sn:
            fr, sr = digest(b"\x01" + c + fr), digest(b"\x01" + c + sr)
            while fn % 2 == 0 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = digest(b"\x01" + sr + c)
        fn, sn = fn >> 1, sn >> 1
    return fr == first_hash and sr == second_hash and sn == 0


def checkpoint_of(note, vkey):
    """Return (origin, size, root) of a note that the verifier key signed; raise for any other."""
    name, key_id, encoded = vkey.strip().split("+", 2)
    key = base64.b64decode(encoded, validate=True)
    assert key_id == digest(name.encode() + b"\n" + key).hex()[:8]
    assert key[0] == 1
    text, signatures = note.rsplit("\n\n", 1)
    ours = [line for line in signatures.splitlines() if line.startswith(f"— {name} ")]
    raw = base64.b64decode(ours[0].rsplit(" ", 1)[1], validate=True)
    assert raw[:4].hex() == key_id
    Ed25519PublicKey.from_public_bytes(key[1:]).verify(raw[4:], f"{text}\n".encode())
    origin, size, root = text.split("\n")[:3]
    return origin, int(size), base64.b64decode(root, validate=True)
