"""The trace of a run: spans with exact times from hand-made histories, and a sound tree from any history."""

import itertools
import re
import time
from collections import Counter
from hashlib import sha256

import msgspec
import pytest

from ledger import Ledger, messages, upcast
from ledger.events import Message, Step
from projections.spans import DESCRIPTION_SIZE_MAX, NAME_SIZE_MAX, TIME_MAX_NS
from projections.trace import spans
from tests.ledger.histories import id_of, run
from tests.projections.happened import NS, A, B, back, call, done, ended, garbled, given, ns, running, said, step, user
from tests.projections.random_histories import History

RUN = run()
TRACE = RUN.removeprefix("run-").replace("-", "")
RECENT = range(5)  # seeds


# --- then: what is looked at ------------------------------------------------------------------------------------------


def seconds(ns):
    return None if ns is None else (ns - NS) / 1e9


def times(span):
    return seconds(span.start_time_unix_nano), seconds(span.end_time_unix_nano)


def brief(found):
    """Each span as (name, parent's name, start, end), in seconds of the run."""
    names = {span.span_id: span.name for span in found} | {None: None}
    return [(span.name, names[span.parent_span_id], *times(span)) for span in found]


def assert_a_sound_tree(found):
    by_id = {}
    for span in found:
        parent = by_id.get(span.parent_span_id)
        assert (parent is None) == (span is found[0]), "the root comes first, and a parent before its children"
        assert re.fullmatch("[0-9a-f]{16}", span.span_id)
        assert span.span_id not in by_id
        assert re.fullmatch("[0-9a-f]{32}", span.trace_id)
        assert span.trace_id == found[0].trace_id
        assert len(span.name) <= NAME_SIZE_MAX
        assert_times_fit(span, parent)
        assert None not in span.attributes.values()
        assert all(abs(value) < 2**63 for value in span.attributes.values() if isinstance(value, int))
        assert span.status.message == "" or span.status.code == "ERROR"
        assert ("error.type" in span.attributes) == (span.status.code == "ERROR")
        by_id[span.span_id] = span
    starts = [span.start_time_unix_nano for span in found[1:]]
    assert starts == sorted(starts)
    assert msgspec.json.decode(msgspec.json.encode(found)) == msgspec.to_builtins(found)


def assert_times_fit(span, parent):
    start, end = span.start_time_unix_nano, span.end_time_unix_nano
    assert 0 <= start <= TIME_MAX_NS
    assert end is None or start <= end <= TIME_MAX_NS
    if parent is not None:
        last = parent.end_time_unix_nano
        assert parent.start_time_unix_nano <= start
        assert last is None or max(start, end or 0) <= last


# --- a whole run ------------------------------------------------------------------------------------------------------


def test_a_run_with_a_step_and_a_tool_reads_so():
    events = given(
        running(1),
        user(1),
        step(2, status="pending", model="gpt-1", provider_name="openai"),
        call(3, step_id=A, message_id=2),
        back(4, step_id=A, message_id=3),
        done(5, stop_reason="tool_rule", prompt_tokens=7, completion_tokens=2, cached_input_tokens=4),
        (6, "updated", {"ttft_ns": 1_500_000_000}),
        ended(7, stop_reason="end_turn"),
    )
    root, token, chat, tool = spans(events)
    assert msgspec.to_builtins(root) == {
        "trace_id": TRACE,
        "span_id": root.span_id,
        "parent_span_id": None,
        "name": "invoke_agent agent-1",
        "kind": "INTERNAL",
        "start_time_unix_nano": NS + 1 * 10**9,
        "end_time_unix_nano": NS + 7 * 10**9,
        "attributes": {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.id": "agent-1",
            "gen_ai.conversation.id": "conv-1",
            "gen_ai.request.model": "gpt-1",
            "gen_ai.usage.input_tokens": 7,
            "gen_ai.usage.output_tokens": 2,
            "gen_ai.usage.cache_read.input_tokens": 4,
            "jobledger.usage.total_tokens": 9,
            "jobledger.run.id": RUN,
            "jobledger.run.status": "completed",
            "jobledger.run.stop_reason": "end_turn",
            "jobledger.run.step_count": 1,
            "jobledger.run.duration_ns": 6 * 10**9,
            "jobledger.run.queue_ns": 1 * 10**9,
            "jobledger.run.ttft_ns": 1_500_000_000,
        },
        "status": {"code": "OK", "message": ""},
        "events": [],
    }
    assert (token.name, token.kind, token.parent_span_id) == ("time_to_first_token", "INTERNAL", root.span_id)
    assert times(token) == (1, 2.5)
    assert (chat.name, chat.kind, chat.parent_span_id, chat.status.code) == ("chat gpt-1", "CLIENT", root.span_id, "OK")
    assert times(chat) == (2, 5)
    assert chat.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-1",
        "gen_ai.response.finish_reasons": ["tool_rule"],
        "gen_ai.agent.id": "agent-1",
        "gen_ai.conversation.id": "conv-1",
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "jobledger.usage.total_tokens": 9,
        "jobledger.step.id": A,
        "jobledger.step.status": "success",
        "jobledger.step.start_from": "first_named",
    }
    assert (tool.name, tool.kind, tool.parent_span_id) == ("execute_tool look", "INTERNAL", chat.span_id)
    assert times(tool) == (3, 4)
    assert tool.attributes == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "look",
        "gen_ai.tool.call.id": "c",
        "gen_ai.tool.type": "function",
        "gen_ai.agent.id": "agent-1",
        "jobledger.step.id": A,
        "jobledger.tool.call_message_id": id_of("message", 2),
        "jobledger.tool.return_message_id": id_of("message", 3),
    }
    assert_a_sound_tree([root, token, chat, tool])


def test_no_creation_means_no_spans():
    assert spans([]) == []
    assert spans(given(running(1))[1:]) == []


def test_span_ids_never_change():
    """They are in other people's trace stores."""
    found = spans(given(running(), call(1, step_id=A), done(2), ended(3)))
    names = [f'["{RUN}"]', f'["{RUN}","step","{A}"]', f'["{RUN}","tool","c",0]']
    assert [span.span_id for span in found] == [sha256(name.encode()).hexdigest()[:16] for name in names]


# --- the run ----------------------------------------------------------------------------------------------------------

ERROR = {"type": "ValueError", "message": "no such tool", "traceback": "Traceback …"}
FAILED = ended(3, "failed", error=ERROR)


def failed_by(error):
    return ended(3, "failed", metadata={"error": error})


ROOTS = [
    ("only created", [], (0, None), "UNSET", None, ""),
    ("running", [running(2)], (2, None), "UNSET", None, ""),
    ("ended without having run", [ended(3, "failed")], (0, 3), "ERROR", "_OTHER", ""),
    ("completed", [running(2), ended(3)], (2, 3), "OK", None, ""),
    ("cancelled", [running(2), ended(3, "cancelled")], (2, 3), "UNSET", None, ""),
    ("failed, with an error", [running(2), FAILED], (2, 3), "ERROR", "ValueError", ERROR["message"]),
    ("failed, with a stop reason", [running(2), ended(3, "failed", stop_reason="error")], (2, 3), "ERROR", "error", ""),
    ("failed, text for an error", [failed_by("bad")], (0, 3), "ERROR", "_OTHER", "bad"),
    ("failed, a number for an error", [failed_by(7)], (0, 3), "ERROR", "_OTHER", ""),
    ("failed, odd things in its error", [failed_by({"type": []})], (0, 3), "ERROR", "_OTHER", ""),
    ("completed, an error before", [(1, "updated", {"error": ERROR}), running(2), ended(3)], (2, 3), "OK", None, ""),
    ("a clock that jumped back", [running(5), ended(3)], (5, 5), "OK", None, ""),
]  # fmt: skip


@pytest.mark.parametrize(("what", "happened", "when", "code", "error", "message"), ROOTS)
def test_the_root_is_the_run(what, happened, when, code, error, message):
    [root] = spans(given(*happened))
    assert times(root) == when
    assert (root.status.code, root.attributes.get("error.type"), root.status.message) == (code, error, message)
    assert_a_sound_tree([root])


def test_a_recorded_error_is_an_exception_event_at_the_end():
    [root] = spans(given(running(2), FAILED))
    [exception] = root.events
    assert (exception.name, seconds(exception.time_unix_nano)) == ("exception", 3)
    assert exception.attributes == {
        "exception.type": "ValueError",
        "exception.message": "no such tool",
        "exception.stacktrace": "Traceback …",
    }


USAGE = {"prompt_tokens": 100, "cached_input_tokens": 0}
SUMS = [
    ("nobody told", [done(1)], {}),
    ("one step told", [step(1, prompt_tokens=3), step(2, B)],
     {"gen_ai.usage.input_tokens": 3, "jobledger.usage.total_tokens": 3}),
    ("both told", [step(1, reasoning_tokens=3), step(2, B, reasoning_tokens=4)],
     {"gen_ai.usage.reasoning.output_tokens": 7}),
    ("the provider's words", [step(1, prompt_tokens_details={"cache_creation_tokens": 5})],
     {"gen_ai.usage.cache_creation.input_tokens": 5}),
    ("the steps' word counts before the run's",
     [step(1, prompt_tokens=3, completion_tokens=4), (2, "updated", {"usage": USAGE})],
     {"gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 4, "gen_ai.usage.cache_read.input_tokens": 0,
      "jobledger.usage.total_tokens": 7}),
]  # fmt: skip


@pytest.mark.parametrize(("what", "happened", "expected"), SUMS)
def test_the_root_sums_the_tokens_of_its_steps(what, happened, expected):
    root = spans(given(*happened))[0]
    assert {name: count for name, count in root.attributes.items() if ".usage." in name} == expected


def test_the_root_names_a_model_only_where_all_steps_had_the_same():
    assert spans(given(step(1, model="a"), step(2, B, model="a")))[0].attributes["gen_ai.request.model"] == "a"
    assert "gen_ai.request.model" not in spans(given(step(1, model="a"), step(2, B, model="b")))[0].attributes


# --- steps ------------------------------------------------------------------------------------------------------------


STEPS = [
    ("told whole", [done(5, step_start_ns=ns(2), step_ns=10**9)], (2, 3), "step_start_ns"),
    ("told late", [done(5), step(6, step_start_ns=ns(2), step_ns=10**9)], (2, 3), "step_start_ns"),
    ("start told", [done(5, step_start_ns=ns(2))], (2, 5), "step_start_ns"),
    ("request told", [done(5, llm_request_start_ns=ns(2), llm_request_ns=10**9)], (2, 5), "llm_request_start_ns"),
    ("request outlasts", [done(5, llm_request_start_ns=ns(2), llm_request_ns=4 * 10**9)], (2, 6),
     "llm_request_start_ns"),
    ("both told", [done(5, step_start_ns=ns(2), llm_request_start_ns=ns(3), step_ns=10**9)], (2, 3), "step_start_ns"),
    ("duration told", [done(5, step_ns=10**9)], (4, 5), "step_ns"),
    ("request's duration told", [done(5, llm_request_ns=2 * 10**9)], (3, 5), "llm_request_ns"),
    ("open", [step(2)], (2, None), "first_named"),
    ("open, duration told", [step(2, step_ns=10**9)], (2, 3), "first_named"),
    ("begun and ended", [step(2), step(5, status="failed")], (2, 5), "first_named"),
    ("said before begun", [call(2, step_id=A), step(3), step(5, status="failed")], (2, 5), "first_named"),
    ("more said after the end", [step(2), done(5), step(8, feedback="positive")], (2, 5), "first_named"),
    ("recorded at its end, alone", [done(5)], (1, 5), "run"),
    ("after another step", [done(3, B), done(5)], (3, 5), "previous_end"),
    ("after a user", [done(3, B), user(4), done(5)], (4, 5), "previous_end"),
    ("after the latest", [done(4, B), user(3), done(5)], (4, 5), "previous_end"),
    ("after a tool", [call(3, step_id=B), back(4, step_id=B), done(5)], (4, 5), "previous_end"),
    ("its own tool", [user(2), call(3, step_id=A), back(4, step_id=A), done(5)], (2, 5), "previous_end"),
    ("its own user", [done(3, B), user(4, step_id=A), done(5)], (4, 5), "previous_end"),
    ("its tool outlasts it", [user(2), call(3, step_id=A), done(5), back(7, step_id=A)], (2, 7), "previous_end"),
    ("its tool outlasts what was told", [done(5, step_ns=10**9), call(5, step_id=A), back(7, step_id=A)], (4, 5),
     "step_ns"),
    ("a clock that jumped back", [user(6), done(5)], (5, 5), "previous_end"),
    ("before the run began", [done(5, step_start_ns=ns(0), step_ns=2 * 10**9)], (1, 2), "step_start_ns"),
    ("after the run ended", [done(5, step_start_ns=ns(8), step_ns=4 * 10**9)], (8, 9), "step_start_ns"),
    ("in another century", [done(5, step_start_ns=-(10**15), step_ns=0)], (1, 1), "step_start_ns"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "happened", "when", "source"), STEPS)
def test_a_step_has_the_times_that_are_known_of_it(what, happened, when, source):
    found = spans(given(running(1), *happened, ended(9)))
    [span] = [span for span in found if span.attributes.get("jobledger.step.id") == A and span.kind == "CLIENT"]
    assert times(span) == when
    assert span.attributes["jobledger.step.start_from"] == source
    assert_a_sound_tree(found)


CLAMPED = [
    ("fits exactly", {"step_start_ns": ns(1), "step_ns": 8 * 10**9}, {}),
    ("too early", {"step_start_ns": ns(1) - 1, "step_ns": 10**9}, {"start": ns(1) - 1}),
    ("too long", {"step_start_ns": ns(1), "step_ns": 8 * 10**9 + 1}, {"end": ns(9) + 1}),
    ("much too late", {"step_start_ns": 2**63 - 1, "step_ns": 2**63 - 1}, {"start": 2**63 - 1, "end": 2**63 - 1}),
    ("much too early", {"step_start_ns": -(2**63), "step_ns": 0}, {"start": 0, "end": 0}),
]


@pytest.mark.parametrize(("what", "told", "kept"), CLAMPED)
def test_what_did_not_fit_its_parent_is_kept_beside(what, told, kept):
    span = spans(given(running(1), done(5, **told), ended(9)))[1]
    found = {name: value for name, value in span.attributes.items() if "clamped" in name}
    assert found == {f"jobledger.clamped.{name}_time_unix_nano": value for name, value in kept.items()}


OUTCOMES = [
    ({"status": "success"}, "OK", None, ""),
    ({"status": "pending"}, "UNSET", None, ""),
    ({"status": "cancelled"}, "UNSET", None, ""),
    ({"status": "failed"}, "ERROR", "_OTHER", ""),
    ({"status": "failed", "stop_reason": "llm_api_error"}, "ERROR", "llm_api_error", ""),
    ({"status": "failed", "error_type": "RateLimit", "stop_reason": "error"}, "ERROR", "RateLimit", ""),
    ({"status": "failed", "error_data": {"message": "429"}}, "ERROR", "_OTHER", "429"),
    ({"status": "failed", "error_data": {"message": {"a": 1}}}, "ERROR", "_OTHER", ""),
]


@pytest.mark.parametrize(("told", "code", "error", "message"), OUTCOMES)
def test_a_failed_step_is_an_error(told, code, error, message):
    found = spans(given(step(1, **told)))
    assert (found[1].status.code, found[1].status.message) == (code, message)
    assert found[1].attributes.get("error.type") == error
    assert_a_sound_tree(found)


def test_what_the_provider_answered_names_model_and_id():
    response = {"model": "gpt-1-0613", "id": "chatcmpl-1", "choices": []}
    [_, span] = spans(given(step(1, model="gpt-1", provider_response=response)))
    assert span.name == "chat gpt-1"
    assert (span.attributes["gen_ai.response.model"], span.attributes["gen_ai.response.id"]) == (
        "gpt-1-0613",
        "chatcmpl-1",
    )
    [_, span] = spans(given(step(1, provider_response={"model": 7, "id": None})))
    assert span.name == "chat"
    assert not [name for name in span.attributes if name.startswith("gen_ai.response")]


# --- tool calls -------------------------------------------------------------------------------------------------------

ONE, OTHER = ({"name": name, "arguments": "", "tool_call_id": id} for name, id in ("a1", "b2"))
TWO = {"tool_call": ONE, "tool_calls": [ONE, OTHER]}
RETURNED = {"status": "success", "tool_return": ""}
BOTH = {"tool_call_id": "1", **RETURNED}
BOTH["tool_returns"] = [{"type": "tool", "tool_call_id": id, **RETURNED} for id in "12"]
OWN = {
    "approvals": [
        {"type": "tool", "tool_call_id": "c", "status": "error", "tool_return": [{"type": "text", "text": "no"}]}
    ]
}
ASKED = {"tool_call": {"name": "look", "arguments": "", "tool_call_id": "c"}}
PART = {"tool_call": {"name": None, "arguments": '{"a', "tool_call_id": "c"}}
IDLESS = {"tool_call": {"name": "look", "arguments": "", "tool_call_id": None}}
LOOK = "execute_tool look"
TOOLS = [
    ("called and returned", [call(1), back(2)], [(LOOK, 1, 2, "OK")]),
    ("failed", [call(1), back(2, status="error")], [(LOOK, 1, 2, "ERROR")]),
    ("never returned", [call(1)], [(LOOK, 1, None, "UNSET")]),
    ("never called", [back(2, name="look")], [(LOOK, 2, 2, "OK")]),
    ("never called, nameless", [back(2)], [("execute_tool", 2, 2, "OK")]),
    ("returned by another name", [call(1), back(2, name="peek")], [(LOOK, 1, 2, "OK")]),
    ("returned before it was called", [call(2), back(1)], [(LOOK, 2, 2, "OK")]),
    ("returned twice over", [call(1), back(2), back(2)], [(LOOK, 1, 2, "OK")]),
    ("returned again", [call(1), back(2), back(3, message_id=9)], [(LOOK, 1, 2, "OK"), ("execute_tool", 3, 3, "OK")]),
    ("returned again in its step", [call(1, step_id=A), back(2, step_id=A), back(3, message_id=9)],
     [(LOOK, 1, 2, "OK"), ("execute_tool", 3, 3, "OK")]),
    ("an id used again", [call(1), back(2), call(3), back(4)], [(LOOK, 1, 2, "OK"), (LOOK, 3, 4, "OK")]),
    ("an id used again, unanswered first", [call(1), call(3), back(4)], [(LOOK, 1, None, "UNSET"), (LOOK, 3, 4, "OK")]),
    ("an id in two steps at once", [call(1, step_id=A), call(2, step_id=B), back(3, step_id=A), back(4, step_id=B)],
     [(LOOK, 1, 3, "OK"), (LOOK, 2, 4, "OK")]),
    ("an answer in the next step", [call(1, step_id=A), back(3, step_id=B)], [(LOOK, 1, 3, "OK")]),
    ("interleaved", [call(1, "x"), call(2, "y"), back(3, "x"), back(4, "y")], [(LOOK, 1, 3, "OK"), (LOOK, 2, 4, "OK")]),
    ("two in one message", [said(1, "tool_call_message", **TWO), said(2, "tool_return_message", **BOTH)],
     [("execute_tool a", 1, 2, "OK"), ("execute_tool b", 1, 2, "OK")]),
    ("asked for approval", [said(1, "approval_request_message", **ASKED), back(2)], [(LOOK, 1, 2, "OK")]),
    ("run by the client", [call(1), said(2, "approval_response_message", **OWN)], [(LOOK, 1, 2, "ERROR")]),
    ("in parts, as streamed", [call(1), said(2, "tool_call_message", **PART), back(3)], [(LOOK, 1, 3, "OK")]),
    ("in parts, named last", [said(1, "tool_call_message", **PART), call(2), back(3)], [(LOOK, 1, 3, "OK")]),
    ("without an id", [said(1, "tool_call_message", **IDLESS), said(2, "tool_call_message", **IDLESS), back(3)],
     [(LOOK, 1, None, "UNSET"), (LOOK, 2, None, "UNSET"), ("execute_tool", 3, 3, "OK")]),
    ("with an empty id and name", [call(1, "", ""), back(2, "")], [("execute_tool", 1, 2, "OK")]),
]  # fmt: skip


@pytest.mark.parametrize(("what", "happened", "expected"), TOOLS)
def test_a_tool_call_lasts_to_its_return(what, happened, expected):
    found = spans(given(running(), *happened))
    assert [(span.name, *times(span), span.status.code) for span in found[1:]] == expected
    assert_a_sound_tree(found)


def test_dates_of_messages_count_and_not_when_they_were_recorded():
    date = "2023-11-14T22:13:22Z"  # two seconds after the start
    found = spans(given(running(), call(7, date=date), back(8, date="2023-11-14T22:13:24+00:00")))
    assert times(found[1]) == (2, 4)


def test_a_failed_tool_tells_why():
    found = spans(given(call(1), said(2, "tool_return_message", tool_return="no", status="error", tool_call_id="c")))
    assert (found[1].status.message, found[1].attributes["error.type"]) == ("no", "tool_error")
    assert "no" not in found[0].attributes.values()


PARENTS = [
    ("its step", [call(2, step_id=A), back(3, step_id=A), done(4, model="m")], ("chat m", 2, 3)),
    ("no step", [call(2), back(3)], ("invoke_agent agent-1", 2, 3)),
    ("a step that nobody recorded", [call(2, step_id=A), back(3, step_id=A)], ("invoke_agent agent-1", 2, 3)),
    ("a return's step", [step(1, model="m"), back(3, step_id=A)], ("chat m", 3, 3)),
    ("a step that had not begun", [call(2, step_id=A), step(9, model="m", step_start_ns=ns(4)), back(6, step_id=A)],
     ("chat m", 4, 6)),
]  # fmt: skip


@pytest.mark.parametrize(("what", "happened", "expected"), PARENTS)
def test_a_tool_call_is_within_its_step_or_the_run(what, happened, expected):
    found = spans(given(running(), *happened))
    [(_, *placed)] = [row for row in brief(found) if row[0].startswith("execute_tool")]
    assert tuple(placed) == expected
    assert_a_sound_tree(found)


# --- order ------------------------------------------------------------------------------------------------------------


def test_what_starts_together_is_in_the_order_of_the_log():
    found = spans(
        given(
            running(),
            call(1, "1", "z", step_id=B),
            call(1, "2", "a", step_id=B),
            step(1, A, model="a", step_start_ns=ns(1)),
            step(1, B, model="b", step_start_ns=ns(1)),
            step(1, id_of("step", 3), model="c", step_start_ns=ns(0)),
            (2, "updated", {"ttft_ns": 5}),
        )
    )
    expected = ["time_to_first_token", "chat c", "chat b", "execute_tool z", "execute_tool a", "chat a"]
    assert [span.name for span in found[1:]] == expected


# --- any history ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", RECENT)
async def test_any_history_is_a_sound_tree_at_any_point(tmp_path, seed):
    async with Ledger.open(tmp_path / "ledger.db") as ledger:
        await History(seed).extend(ledger, 400)
        events = [each async for each in everything(ledger)]
    runs: dict[str, list] = {}
    for each in events:
        if each.type.startswith("run."):
            runs.setdefault(each.stream, []).append(each)
    seen = Counter()
    for life in runs.values():
        for length in {len(life), *range(0, len(life), 7)}:
            found = spans(life[:length])
            assert found == spans(list(life[:length]))
            assert bool(found) == (length > 0)
            assert_a_sound_tree(found)
            assert_all_is_there(life[:length], found)
            seen.update(span.attributes.get("gen_ai.operation.name") for span in found)
    assert min(seen[name] for name in (None, "invoke_agent", "chat", "execute_tool")) > 20


async def everything(ledger):
    async for each in ledger.events():
        yield each
        if each.position == ledger.size:
            return


def assert_all_is_there(life, found):
    """Every step once, every named call once."""
    known = [upcast.fact(each) for each in life]
    steps = {fact.id for fact in known if isinstance(fact, Step)}
    said = [messages.check(bytes(fact.message)) for fact in known if isinstance(fact, Message)]
    calls = [call.name for message in said for call in messages.calls_of(message)]
    kinds = Counter(span.attributes.get("gen_ai.operation.name") for span in found)
    assert {span.attributes["jobledger.step.id"] for span in found if span.kind == "CLIENT"} == steps
    assert kinds["chat"] == len(steps)
    called = [span.attributes for span in found if "jobledger.tool.call_message_id" in span.attributes]
    names = [attributes["gen_ai.tool.name"] for attributes in called]
    assert sorted(names) == sorted(calls)


@pytest.mark.parametrize("seed", range(40))
def test_garbage_is_a_sound_tree_too(seed):
    events = garbled(seed)
    for length in (1, 20, 40, len(events)):
        assert_a_sound_tree(spans(events[:length]))


@pytest.mark.parametrize("year_us", [-62_135_596_800_000_000, 253_402_300_799_999_999])
def test_runs_of_any_year_have_times_that_a_trace_can_hold(year_us):
    events = [msgspec.structs.replace(each, time=year_us) for each in given(running(), call(1), done(2))]
    assert_a_sound_tree(spans(events))
    late = msgspec.structs.replace(given(running())[1], time=253_402_300_799_999_999)
    assert_a_sound_tree(spans([events[0], late]))


def test_erased_events_leave_the_times_of_the_run():
    events = given(
        running(1),
        call(2),
        done(3),
        ended(4, "failed", error=ERROR),
        (5, "erased", {"reason": "asked"}),
    )
    events[:-1] = [msgspec.structs.replace(each, data=None, salt=None, digest="ab" * 32) for each in events[:-1]]
    [root] = found = spans(events)
    assert (root.name, times(root), root.status.code) == ("invoke_agent", (1, 4), "ERROR")
    assert root.attributes["jobledger.run.erased"] is True
    assert_a_sound_tree(found)


def test_long_names_are_shortened_and_kept():
    name = "assistant<|channel|>commentary" * 400
    found = spans(
        given(call(1, name=name), said(2, "tool_return_message", tool_return=name, status="error", tool_call_id="c"))
    )
    assert len(found[1].name) == NAME_SIZE_MAX
    assert found[1].name.endswith("…")
    assert found[1].attributes["gen_ai.tool.name"] == name
    assert len(found[1].status.message) == DESCRIPTION_SIZE_MAX


def test_thousands_of_steps_take_well_under_a_second():
    ids = [id_of("step", number) for number in range(2000)]
    lives = ([call(1, step_id=id), back(2, step_id=id), step(3, id, status="success", model="m")] for id in ids)
    events = given(
        running(), *itertools.chain(*lives), *(call(4) for _ in range(2000)), *(back(5, "c") for _ in range(2000))
    )
    before = time.perf_counter()
    found = spans(events)
    took_s = time.perf_counter() - before
    assert len(found) == 1 + 2000 + 2000 + 2000
    assert took_s < 1
