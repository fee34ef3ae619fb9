"""A virtual environment for each version of letta-client: made once, kept beside ``.venv``, made anew when broken."""

from __future__ import annotations

import csv
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".venv-clients"
INSTALL_S = 600.0
"""Patience with pip, which has a time limit for each read but none for the whole."""
STAMP = "installed"
"""The file that is written last, so that an install that broke off does not look finished."""


class Unreachable(Exception):
    """The package registry cannot be reached."""


def environments(versions: Iterable[str], home: Path = HOME) -> dict[str, Path]:
    """Return the Python of an environment for each version, made at the same time where there are none.

    Skips the test where the registry cannot be reached, which in CI is a failure like any other.
    """
    versions = list(versions)
    try:
        with ThreadPoolExecutor(len(versions)) as threads:
            return dict(zip(versions, threads.map(lambda version: environment(version, home), versions), strict=True))
    except Unreachable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"letta-client cannot be installed: {error}")


def environment(version: str, home: Path = HOME) -> Path:
    """Return the Python of an environment that has this version. Raises ``Unreachable``; other failures as pip's."""
    place = home / f"{version}-{sys.implementation.cache_tag}"
    home.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released with the file, also when the process dies
        if not is_sound(place):
            make(place, version)
    return python_of(place)


def python_of(place: Path) -> Path:
    return place / "bin" / "python"


def is_sound(place: Path) -> bool:
    """Tell whether an install was finished, and everything that it brought is still there."""
    if not (place / STAMP).is_file():
        return False
    try:
        works = subprocess.run([python_of(place), "-S", "-c", ""], check=False, capture_output=True).returncode == 0
    except OSError:
        return False
    records = list(place.glob("lib/python*/site-packages/*.dist-info/RECORD"))
    return works and bool(records) and all(map(is_whole, records))


def is_whole(record: Path) -> bool:
    """Tell whether each file of a distribution has the size that its record says."""
    site = record.parents[1]
    with record.open(newline="") as lines:
        sizes = {name: int(size) for name, _, size in csv.reader(lines) if size}
    return all((site / name).is_file() and (site / name).stat().st_size == size for name, size in sizes.items())


def make(place: Path, version: str) -> None:
    """Make an environment with our own pip, so that none has to be installed there."""
    shutil.rmtree(place, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    pip = [sys.executable, "-m", "pip", "--python", python_of(place), "--disable-pip-version-check", "--no-input"]
    install = [*pip, "install", "--quiet", f"letta-client=={version}"]
    try:
        done = subprocess.run(install, check=False, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.TimeoutExpired as error:
        raise Unreachable(f"pip took more than {INSTALL_S:.0f} s") from error
    if done.returncode:
        if "connection broken by" in done.stderr:
            raise Unreachable(done.stderr.strip().splitlines()[-1])
        raise RuntimeError(f"pip could not install letta-client {version}: {done.stderr[-2000:]}")
    (place / STAMP).write_text(f"{version}\n")
