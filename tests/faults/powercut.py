"""What a disk holds after a power cut: all that was synced, and of what was not, whatever chance leaves.

A killed process loses nothing that it wrote, because the kernel has it; only this shows a missing fsync. The shim's
journal is played on the files as they were before. Of each file, what was written since its last fsync is there in
part: sectors whole or not at all, in any order. Of each folder, names that came or went since its last fsync are there
up to some moment, as journalling file systems keep them in order.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
"""Bytes that a disk writes whole or not at all."""
_HEAD = struct.Struct("=6Q")


@dataclass
class Change:
    """One record of the journal."""

    kind: str
    inode: int
    offset: int
    path: str
    other: str
    data: bytes


@dataclass
class File:
    """A file: what is surely on the disk, and the writes and cuts since."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Offset and data of a write; the new size and None of a cut."""

    def sync(self) -> None:
        """Make all of it durable."""
        for offset, data in self.pending:
            _apply(self.durable, offset, data)
        self.pending.clear()

    def after_a_cut(self, chance: random.Random, share: float) -> bytes:
        """Return what is left when each sector that was not synced is there with a probability of ``share``."""
        content = bytearray(self.durable)
        for offset, data in self.pending:
            if data is None:
                if chance.random() < share:
                    _apply(content, offset, None)
                continue
            for begin in range(0, len(data), SECTOR):
                if chance.random() < share:
                    _apply(content, offset + begin, data[begin : begin + SECTOR])
        return bytes(content)


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


def read_journal(path: Path) -> Iterator[Change]:
    """Yield the changes that a journal tells of; a record that a kill cut off tells of none."""
    raw = path.read_bytes() if path.exists() else b""
    place = 0
    while place + _HEAD.size <= len(raw):
        kind, inode, offset, size, path_size, other_size = _HEAD.unpack_from(raw, place)
        place += _HEAD.size
        parts = []
        for length in (path_size, other_size, size if chr(kind) == "w" else 0):
            parts.append(raw[place : place + length])
            place += length
        yield Change(chr(kind), inode, offset, parts[0].decode(), parts[1].decode(), parts[2])


class Disk:
    """The files of one folder, from a look at them before any change."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[int, File] = {}
        self._names: dict[str, File] = {}
        for path in folder.iterdir():
            if path.is_file() and not path.name.endswith("-shm"):
                file = self._files.setdefault(path.stat().st_ino, File(bytearray(path.read_bytes())))
                self._names[str(path)] = file
        self._durable_names = dict(self._names)
        self._pending_names: list[dict[str, File]] = []

    def play(self, changes: Iterator[Change]) -> None:
        """Make changes in their order."""
        for change in changes:
            if change.kind == "w":
                self._files[change.inode].pending.append((change.offset, change.data))
            elif change.kind == "t":
                self._files[change.inode].pending.append((change.offset, None))
            elif change.kind == "f":
                self._sync(change)
            elif change.kind == "x":
                self._lose(change.inode)
            else:
                self._rename(change)

    def _sync(self, change: Change) -> None:
        if change.path == str(self._folder):
            self._durable_names = dict(self._names)
            self._pending_names.clear()
        elif change.inode in self._files:
            self._files[change.inode].sync()

    def _lose(self, inode: int) -> None:
        """Let the kernel call pages clean that are not on the disk: no later fsync writes them."""
        if inode in self._files:  # it is no folder
            self._files[inode].pending.clear()

    def _rename(self, change: Change) -> None:
        if change.kind == "c":
            self._files[change.inode] = self._names[change.path] = File()
        elif change.kind == "u":
            del self._names[change.path]
        elif change.kind == "l":
            self._names[change.other] = self._names[change.path]
        elif change.kind == "r":
            self._names[change.other] = self._names.pop(change.path)
        self._pending_names.append(dict(self._names))

    def after_a_cut(self, target: Path, chance: random.Random, share: float) -> None:
        """Write the files into a folder as they are found after a power cut.

        ``share`` of what was not synced is there: of sectors by chance, of names the first so many.
        """
        kept = round(share * len(self._pending_names))
        names = self._pending_names[kept - 1] if kept else self._durable_names
        for name, file in names.items():
            path = target / Path(name).name
            path.touch(0o600)
            path.write_bytes(file.after_a_cut(chance, share))
