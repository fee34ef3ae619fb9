"""A server that is told to stop while it still brings its views up to the log, which may take minutes."""

import subprocess
import sys

import pytest

PATIENCE_S = 60.0
SCRIPT = """
import asyncio, os, pathlib, signal, sys
from projections.engine import Engine
from server import logs
from server.config import Config
from server.serve import run


async def take_for_ever(engine, progress=None):
    os.killpg(0, signal.SIGINT)  # as Ctrl-C does on a terminal
    await asyncio.Event().wait()


Engine.catch_up = take_for_ever
logs.configure(sys.stderr)
sys.exit(run(Config(db=pathlib.Path(sys.argv[1]), port=0, workers=int(sys.argv[2]), callbacks=False), print))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_is_interrupted_at_its_start_ends_at_once_and_serves_nothing(tmp_path, workers):
    command = (sys.executable, "-c", SCRIPT, str(tmp_path / "ledger.db"), str(workers))
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, start_new_session=True
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "Traceback" not in done.stderr
    assert "worker.died" not in done.stderr
    assert not list(tmp_path.glob("*-wal")), "the files were not released"
