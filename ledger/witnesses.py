"""Checkpoints as witnesses of a verification: what the log was when each was signed, it must be still."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from ledger import checkpoint
from ledger.checkpoint import Checkpoint, VerifierKey
from ledger.errors import InvalidInput, invalid


class Witness(NamedTuple):
    """What a checkpoint says of the log, where it was found, and whether a known key signed it."""

    size: int
    root: bytes
    source: str
    is_signed: bool


class Witnesses:
    """The checkpoints that a verification compares its roots with.

    ``keys``: those that are known. Checkpoints that stand in the file may be by others, which are gone or not told;
    those that are brought may not. ``must_sign``: one of the keys must have signed at least one of all.
    """

    def __init__(self, name: str, keys: Sequence[VerifierKey], *, must_sign: bool = False) -> None:
        self._name = name
        self._keys = keys
        self._must_sign = must_sign
        self._all: list[Witness] = []
        self._faults: list[tuple[int, str]] = []
        self.signed = 0
        """The largest size that a known key signed, of those that the log agrees with."""

    def __len__(self) -> int:
        return len({(witness.size, witness.root) for witness in self._all})

    @property
    def signatures(self) -> int:
        """How many of them a known key signed."""
        return len({(witness.size, witness.root) for witness in self._all if witness.is_signed})

    def bring(self, note: str, source: str) -> None:
        """Take a checkpoint that was kept elsewhere. Raises ``InvalidInput`` where it is none of this ledger."""
        found = checkpoint.verify(note, self._keys, source)[0] if self._keys else checkpoint.parse(note, source)
        if found.origin != self._name:
            raise invalid(source, f"is a checkpoint of '{found.origin}', not of '{self._name}'")
        self._add(found, f"the checkpoint in {source}", is_signed=bool(self._keys))

    def remember(self, note: str, source: str) -> None:
        """Take what was signed last, as it is kept beside the file; one of another ledger says nothing."""
        try:
            found = checkpoint.parse(note, source)
            if found.origin == self._name:
                self._keep(found, f"what was signed last, in {source},")
        except InvalidInput as error:
            self._faults.append((0, str(error)))

    def keep(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Take the checkpoints that stand in the ledger's file: rows of size and note."""
        for size, note in rows:
            source = f"the kept checkpoint of {size} events"
            place = max(1, size) if isinstance(size, int) else 1
            try:
                found = checkpoint.parse(str(note), source)
                if (found.size, found.origin) != (size, self._name):
                    raise invalid(source, f"is one of {found.size} events of '{found.origin}'")
                self._keep(found, source)
            except InvalidInput as error:
                self._faults.append((place, str(error)))

    def _keep(self, found: Checkpoint, source: str) -> None:
        signer = checkpoint.signer_of(found, self._keys, source)
        self._add(found, source, is_signed=signer is not None)

    def _add(self, found: Checkpoint, source: str, *, is_signed: bool) -> None:
        self._all.append(Witness(found.size, found.root, source, is_signed))

    def sizes(self) -> list[int]:
        """Return the sizes at which a root is wanted, rising."""
        return sorted({witness.size for witness in self._all})

    def problems(self, size: int, roots: dict[int, bytes], *, is_whole: bool) -> Iterator[tuple[int, str]]:
        """Yield where the log, of ``size`` events, is not what a checkpoint says: position, problem; 0: no position.

        ``is_whole``: nothing else was found. Else it is no news that a root is another.
        """
        yield from self._faults
        agreed = 0
        for wanted, group in groupby(sorted(self._all), key=lambda witness: witness.size):
            witnesses = list(group)
            if len({witness.root for witness in witnesses}) > 1:
                sources = " and ".join(sorted({witness.source for witness in witnesses}))
                yield agreed + 1, f"{sources} disagree: two histories of {wanted} events were signed"
            first = witnesses[0]
            if wanted > size:
                yield size + 1, f"{first.source} has {wanted} events, but the log ends at {size}: its tail was cut off"
                continue
            right = [witness for witness in witnesses if witness.root == roots.get(wanted)]
            if any(witness.is_signed for witness in right):
                self.signed = wanted
            if len(right) == len(witnesses):
                agreed = wanted
            elif is_whole:
                wrong = next(witness for witness in witnesses if witness not in right)
                yield agreed + 1, f"{wrong.source} has another root: what stands from here to {wanted} was rewritten"
        if self._must_sign and not self.signed:
            yield 0, "no checkpoint here is signed by a key that is trusted: nothing shows who vouches for this log"
