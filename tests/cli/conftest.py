"""A ledger with a job, a run, a batch and a token, whose every word is known."""

import asyncio
import os
import shutil
import subprocess

import pytest

from tests.cli.commandline import COMMAND, Done, in_a_process
from tests.cli.stories import write


@pytest.fixture
def db(tmp_path):
    path = tmp_path / "ledger.db"
    asyncio.run(write(path))
    return path


@pytest.fixture
def unprivileged():
    """Run a command as somebody for whom the rights of files mean something, which for root they do not."""
    if os.geteuid() != 0:
        return in_a_process
    if shutil.which("setpriv") is None:
        pytest.skip("root may write anywhere, and there is no setpriv to take that from it")

    def run(*arguments):
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", COMMAND, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, check=False)
        return Done(done.returncode, done.stdout, done.stderr.decode())

    return run
