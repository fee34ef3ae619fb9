"""Events on the wire and in files: there and back to the letter, and hostile lines refused with a reason."""

import json
import random

import msgspec
import pytest

from ledger import cloudevents
from ledger.errors import BadRequest, InvalidInput
from ledger.events import TYPES, Created
from tests.ledger.histories import ACTOR, START_US, birth, event, id_of, job

SOURCE = "jobledger.local/test"
TIME = "2023-11-14T22:13:20.000000Z"
MINIMAL = {"specversion": "1.0", "type": "job.created", "subject": job(), "data": birth("job")}
WHOLE = {
    **MINIMAL,
    "id": "7", "source": SOURCE, "time": TIME, "datacontenttype": "application/json", "position": 7, "streamversion": 1,
    "schemaversion": 1, "recordedtime": TIME, "actor": ACTOR, "salt": "00" * 16,
}  # fmt: skip


def line(base, **changes):
    """The event as JSON, with changes; a change to ... leaves the field out."""
    return json.dumps({name: value for name, value in {**base, **changes}.items() if value is not ...}).encode()


# --- there and back ---------------------------------------------------------------------------------------------------


def test_an_event_on_the_wire_has_just_the_attributes_of_the_contract():
    found = event("job.created", birth("job"), position=7, key="k1", correlation="trace", time=START_US + 1)
    assert json.loads(cloudevents.encode(found, SOURCE)) == {
        **WHOLE, "time": TIME.replace("00Z", "01Z"), "recordedtime": TIME.replace("00Z", "01Z"),
        "idempotencykey": "k1", "correlationid": "trace", "salt": bytes(range(16)).hex(),
    }  # fmt: skip


def test_an_erased_event_has_neither_data_nor_salt_but_their_digest():
    found = event("job.created", position=1, raw=None, salt=None, digest="ab" * 32)
    wire = json.loads(cloudevents.encode(found, SOURCE))
    assert {"data", "salt"}.isdisjoint(wire)
    assert wire["datadigest"] == "ab" * 32
    assert cloudevents.to_recorded(cloudevents.decode(cloudevents.encode(found, SOURCE))) == found


@pytest.mark.parametrize("name", sorted(TYPES))
def test_an_event_of_every_type_comes_back_as_it_was(name):
    chance = random.Random(name)
    for _ in range(5):
        found = event(
            name, {"any": chance.random()}, position=chance.randrange(1, 2**62), version=chance.randrange(1, 99),
            time=chance.randrange(-(10**15), 10**16), key=chance.choice([None, "é\x00"]),
            salt=chance.randbytes(16), correlation=chance.choice([None, "漢字 🦉"]), schema=chance.randrange(1, 9),
        )  # fmt: skip
        wire = cloudevents.encode(found, SOURCE)
        assert b"\n" not in wire
        assert cloudevents.to_recorded(cloudevents.decode(wire)) == found


@pytest.mark.parametrize(
    "text",
    [
        '{"user_id":"u"}',
        '{"user_id":"u","metadata":{"b":1,"a":2,"b":3}}',
        '{"user_id":"\\u0041\\/\\ud83e\\udd89","metadata":{"é":"漢字","":"\\u0000"}}',
        '{"user_id":"u","metadata":{"n":[1.0,1e5,1E+5,-0,-0.0,0.1000,9007199254740993,1e-400]}}',
        '{"user_id":"u","timeout_s":1.50}',
    ],
)
def test_data_is_kept_byte_for_byte(text):
    found = event("job.created", raw=text.encode())
    assert cloudevents.to_recorded(cloudevents.decode(cloudevents.encode(found, SOURCE))).data == text.encode()
    fact, data = cloudevents.fact_of(cloudevents.decode(cloudevents.encode(found, SOURCE)))
    assert data == text.encode()
    assert isinstance(fact, Created)


def test_blanks_of_a_line_from_elsewhere_are_not_stored():
    spaced = json.dumps(MINIMAL, indent=4).encode()
    draft = cloudevents.to_draft(cloudevents.decode(spaced), actor="me", now_us=5)
    assert draft.data == json.dumps(MINIMAL["data"], separators=(",", ":")).encode()
    assert (draft.stream, draft.type, draft.time, draft.actor, draft.key, draft.schema) == (
        job(), "job.created", 5, "me", None, 1
    )  # fmt: skip


def test_a_brought_event_keeps_what_it_names():
    named = line(MINIMAL, time="1970-01-01T00:00:01+00:00", actor="them", idempotencykey="k", correlationid="c")
    draft = cloudevents.to_draft(cloudevents.decode(named), actor="me", now_us=5)
    assert (draft.time, draft.actor, draft.key, draft.correlation) == (1_000_000, "them", "k", "c")


def deep(levels):
    value: object = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def test_data_as_deep_as_a_request_may_be_comes_back_from_a_line():
    found = event("job.created", birth("job", metadata=deep(63)))  # 64 levels: data, metadata, 62 more
    assert cloudevents.to_recorded(cloudevents.decode(cloudevents.encode(found, SOURCE))) == found


# --- hostile lines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\n", b"{", b"garbage", b"\xff\xfe", b'{"specversion":"1.0"', line(MINIMAL)[:-1],
        line(MINIMAL) + b"x",
        b'{"specversion":"\\ud800"}',
        line(MINIMAL).replace(b"job.created", b"job.created\xff"),
        line(MINIMAL).replace(b'"specversion"', b'specversion'),
    ],
)  # fmt: skip
def test_a_line_that_is_no_json_is_a_bad_request(raw):
    with pytest.raises(BadRequest, match="not JSON"):
        cloudevents.decode(raw)


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        pytest.param(b"null", "event", id="null"),
        pytest.param(b"[]", "event", id="an array"),
        pytest.param(b"[" * 70 + b"]" * 70, "event", id="deeper than 64 levels"),
        pytest.param(line(MINIMAL, data=deep(70)), "event", id="data deeper than 64 levels"),
        *(
            pytest.param(line(MINIMAL, **{name: ...}), "event", id=f"no {name}")
            for name in ("specversion", "type", "subject")
        ),
        pytest.param(line(MINIMAL, surprise=1), "event", id="an unknown attribute"),
        pytest.param(line(MINIMAL, data_base64="e30="), "event", id="binary data"),
        pytest.param(line(MINIMAL, specversion="0.3"), "specversion", id="another version"),
        pytest.param(line(MINIMAL, specversion=1.0), "specversion", id="a version that is a number"),
        pytest.param(line(MINIMAL, type="job.exploded"), "type", id="an unknown type"),
        pytest.param(line(MINIMAL, type="x" * 10_000), "type", id="a type without end"),
        pytest.param(line(MINIMAL, type=None), "type", id="a type that is null"),
        pytest.param(line(MINIMAL, subject=1), "subject", id="a subject that is a number"),
        pytest.param(line(MINIMAL, position="7"), "position", id="a position that is text"),
        pytest.param(line(MINIMAL, position=1.5), "position", id="a position between two"),
        pytest.param(line(MINIMAL, streamversion=True), "streamversion", id="a version that is a truth"),
    ],
)
def test_a_line_that_is_no_event_of_ours_is_refused_by_the_name_of_its_fault(raw, where):
    with pytest.raises(InvalidInput) as refusal:
        cloudevents.decode(raw)
    assert refusal.value.faults[0]["where"] == where
    assert len(str(refusal.value)) < 300


BIG = "1" + "0" * 30


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        pytest.param(line(MINIMAL, data=...), "data", id="no data"),
        pytest.param(line(MINIMAL, data=None), "data", id="data that is null"),
        pytest.param(line(MINIMAL, data=[]), "data", id="data that is an array"),
        pytest.param(line(MINIMAL, data="{}"), "data", id="data that is text"),
        pytest.param(line(MINIMAL, data={}), "data", id="data without what its type needs"),
        pytest.param(line(MINIMAL, data=birth("job", surprise=1)), "data", id="data with an unknown field"),
        pytest.param(line(MINIMAL, data=birth("job", background="yes")), "data.background", id="another type"),
        pytest.param(line(MINIMAL, data=birth("job", runs=["a", 1])), "data.runs[1]", id="an item of another type"),
        pytest.param(
            line(MINIMAL, data=birth("job", metadata={"n": 2**63})), "data.metadata.n", id="an integer beyond 64 bits"
        ),
        pytest.param(line(MINIMAL).replace(b'"data": {', b'"data": {"x":1e999,'), "data", id="beyond a double"),
        pytest.param(
            line(MINIMAL, type="run.failed", data={"stop_reason": "bored"}),
            "data.stop_reason",
            id="a stop reason of its own",
        ),
        pytest.param(
            line(MINIMAL, type="job.failed", data={"total_duration_ns": 2**63}),
            "data.total_duration_ns",
            id="ns beyond 64 bits",
        ),
        pytest.param(line(MINIMAL, schemaversion=2), "schemaversion", id="a newer schema"),
        pytest.param(line(MINIMAL, schemaversion=0), "schemaversion", id="schema 0"),
        pytest.param(line(MINIMAL, schemaversion=-1), "schemaversion", id="schema -1"),
        pytest.param(line(MINIMAL, schemaversion=int(BIG)), "schemaversion", id="a schema beyond 64 bits"),
        pytest.param(line(MINIMAL, time="yesterday"), "time", id="a time that is none"),
        pytest.param(line(MINIMAL, time=""), "time", id="an empty time"),
        pytest.param(line(MINIMAL, time="9999-12-31T23:59:59-14:00"), "time", id="a time past the calendar"),
        pytest.param(line(MINIMAL, time="0001-01-01T00:00:00+14:00"), "time", id="a time before the calendar"),
    ],
)
def test_an_event_that_no_log_could_hold_makes_no_draft(raw, where):
    with pytest.raises(InvalidInput) as refusal:
        cloudevents.to_draft(cloudevents.decode(raw), actor="me", now_us=5)
    assert refusal.value.faults[0]["where"] == where
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        *(
            pytest.param(line(WHOLE, **{name: ...}), name, id=f"no {name}")
            for name in ("position", "streamversion", "schemaversion", "recordedtime", "actor", "time")
        ),
        pytest.param(line(WHOLE, salt="xyz"), "salt", id="a salt that is no hex"),
        pytest.param(line(WHOLE, salt="0"), "salt", id="half a byte of salt"),
        pytest.param(line(WHOLE, time="x"), "time", id="a time that is none"),
        pytest.param(line(WHOLE, recordedtime="x"), "recordedtime", id="a recorded time that is none"),
        pytest.param(line(WHOLE, recordedtime="9999-12-31T23:59:59-14:00"), "recordedtime", id="past the calendar"),
        pytest.param(line(WHOLE, recordedtime="0001-01-01T00:00:00+14:00"), "recordedtime", id="before the calendar"),
    ],
)
def test_an_exported_line_that_was_damaged_is_not_restored(raw, where):
    with pytest.raises(InvalidInput) as refusal:
        cloudevents.to_recorded(cloudevents.decode(raw))
    assert refusal.value.faults[0]["where"] == where


DAMAGE = [b"", b'"', b"\\", b"{", b"[", b"9" * 30, b"\xff", b"-", b"null"]


def test_random_damage_to_a_line_never_ends_in_anything_but_an_event_or_a_clear_refusal():
    chance, whole = random.Random(7), cloudevents.encode(event("job.created", birth("job"), key="k"), SOURCE)
    outcomes: set[object] = set()
    for _ in range(3000):
        raw = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(raw))
            raw[at : at + chance.randint(0, 2)] = chance.choice(
                [b"", b'"', b"\\", b"{", b"[", b"9" * 30, b"\xff", b"-", b"null"]
            )
        try:
            found = cloudevents.decode(bytes(raw))
            cloudevents.to_draft(found, actor="me", now_us=5)
            msgspec.json.decode(cloudevents.encode(cloudevents.to_recorded(found), SOURCE))
        except (BadRequest, InvalidInput) as refusal:
            outcomes.add(type(refusal))
        else:
            outcomes.add("event")
    assert outcomes == {BadRequest, InvalidInput, "event"}


def test_the_wire_form_of_a_token_s_event_tells_its_digest_only():
    wire = cloudevents.encode(
        event("access.granted", {"user_id": "u", "scopes": ["read"], "token_sha256": "00"}), SOURCE
    )
    assert json.loads(wire)["subject"] == id_of("token", 1)
    assert b"jl_" not in wire
