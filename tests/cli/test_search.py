"""``search``: what was said is found from the files alone, shown to people and to programs, and never obeyed."""

import asyncio

import pytest

from ledger import Ledger
from projections.file import views_path
from tests.cli.commandline import good, jobledger
from tests.cli.stories import ALICE, BATCH, HOSTILE, JOB, OBEYED, RUN, TRAPS, at
from tests.cli.test_hostile_text import obeyed, on_a_terminal


@pytest.fixture
def db(db):
    """The stories, and a talk in their run about a tool that failed."""
    call = {"name": "get_user_details", "arguments": '{"name": "Mia"}', "tool_call_id": "c"}
    answer = {"tool_call_id": "c", "status": "error", "tool_return": "there is no Mia"}
    said = (
        {"message_type": "tool_call_message", "tool_call": call},
        {"message_type": "tool_return_message", **answer},
    )

    async def tell():
        async with Ledger.open(db) as ledger:
            for number, each in enumerate(said):
                message = {"id": f"message-00000000-0000-4000-8000-00000000000{number}", **each}
                await ledger.append(RUN, "run.message", {"message": message}, actor=ALICE)

    asyncio.run(tell())
    return db


def found(db, *arguments):
    return [(each["stream"], each["what"]) for each in good("search", "--json", "--db", db, *arguments).json]


@pytest.mark.parametrize("views", [True, False])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nightly"], [(JOB, ["metadata"])]),
        (["mia"], [(RUN, ["error"]), (RUN, ["message"])]),
        (["get_user_details"], [(RUN, ["tool"])]),
        (["mia", "--what", "error"], [(RUN, ["error"])]),
        (["mia", "--what", "error", "--what", "tool"], [(RUN, ["error"])]),
        (["mia", "--limit", "1"], [(RUN, ["error"])]),
        (["ValueError", "no"], [(RUN, ["error"])]),
        (["--", "mia", "-there"], [(RUN, ["message"])]),
        (['"no mia" OR nightly'], [(RUN, ["error"]), (JOB, ["metadata"])]),
        (["mia OR nightly", "--kind", "job"], [(JOB, ["metadata"])]),
        (["mia OR nightly", "--agent", "agent-1"], [(RUN, ["error"]), (RUN, ["message"])]),
        (["mia OR nightly", "--status", "completed"], [(JOB, ["metadata"])]),
        (["mia OR nightly", "--stop-reason", "end_turn"], [(JOB, ["metadata"])]),
        (["mia OR nightly", "--tool", "get_user_details", "--limit", "1"], [(RUN, ["error"])]),
        (["mia OR nightly", "--id", JOB], [(JOB, ["metadata"])]),
        (["mia OR nightly", "--id", BATCH], []),
        (["mia OR nightly", "--until", at(50)], [(JOB, ["metadata"])]),
        (["mia OR nightly", "--since", at(50), "--before", "5"], []),
    ],
)
def test_it_finds_what_was_said_with_views_and_without(db, views, arguments, expected):
    if views:
        good("rebuild", "--db", db)
    assert found(db, *arguments) == expected


def test_people_see_where_and_what(db):
    done = good("search", "no mia", "--db", db)
    head, snippet = done.out.splitlines()
    assert RUN in head
    assert head.split()[-2:] == ["error", "tool_return_message"]
    assert snippet == "    there is no Mia"
    assert done.err == ""


def test_what_there_is_more_and_that_there_is_nothing_is_told(db):
    more = good("search", "mia", "--limit", "1", "--db", db)
    position = more.out.split()[0]
    assert more.err == f"There are more: go on with --before {position}.\n"
    assert len(good("search", "mia", "--limit", "1", "--before", position, "--db", db).out.splitlines()) == 2
    nothing = good("search", "absent", "--db", db)
    assert (nothing.out, nothing.err) == ("", "Nothing says that.\n")


def test_hostile_text_is_found_and_not_obeyed(db):
    for told in (good("search", "owned", "--db", db).out, on_a_terminal("search", "owned", "--db", db)):
        assert HOSTILE in told
        assert obeyed(told) == set()
        assert "[bold]x[/bold]:smile:" in told
    (hit,) = good("search", "owned", "--json", "--db", db).json
    assert (
        "".join(part["text"] for part in hit["snippet"]).split() == f"{TRAPS}: {TRAPS}".replace("\0", "\ufffd").split()
    )
    assert (
        obeyed(good("search", "owned", "--json", "--db", db).out) & (OBEYED - set("\u202e\u2066\u200f\u2028\x9b"))
        == set()
    )


def test_on_a_terminal_it_says_what_would_make_it_instant(db):
    assert "`jobledger rebuild` makes this instant" in on_a_terminal("search", "nightly", "--db", db)
    good("rebuild", "--db", db)
    assert "rebuild" not in on_a_terminal("search", "nightly", "--db", db)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "TEXT"), (["..."], "no word to find"), ([""], "no word to find"), (["--", "-x"], "no word to find"),
        (["x" * 300], "1 to 256 characters"), (["a*"], "before a *"), (["x", "--what", "all"], "all"),
        (["x", "--since", "soon"], "--since"), (["x", "--id", "agent-1"], "--id"), (["x", "--limit", "0"], "--limit"),
        (["x", "--before", "0"], "--before"), (["x", "--status", "lost"], "lost"),
    ],
)  # fmt: skip
def test_wrong_usage_is_told_in_one_line(db, arguments, why):
    done = jobledger("search", "--db", db, *arguments)
    assert (done.code, done.raw) == (2, b"")
    assert why in done.err.splitlines()[-1]


def test_it_writes_nothing(db):
    before = {path.name: path.read_bytes() for path in db.parent.iterdir()}
    good("search", "nightly", "--db", db)
    assert {path.name: path.read_bytes() for path in db.parent.iterdir() if path.name in before} == before
    assert not views_path(db).exists()
