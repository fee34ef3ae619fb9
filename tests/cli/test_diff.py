"""``diff``: two runs in the terminal, wide and narrow, and for programs; hostile words are shown and not obeyed."""

import asyncio

import pytest

from ledger import Ledger
from tests.cli.commandline import good, jobledger
from tests.cli.stories import ABSENT, ALICE, JOB, NOON_US, OBEYED, TRAPS
from tests.cli.test_hostile_text import on_a_terminal
from tests.projections.two_runs import agent, back, call, user

A = "run-00000000-0000-4000-8000-0000000000a1"
B = "run-00000000-0000-4000-8000-0000000000b1"
TALKS = {
    A: [user("please book the red car"), call("book", {"car": "red"}), back({"ok": True}), agent("It is booked.")],
    B: [user("please book the blue car"), call("book", {"car": "blue"}), back({"ok": True}), agent(TRAPS)],
}


@pytest.fixture
def db(tmp_path):
    async def write():
        async with Ledger.open(tmp_path / "ledger.db", clock=lambda: NOON_US) as ledger:
            for id, said in TALKS.items():
                happened = [("created", {"user_id": ALICE, "agent_id": "agent-1"}), ("running", {})]
                numbers = range(1, len(said) + 1)
                happened += [
                    ("message", {"message": {"id": f"message-{id[4:-1]}{number}", **each}})
                    for number, each in zip(numbers, said, strict=True)
                ]
                for verb, data in happened:
                    await ledger.append(id, f"run.{verb}", data, actor=ALICE)

    asyncio.run(write())
    return tmp_path / "ledger.db"


def test_the_first_divergence_is_on_top_with_its_words_marked(db):
    lines = good("diff", "--db", db, A, B).out.splitlines()
    assert lines[:2] == [f"a  {A}", f"b  {B}"]
    assert lines[3:6] == [
        "First divergence: message 1 of a, message 1 of b (text)",
        "  - #1 user: please book the [-red-] car",
        "  + #1 user: please book the {+blue+} car",
    ]
    assert lines[7] == "First divergent action: message 2 of a, message 2 of b (arguments car)"
    assert lines[8].strip().startswith("- #2 agent: book")


def test_every_row_has_its_sign(db):
    out = good("diff", "--db", db, A, B).out
    assert '  = #3 tool: book → {"ok":true}' in out
    assert "Messages: 1 equal, 3 changed, 0 only in a, 0 only in b" in out


@pytest.mark.parametrize(("width", "columns"), [(80, False), (99, False), (100, True), (160, True)])
def test_two_columns_stand_where_there_is_room(db, width, columns):
    lines = on_a_terminal("diff", "--db", db, A, B, columns=width).splitlines()
    assert all(len(line) <= width for line in lines)
    assert any("#1 user" in line and line.count("#1 user") == 2 for line in lines) == columns


def test_hostile_words_are_shown_and_not_obeyed(db):
    for told in (good("diff", "--db", db, A, B).out, on_a_terminal("diff", "--db", db, "--full", A, B, columns=100)):
        assert not {char for char in told if char in OBEYED}
        assert "[bold]x[/bold]" in "".join(told.split())


def test_programs_get_the_whole_of_it(db):
    found = good("diff", "--json", "--full", "--db", db, A, B).json
    assert [row["kind"] for row in found["rows"]] == ["changed", "changed", "equal", "changed"]
    assert found["rows"][3]["b"]["text"] == TRAPS


@pytest.mark.parametrize("pair", [(A, ABSENT.replace("job", "run")), (A, JOB), ("x", A), (A, "run-\x1b[2J")])
def test_what_is_no_run_is_told_in_one_line(db, pair):
    done = jobledger("diff", "--db", db, *pair)
    assert (done.code, done.raw) == (2, b"")
    (line,) = done.err.splitlines()
    assert "\x1b" not in line


def test_a_run_and_itself_have_nothing_apart(db):
    lines = good("diff", "--db", db, A, A).out.splitlines()
    assert lines[3:5] == ["First divergence: none", "First divergent action: none"]


def test_rows_beyond_a_screenful_of_screens_are_counted_and_shown_when_asked_for(db, monkeypatch):
    monkeypatch.setattr("server.cli.diff.ENTRIES_MAX", 2)
    assert good("diff", "--db", db, A, B).out.endswith("2 more rows are not shown; --full shows everything\n")
    assert "not shown" not in good("diff", "--full", "--db", db, A, B).out
    assert len(good("diff", "--json", "--db", db, A, B).json["rows"]) == 4
