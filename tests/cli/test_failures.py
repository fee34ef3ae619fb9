"""``failures``: the causes of what fails, on the file alone."""

import msgspec
import pytest

from ledger import ids
from tests.cli.commandline import good, jobledger
from tests.cli.stories import ALICE, OBEYED, RUN, TRAPS
from tests.cli.test_hostile_text import on_a_terminal


@pytest.fixture
def signature(db):
    return good("failures", "--db", db, "--json").json[0]["signature"]


def test_a_list_has_each_cause_with_how_often_since_when_and_an_example(db, signature):
    said = good("failures", "--db", db).out
    assert said.splitlines() == [
        "runs",
        "      1  failed · error · ValueError",
        "         no",
        "         2026-11-22 12:01 to 2026-11-22 12:01  █···········",
        f"         {signature}  e.g. {RUN}",
        "",
        f"One cause in full: jobledger failures {signature}",
    ]


def test_one_cause_in_full_leads_to_the_report_of_a_run(db, signature):
    said = good("failures", "--db", db, signature).out
    assert "1, in 1 of the runs" in said
    assert "agent-1 (1)" in said
    assert said.splitlines()[-1] == f"why, step by step: jobledger report {RUN}"


def test_programs_get_the_fields_of_the_contract(db, signature):
    (row,) = good("failures", "--db", db, "--json", "--stop-reason", "error", "--agent", "agent-1").json
    assert {name: row[name] for name in ("count", "status", "stop_reason", "error_type", "message", "samples")} == {
        "count": 1,
        "status": "failed",
        "stop_reason": "error",
        "error_type": "ValueError",
        "message": "no",
        "samples": [RUN],
    }
    assert good("failures", "--db", db, "--json", signature).json["examples"][0]["said"] == "no"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--kind", "job"], "no such failures"),
        (["--since", "2099-01-01"], "no such failures"),
        (["--since", "8", "--new", "--agent", "agent-2"], "no such failures"),
    ],
)
def test_where_nothing_failed_it_says_so(db, options, said):
    assert good("failures", "--db", db, *options).out.strip() == said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--new"], "--new needs --since"),
        (["--since", "soon"], "--since"),
        (["f1-0123456789abcdef"], "there is no failure 'f1-0123456789abcdef'"),
        (["--kind", "user"], "'user' is not one of"),
    ],
)
def test_a_wrong_question_is_answered_with_what_to_ask(db, arguments, said):
    done = jobledger("failures", "--db", db, *arguments)
    assert done.code == 2
    assert said.lower() in done.err.lower()
    assert len(done.err.strip().splitlines()) == 1


def test_hostile_errors_are_shown_and_not_obeyed(tmp_path):
    # given: an error whose every part is hostile, and so is the tool, whose error is long, too
    history = tmp_path / "history.jsonl"
    db = tmp_path / "ledger.db"
    run = "run-00000000-0000-4000-8000-000000000009"
    call = {"name": f"look{TRAPS}", "arguments": "{}", "tool_call_id": "call-1"}
    answer = {"status": "error", "tool_return": TRAPS + "é" * 250_000, "tool_call_id": "call-1"}
    told = [
        ("run.created", {"user_id": ALICE, "agent_id": "\u202egnp.exe"}),
        ("run.running", {}),
        (
            "run.message",
            {"message": {"id": ids.make("message"), "message_type": "tool_call_message", "tool_call": call}},
        ),
        ("run.message", {"message": {"id": ids.make("message"), "message_type": "tool_return_message", **answer}}),
        ("run.failed", {"error": {"type": TRAPS, "message": TRAPS}}),
    ]
    history.write_bytes(
        b"".join(
            msgspec.json.encode({"specversion": "1.0", "type": type, "subject": run, "data": data}) + b"\n"
            for type, data in told
        )
    )
    good("import", "--db", db, history)
    # when
    causes = good("failures", "--db", db, "--json").json
    shown = [on_a_terminal("failures", "--db", db)]
    shown += [on_a_terminal("failures", "--db", db, cause["signature"]) for cause in causes]
    # then
    assert sorted(cause["kind"] for cause in causes) == ["run", "tool"]
    assert {char for text in shown for char in text if char in OBEYED} == set()
    assert max(map(len, shown)) < 10_000
