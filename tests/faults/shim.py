"""The shim that makes system calls fail: compiled where it is used, asked for by variables, switched at will."""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

SOURCE = Path(__file__).with_name("shim.c")
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
MISSING = None if COMPILER and os.uname().sysname == "Linux" else "needs Linux and a C compiler, to make calls fail"
"""Why there can be no faults here; None where there can."""
ALL = -1
"""As many calls as come."""
WRITING = ("create", "write", "fsync", "truncate", "rename", "link", "unlink")
"""The calls that change what is on a disk: the points at which a process can die with something half done."""


def build() -> Path:
    """Compile the shim, once for each of its versions; return where it is."""
    assert MISSING is None, MISSING
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    made = Path(tempfile.gettempdir()) / f"jobledger-faults-{os.getuid()}-{digest}.so"
    if not made.exists():
        partial = made.with_suffix(f".{os.getpid()}")
        command = [COMPILER, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(partial), str(SOURCE)]
        subprocess.run([*command, "-ldl", "-lpthread"], check=True)
        partial.replace(made)
    return made


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to which calls: ``do`` to call number ``at`` of those that match, and to so many ``more``."""

    do: str
    at: int = 1
    more: int = 0
    kinds: tuple[str, ...] = WRITING
    name: str | None = None


def environment(
    folder: Path, fault: Fault | None = None, *, journal: Path | None = None, control: Path | None = None
) -> dict[str, str]:
    """Return the variables that make a program's calls on files below a folder fail, be written down, be counted."""
    asked = {"LD_PRELOAD": str(build()), "FAULTS_FOLDER": str(folder)}
    if fault is not None:
        asked |= {"FAULTS_DO": fault.do, "FAULTS_AT": str(fault.at), "FAULTS_MORE": str(fault.more)}
        asked["FAULTS_KINDS"] = ",".join(fault.kinds)
        if fault.name is not None:
            asked["FAULTS_NAME"] = fault.name
    if journal is not None:
        asked["FAULTS_JOURNAL"] = str(journal)
    if control is not None:
        asked["FAULTS_CONTROL"] = str(control)
    return asked


class Control:
    """The switch of a running program: ``struct control`` in the shim's source. Faults are off until switched on."""

    _FIELDS = ("is_on", "shift_ns", "stop_ns", "seen", "done")
    _SHAPE = struct.Struct("=5q")

    def __init__(self, path: Path, **values: int) -> None:
        self.path = path
        path.write_bytes(bytes(self._SHAPE.size))
        self._file = path.open("r+b")
        self._memory = mmap.mmap(self._file.fileno(), self._SHAPE.size)
        self.set(**values)

    def set(self, **values: int) -> None:
        """Set some of its fields."""
        for name, value in values.items():
            struct.pack_into("=q", self._memory, 8 * self._FIELDS.index(name), value)

    def get(self, name: str) -> int:
        """Return a field."""
        return int(self._SHAPE.unpack(self._memory)[self._FIELDS.index(name)])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.close()
        self._file.close()
