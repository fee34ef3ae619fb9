"""The report of a run: what was wrong in hand-made histories, and that it holds of any history."""

import itertools
from collections import Counter

import msgspec
import pytest

from ledger import Ledger
from ledger.errors import BadRequest
from projections.durations import in_words
from projections.excerpts import EXCERPT_MAX
from projections.report import Report, report
from projections.spans import NAME_SIZE_MAX
from tests.ledger.histories import event, id_of, job
from tests.projections.happened import A, B, back, call, done, ended, garbled, given, running, said, step, user
from tests.projections.random_histories import History
from tests.projections.test_trace import everything

C = id_of("step", 3)
ERROR = {"type": "ValueError", "message": "no", "traceback": "Traceback …"}


def reported(*happened, full=False):
    return report(given(*happened), full=full)


# --- where it went wrong ----------------------------------------------------------------------------------------------

FINE = [call(1, step_id=A), back(2, step_id=A), done(3, A)]
WRONG_TOOL = [call(4, step_id=B), back(5, status="error", text="no such file", step_id=B)]
TOOL_STEP = step(6, B, status="failed", error_type="tool_error", error_data={"message": "no such file"})
FORMAT_STEP = step(6, B, status="failed", error_type="format_error", error_data={"errors": ["empty", "still"]})
LLM_STEP = step(4, B, status="failed", error_type="llm_api_error", error_data={"message": "503"})


@pytest.mark.parametrize(
    ("what", "happened", "kind", "position", "number", "message", "count"),
    [
        ("nothing", [running(), *FINE, ended(9)], None, None, None, None, 0),
        ("the end alone", [running(), *FINE, ended(9, "failed", error=ERROR)], "end", 6, None, "no", 1),
        ("an end without an error", [ended(9, "failed")], "end", 2, None, "", 1),
        ("a tool", [running(), *FINE, *WRONG_TOOL, TOOL_STEP, ended(9)], "tool", 7, 2, "no such file", 1),
        ("a tool, the step not", [*WRONG_TOOL, done(6, B)], "tool", 3, 1, "no such file", 1),
        ("a tool of no step", [call(1), back(2, status="error", text="x")], "tool", 3, None, "x", 1),
        ("a tool error that no message shows", [TOOL_STEP], "step", 2, 1, "no such file", 1),
        ("a step", [running(), *FINE, LLM_STEP, ended(9, "failed")], "step", 6, 2, "503", 2),
        ("the model's answer, before its tools", [running(), *WRONG_TOOL, FORMAT_STEP], "format", 3, 1, "empty", 2),
        (
            "a failure after the tools",
            [*WRONG_TOOL, step(6, B, status="failed", error_type="x")],
            "tool",
            3,
            1,
            None,
            2,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_first_error_is_where_the_log_first_tells_of_it(what, happened, kind, position, number, message, count):
    told = reported(*happened)
    first = told.first_error
    assert len(told.errors) == count
    if kind is None:
        assert first is None
        return
    assert (first.kind, first.position, first.step) == (kind, position, number)
    assert message is None or first.message.text == message


@pytest.mark.parametrize(
    ("what", "happened", "number"),
    [
        ("the last of all", [done(1, A), done(2, B), ended(3)], 2),
        ("one that failed is not", [done(1, A), step(2, B, status="failed"), ended(3)], 1),
        ("one with a failed tool is not", [done(1, A), *WRONG_TOOL, done(6, B), ended(7)], 1),
        ("one that is still open is not", [done(1, A), step(2, B)], 1),
        ("none", [step(1, A, status="failed"), ended(2, "failed")], None),
        ("not what came after the failure", [done(1, A), ended(2, "failed"), done(3, B)], 1),
        ("of a run that did not fail, also later", [done(1, A), ended(2), done(3, B)], 2),
        ("by its end and not its beginning", [step(1, A), done(2, B), done(3, A), ended(4)], 1),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_last_good_step_is_the_last_that_succeeded_with_all_its_tools(what, happened, number):
    good = reported(*happened).last_good_step
    assert (good and good.number) == number


def test_a_format_error_is_told_with_how_often_the_model_was_asked_again():
    told = reported(running(), *WRONG_TOOL, FORMAT_STEP)
    (again,) = told.retries
    assert (again.kind, again.times, again.step, again.succeeded) == ("model", 2, 1, None)


@pytest.mark.parametrize(
    ("what", "calls", "expected"),
    [
        ("at once, and well", [("look", "{}", "error"), ("look", "{}", "success")], [(1, True)]),
        ("again and again", [("look", "{}", "error")] * 3, [(1, False), (1, False)]),
        ("after others", [("look", "{}", "error"), ("see", "{}", "success"), ("look", "{}", "success")], [(2, True)]),
        ("in other words", [("look", '{"a":1}', "error"), ("look", '{ "a": 1.0 }', "success")], [(1, True)]),
        ("with other arguments", [("look", '{"a":1}', "error"), ("look", '{"a":2}', "success")], []),
        ("what went well", [("look", "{}", "success")] * 2, []),
        ("without an answer", [("look", "{}", "error"), ("look", "{}", None)], [(1, None)]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_call_that_failed_and_is_made_again_is_a_retry(what, calls, expected):
    happened = []
    for number, (name, arguments, status) in enumerate(calls):
        happened.append(call(number, f"c{number}", name, arguments))
        if status is not None:
            happened.append(back(number, f"c{number}", status))
    assert [(each.later, each.succeeded) for each in reported(*happened).retries] == expected


@pytest.mark.parametrize(
    ("what", "after", "expected"),
    [
        ("both failed", [back(3, "c2", "error")], []),
        ("one failed, the other not", [back(3, "c2")], []),
        ("and then a third time", [back(3, "c2", "error"), call(4, "c3"), back(5, "c3")], [(1, 5, True)]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_calls_made_side_by_side_are_no_retries_of_each_other(what, after, expected):
    told = reported(call(1, "c1"), call(1, "c2"), back(2, "c1", "error"), *after)
    assert [(each.later, each.position - 1, each.succeeded) for each in told.retries] == expected


def test_no_error_came_before_the_start_where_clocks_jump_back():
    told = reported(running(10), call(4), back(5, status="error"), ended(2, "failed"))
    assert [error.after_s for error in told.errors] == [0, 0]
    assert [entry.gap_s for entry in told.timeline] == [0, 10, 0, 0, 0]


def test_a_step_that_failed_by_itself_and_is_followed_by_another_is_a_retry():
    told = reported(running(), step(1, A, status="failed", error_type="llm_api_error"), done(2, B))
    assert [(each.kind, each.step, each.succeeded) for each in told.retries] == [("step", 2, True)]


def test_steps_of_a_user_that_a_model_plays_do_not_answer_those_of_the_agent():
    wrong = step(1, A, status="failed", error_type="llm_api_error")
    told = reported(wrong, done(2, B, tags=["user_simulator"]), done(3, C))
    assert [each.step for each in told.retries] == [3]


# --- who did what -----------------------------------------------------------------------------------------------------


def test_who_cancelled_deleted_and_asked_for_what_was_refused_is_told():
    told = reported(
        running(),
        (1, "cancelled", {"by": "user-2"}),
        (2, "refused", {"asked": "completed", "found": "cancelled", "by": "user-3"}),
        (3, "deleted", {"reason": "old"}),
    )
    assert (told.cancelled.position, told.cancelled.by) == (3, "user-2")
    assert (told.refused[0].asked, told.refused[0].found, told.refused[0].by) == ("completed", "cancelled", "user-3")
    assert told.deleted.reason == "old"
    assert told.verdict == "cancelled after 1.0 s by user-2; it was deleted"


def test_who_cancelled_it_before_it_ran_is_told_apart_from_what_ran():
    told = reported((1, "cancelled", {"by": "user-2"}))
    assert told.verdict == "cancelled 1.0 s after its creation, before it ran, by user-2"


def test_each_attempt_at_the_callback_is_told_and_of_its_url_only_the_host():
    birth = {"user_id": "user-1", "agent_id": "a", "callback_url": "https://u:secret@example.com/hook?token=secret"}
    happened = [
        ("run.created", birth),
        ("run.failed", {}),
        ("callback.attempted", {"number": 1, "duration_ns": 5 * 10**8, "status_code": 503, "error": "http_status"}),
        ("callback.attempted", {"number": 2, "duration_ns": 10**9, "status_code": 204}),
        ("callback.delivered", {}),
    ]
    told = report(
        [event(type, data, version=number, stream=id_of("run", 1)) for number, (type, data) in enumerate(happened, 1)]
    )
    assert (told.callback.receiver, told.callback.status) == ("https://example.com", "delivered")
    attempts = [(each.number, each.status_code, each.error, each.duration_s) for each in told.callback.attempts]
    assert attempts == [(1, 503, "http_status", 0.5), (2, 204, None, 1.0)]
    assert [entry.is_error for entry in told.timeline] == [False, True, True, False, False]


# --- times and numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "happened", "queue", "working", "idle", "total"),
    [
        ("queue, a step, idle", [running(2), step(3), done(5), ended(9)], 2, 2, 5, 9),
        ("steps that overlap count once", [running(0), step(1), step(2, B), done(4), done(5, B), ended(6)], 0, 4, 2, 6),
        ("tools of no step", [running(0), call(1), back(3), ended(4)], 0, 2, 2, 4),
        ("a step that never ended", [running(0), step(1), ended(4)], 0, 3, 1, 4),
        ("nothing from within", [running(1), ended(4)], 1, None, None, 4),
        ("it never ran", [ended(3, "cancelled")], 3, None, None, 3),
        ("it never ended", [running(1), step(2), user(7)], 1, 5, 1, 7),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_time_in_the_queue_at_work_and_idle_stand_apart(what, happened, queue, working, idle, total):
    times = reported(*happened).header.durations
    assert (times.queue_s, times.working_s, times.idle_s, times.total_s) == (queue, working, idle, total)


def test_gaps_are_named_with_what_was_going_on():
    told = reported(running(5), step(6), call(7, step_id=A), back(11, step_id=A), done(14), ended(16), said_late())
    gaps = {each.meanwhile: (each.gap_s, each.before_position, each.what) for each in told.gaps}
    assert gaps == {
        "after the end": (9, 8, ""),
        "queue": (5, 2, ""),
        "tool call": (4, 5, "execute_tool look"),
        "step": (3, 6, "chat"),
        "idle": (2, 7, ""),
    }
    assert [each.gap_s for each in told.gaps] == [9, 5, 4, 3, 2]


def said_late():
    return (25, "deleted", {})


def test_a_clock_that_jumps_back_makes_no_gap():
    told = reported(running(10), user(4), user(11))
    assert [entry.gap_s for entry in told.timeline] == [0, 10, 0, 1]


def test_tokens_are_summed_over_steps_and_costs_are_the_numbers_called_so():
    costs = {"agent_cost": 0.25, "total_cost": 3, "cost": True, "user_cost": "x", "costly": 5, "Cost": 1}
    told = reported(
        done(1, A, prompt_tokens=5, completion_tokens=2),
        done(2, B, prompt_tokens=7),
        (3, "updated", {"metadata": costs}),
    )
    assert (told.header.usage.prompt_tokens, told.header.usage.total_tokens) == (12, 14)
    assert told.header.costs == {"agent_cost": 0.25, "total_cost": 3, "Cost": 1}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 ms"), (0.0001, "<1 ms"), (0.0123, "12 ms"), (0.9999, "1.0 s"), (41.24, "41.2 s"), (59.96, "1 min 00 s"),
        (192, "3 min 12 s"), (3599.7, "1 h 00 min"), (7500, "2 h 05 min"), (273_600, "3 d 4 h"),
    ],
)  # fmt: skip
def test_durations_are_told_as_people_say_them(seconds, words):
    assert in_words(seconds) == words


# --- the verdict ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("happened", "verdict"),
    [
        (
            [running(1), done(2), LLM_STEP, ended(9, "failed", stop_reason="llm_api_error", error=ERROR)],
            "failed after 8.0 s in step 2 of 2: llm_api_error (ValueError) – no",
        ),
        ([running(1), ended(9, "failed")], "failed after 8.0 s: no reason was recorded"),
        (
            [ended(9, "failed", error={"message": "a\nb"})],
            "failed 9.0 s after its creation, before it ran: no reason was recorded – a b",
        ),
        ([running(0), done(2), ended(3, stop_reason="end_turn")], "completed after 3.0 s in 1 step"),
        ([running(0), done(2), ended(3, stop_reason="max_steps")], "completed after 3.0 s in 1 step: max_steps"),
        (
            [running(0), *WRONG_TOOL, TOOL_STEP, ended(9)],
            "completed after 9.0 s in 1 step; 1 error on the way, the first in step 1",
        ),
        (
            [running(0), user(4)],
            "running, with no end recorded; the last event was at 2023-11-14T22:13:24.000000Z, "
            "4.0 s after its creation",
        ),
        (
            [running(0), *(call(at, str(at), "look", '{"a":1}', step_id=A) for at in range(6)), done(7), ended(8)],
            'completed after 8.0 s in 1 step; looped: look({"a":1}) 6 times in a row, step 1',
        ),
    ],
)  # fmt: skip
def test_one_line_says_how_it_ended_where_and_why(happened, verdict):
    assert reported(*happened).verdict == verdict


# --- what is shown of it ----------------------------------------------------------------------------------------------


def test_long_texts_are_shortened_and_told_with_their_size_or_whole():
    long, name = "x" * 5_000_000, "n" * 7000
    happened = [
        said(1, "user_message", content=long),
        call(2, "c", name, long, step_id=A),
        back(3, "c", "error", long, step_id=A),
        step(4, A, status="failed", error_data={"message": long}),
        ended(5, "failed", error={"message": long, "traceback": long}, metadata={"big": long}),
    ]
    short, whole = reported(*happened), reported(*happened, full=True)
    assert len(msgspec.json.encode(short)) < 20_000
    for told in (short, whole):
        (one,) = told.steps[0].calls
        texts = [told.timeline[1].text, one.arguments, one.answer, told.first_error.message, told.header.error.message]
        assert {text.size for text in texts} == {len(long)}
        assert {len(text.text) == len(long) for text in texts} == {told is whole}
    assert len(short.steps[0].calls[0].tool) == NAME_SIZE_MAX
    assert whole.steps[0].calls[0].tool == name
    assert short.header.error.traceback.text.startswith("xxx")
    assert len(short.header.error.traceback.text) < EXCERPT_MAX


def test_parts_of_a_streamed_call_are_one_call():
    parts = [
        said(1, "tool_call_message", tool_call={"name": "look", "arguments": '{"a"', "tool_call_id": "c"}, step_id=A),
        said(1, "tool_call_message", tool_call={"arguments": ":1}", "tool_call_id": "c"}, step_id=A),
    ]
    (one,) = reported(*parts, back(2, step_id=A), done(3)).steps[0].calls
    assert (one.tool, one.arguments.text, one.status, one.duration_s) == ("look", '{"a":1}', "success", 1)


def test_calls_that_belong_to_no_known_step_are_told_apart():
    told = reported(call(1, "a"), call(2, "b", step_id=B), done(3, A))
    assert [(each.call_id, each.step_id, each.status) for each in told.outside] == [("a", None, None), ("b", B, None)]


def test_every_event_says_in_a_line_what_it_tells():
    told = reported(
        running(),
        said(1, "user_message", content=[{"type": "text", "text": "a\n b"}, {"type": "image", "source": {}}]),
        said(1, "reasoning_message", reasoning="hm"),
        call(2, "c", "look", '{"a": 1}', step_id=A),
        back(3, step_id=A),
        said(3, "assistant_message", content=""),
        done(4, A, model="m", prompt_tokens=1200, completion_tokens=3),
        (5, "updated", {"ttft_ns": 5 * 10**8, "metadata": {"a": 1, "b": 2}, "usage": {"total_tokens": 5}}),
        ended(6, "failed", stop_reason="error", error=ERROR),
    )
    assert [entry.summary for entry in told.timeline] == [
        "agent agent-1",
        "",
        "user: a b [image]",
        "thinks: hm",
        'calls look({"a": 1})',
        "returns: done",
        "assistant: (empty)",
        "step 1 success, m, 1,200 prompt + 3 completion tokens",
        'usage {"total_tokens":5}, first token after 0.5 s, metadata a, b',
        "error, ValueError: no",
    ]


def test_a_job_has_a_report_too():
    life = [("created", {"user_id": "user-1"}), ("pending", {}), ("running", {}), ("expired", {})]
    told = report(
        [
            event(f"job.{verb}", data, version=number, time=number * 10**6, stream=job())
            for number, (verb, data) in enumerate(life, 1)
        ]
    )
    assert (told.header.kind, told.steps, told.first_error.kind) == ("job", [], "end")
    assert [each.meanwhile for each in told.gaps] == ["queue", "queue", "running"]
    assert told.verdict == "expired after 1.0 s"


def test_what_was_erased_leaves_envelopes():
    events = given(running(1), call(2), done(3), ended(4, "failed", error=ERROR), (5, "erased", {"reason": "asked"}))
    events[:-1] = [msgspec.structs.replace(each, data=None, salt=None, digest="ab" * 32) for each in events[:-1]]
    told = report(events)
    assert (told.erased.reason, told.header.events, told.steps) == ("asked", 6, [])
    assert [entry.summary for entry in told.timeline] == ["(erased)"] * 5 + ["asked"]
    assert told.verdict.endswith("; its data was erased")


def test_without_a_creation_there_is_no_report():
    with pytest.raises(BadRequest):
        report([])


# --- any history ------------------------------------------------------------------------------------------------------


def assert_sound(told, events):
    assert isinstance(told, Report)
    assert [entry.position for entry in told.timeline] == [each.position for each in events]
    times = told.header.durations
    if times.working_s is not None:
        assert times.queue_s + times.working_s + times.idle_s == pytest.approx(times.total_s, abs=3e-6)
        assert min(times.working_s, times.idle_s) >= -2e-6
    assert [step.number for step in told.steps] == list(range(1, len(told.steps) + 1))
    assert told.first_error == next(iter(told.errors), None)
    assert sum(len(step.calls) for step in told.steps) + len(told.outside) == told.header.tool_calls
    assert "\n" not in told.verdict
    assert msgspec.json.decode(msgspec.json.encode(told)) == msgspec.to_builtins(told)


@pytest.mark.parametrize("seed", range(4))
async def test_any_history_has_a_report_at_any_point(tmp_path, seed):
    async with Ledger.open(tmp_path / "ledger.db") as ledger:
        await History(seed).extend(ledger, 300)
        events = [each async for each in everything(ledger)]
    lives: dict[str, list] = {}
    for each in events:
        lives.setdefault(each.stream, []).append(each)
    seen = Counter()
    for id, life in lives.items():
        if id.startswith("token"):
            continue
        for length in {len(life), *range(1, len(life), 5)}:
            told = report(life[:length])
            assert_sound(told, life[:length])
            seen[told.header.kind] += 1
    assert min(seen[kind] for kind in ("job", "run", "batch")) > 10


@pytest.mark.parametrize("seed", range(20))
def test_garbage_has_a_report_too(seed):
    events = garbled(seed)
    for length in (1, 20, len(events)):
        assert_sound(report(events[:length], full=bool(seed % 2)), events[:length])


def test_a_run_of_ten_thousand_events_has_all_of_them_in_its_report():
    ids = [id_of("step", number) for number in range(3300)]
    lives = ([call(1, step_id=id), back(2, step_id=id), step(3, id, status="success", model="m")] for id in ids)
    events = given(running(), *itertools.chain(*lives))
    assert len(report(events).timeline) == 2 + 9900
