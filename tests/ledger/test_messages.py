"""Messages: the eleven types of letta-client 1.12.1 are kept to the letter; everything else is refused by its name."""

import random

import msgspec
import pytest

from ledger import Ledger, ids, messages
from ledger.errors import InvalidInput
from ledger.times import from_text
from tests.ledger.histories import ACTOR, Clock, run

ID = "message-00000000-0000-4000-8000-000000000001"
STEP = "step-00000000-0000-4000-8000-000000000001"
COMMON = {
    "id": ID,
    "date": "2026-11-22T12:00:00.5+01:00",
    "name": "näme",
    "otid": "otid-1",
    "sender_id": "identity-1",
    "step_id": STEP,
    "run_id": run(),
    "seq_id": 2**63 - 1,
    "is_err": False,
}
CALL = {"name": "look", "arguments": '{"a": 1}', "tool_call_id": "call-1"}
TEXT = {"type": "text", "text": "🦉", "signature": "s"}
IMAGES = [
    {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
    {"type": "image", "source": {"type": "base64", "data": "AA==", "media_type": "image/png", "detail": "low"}},
    {"type": "image", "source": {"type": "letta", "file_id": "f", "data": "AA", "media_type": "m", "detail": "d"}},
]
RETURN = {"type": "tool", "tool_call_id": "call-1", "status": "error", "tool_return": [TEXT, *IMAGES],
          "stdout": ["a"], "stderr": []}  # fmt: skip
STATS = {"trigger": "t", "context_window": 9, "messages_count_before": 3, "messages_count_after": 1,
         "context_tokens_before": 8, "context_tokens_after": 2}  # fmt: skip
OWN: dict[str, list[dict]] = {
    "system_message": [{"content": "be kind"}],
    "user_message": [{"content": "hi"}, {"content": [TEXT, *IMAGES]}, {"content": []}],
    "reasoning_message": [{"reasoning": "hm", "source": "reasoner_model", "signature": "s"}, {"reasoning": ""}],
    "hidden_reasoning_message": [{"state": "redacted", "hidden_reasoning": "x"}, {"state": "omitted"}],
    "tool_call_message": [{"tool_call": CALL, "tool_calls": [CALL, CALL]}, {"tool_call": {"arguments": "{"}},
                          {"tool_call": {}, "tool_calls": {"name": "part"}}, {"tool_call": CALL, "tool_calls": None}],
    "tool_return_message": [{"tool_return": "r", "status": "success", "tool_call_id": "c", "stdout": ["o"],
                             "stderr": None, "tool_returns": [RETURN, {**RETURN, "tool_return": "text"}]}],
    "assistant_message": [{"content": "done"}, {"content": [TEXT]}],
    "approval_request_message": [{"tool_call": CALL, "tool_calls": [CALL]}],
    "approval_response_message": [{}, {"approve": True, "approval_request_id": ID, "reason": "ok", "approvals": [
        {"type": "approval", "approve": False, "tool_call_id": "c", "reason": "no"}, RETURN]}],
    "summary_message": [{"summary": "s", "compaction_stats": STATS}, {"summary": ""}],
    "event_message": [{"event_type": "compaction", "event_data": {"deep": [{"a": None}]}}],
}  # fmt: skip
GOOD = [(name, own) for name, table in OWN.items() for own in table]


def said(name, own, **more):
    return {**COMMON, "message_type": name, **own, **more}


def kept(fact):
    return bytes(fact.message)


def fault_of(value, prefix=""):
    with pytest.raises(InvalidInput) as error:
        messages.record(value, prefix, run_id=run())
    (fault,) = error.value.faults
    return fault


def test_there_are_eleven_types():
    assert set(OWN) == set(messages.TYPES)
    assert len(messages.TYPES) == 11


@pytest.mark.parametrize(("name", "own"), GOOD)
def test_a_message_of_each_type_is_kept_to_the_letter_with_unknown_fields_in_its_own_order(name, own):
    value = list(said(name, own, mine={"é": [1, 2.5, None, True]}, **{"": "", "z\u2028": "\x00"}).items())
    random.Random(name).shuffle(value)
    fact, message = messages.record(dict(value), run_id=run())
    assert list(msgspec.json.decode(kept(fact)).items()) == value
    assert kept(fact) == msgspec.json.encode(dict(value))
    assert (message.id, messages.time_us(message)) == (ID, from_text(COMMON["date"]))


@pytest.mark.parametrize(("name", "own"), GOOD)
def test_a_message_needs_no_more_than_its_own_fields_and_gets_an_id(name, own):
    fact, message = messages.record({"message_type": name, **own})
    assert ids.is_id(message.id, "message")
    assert msgspec.json.decode(kept(fact)) == {"id": message.id, "message_type": name, **own}
    assert messages.time_us(message) is None


def test_two_messages_without_an_id_get_two():
    value = {"message_type": "user_message", "content": "hi"}
    assert messages.record(value)[1].id != messages.record(value)[1].id
    assert value == {"message_type": "user_message", "content": "hi"}


REQUIRED = [
    ("system_message", "content"), ("user_message", "content"), ("assistant_message", "content"),
    ("reasoning_message", "reasoning"), ("hidden_reasoning_message", "state"), ("tool_call_message", "tool_call"),
    ("tool_return_message", "tool_return"), ("tool_return_message", "status"), ("tool_return_message", "tool_call_id"),
    ("approval_request_message", "tool_call"), ("summary_message", "summary"), ("event_message", "event_type"),
    ("event_message", "event_data"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "missing"), REQUIRED)
def test_a_field_that_the_client_requires_is_required(name, missing):
    own = {key: value for key, value in OWN[name][0].items() if key != missing}
    fault = fault_of(said(name, own), "[3].")
    assert fault["where"] == "[3]"
    assert fault["what"] == f"Object missing required field `{missing}`"
    assert fault_of(said(name, {**OWN[name][0], missing: 7}))["where"] == missing


@pytest.mark.parametrize(
    ("change", "where", "what"),
    [
        ({"message_type": "owl_message"}, "message_type", "is not a type of message"),
        ({"message_type": None}, "message_type", "is not a type of message"),
        ({"message_type": 7}, "message_type", "is not a type of message"),
        ({"id": "message-1"}, "id", "not an id of the form message-<uuid4>"),
        ({"id": ID.upper()}, "id", "not an id"),
        ({"id": ID + "\n"}, "id", "not an id"),
        ({"id": None}, "id", "Expected `str`, got `null`"),
        ({"step_id": ID}, "step_id", "step-<uuid4>"),
        ({"run_id": run(2)}, "run_id", "names another run"),
        ({"run_id": ""}, "run_id", "names another run"),
        ({"date": "yesterday"}, "date", "is not a time"),
        ({"date": "0001-01-01T00:00:00+14:00"}, "date", "years 1 to 9999"),
        ({"date": 1795305600}, "date", "Expected `str | null`, got `int`"),
        ({"otid": "a\x00"}, "otid", "no control characters"),
        ({"otid": ""}, "otid", "1 to 256"),
        ({"sender_id": "x" * 257}, "sender_id", "1 to 256"),
        ({"seq_id": 1.5}, "seq_id", "Expected `int | null`, got `float`"),
        ({"is_err": "no"}, "is_err", "Expected `bool | null`, got `str`"),
        ({"content": [{"type": "text"}]}, "content[0]", "missing required field `text`"),
        ({"content": [{"type": "image", "source": {"type": "url"}}]}, "content[0].source", "`url`"),
        ({"content": [{"type": "sound"}]}, "content[0].type", "Invalid value 'sound'"),
        ({"content": None}, "content", "got `null`"),
    ],
)
def test_what_is_wrong_is_named_with_where_and_what(change, where, what):
    fault = fault_of(said("user_message", {"content": "hi"}, **change), "[3].")
    assert fault["where"] == f"[3].{where}"
    assert what in fault["what"]
    assert fault["allowed"] == (list(messages.TYPES) if where == "message_type" else fault["allowed"])


@pytest.mark.parametrize(
    "value", [{}, {"content": "message_type"}, {"message": {"message_type": "user_message"}, "content": "hi"}]
)
def test_a_message_without_its_type_is_told_so(value):
    fault = fault_of(value)
    assert fault == {"where": "message_type", "what": "is missing", "allowed": list(messages.TYPES)}


@pytest.mark.parametrize(
    ("name", "own", "where"),
    [
        ("reasoning_message", {"reasoning": "r", "source": "owl"}, "source"),
        ("hidden_reasoning_message", {"state": "shown"}, "state"),
        ("tool_call_message", {"tool_call": {"name": 1}}, "tool_call.name"),
        ("tool_call_message", {"tool_call": CALL, "tool_calls": [{"name": "a"}]}, "tool_calls[0]"),
        ("tool_return_message", {**OWN["tool_return_message"][0], "status": "so so"}, "status"),
        ("assistant_message", {"content": IMAGES}, "content[0].type"),
        ("approval_response_message", {"approvals": [{"type": "approval", "approve": True}]}, "approvals[0]"),
        ("summary_message", {"summary": "s", "compaction_stats": {}}, "compaction_stats"),
        ("event_message", {"event_type": "expansion", "event_data": {}}, "event_type"),
    ],
)
def test_a_value_that_the_client_does_not_know_is_refused(name, own, where):
    assert fault_of(said(name, own))["where"] == where


def nested(levels):
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


def test_a_message_may_be_64_levels_deep_and_no_deeper():
    base = {"message_type": "user_message", "content": "hi"}
    assert messages.record({**base, "mine": nested(63)})
    assert "deeper than 64" in fault_of({**base, "mine": nested(64)}, "[7].")["what"]
    assert fault_of({**base, "mine": nested(64)}, "[7].")["where"] == "[7]"
    assert fault_of({**base, "mine": nested(100_000)})["where"] == "body"


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**400])
def test_integers_beyond_64_bits_are_refused_wherever_they_stand(number):
    base = {"message_type": "user_message", "content": "hi"}
    assert "beyond 64 bits" in fault_of({**base, "mine": [{"n": number}]}, "[1].")["what"]
    assert messages.record({**base, "mine": [2**63 - 1, -(2**63), "9" * 400]})


@pytest.mark.parametrize("value", [{"content": "\ud800"}, {"content": "hi", "\udfff": 1}, {"mine": ["\udc80"]}])
def test_text_that_is_no_unicode_is_refused(value):
    fault = fault_of({"message_type": "user_message", "content": "hi", **value})
    assert "no Unicode" in fault["what"]


def test_a_text_of_a_mebibyte_is_kept():
    text = 'é\x00\u2028"\\' * (2**20 // 7)
    fact, _ = messages.record({"message_type": "assistant_message", "content": text})
    assert msgspec.json.decode(kept(fact))["content"] == text


# --- Ledger.append: the same checks -----------------------------------------------------------------------------------


@pytest.fixture
async def ledger():
    async with Ledger.in_memory(clock=Clock()) as opened:
        await opened.append(run(), "run.created", {"user_id": ACTOR, "agent_id": "a"})
        yield opened


@pytest.mark.parametrize(("name", "own"), GOOD)
async def test_append_takes_a_message_as_a_plain_dict(ledger, name, own):
    value = said(name, own, mine=[1, {"é": None}])
    event = await ledger.append(run(), "run.message", {"message": value})
    assert msgspec.json.decode(event.data) == {"message": value}


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({}, "data"),
        ({"message": None}, "data.message"),
        ({"message": 5}, "data.message"),
        ({"message": "text"}, "data.message"),
        ({"message": {}}, "data.message.message_type"),
        ({"message": {"message_type": "user_message", "content": "no id"}}, "data.message"),
        ({"message": said("user_message", {"content": 5})}, "data.message.content"),
        ({"message": said("user_message", {"content": "x"}, run_id=run(2))}, "data.message.run_id"),
        ({"message": said("user_message", {"content": "\ud800"})}, "data.message"),
        ({"message": said("user_message", {"content": "x"}, mine=nested(64))}, "data.message"),
        ({"message": said("user_message", {"content": "x"}, mine=2**63)}, "data.message.mine"),
        ({"message": said("user_message", {"content": "x"}), "colour": 1}, "data"),
    ],
)
async def test_append_refuses_what_is_no_message_and_records_nothing(ledger, data, where):
    with pytest.raises(InvalidInput) as error:
        await ledger.append(run(), "run.message", data)
    assert error.value.faults[0]["where"] == where
    assert ledger.size == 1
