"""The documents tell the truth: README commands run and print what it says; every route and command is in it."""

import asyncio
import json
import math
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pytest
from msgspec import UNSET, convert
from msgspec.structs import fields

from ledger import Ledger, archive, database, engine, ledger, session
from ledger.events import CallbackError
from ledger.writer import QUEUE_MAX
from projections import callbacks, failures, file, resources, views
from projections.patience import DEADLINE_S
from projections.patience import SIZE_MAX as READ_SIZE_MAX
from projections.steps import STATES_MAX as STEPS_MAX
from server import audit, hub
from server.admission import BULK_SHARE, LARGE
from server.app import ROUTER
from server.callbacks.schedule import WAITS_S
from server.callbacks.signing import Signer, new_secret
from server.cli import cli
from server.config import Config
from server.connections import ANSWER_RATE, Patience
from server.logs import Access
from server.problems import _KINDS
from server.protocol import HEADERS_MAX, LINE_SIZE_MAX
from server.routes.eventpage import PAGE_SIZE_MAX

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DATA = ROOT.parent / "shared" / "data"
BLOCKS = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def steps(block):
    """Yield (command, expected output lines) of a console block."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *expected = part.rstrip("\n").split("\n")
        yield command, expected


def matches(expected, line):
    """A line of the README stands for a line of output; … stands for anything."""
    return re.fullmatch(".*".join(re.escape(part) for part in expected.rstrip().split("…")), line.rstrip())


LINES = re.findall(r"```json\n(.*?)\n```", README, re.DOTALL)
ROUTES = sorted({route.pattern for route in ROUTER.routes if not route.alias_of})


@pytest.fixture
def place(tmp_path):
    """An empty folder to run the README's commands in."""
    if not (ROOT / ".venv" / "bin" / "jobledger").exists():
        pytest.skip("needs the environment that scripts/test makes")
    return tmp_path


def placed(command):
    """Return a command of the README with the paths of this clone, so that it can run anywhere."""
    command = command.replace("../shared/", f"{DATA.parent}/")
    return re.sub(r"(?<![\w/])(scripts/serve|\.venv/bin/jobledger)", rf"{ROOT}/\1", command)


def run_block(block, place, env, replace):
    """Run a block in one shell and compare each command's output with the README's."""
    script = ""
    expectations = []
    for command, expected in steps(block):
        script += f"{placed(replace(command))}\necho '=== end'\n"
        expectations.append((command, expected))
    done = subprocess.run(
        ["bash"], check=False, input=script, cwd=place, env=env, capture_output=True, text=True, timeout=240
    )
    outputs = done.stdout.split("=== end\n")
    for (command, expected), output in zip(expectations, outputs, strict=False):
        lines = output.rstrip("\n").split("\n") if output.strip() else []
        assert len(lines) == len(expected), (command, output, done.stderr)
        for wanted, line in zip(expected, lines, strict=True):
            assert matches(wanted, line), (command, wanted, line)


def test_the_first_screen_of_the_readme_does_what_it_says(place):
    # Given a clone, when the server is started as the README says
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (command, expected), *_ = steps(BLOCKS[0])
    server = subprocess.Popen(
        ["bash", "-c", f"exec {placed(command)} --port {port}"],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        said = [server.stdout.readline().rstrip("\n") for _ in expected]
        # Then it prints the token once and its address
        for wanted, line in zip(expected, said, strict=True):
            assert matches(wanted.replace("8283", str(port)), line), (wanted, line)
        token = said[0].rpartition(" ")[2]
        # And the commands of the second terminal print what stands there, down to the verdict
        run_block(
            BLOCKS[1], place, dict(os.environ), lambda line: line.replace("jl_…", token).replace("8283", str(port))
        )
    finally:
        server.terminate()
        server.stdout.close()
        assert server.wait(timeout=60) == 0


@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data")
def test_the_import_of_the_readme_does_what_it_says(place):
    run_block(BLOCKS[2], place, dict(os.environ), lambda line: line)


@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data")
def test_the_forensics_of_the_readme_find_what_they_say(place):
    for block in BLOCKS[3:]:  # the second goes on where the first ends
        run_block(block, place, dict(os.environ), lambda line: line)


def test_every_console_block_is_run_by_a_test():
    assert len(BLOCKS) == 5


def test_the_python_of_the_readme_runs(tmp_path):
    # Given the README's example, when it runs as a program
    _, code, _ = PYTHON
    head, body = code.split("\n\n", 1)
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    program = f"{head}\nimport asyncio\n\nasync def main():\n{indented}\n\nasyncio.run(main())\n"
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    # Then it prints the history of the run
    assert [line.split()[1] for line in done.stdout.splitlines()] == [
        "run.created",
        "run.running",
        "run.step",
        "run.message",
        "run.updated",
        "run.completed",
    ], done.stderr


def other_split(event):
    both = bytes.fromhex(event["salt"]) + event["data"].encode()
    event.update(salt=both[:17].hex(), data=both[17:].decode())


CHANGES = {
    "nothing": None,
    "data": lambda made: made["events"][2].update(data='{"status":"x"}'),
    "a leaf": lambda made: made["events"][2].update(leaf="[]"),
    "a path": lambda made: made["events"][2].update(path=[]),
    "where the salt ends": lambda made: other_split(made["events"][0]),
    "data that is hidden": lambda made: made["events"][0].update(data=None, salt=None),
    "an event left out": lambda made: made["events"].pop(1),
    "their order": lambda made: made["events"].reverse(),
    "whose they are": lambda made: made.update(stream=f"run-{'0' * 8}"),
    "the ledger": lambda made: made.update(ledger="another.example"),
    "the note": lambda made: made.update(checkpoint=made["checkpoint"].replace("80", "81", 1)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_check_of_the_readme_believes_a_bundle_and_no_changed_one(tmp_path, change):
    # Given a bundle of a run
    async def make():
        async with Ledger.open(tmp_path / "ledger.db") as ledger:
            for _ in range(20):
                async with ledger.run(agent_id="agent-1", metadata={"a": "é"}) as run:
                    await run.message({"message_type": "assistant_message", "content": "done"})
            return await archive.bundle(ledger, run.id)

    made = json.loads(asyncio.run(make()))
    if change:
        change(made)
    (tmp_path / "run.bundle").write_text(json.dumps(made))
    # When the README's program checks it, which imports nothing of ours
    assert "jobledger" not in PYTHON[2]
    done = subprocess.run(
        [sys.executable, "-c", PYTHON[2]], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    # Then it believes what is as it was, and nothing else
    said = "" if change else f"4 events of {made['stream']} are in the log of 80\n"
    assert (done.stdout, done.returncode) == (said, 1 if change else 0), done.stderr


RECEIVED = b'{"job_id":"job-1","status":"completed","completed_at":null,"metadata":null}'


@pytest.mark.parametrize(
    ("body", "said", "code"), [(RECEIVED, "job-1 completed\n", 0), (RECEIVED.replace(b"job-1", b"job-2"), "", 1)]
)
def test_the_receiver_of_the_readme_believes_a_signed_callback_and_no_other(body, said, code):
    # Given what is sent to it
    secret = new_secret()
    headers = Signer.parse(secret, "test").headers("msg_1", time.time_ns() // 1000, RECEIVED)
    # When it checks that as the README says
    program = f"{secret=}\n{body=}\n{headers=}\n{PYTHON[0]}"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    # Then it prints what came, or refuses what was not signed
    assert (done.stdout, done.returncode) == (said, code), done.stderr
    assert code == 0 or "WebhookVerificationError" in done.stderr


@pytest.mark.parametrize("error", get_args(CallbackError))
def test_every_error_of_a_callback_is_in_the_readme(error):
    assert f"`{error}`" in README


def test_the_schedule_of_the_readme_is_the_one_that_is_kept():
    (told,) = re.findall(r"is tried again\s+after ([^;]*?), each up to", README)
    waits = [float(number) * {"s": 1, "min": 60, "h": 3600}[unit] for number, unit in re.findall(r"(\d+) (\w+)", told)]
    assert tuple(waits) == WAITS_S


LIMITS, PATIENCE = Config(), Patience()
MIB = 1024 * 1024
AT_START_MIB = 75
"""Of a server that has answered its first requests, as measured."""


def _kept_mib():
    """All that a server keeps of the log and the views at most: page caches, bytes, and states of 1 or 2 KiB."""
    pages = database.CACHE_MIB + engine.connect.__kwdefaults__["cache_mib"] + 4 * views.CACHE_MIB
    kept = views.ROWS_SIZE_MAX + views.PAGES_SIZE_MAX + ledger.TAIL_SIZE_MAX + hub.CHUNKS_SIZE_MAX + file.CACHE_SIZE
    states = session.STATES_MAX + callbacks.STATES_MAX + failures.OPEN_MAX + 2 * STEPS_MAX
    states += 3 * resources.STATES_MAX  # jobs, runs, batches
    return pages + kept / MIB + states / 1024


PHASES = {
    "connections": [f"{LIMITS.connections_max:,}"],
    "peer gone without a word": [f"{PATIENCE.unacknowledged_max_s} s", f"{PATIENCE.silence_max_s} s"],
    "head of a request": [f"{LIMITS.head_timeout_s:g} s", f"{LINE_SIZE_MAX:,} bytes", f"{HEADERS_MAX} headers"],
    "requests under way": [f"{LIMITS.requests_max:,}"],
    "body": [
        f"{LIMITS.body_timeout_s:g} s",
        f"{LIMITS.command_size_max // MIB} MiB a command",
        f"{LIMITS.bulk_size_max // MIB} MiB a bulk",
    ],
    "bodies at once": [f"{LIMITS.bodies_size_max // MIB} MiB", {0.75: "three quarters"}[BULK_SHARE]],
    "large answers at once": [f"{LIMITS.answers_size_max // MIB} MiB", f"from {LARGE // 1024} KiB"],
    "history read as a whole: report, trace, diff": [f"{LIMITS.history_size_max // MIB} MiB"],
    "page": [f"{READ_SIZE_MAX // MIB} MiB of rows", f"of events {PAGE_SIZE_MAX // MIB} MiB"],
    "writes that wait": [f"{QUEUE_MAX:,}"],
    "long reads": [f"{DEADLINE_S:g} s", f"{LIMITS.reads_max} in line"],
    "answer": [f"{LIMITS.answer_timeout_s:g} s", f"{ANSWER_RATE // 1024} KiB"],
    "stream": [f"{LIMITS.streams_max:,}", f"{LIMITS.stream_stall_s:g} s"],
    "idle connection": [f"{LIMITS.keepalive_s:g} s"],
    "memory": [f"{AT_START_MIB} MiB", f"{math.ceil((AT_START_MIB + _kept_mib()) / 100) * 100} MiB"],
}


def test_the_table_of_limits_has_every_phase_with_the_limits_that_are_kept():
    table = README.partition("**Limits and deadlines.**")[2].partition("**Tokens**")[0]
    rows = {
        row[0]: row[1] for row in re.findall(r"^\| ([^|]+) \| ([^|]+) \|", table, re.MULTILINE) if row[0] != "phase"
    }
    assert rows.keys() == PHASES.keys()
    for phase, limits in PHASES.items():
        assert all(limit in rows[phase] for limit in limits), (phase, limits, rows[phase])


def test_what_serve_is_told_by_default_is_what_it_keeps():
    defaults = {option.name: option.default for option in cli.commands["serve"].params}
    assert defaults["connections_max"] == LIMITS.connections_max


@pytest.mark.parametrize("pattern", ROUTES)
def test_every_route_is_in_the_readme(pattern):
    assert re.search(re.escape(pattern) + r"(?![\w/{])", README)


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_is_in_the_readme(name):
    assert re.search(rf"`(token )?{name}\b", README)


def test_the_line_of_a_request_in_the_readme_has_the_fields_of_a_real_one():
    (line,) = LINES
    shown = json.loads(line)
    always = [field.name for field in fields(Access) if field.default is not UNSET]
    assert sorted(shown) == sorted(always)
    assert convert(shown, Access).outcome in {name for _, _, name in _KINDS}
    assert all(f"`{name}`" in README for name in Access.__struct_fields__ if name not in shown)


@pytest.mark.parametrize("name", [audit.OK, audit.DISCONNECTED, audit.STALLED, audit.STOPPED, audit.HIDDEN])
def test_what_else_a_line_can_say_is_in_the_readme(name):
    assert f"`{name}`" in README


@pytest.mark.parametrize("name", sorted({name for _, _, name in _KINDS}))
def test_every_error_type_is_in_the_readme(name):
    assert f"`{name}`" in README
