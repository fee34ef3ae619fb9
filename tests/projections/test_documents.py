"""What an event says in words: every kind of message, errors, names of tools, metadata."""

import msgspec
import pytest

from ledger import messages
from ledger.events import TYPES, Changed, Created, ErrorInfo, Recorded, RunUpdated, Step
from ledger.ids import SYSTEM_USER
from projections.documents import SPEAKING, Document, document, readable

STEP = "step-00000000-0000-4000-8000-000000000001"
ID = "message-00000000-0000-4000-8000-000000000001"
CALL = {"name": "get_user", "arguments": '{"id": 7}', "tool_call_id": "call-1"}
RETURN = {"tool_call_id": "call-1", "status": "success", "tool_return": "found"}


def recorded(type, data):
    return Recorded(1, "run-1", 1, type, TYPES[type].schema, 0, 0, SYSTEM_USER, None, None, data, b"")


def told(type, fact):
    return document(recorded(type, msgspec.json.encode(fact)))


def said(**message):
    return told("run.message", messages.record({"id": ID, **message})[0])


MESSAGES = [
    ("user_message", {"content": "hello"}, {"message": "hello"}),
    ("user_message", {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, {"message": "a\nb"}),
    ("assistant_message", {"content": "done"}, {"message": "done"}),
    ("system_message", {"content": "be good"}, {"message": "be good"}),
    ("reasoning_message", {"reasoning": "so", "signature": "AbC"}, {"message": "so"}),
    ("hidden_reasoning_message", {"state": "omitted", "hidden_reasoning": "hm"}, {"message": "hm"}),
    ("summary_message", {"summary": "in short"}, {"message": "in short"}),
    ("event_message", {"event_type": "compaction", "event_data": {"why": "full"}}, {"message": "why: full"}),
    ("tool_call_message", {"tool_call": CALL}, {"message": '{"id": 7}', "tool": "get_user"}),
    ("tool_call_message", {"tool_call": CALL, "tool_calls": [CALL]}, {"message": '{"id": 7}', "tool": "get_user"}),
    ("approval_request_message", {"tool_call": CALL}, {"message": '{"id": 7}', "tool": "get_user"}),
    ("tool_return_message", RETURN, {"message": "found"}),
    ("tool_return_message", {**RETURN, "stdout": ["out"], "stderr": ["warned"]}, {"message": "found\nout\nwarned"}),
    ("tool_return_message", {**RETURN, "status": "error", "stderr": ["Traceback"]}, {"error": "found\nTraceback"}),
    ("tool_return_message", {**RETURN, "tool_returns": [{"type": "tool", **RETURN}]}, {"message": "found"}),
    ("approval_response_message", {"reason": "too dear"}, {"message": "too dear"}),
    (
        "approval_response_message",
        {"approvals": [{"type": "approval", "approve": False, "tool_call_id": "c", "reason": "no"}]},
        {"message": "no"},
    ),
    ("assistant_message", {"content": "it broke", "is_err": True}, {"error": "it broke"}),
    ("assistant_message", {"content": "a\0b"}, {"message": "a\ufffdb"}),
    ("assistant_message", {"content": ""}, None),
]


@pytest.mark.parametrize(("type", "more", "expected"), MESSAGES)
def test_a_message_says_what_people_read_in_it(type, more, expected):
    found = said(message_type=type, step_id=STEP, **more)
    about = {"message_id": ID, "step_id": STEP, "message_type": type}
    assert found == (None if expected is None else Document(**expected, **about))


def test_every_type_of_message_is_among_them():
    assert {type for type, _, _ in MESSAGES} == set(messages.TYPES)


def test_an_image_says_nothing():
    image = {"type": "image", "source": {"type": "base64", "data": "aGVsbG8", "media_type": "image/png"}}
    assert said(message_type="user_message", content=[image]) is None


BORN = {"user_id": SYSTEM_USER}


@pytest.mark.parametrize(
    ("type", "fact", "expected"),
    [
        ("job.created", Created(**BORN, metadata={"task": "nightly", "n": 1}), {"metadata": "task: nightly"}),
        ("job.created", Created(**BORN, metadata={"n": 1, "x": [1.5, None, True], "source": "log.swf"}), None),
        ("run.created", Created(**BORN, metadata={"a": {"source": "deep"}}), {"metadata": "source: deep"}),
        ("batch.created", Created(**BORN, metadata={"a": [{"b": ["x", "y"]}]}), {"metadata": "b: x\nb: y"}),
        ("job.updated", Changed(metadata={"a": "b"}), {"metadata": "a: b"}),
        ("run.updated", RunUpdated(metadata={"": "b", "c": ["d"]}), {"metadata": "b\nc: d"}),
        (
            "run.failed",
            Changed(stop_reason="error", error=ErrorInfo(type="OSError", message="no", traceback="line 1")),
            {"error": "OSError\nno\nline 1"},
        ),
        ("run.failed", Changed(stop_reason="error"), None),
        ("job.completed", Changed(), None),
        ("run.step", Step(id=STEP, model="gpt"), None),
        (
            "run.step",
            Step(id=STEP, error_type="rate_limit", error_data={"message": "slow down", "after": 5}),
            {"error": "rate_limit\nmessage: slow down", "step_id": STEP},
        ),
    ],
)  # fmt: skip
def test_a_change_or_step_says_its_error_and_the_strings_of_its_metadata(type, fact, expected):
    assert told(type, fact) == (None if expected is None else Document(**expected))


def test_what_was_erased_says_nothing():
    assert all(document(recorded(type, None)) is None for type in SPEAKING)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain \\n text", "plain \\n text"),
        ('{"a": "b c"}', '{"a": "b c"}'),
        ('{"a": "b\\nc", "n": 5, "no": null}', "a: b\nc\nn: 5"),
        ('["caf\\u00e9", {"x": [true]}]', "café\nx: True"),
        ('{"a": "\\u', '{"a": "\\u'),
        ("[" * 5000 + '"\\n"' + "]" * 5000, "[" * 5000 + '"\\n"' + "]" * 5000),
    ],
)
def test_json_text_whose_escapes_stick_to_words_is_taken_apart(text, expected):
    assert readable(text) == expected
