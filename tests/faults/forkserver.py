"""Commands in processes of their own, forked from one that has imported everything: a tenth of the time of a start.

What is forked has its own memory, files and end, and dies of faults alone; it differs from a start from nothing only
by what is imported already. As a program it is that first process: it reads an order a line, and answers each.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cli.commandline import Done
from tests.faults import shim

ROOT = Path(__file__).parents[2]
PROGRAMS = ("server.cli", "tests.faults.appending", "tests.faults.secretmaking")
"""What may be run: ``jobledger``, and programs of our own."""
PATIENCE_S = 60
"""How long a command may take before it counts as hung, and is killed: none takes a tenth of that."""


class ForkServer:
    """Runs commands. ``scratch``: a folder for what they say, which no fault reaches."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.faults.forkserver"]
        environment = {**os.environ, "LD_PRELOAD": str(shim.build())}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._process.communicate()

    def run(
        self,
        *arguments: object,
        environment: Mapping[str, str] | None = None,
        limits: Mapping[str, int] | None = None,
    ) -> Done:
        """Run ``jobledger`` with these arguments, or the module that the first one names (``tests.…``), to its end.

        ``limits``: resource limits by their names, such as ``FSIZE``. The code of a killed process is its signal's,
        below zero.
        """
        out, err = self._scratch / "out", self._scratch / "err"
        order = {
            "arguments": [str(each) for each in arguments],
            "environment": dict(environment or {}),
            "limits": dict(limits or {}),
            "out": str(out),
            "err": str(err),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the process that forks died"
        return Done(int(answer), out.read_bytes(), err.read_text(errors="replace"))


def _main() -> int:
    _import_all()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    for line in sys.stdin.buffer:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            return _obey(order)
        _, status = os.waitpid(child, 0)
        answers.write(b"%d\n" % os.waitstatus_to_exitcode(status))
        answers.flush()
    return 0


def _import_all() -> None:
    for name in (*PROGRAMS, "server.serve"):
        importlib.import_module(name)
    assert sys.modules["server.cli"].cli.commands


def _obey(order: dict[str, Any]) -> int:
    """Be the command that is asked for; return its exit code."""
    signal.alarm(PATIENCE_S)
    for target, number in ((order["out"], 1), (order["err"], 2)):
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdin.close()
    for name, value in order["limits"].items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    os.environ.update(order["environment"])
    first, *rest = order["arguments"]
    program, arguments = _program(first, rest)
    sys.argv = arguments
    if order["environment"]:
        ctypes.CDLL(None).faults_arm()
    try:
        return program() or 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)


def _program(first: str, rest: Sequence[str]) -> tuple[Any, list[str]]:
    if first.startswith("tests."):
        return sys.modules[first].main, [first, *rest]
    from server.cli import main

    return main, ["jobledger", first, *rest]


if __name__ == "__main__":
    sys.exit(_main())
