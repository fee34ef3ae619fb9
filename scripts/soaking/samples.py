"""What is measured of a server while it is soaked, and when that is flat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import aiohttp
import msgspec
from prometheus_client.parser import text_string_to_metric_families

MIB = 1024 * 1024
WARM_UP_SHARE = 0.5
"""Of the samples, those that come before memory is held to be flat."""
MEMORY_SLOPE_MAX = 1.0 * MIB
"""Bytes of resident memory a minute, after the warm-up: at 150 requests a second, 120 bytes of each, which is about the
smallest object that could stay of every one."""
WAL_MAX = 64 * MIB
"""Bytes of either write-ahead file: SQLite begins it anew after some 4 MiB, unless a reader holds it for long."""
FILES_SIZE = 8 * MIB
"""Bytes of all files of an empty ledger, with room."""
EVENT_SIZE_MAX = 6 * 1024
"""Bytes of all files for each event of this load: its data, indexes, tree, views and full-text index."""


class Sample(msgspec.Struct, frozen=True):
    """The server at one moment. ``files``: bytes of each file beside the ledger, by ending."""

    at_s: float
    memory: int
    descriptors: int
    tasks: int
    threads: int
    connections: int
    events: int
    files: dict[str, int]

    @property
    def wal(self) -> int:
        """The larger of the write-ahead files."""
        return max((size for name, size in self.files.items() if name.endswith("-wal")), default=0)

    @property
    def kept(self) -> int:
        """Bytes of all files but the write-ahead ones and the server's own log."""
        return sum(size for name, size in self.files.items() if not name.endswith(("-wal", "-shm", ".log")))


async def sample(session: aiohttp.ClientSession, folder: Path, pid: int, at_s: float) -> Sample:
    """Measure now."""
    async with session.get("/metrics") as response:
        text = await response.text()
        response.raise_for_status()
    told = {each.name: each.samples[0].value for each in text_string_to_metric_families(text) if each.samples}
    return Sample(
        at_s=round(at_s, 1),
        memory=int(told["jobledger_process_resident_memory_bytes"]),
        descriptors=int(told["jobledger_process_open_fds"]),
        tasks=int(told["jobledger_tasks"]),
        threads=_threads(pid),
        connections=int(told["jobledger_connections_open"]),
        events=int(told["jobledger_ledger_size"]),
        files=_sizes(folder),
    )


def _threads(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("Threads:"))


def _sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of each file; one that was of a moment only has none."""
    sizes = {}
    for path in folder.iterdir():
        try:
            sizes[path.name] = path.stat().st_size
        except FileNotFoundError:
            sizes[path.name] = 0
    return sizes


def slope(samples: Sequence[Sample]) -> float:
    """Return by how many bytes a minute the resident memory grows: the least-squares line through the samples."""
    count = len(samples)
    mean_s = sum(each.at_s for each in samples) / count
    mean = sum(each.memory for each in samples) / count
    spread = sum((each.at_s - mean_s) ** 2 for each in samples)
    return 60 * sum((each.at_s - mean_s) * (each.memory - mean) for each in samples) / spread if spread else 0.0


def problems(samples: Sequence[Sample], before: Sample, after: Sample, *, judges_memory: bool) -> list[str]:
    """Return what is not as it should be. ``before`` and ``after``: the server without load.

    ``judges_memory``: whether it was long enough for memory to have settled.
    """
    found = []
    steady = samples[int(len(samples) * WARM_UP_SHARE) :]
    if judges_memory and (grows := slope(steady)) > MEMORY_SLOPE_MAX:
        found.append(f"memory grows by {grows / MIB:.1f} MiB a minute after the warm-up")
    for name in ("tasks", "descriptors"):
        was, now = getattr(before, name), getattr(after, name)
        if now > was + SPARE[name]:
            found.append(f"{name}: {was} before, {now} after")
    if after.connections > before.connections:
        found.append(f"connections: {before.connections} before, {after.connections} after")
    if (wal := max(each.wal for each in samples)) > WAL_MAX:
        found.append(f"a write-ahead file of {wal / MIB:.0f} MiB")
    if after.kept > FILES_SIZE + after.events * EVENT_SIZE_MAX:
        found.append(f"files of {after.kept / MIB:.0f} MiB for {after.events} events")
    strangers = [name for name in after.files if not name.startswith("ledger.")]
    if strangers:
        found.append(f"files that are left: {', '.join(strangers)}")
    return found


SPARE = {"tasks": 0, "descriptors": 8}
"""What may remain: descriptors of connections that SQLite and the sender of callbacks open once and keep."""
