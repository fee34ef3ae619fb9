"""Where tests keep files: in memory where the system has such a place, as few of them are about disks."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - folders in it are our own
"""A folder in memory; None where there is none."""


@contextmanager
def scratch(prefix: str = "jobledger-") -> Iterator[Path]:
    """Make a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=prefix, dir=MEMORY) as name:
        yield Path(name)
