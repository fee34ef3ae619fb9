"""Places where a ledger cannot grow or be written: a real full disk, a limit of files, a read-only folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.faults.actions import Action
from tests.faults.points import Bench, clear_end, recovered

DISK_SIZE = 2 * 1024 * 1024
"""Bytes of a disk that is full soon."""
ROUNDS_TO_FILL = 200
"""Of appends, each a few KiB: more than such a disk takes."""


def full(bench: Bench, action: Action) -> Iterator[str]:
    """Append to a disk until it is full, make room, and go on; where none can be mounted, to a limit of files."""
    db = bench.starts.copy(action.start, bench.place)
    with _small_disk(bench.place) as limits:
        done = bench.forks.run("tests.faults.appending", db, 0xA, ROUNDS_TO_FILL, limits=limits)
        refused = "some refused" if "refused " in done.out else "none refused"
        kept = bench.folder / "kept"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(bench.place, kept)
    shutil.rmtree(bench.place)
    kept.rename(bench.place)  # the same files, where there is room
    yield f"{clear_end(done)}, {refused}, then {recovered(bench, action, done)}"


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[dict[str, int]]:
    """Put the folder on a disk that is full soon; yield limits for a process, where that cannot be."""
    content = folder.with_name("content")
    shutil.rmtree(content, ignore_errors=True)
    shutil.copytree(folder, content)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE}", "tmpfs", str(folder)]
    try:
        is_mounted = not subprocess.run(mount, capture_output=True, check=False).returncode
    except FileNotFoundError:
        is_mounted = False
    if not is_mounted:
        yield {"FSIZE": DISK_SIZE // 4}
        return
    try:
        shutil.copytree(content, folder, dirs_exist_ok=True)
        yield {}
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def limited(bench: Bench, action: Action) -> Iterator[str]:
    """Append until the files are as long as they may be (RLIMIT_FSIZE), then go on without the limit."""
    db = bench.starts.copy(action.start, bench.place)
    limits = {"FSIZE": db.stat().st_size + DISK_SIZE // 8}
    done = bench.forks.run("tests.faults.appending", db, 0xA, ROUNDS_TO_FILL, limits=limits)
    refused = "some refused" if "refused " in done.out else "none refused"
    yield f"{clear_end(done)}, {refused}, then {recovered(bench, action, done)}"


def read_only(bench: Bench, action: Action) -> Iterator[str]:
    """Use a ledger in a folder where nothing can be written, then where it can."""
    db = bench.starts.copy(action.start, bench.place)
    with _unwritable(bench.place):
        for name, arguments in (("reads", ("export", "--db", db)), ("an append", action.arguments(db))):
            yield f"{name}: {clear_end(bench.forks.run(*arguments))}"
    yield f"then {recovered(bench, action, bench.forks.run(*action.arguments(db)))}"


@contextlib.contextmanager
def _unwritable(folder: Path) -> Iterator[None]:
    """Let nothing be written in a folder: by its mode, or for root, whom that does not stop, by a mount."""
    if os.getuid():
        folder.chmod(0o555)
        try:
            yield
        finally:
            folder.chmod(0o755)
        return
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
