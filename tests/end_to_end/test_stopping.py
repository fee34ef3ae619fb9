"""A server that is told to stop at a bad moment: before it serves, and while somebody keeps a request going."""

import asyncio
import json
import subprocess
import sys
from datetime import datetime

import aiohttp
import pytest

from server.callbacks.dispatcher import STOP_GRACE_S
from server.serve import CUT_S
from server.workers import KILL_AFTER_S
from tests.end_to_end.server_process import client, serve

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


async def test_a_request_that_is_not_done_within_the_time_of_a_stop_is_cut_off_and_not_waited_for_again(tmp_path):
    # given a body that never ends
    stop_s, db = 2.0, tmp_path / "ledger.db"
    async with serve(db, limits={"stop_timeout_s": stop_s}) as server, client(server, server.token) as session:
        begun = asyncio.Event()

        async def body():
            yield b"{"
            begun.set()
            await asyncio.Event().wait()

        asking = asyncio.create_task(session.post("/v1/jobs/", data=body()))
        await begun.wait()
        async with session.get("/v1/jobs/") as response:  # so the other one has begun, too
            assert response.status == 200
        # when the server stops
        assert await server.stop() == 0
        with pytest.raises(aiohttp.ClientError):
            await asking
    # then it is cut off once its time is over, long before a parent would kill a worker that still waits
    lines = [json.loads(line) for line in db.with_suffix(".server.log").read_text().splitlines()]
    at = {line.get("outcome", line["event"]): datetime.fromisoformat(line["timestamp"]) for line in lines}
    assert (at["stopped"] - at["server.stopped_early"]).total_seconds() < stop_s - 0.5
    assert 2 * CUT_S + 2 * STOP_GRACE_S < KILL_AFTER_S
