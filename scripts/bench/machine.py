"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ledger import engine

PACKAGES = ("aiohttp", "aiosqlite", "msgspec", "pysqlite3", "structlog", "uvloop")


def describe(size: str) -> dict[str, Any]:
    """Return the header of a result: date, machine, versions, commit."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "size": size,
        "cpus": os.cpu_count(),
        "cpu_model": _cpu_model(),
        "load_average_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": engine.library.sqlite_version,
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "load_generator": "wrk" if shutil.which("wrk") and size != "small" else "scripts.bench.client",
        "commit": _commit(),
    }


def _cpu_model() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
