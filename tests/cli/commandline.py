"""``jobledger`` as tests run it: in this process, which is quick, or in one of its own, as users do."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import msgspec

from server.cli import main

COMMAND = str(Path(sys.executable).with_name("jobledger"))
"""The installed entry point."""


class Done(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.raw)

    @property
    def jsonl(self) -> list[Any]:
        return [msgspec.json.decode(line) for line in self.raw.splitlines()]


def jobledger(*arguments: object) -> Done:
    """Run a command in this process, through the entry point, with stdout and stderr that are no terminal."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    argv = ["jobledger", *map(str, arguments)]
    with mock.patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
            code = None
        except SystemExit as end:
            code = end.code
    return Done(code if isinstance(code, int) else 0, out.buffer.getvalue(), err.buffer.getvalue().decode())


def good(*arguments: object) -> Done:
    """Run a command that is expected to succeed."""
    done = jobledger(*arguments)
    assert done.code == 0, done
    return done


def in_a_process(*arguments: object, cwd: Path | None = None, **environment: str) -> Done:
    """Run a command as users do, with these variables added to the environment."""
    command = [COMMAND, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, check=False, env={**os.environ, **environment})
    return Done(done.returncode, done.stdout, done.stderr.decode())
