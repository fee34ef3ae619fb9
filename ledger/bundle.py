"""Evidence bundles: one file with a history, the proofs that it stands in a signed log, and the log's key.

Plain JSON, so that other tools can check it (README, Check a bundle with other tools)::

    {"format": "jobledger-bundle/1", "ledger": "<name>", "stream": "run-…", "summary": ["…"],
     "key": "<C2SP verifier key>", "checkpoint": "<C2SP signed note>", "events": [
      {"position": 7, "leaf": "[7,\\"run-…\\",1,…]", "data": "{…}", "salt": "<hex>", "path": ["<hex>", …]}, …]}

``leaf`` is the event's leaf data in the tree, byte for byte; its last item is SHA-256(salt + data). ``data`` and
``salt`` are null where they were erased. ``path`` is the RFC 9162 inclusion proof in the tree that the checkpoint
signs. The summary is for people: it says nothing that the events do not.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from ledger import checkpoint, jsontext, merkle, state, upcast
from ledger.checkpoint import Checkpoint, VerifierKey
from ledger.entropy import Entropy
from ledger.errors import Damaged, InvalidInput, LedgerError, Unreadable, invalid
from ledger.events import QUIET, TYPES, Recorded
from ledger.events import Erased as ErasedFact
from ledger.leaf import leaf_data, payload_digest
from ledger.legality import Legality, Tell
from ledger.proofs import Tree
from ledger.times import to_text
from ledger.verify import Problem, in_order

FORMAT: Final = "jobledger-bundle/1"
SUMMARY_MAX: Final = 1_000
"""Lines of a summary; a history with more changes than that is better read by a program."""
DATA_SIZE_MAX: Final = 256 * 2**20
"""Bytes of its events' data; with proofs and escapes its file is a few times as long."""
SIZE_MAX: Final = 1 << 30
"""Bytes of a bundle: a run of 100,000 events with its proofs has 200 MB."""
Leaf = tuple[int, str, int, str, int, int, int, str, str | None, str | None, str]
_decode_leaf: Callable[[str], tuple[Any, ...]] = msgspec.json.Decoder(Leaf).decode


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One event of a bundle."""

    position: int
    leaf: str
    data: str | None
    salt: str | None
    path: list[str]


class Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bundle as its file has it."""

    format: str
    ledger: str
    stream: str
    summary: list[str]
    key: str
    checkpoint: str
    events: list[Item]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a check of a bundle found. ``size`` and ``root`` are those of its checkpoint; ``key``: who signed it.

    ``trusted``: whether a key signed it that the checker was given; ``key`` is that one, else the one that the bundle
    brings along, which by itself shows only that the file was not damaged.
    """

    ok: bool
    stream: str
    size: int
    root: str
    events: int
    erased: int
    key: str
    trusted: bool
    summary: list[str]
    problems: list[Problem]


def pack(ledger: str, key: VerifierKey, note: str, events: Sequence[Recorded], tree: Tree) -> bytes:
    """Return the file of a bundle: of events of one stream, which the tree of the checkpoint ``note`` holds.

    Raises ``InvalidInput`` where it would be too large, and ``Damaged`` where the tree does not prove what the log has.
    """
    size = sum(len(event.data or b"") for event in events)
    if size > DATA_SIZE_MAX:
        what = (
            f"its events hold {size:,} bytes of data, more than a bundle can ({DATA_SIZE_MAX:,}); export them instead"
        )
        raise invalid(events[0].stream, what)
    signed = checkpoint.parse(note).size
    bundle = Bundle(
        format=FORMAT,
        ledger=ledger,
        stream=events[0].stream,
        summary=summary(ledger, events),
        key=str(key),
        checkpoint=note,
        events=[_item(event, tree, signed) for event in events],
    )
    raw = msgspec.json.format(msgspec.json.encode(bundle), indent=1) + b"\n"
    if len(raw) > SIZE_MAX:
        what = f"its {len(events):,} events with their proofs take {len(raw):,} bytes, more than a bundle can"
        raise invalid(bundle.stream, what)
    return raw


def _item(event: Recorded, tree: Tree, size: int) -> Item:
    proof = tree.inclusion(event.position, size)
    leaf = leaf_data(event)
    if merkle.leaf_hash(leaf).hex() != proof.leaf_hash:
        raise Damaged(reason=f"the event at position {event.position} does not match its leaf hash")
    data = None if event.data is None else event.data.decode()
    salt = None if event.salt is None else event.salt.hex()
    return Item(event.position, leaf.decode(), data, salt, proof.path)


def verify(raw: bytes, keys: Sequence[VerifierKey] = ()) -> Verdict:
    """Check a bundle by nothing but itself, and by the keys that are trusted, where they are given.

    Raises ``Unreadable`` for what is no bundle.
    """
    bundle = _parse(raw)
    problems: list[Problem] = []

    def tell(position: int, problem: str) -> None:
        problems.append(Problem(position, problem))

    signed, signer = _signed(bundle, keys, tell)
    events = [event for item in bundle.events if (event := _event(bundle, item, signed, tell)) is not None]
    _check_history(bundle, events, tell)
    problems = in_order(problems)
    return Verdict(
        ok=not problems,
        stream=bundle.stream,
        size=signed.size if signed else 0,
        root=signed.root.hex() if signed else "",
        events=len(bundle.events),
        erased=sum(item.data is None for item in bundle.events),
        key=str(signer) if signer else bundle.key,
        trusted=signer in keys,
        summary=bundle.summary,
        problems=problems,
    )


def _parse(raw: bytes) -> Bundle:
    try:
        jsontext.check_bounds(raw, "the file")
        bundle = msgspec.json.decode(raw, type=Bundle)
        json.loads(raw, object_pairs_hook=_check_names)
    except (InvalidInput, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Unreadable(path="the file", reason=f"it is no bundle: {error}") from error
    if bundle.format != FORMAT:
        raise Unreadable(path="the file", reason=f"it is of the format '{bundle.format[:80]}', not of '{FORMAT}'")
    return bundle


def _check_names(pairs: list[tuple[str, object]]) -> None:
    """Refuse a name that stands twice in an object: one reader would see the one value, another the other."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name stands twice in one of its objects")


def _signed(bundle: Bundle, keys: Sequence[VerifierKey], tell: Tell) -> tuple[Checkpoint | None, VerifierKey | None]:
    """Return what the bundle's checkpoint says, and whose signature was found right: a trusted key's, where one is."""
    try:
        own = VerifierKey.parse(bundle.key, "the key")
        found, signer = checkpoint.verify(bundle.checkpoint, [own], "the checkpoint")
        if not found.origin == own.name == bundle.ledger:
            names = f"'{found.origin}', the key of '{own.name}', the bundle of '{bundle.ledger}'"
            tell(0, f"the checkpoint is one of {names}")
        if keys:
            found, signer = checkpoint.verify(bundle.checkpoint, keys, "the checkpoint")
            if own not in keys:
                tell(0, f"the key that it brings is not one that is trusted here: {own}")
    except InvalidInput as error:
        tell(0, str(error))
        return None, None
    return found, signer


def _event(bundle: Bundle, item: Item, signed: Checkpoint | None, tell: Tell) -> Recorded | None:
    """Return an event of the bundle as its ledger has it; None where its leaf is none, which is told."""
    try:
        *envelope, digest = _decode_leaf(item.leaf)
        data = None if item.data is None else item.data.encode()
        event = Recorded(*[*envelope, data, _bytes(item.salt), digest])
        if leaf_data(msgspec.structs.replace(event, data=None, salt=None)) != item.leaf.encode():
            raise ValueError("it is not written as leaves are")
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        tell(item.position, f"its leaf, data or salt is no such thing: {error}")
        return None
    if event.position != item.position:
        tell(item.position, f"its leaf is that of position {event.position}")
    if event.stream != bundle.stream:
        tell(item.position, f"its leaf is that of an event of {event.stream}")
    if (event.data is None) != (event.salt is None):
        tell(item.position, "has data without salt, or salt without data")
    elif event.salt is not None and len(event.salt) != Entropy.SIZE:  # where it ends, the data begins
        tell(item.position, f"has a salt of {len(event.salt)} bytes, not of {Entropy.SIZE}")
    elif event.data is not None and payload_digest(event) != event.digest:
        tell(item.position, "its data and salt are not those of its leaf")
    if signed is not None:
        _check_path(event, item, signed, tell)
    return msgspec.structs.replace(event, digest=event.digest if event.data is None else None)


def _check_path(event: Recorded, item: Item, signed: Checkpoint, tell: Tell) -> None:
    try:
        path = [_bytes(node) or b"" for node in item.path]
    except ValueError:
        path = [b""]
    leaf = merkle.leaf_hash(item.leaf.encode())
    if not merkle.verify_inclusion(event.position - 1, signed.size, leaf, path, signed.root):
        tell(item.position, "its path does not lead to the root that was signed: the log has no such event")


def _bytes(text: str | None) -> bytes | None:
    """Return what hex stands for; one spelling alone is right."""
    raw = None if text is None else bytes.fromhex(text)
    if raw is not None and raw.hex() != text:
        raise ValueError("hex in another than the one right spelling")
    return raw


def _check_history(bundle: Bundle, events: Sequence[Recorded], tell: Tell) -> None:
    if not bundle.events:
        tell(0, "holds no event")
    legality = Legality(tell)
    last = 0
    for event in events:
        if event.position <= last:
            tell(event.position, "stands behind an event of a later position")
        last = event.position
        legality.check(event.position, event.stream, event.version, event.type, event.data)
    for stream, position in legality.unexplained.items():
        tell(position, f"data of {stream} is gone, and no event tells of its erasure")
    if len(events) != len(bundle.events) or any(event.type not in TYPES for event in events):
        return  # which was told
    try:
        wanted = summary(bundle.ledger, events)
    except (LedgerError, ValueError, OverflowError) as error:
        tell(0, f"its events cannot be read by this program: {error}")
        return
    if bundle.summary != wanted:
        tell(0, "its summary says other things than its events")


def summary(ledger: str, events: Sequence[Recorded]) -> list[str]:
    """Return what the events tell, for people: one line each for what it is, and for every change of its state."""
    found = state.fold(events)
    lines = [f"{events[0].stream} in {ledger}" if events else f"nothing in {ledger}"]
    if found is not None:
        lines += list(_facts(found))
    quiet = Counter(event.type for event in events if event.type in QUIET)
    lines.append(
        ", ".join([f"{len(events)} events", *(f"{count} of them {name}" for name, count in sorted(quiet.items()))])
    )
    changes = [event for event in events if event.type not in QUIET]
    lines += [_line(event) for event in changes[:SUMMARY_MAX]]
    if len(changes) > SUMMARY_MAX:
        lines.append(f"… and {len(changes) - SUMMARY_MAX} more changes")
    return lines


def _facts(found: state.State) -> Iterator[str]:
    yield f"status {found.status}" + (f", stopped by {found.stop_reason}" if found.stop_reason else "")
    yield f"of {found.user_id}" + (f", by {found.agent_id}" if found.agent_id else "")
    if found.deleted_us is not None:
        yield f"deleted {to_text(found.deleted_us)}"
    if found.erased_position is not None:
        yield f"erased at position {found.erased_position}: what stood in it before is gone for good"


def _line(event: Recorded) -> str:
    line = f"{to_text(event.time)} {event.type} at position {event.position}, by {event.actor}"
    fact = upcast.fact(event)
    return f"{line}: {fact.reason}" if isinstance(fact, ErasedFact) else line
