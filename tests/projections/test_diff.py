"""The diff of two runs: what counts as the same, what pairs, where they part, and bounds for long runs and texts."""

import random
import time

import msgspec
import pytest

from projections.diff import diff, limited
from projections.differences import PATHS_MAX, TEXT_SIZE_MAX
from projections.spans import NAME_SIZE_MAX
from tests.ledger.histories import id_of
from tests.projections.two_runs import agent, back, call, compared, history, step, user


def kinds(found):
    """The alignment, a word for each row, with the numbers of the messages."""
    return [(row.kind, row.a and row.a.number, row.b and row.b.number) for row in found.rows]


def told(differences):
    return [(each.what, each.path, each.a, each.b) for each in differences]


NO = msgspec.UNSET

# --- what is the same -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (user("hello  there\n"), user(" hello there")),
        (user("hello"), user([{"type": "text", "text": "hello"}])),
        (call("find", '{"a": 1, "b": [2]}'), call("find", '{"b":[2],"a":1}', "other-id")),
        (call("find", {"n": 5}), call("find", {"n": 5.0})),
        (call("find", "{not json"), call("find", "{not json")),
        (back({"a": 1, "b": 2}), back('{"b": 2,  "a": 1}', "other-id")),
        (agent("x", date="2020-01-01T00:00:00Z", otid="1"), agent("x", date="2024-01-01T00:00:00Z", otid="2")),
        (agent("x", step_id=id_of("step", 1)), agent("x", step_id=id_of("step", 2))),
        (agent("x", original={"raw": 1}), agent("x", original={"raw": 2})),
    ],
)
def test_blanks_the_order_of_keys_ids_and_times_make_no_difference(one, other):
    found = compared([one], [other])
    assert (found.equal, found.changed, found.only_a, found.only_b) == (1, 0, 0, 0)
    assert found.first_divergence is found.first_divergent_action is None


@pytest.mark.parametrize(
    ("one", "other", "differs"),
    [
        (user("yes"), user("no"), [("text", "", "yes", "no")]),
        (call("find", {"n": 5}), call("find", {"n": "5"}), [("arguments", "n", 5, "5")]),
        (call("find", {"n": True}), call("find", {"n": 1}), [("arguments", "n", True, 1)]),
        (call("find", {"n": None}), call("find", {}), [("arguments", "n", None, NO)]),
        (
            call("find", {"at": {"city": "Rome", "zip": [1, 2]}}),
            call("find", {"at": {"city": "Oslo", "zip": [1, 3]}}),
            [("arguments", "at.city", "Rome", "Oslo"), ("arguments", "at.zip[1]", 2, 3)],
        ),
        (call("find", {"a b": 1}), call("find", {"a b": 2}), [("arguments", '["a b"]', 1, 2)]),
        (call("find", "{not json"), call("find", {}), [("arguments", "", "{not json", {})]),
        (back("done"), back("failed"), [("return", "", "done", "failed")]),
        (back({"id": 1}), back({"id": 2}), [("return", "id", 1, 2)]),
        (back("x"), back("x", status="error"), [("status", "", "success", "error")]),
    ],
)
def test_messages_of_one_type_and_tool_that_differ_are_changed_and_say_where(one, other, differs):
    found = compared([agent("a"), one, agent("z")], [agent("a"), other, agent("z")])
    assert kinds(found) == [("equal", 1, 1), ("changed", 2, 2), ("equal", 3, 3)]
    assert told(found.rows[1].differs) == differs
    assert told(found.first_divergence.differs) == differs


def test_several_calls_of_one_message_are_compared_each():
    def calls(*arguments):
        each = [{"name": "find", "arguments": text, "tool_call_id": text} for text in arguments]
        return {"message_type": "tool_call_message", "tool_call": each[0], "tool_calls": each}

    found = compared([calls('{"n":1}', '{"n":2}')], [calls('{"n":1}', '{"n":3}')])
    assert told(found.rows[0].differs) == [("arguments", "[1].n", 2, 3)]


@pytest.mark.parametrize(
    ("one", "other"),
    [(call("find", {}), call("look", {})), (user("x"), agent("x")), (call("find", {}), back("x"))],
)
def test_what_is_of_another_type_or_tool_is_left_out_and_put_in(one, other):
    found = compared([user("a"), one], [user("a"), other])
    assert kinds(found) == [("equal", 1, 1), ("only_a", 2, None), ("only_b", None, 2)]


def test_a_call_of_a_user_whom_a_model_played_is_none_of_the_agent():
    by_user = [step(1, tags=["user_simulator"]), call("look", {}, step_id=id_of("step", 1))]
    found = compared([user("a"), *by_user], [user("a"), call("look", {})])
    assert kinds(found)[1:] == [("only_a", 2, None), ("only_b", None, 2)]
    assert found.rows[1].a.who == "user"
    assert (found.first_divergent_action.a, found.first_divergent_action.b.number) == (None, 2)


def test_the_parts_that_a_stream_recorded_are_one_message():
    parts = [agent(text, id=id_of("message", 7)) for text in ("Hel", "lo the", "re")]
    calls = [
        call("find", '{"n"', id=id_of("message", 8)),
        {**call("find", ":1}"), "id": id_of("message", 8), "tool_call": {"arguments": ":1}"}},
    ]
    assert kinds(compared([*parts, *calls], [agent("Hello there"), call("find", {"n": 1})])) == [("equal", 1, 1)]


# --- how they stand beside each other ---------------------------------------------------------------------------------


def test_what_one_run_did_in_between_moves_nothing_else():
    detour = [call("detour", {}), back("?")]
    steps = [user("go"), call("find", {"n": 1}), back("one"), call("find", {"n": 2}), back("two")]
    found = compared(steps, [*steps[:3], *detour, *steps[3:]], full=True)
    assert kinds(found) == [
        ("equal", 1, 1), ("equal", 2, 2), ("equal", 3, 3), ("only_b", None, 4), ("only_b", None, 5), ("equal", 4, 6),
        ("equal", 5, 7),
    ]  # fmt: skip
    assert (found.first_divergence.a, found.first_divergence.b.number) == (None, 4)
    assert [said.number for said in found.first_divergence.before] == [1, 2, 3]


def test_equal_rows_are_counted_and_shown_each_only_when_asked():
    said = [agent(f"{number}") for number in range(10)]
    assert [(row.kind, row.count) for row in compared(said, said).rows] == [("equal", 10)]
    assert [(row.kind, row.count) for row in compared(said, said, full=True).rows] == [("equal", 1)] * 10


def test_the_first_action_of_the_agent_that_differs_is_told_apart_from_what_was_said():
    a = [user("hi"), call("find", {"n": 1}, "1"), back("x", "1"), agent("bye"), call("pay", {"to": {"id": 7}}, "2")]
    b = [user("hey"), call("find", {"n": 1}, "1"), back("x", "1"), agent("ciao"), call("pay", {"to": {"id": 8}}, "2")]
    found = compared(a, b)
    assert (found.first_divergence.a.number, found.first_divergence.b.number) == (1, 1)
    assert (found.first_divergent_action.a.number, found.first_divergent_action.b.number) == (5, 5)
    assert told(found.first_divergent_action.differs) == [("arguments", "to.id", 7, 8)]
    assert [row.a.number for row in found.calls] == [5]


def test_calls_that_are_equal_with_other_returns_say_that_the_environment_differs():
    a = [call("find", {"n": 1}, "x"), back({"found": [1, 2]}, "x"), call("look", {}, "y"), back("same", "y")]
    b = [call("find", {"n": 1}, "q"), back({"found": [1]}, "q"), call("look", {}, "r"), back("same", "r", "error")]
    found = compared(a, b)
    assert [(each.tool, told(each.differs)) for each in found.returns] == [
        ("find", [("return", "found[1]", 2, NO)]),
        ("look", [("status", "", "success", "error")]),
    ]
    assert found.first_divergent_action is None


def test_steps_stand_beside_each_other_by_what_was_said_in_them():
    def talk(*steps):
        for number, (text, tokens) in enumerate(steps, 1):
            yield agent(text, step_id=id_of("step", number))
            yield step(number, status="success", prompt_tokens=tokens, completion_tokens=1, step_ns=tokens * 10**6)

    found = compared([*talk(("a", 10), ("c", 30))], [*talk(("a", 11), ("b", 20), ("c", 31))])
    pairs = [(pair.a and pair.a.prompt_tokens, pair.b and pair.b.prompt_tokens) for pair in found.steps]
    assert sorted(pairs, key=str) == sorted([(10, 11), (None, 20), (30, 31)], key=str)
    assert (found.steps[0].a.duration_ns, found.steps[0].b.duration_ns) == (10_000_000, 11_000_000)
    assert (found.a.usage.prompt_tokens, found.b.usage.step_count) == (40, 3)


def test_steps_without_messages_are_aligned_too():
    a = [step(1, model="m", status="success"), step(2, model="m", status="failed", error_type="rate_limit")]
    b = [step(1, model="m", status="success"), step(2, model="m", status="success")]
    found = compared(a, b)
    assert kinds(found) == [("equal", 0, 0), ("changed", 0, 0)]
    assert told(found.rows[1].differs)[0] == ("status", "", "failed", "success")


def test_the_runs_as_wholes_and_their_metadata_are_compared():
    told_of = {"reward": 1.0, "seed": 7, "info": {"x": [1]}}, {"reward": 0.0, "seed": 7, "y": 2}
    found = compared([], [], metadata=told_of)
    assert (found.a.reward, found.b.reward, found.a.status) == (1.0, 0.0, "completed")
    assert told(found.metadata) == [
        ("metadata", "reward", 1.0, 0.0), ("metadata", "info", {"x": [1]}, NO), ("metadata", "y", NO, 2),
    ]  # fmt: skip


def test_a_run_is_equal_to_itself_and_as_much_of_two_is_equal_either_way():
    a, b = [user("a"), call("x", {"n": 1}), agent("b")], [user("c"), call("x", {"n": 2}), back("?"), agent("b")]
    assert compared(a, a).first_divergence is None
    one, other = compared(a, b), compared(b, a)
    assert one.equal == other.equal == 1


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_long_texts_are_shown_from_where_they_begin_to_differ():
    a, b = ["x" * 5_000_000 + ending for ending in ("left", "right")]
    row = compared([agent(a)], [agent(b)]).rows[0]
    assert row.a.text.endswith("xxleft")
    assert row.b.text.endswith("xxright")
    assert len(row.a.text) < TEXT_SIZE_MAX
    assert compared([agent(a)], [agent(b)], full=True).rows[0].a.text == a


def test_a_thousand_differences_of_one_value_are_told_as_the_first_so_many():
    a, b = ({f"k{number}": shift + number for number in range(1000)} for shift in (0, 1))
    assert len(compared([call("x", a)], [call("x", b)]).rows[0].differs) == PATHS_MAX


@pytest.mark.parametrize(
    "arguments", ["[" * 100_000, '{"n": 123456789012345678901234567890}', '"\\ud800"', "\x00\x1b[2J", "1e999", ""]
)
def test_arguments_that_are_no_json_within_bounds_are_compared_as_text(arguments):
    found = compared([call("x", arguments)], [call("x", arguments + " .")])
    assert found.changed == 1
    assert found.rows[0].differs[0].what == "arguments"


def test_a_tool_name_of_thousands_of_characters_is_shortened():
    name = "x" * 6818
    found = compared([call(name, {"a": 1})], [call(name, {"a": 2})])
    assert NAME_SIZE_MAX < len(found.rows[0].a.calls[0].tool) < 1000


def test_lists_are_cut_where_they_are_too_long_and_say_so():
    found = limited(compared([agent(f"{n}") for n in range(9)], [agent(f"-{n}") for n in range(9)]), 4)
    assert (len(found.rows), found.changed, found.left_off) == (4, 9, 5)


@pytest.mark.parametrize("words", [3, 10_000])
def test_runs_of_ten_thousand_events_are_compared_in_seconds(words):
    chance = random.Random(words)
    a, b = [[agent(f"word {chance.randrange(words)}") for _ in range(10_000)] for _ in range(2)]
    began = time.monotonic()
    found = compared(a, b)
    assert time.monotonic() - began < 10
    assert found.equal + found.changed + found.only_a == 10_000


def test_what_was_erased_is_no_part_of_it():
    events = history(1, [agent("a")])
    erased = [msgspec.structs.replace(event, data=None, salt=None, digest="0" * 64) for event in events]
    found = diff(erased, history(2, [agent("a")]))
    assert (found.a.messages, found.only_b) == (1, 1)
