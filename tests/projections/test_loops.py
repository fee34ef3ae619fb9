"""Loops: calls repeated in a row or in a cycle, compared by what their arguments mean."""

import pytest

from projections.loops import identity, loops
from projections.report import report
from projections.toolcalls import Call
from tests.ledger.histories import id_of
from tests.projections.happened import back, call, done, given, running


def made(*names, answers=None):
    """Calls of a run, each by the name of its tool; a name may bring arguments."""
    found = []
    for number, name in enumerate(names):
        tool, _, arguments = name.partition("(")
        answer = answers[number] if answers else ""
        found.append(
            Call(position=number, call_id=str(number), number=0, name=tool, step_id=None, start_us=number,
                 arguments=arguments.rstrip(")"), answer=answer)
        )  # fmt: skip
    return found


def found_in(calls):
    return loops(calls, [identity(each) for each in calls], {}, full=False)


@pytest.mark.parametrize(
    ("what", "names", "expected"),
    [
        ("nothing", [], []),
        ("twice is no loop", "aa", []),
        ("three times is one", "aaa", [("a", 3, 3)]),
        ("between others", "xaaaay", [("a", 4, 4)]),
        ("two one after the other", "aaabbb", [("a", 3, 3), ("b", 3, 3)]),
        ("a cycle of two", "ababab", [("ab", 3, 6)]),
        ("a cycle of four", "abcdabcdabcd", [("abcd", 3, 12)]),
        ("a cycle of five is too long", "abcdeabcdeabcde", []),
        ("a round that is not whole belongs to it", "abababa", [("ab", 3, 7)]),
        ("the shortest cycle that tells it", "aaaaaaaaaaaa", [("a", 12, 12)]),
        ("a cycle with a repeated call", "aabaabaab", [("aab", 3, 9)]),
        ("not by chance", "abcabdabc", []),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)
def test_loops_are_found(what, names, expected):
    found = found_in(made(*names))
    assert [("".join(each.tool for each in loop.calls), loop.count, len(loop.positions)) for loop in found] == expected


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('{"a":1,"b":2}', '{ "b": 2, "a": 1 }', True),
        ('{"a":1}', '{"a":1.0}', True),
        ('{"a":1}', '{"a":true}', False),
        ('{"a":"1"}', '{"a":1}', False),
        ('{"a":[1,2]}', '{"a":[2,1]}', False),
        ('{"a":"é"}', '{"a":"\\u00e9"}', True),
        ("no json", "no json", True),
        ("no json", "no  json", False),
        ("", "", True),
        ("[" * 100_000, "[" * 100_000, True),
        ('{"a":' * 70 + "1" + "}" * 70, '{"a": ' * 70 + "1" + "}" * 70, False),
        ("1" * 5000, "1" * 5000, True),
        ('{"a":1e999}', '{"a":1e999}', True),
        (str(2**63), str(2**63 + 1), False),
    ],
)
def test_arguments_are_compared_by_what_they_mean(one, other, same):
    first, second = made("look", "look")
    first.arguments, second.arguments = one, other
    assert (identity(first) == identity(second)) == same


def test_the_same_arguments_of_other_tools_are_other_calls():
    first, second = made("look({})", "see({})")
    assert identity(first) != identity(second)


def test_a_loop_tells_whether_its_answers_changed():
    (same,) = found_in(made("a", "b", "a", "b", "a", "b", answers=["1", "2"] * 3))
    (other,) = found_in(made("a", "a", "a", answers=["1", "2", "3"]))
    assert (same.same_answer, other.same_answer) == (True, False)


def test_a_loop_is_named_with_its_steps():
    ids = [id_of("step", number) for number in range(1, 10)]
    happened = []
    for number, id in enumerate(ids):
        arguments = '{"id": 7}' if number >= 3 else f'{{"id": {number}}}'
        asked = call(number, str(number), "get_user", arguments, step_id=id)
        happened += [asked, back(number, str(number), step_id=id), done(number, id)]
    (loop,) = report(given(running(), *happened)).loops
    assert loop.name == 'get_user({"id": 7}) 6 times in a row, steps 4–9'
    assert (loop.count, loop.steps, loop.positions) == (6, [4, 5, 6, 7, 8, 9], [12, 15, 18, 21, 24, 27])


def test_many_calls_take_no_time():
    assert [loop.count for loop in found_in(made(*("ab" * 20_000)))] == [20_000]
    assert found_in(made(*(str(number) for number in range(20_000)))) == []
