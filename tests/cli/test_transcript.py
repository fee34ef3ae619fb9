"""Runs with steps and messages on the command line: long lines, hostile text, and views that equal a fresh fold."""

import asyncio
import itertools

import pytest

from ledger import Ledger
from tests.cli.commandline import good
from tests.cli.stories import ALICE, NOON_US, RUN, TRAPS
from tests.cli.test_hostile_text import obeyed, on_a_terminal

LONG = "long " * 40_000
MESSAGE = "message-00000000-0000-4000-8000-000000000001"
STEP = "step-00000000-0000-4000-8000-000000000001"


async def write(path):
    ledger = Ledger.open(path, clock=lambda: NOON_US, name="stories.example")
    async with ledger, ledger.run(agent_id="agent-1", id=RUN, actor=ALICE) as run:
        await run.step(STEP, status="pending", error_data={TRAPS: TRAPS})
        await run.message({"id": MESSAGE, "message_type": "assistant_message", "content": TRAPS, TRAPS: [TRAPS]})
        await run.message({"id": MESSAGE, "message_type": "assistant_message", "content": LONG})
        await run.step(STEP, feedback="positive", prompt_tokens=3)
        await run.update(usage={"prompt_tokens": 3})


@pytest.fixture
def db(tmp_path):
    path = tmp_path / "ledger.db"
    asyncio.run(write(path))
    return path


TYPES = ["run.created", "run.running", "run.step", "run.message", "run.message", "run.step", "run.updated",
         "run.completed"]  # fmt: skip


def test_log_tells_every_step_and_message_to_the_last_letter(db):
    events = good("log", "--json", "--db", db, RUN).json
    assert [event["type"] for event in events] == TYPES
    assert events[3]["data"]["message"][TRAPS] == [TRAPS]
    assert events[4]["data"]["message"]["content"] == LONG
    assert events[5]["data"] == {"id": STEP, "status": "success", "feedback": "positive", "prompt_tokens": 3}
    lines = good("log", "--db", db, RUN).out.splitlines()
    assert [line.split()[3] for line in lines[1:] if not line.lstrip().startswith("{")] == TYPES
    assert sum(LONG.strip() in line for line in lines) == 1


@pytest.mark.parametrize("command", ["log", "show", "replay"])
def test_what_was_said_is_shown_and_not_obeyed(db, command):
    on_paper = good(command, "--db", db, RUN).out
    assert obeyed(on_a_terminal(command, "--db", db, RUN)) | obeyed(on_paper) == set()
    assert ("owned" in on_paper) is (command == "log")
    assert obeyed(good(command, "--json", "--db", db, RUN).out) & {"\x1b", "\x07", "\x00", "\x08", "\r"} == set()


def test_replay_shows_that_steps_and_messages_change_nothing_of_the_run(db):
    frames = good("replay", "--json", "--db", db, RUN).json
    assert [frame["type"] for frame in frames] == TYPES
    for before, frame in itertools.pairwise(frames):
        if frame["type"] in {"run.step", "run.message"}:
            assert (frame["changed"], frame["state"]) == ({}, before["state"])
    assert frames[-1]["state"]["status"] == "completed"
    lines = good("replay", "--db", db, RUN).out.splitlines()
    assert max(map(len, lines)) < 1000


def test_show_gives_the_run_as_if_nothing_had_been_said_in_it(db):
    shown = good("show", "--json", "--db", db, RUN).json
    assert (shown["status"], shown["metadata"]) == ("completed", None)
    assert good("show", "--json", "--db", db, RUN, "--at", 6).json["status"] == "running"


def test_verify_finds_the_log_whole_and_its_views_equal_to_a_fresh_fold(db):
    good("rebuild", "--db", db)
    verdict = good("verify", "--json", "--db", db, "--views").json
    assert (verdict["ok"], verdict["size"], verdict["problems"]) == (True, len(TYPES), [])


def test_an_export_with_steps_and_messages_comes_back_the_same(db, tmp_path):
    whole, copy = tmp_path / "whole.jsonl", tmp_path / "copy.db"
    good("export", "--db", db, "--out", whole)
    good("import", "--db", copy, whole)
    one, two = (good("verify", "--json", "--db", path, "--views").json for path in (db, copy))
    assert one["root"] == two["root"]
    told, again = (good("log", "--json", "--db", path, RUN).json for path in (db, copy))
    assert again == [event | {"source": again[0]["source"]} for event in told]
