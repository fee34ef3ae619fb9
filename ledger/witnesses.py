"""Checkpoints as witnesses of a verification: what the log was when each was signed, it must be still."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ledger import checkpoint
from ledger.checkpoint import VerifierKey
from ledger.errors import InvalidInput, invalid


class Witness(NamedTuple):
    """What a checkpoint says of the log, and where it was found, for the words of a problem."""

    size: int
    root: bytes
    source: str


class Witnesses:
    """The checkpoints that a verification compares its roots with, in the order of their sizes.

    ``keys``: those that must have signed them; where there are none, signatures are not looked at.
    """

    def __init__(self, name: str, keys: Sequence[VerifierKey]) -> None:
        self._name = name
        self._keys = keys
        self._all: list[Witness] = []
        self.signatures = 0
        """How many checkpoints have a signature that was looked at, and is right."""
        self.faults: list[tuple[int, str]] = []
        """What is wrong with kept notes: position, problem."""

    def __len__(self) -> int:
        return len(self._all)

    def bring(self, note: str, source: str) -> None:
        """Take a checkpoint that was kept elsewhere. Raises ``InvalidInput`` where it is none of this ledger."""
        found = self._read(note, source)
        if found.origin != self._name:
            raise invalid(source, f"is a checkpoint of '{found.origin}', not of '{self._name}'")
        self._all.append(Witness(found.size, found.root, f"the checkpoint in {source}"))

    def keep(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Take the checkpoints that stand in the ledger's file: rows of size and note."""
        for size, note in rows:
            source = f"the kept checkpoint of {size} events"
            place = max(1, size) if isinstance(size, int) else 1
            try:
                found = self._read(str(note), source)
            except InvalidInput as error:
                self.faults.append((place, str(error)))
                continue
            if (found.size, found.origin) != (size, self._name):
                self.faults.append((place, f"{source} is one of {found.size} events of '{found.origin}'"))
            else:
                self._all.append(Witness(size, found.root, source))

    def sizes(self) -> Iterator[int]:
        """Yield the sizes at which a root is wanted, rising."""
        yield from sorted({witness.size for witness in self._all})

    def problems(self, size: int, roots: dict[int, bytes], *, is_whole: bool) -> Iterator[tuple[int, str]]:
        """Yield where the log, of ``size`` events, is not what a checkpoint says: position, problem.

        ``is_whole``: nothing else was found. Else it is no news that a root is another.
        """
        yield from self.faults
        agreed = 0
        for witness in sorted(self._all):
            if witness.size > size:
                told = f"{witness.source} has {witness.size} events, but the log ends at {size}: its tail was cut off"
                yield size + 1, told
            elif roots.get(witness.size) == witness.root:
                agreed = max(agreed, witness.size)
            elif is_whole:
                told = f"{witness.source} has another root: what stands from here to {witness.size} was rewritten"
                yield agreed + 1, told

    def _read(self, note: str, source: str) -> checkpoint.Checkpoint:
        if not self._keys:
            return checkpoint.parse(note, source)
        found = checkpoint.verify(note, self._keys, source)
        self.signatures += 1
        return found
