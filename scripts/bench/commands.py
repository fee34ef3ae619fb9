"""Commands of ``jobledger`` as processes of their own: what they print, and the most memory they took."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

JOBLEDGER = (sys.executable, "-c", "from server.cli import main; main()")
"""The command ``jobledger`` of the working tree."""
RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes of one unit of ``ru_maxrss``."""


class Told(NamedTuple):
    """What a command printed as JSON, and its peak memory (resident set) in bytes."""

    answer: dict[str, Any]
    peak: int


def jobledger(*arguments: str | Path) -> Told:
    """Run a command that prints one JSON object and ends with 0."""
    command = [*JOBLEDGER, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"jobledger {arguments[0]} ended with {process.returncode}")
    return Told(msgspec.json.decode(printed), usage.ru_maxrss * RSS_UNIT)
