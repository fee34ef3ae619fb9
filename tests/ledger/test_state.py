"""The one fold of the house: what a resource is after its events, now and as of any position and time."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import state as states
from ledger import upcast
from tests.ledger.histories import ACTOR, KINDS, MOVES, START_US, TERMINAL, birth, event, fold, life

SECOND = 1_000_000
as_of: Any = states.as_of
evolve: Any = states.evolve
fact: Any = upcast.fact


def lived(kind, *verbs):
    return fold(life(kind, *verbs))


# --- what a resource is -----------------------------------------------------------------------------------------------


def test_a_creation_fills_in_all_that_it_says():
    facts = {
        "project_id": "p", "agent_id": "a", "conversation_id": "c", "base_template_id": "t", "background": True,
        "metadata": {"m": 1}, "request_config": {"r": 1}, "callback_url": "x", "timeout_s": 2.5, "batch_id": "b",
    }  # fmt: skip
    state = lived("run", ("created", {**facts, "user_id": "owner", "runs": ["r1", "r2"]}))
    found = msgspec.to_builtins(state)
    assert {name: found[name] for name in facts} == facts
    assert (state.user_id, state.created_by, state.updated_by, state.runs) == ("owner", ACTOR, ACTOR, ("r1", "r2"))
    assert (state.kind, state.status, state.version, state.etag) == ("run", "created", 1, 1)
    assert state.created_us == state.changed_us == state.effective_us == START_US + SECOND


def test_a_creation_that_was_erased_still_tells_what_its_envelope_does():
    (created,) = life("run", "created")
    state = fold([msgspec.structs.replace(created, data=None, salt=None, digest="0" * 64)])
    assert (state.id, state.kind, state.status, state.user_id, state.metadata) == (
        created.stream, "run", "created", ACTOR, None
    )  # fmt: skip


@pytest.mark.parametrize(
    ("first", "then", "merged"),
    [
        (None, None, None),
        (None, {"a": 1}, {"a": 1}),
        ({"a": 1, "b": 2}, None, {"a": 1, "b": 2}),
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, {"a": 1, "b": 3, "c": 4}),
        ({"a": {"deep": 1}}, {"a": {"other": 2}}, {"a": {"other": 2}}),
        ({"a": 1}, {"a": None}, {"a": None}),
        ({"a": 1}, {}, {"a": 1}),
    ],
)
def test_metadata_is_merged_key_by_key(first, then, merged):
    state = lived("job", ("created", {"metadata": first}), ("updated", {"metadata": then}))
    assert state.metadata == merged


def test_an_error_is_shown_in_the_metadata_beside_what_is_there():
    error = {"type": "ValueError", "message": "no", "traceback": "…"}
    state = lived("run", ("created", {"metadata": {"a": 1}}), ("failed", {"error": error, "metadata": {"b": 2}}))
    assert state.metadata == {"a": 1, "b": 2, "error": error}
    assert lived("run", "created", ("failed", {"error": {"type": "E"}})).metadata == {"error": {"type": "E"}}


def test_a_state_passed_to_nobody_else_never_changes_the_metadata_of_an_event():
    created, updated = life("job", ("created", {"metadata": {"a": 1}}), ("updated", {"metadata": {"b": 2}}))
    facts = fact(created)
    state = evolve(evolve(None, created, facts), updated, fact(updated))
    assert state.metadata == {"a": 1, "b": 2}
    assert facts.metadata == {"a": 1}


NS = SECOND * 1000


@pytest.mark.parametrize(
    ("kind", "verbs", "duration_ns"),
    [
        pytest.param("run", ["created", "running"], None, id="still running"),
        pytest.param("run", ["created", "running", "completed"], NS, id="from running to the end"),
        pytest.param(
            "job", ["created", "pending", "running", "updated", "failed"], 2 * NS, id="with an update between"
        ),
        pytest.param("run", ["created", "failed"], None, id="never ran"),
        pytest.param("run", ["created", "cancelled"], None, id="cancelled before it ran"),
        pytest.param(
            "run", ["created", "running", ("completed", {"total_duration_ns": 7})], 7, id="given with the end"
        ),
        pytest.param(
            "run", ["created", "running", ("updated", {"total_duration_ns": 7}), "failed"], 7, id="given before the end"
        ),
        pytest.param(
            "run", ["created", "running", "completed", ("updated", {"total_duration_ns": 7})], 7, id="given afterwards"
        ),
        pytest.param("run", ["created", "running", ("failed", {"total_duration_ns": 0})], 0, id="given as nothing"),
    ],
)
def test_the_duration_is_what_the_producer_gave_or_else_from_running_to_the_end(kind, verbs, duration_ns):
    assert lived(kind, *verbs).duration_ns == duration_ns


@pytest.mark.parametrize("kind", KINDS)
def test_every_end_sets_when_it_ended_and_a_cancel_its_stop_reason(kind):
    ways = [["created"], ["created", "running"]] if kind == "run" else [["created", "pending", "running"]]
    for way in ways:
        for end in (after for before, after in MOVES[kind] if before == way[-1] and after in TERMINAL):
            state = lived(kind, *way, end)
            assert (state.status, state.is_terminal) == (end, True)
            assert (state.ended_us, state.ended_position) == (START_US + state.version * SECOND, state.version)
            assert state.stop_reason == ("cancelled" if end == "cancelled" else None)
            assert state.deadline_us is None


def test_a_refusal_changes_nothing_but_the_version():
    before = lived("job", "created", "pending")
    after = lived("job", "created", "pending", ("refused", {"asked": "failed", "found": "pending"}))
    assert (after.version, after.etag, after.refused) == (3, 2, frozenset({(ACTOR, "failed")}))
    same = msgspec.structs.replace(after, version=2, refused=frozenset(), effective_us=before.effective_us)
    assert same == before


def test_a_deletion_and_an_erasure_are_told_and_the_status_stays():
    state = lived("job", "created", ("deleted", {"reason": "x"}), ("erased", {"reason": "y"}))
    assert (state.status, state.deleted_us, state.deleted_position) == ("created", START_US + 2 * SECOND, 2)
    assert (state.erased_position, state.etag) == (3, 3)


LIVES_ERASED = [
    ["created"],
    ["created", "running"],
    ["created", "running", ("completed", {"stop_reason": "end_turn", "total_duration_ns": 5, "ttft_ns": 3})],
    ["created", "running", ("failed", {"error": {"type": "E"}, "metadata": {"a": 1}})],
    ["created", "running", ("cancelled", {"stop_reason": "cancelled"}), ("updated", {"total_duration_ns": 7})],
    ["created", ("refused", {"asked": "completed", "found": "created"}), ("updated", {"usage": {"step_count": 3}})],
    ["created", "running", "completed", ("deleted", {"reason": "x"})],
]


@pytest.mark.parametrize("verbs", LIVES_ERASED, ids=lambda verbs: str(verbs[-1]))
def test_what_was_erased_is_as_if_its_data_had_never_been_there(verbs):
    everything = {
        "user_id": "owner", "agent_id": "a", "conversation_id": "c", "base_template_id": "t", "project_id": "p",
        "background": True, "metadata": {"m": 1}, "request_config": {"r": 1}, "callback_url": "x", "timeout_s": 2.5,
        "batch_id": "b", "runs": ["r1"],
    }  # fmt: skip
    events = life("run", ("created", everything), *verbs[1:], ("erased", {"reason": "y"}))
    blank = [msgspec.structs.replace(event, data=None, salt=None, digest="0" * 64) for event in events[:-1]]
    erased = fold(events)
    assert erased == fold([*blank, events[-1]])
    assert (erased.user_id, erased.metadata, erased.agent_id, erased.debt) == (ACTOR, None, None, None)


@pytest.mark.parametrize("name", ["access.granted", "access.revoked"])
def test_a_token_is_no_resource(name):
    data = {"user_id": "u", "scopes": ["read"], "token_sha256": "0"} if name == "access.granted" else {}
    assert fold([event(name, data)]) is None


def test_events_before_a_creation_are_passed_over():
    assert fold(life("job", "pending", "running")) is None


@pytest.mark.parametrize(
    ("timeout_s", "after_us"), [(None, None), (2.5, 2_500_000), (0, 0), (1e-6, 1), (3600, 3_600_000_000)]
)
def test_a_timeout_counts_from_running(timeout_s, after_us):
    state = lived("run", ("created", {"timeout_s": timeout_s}), "running")
    assert state.deadline_us == (None if after_us is None else START_US + 2 * SECOND + after_us)
    assert lived("run", ("created", {"timeout_s": timeout_s})).deadline_us is None


def test_a_timeout_beyond_any_calendar_never_comes():
    deadline_us = lived("run", ("created", {"timeout_s": 1e308}), "running").deadline_us
    assert deadline_us is None or deadline_us > 253_402_300_799_999_999


# --- clocks and as-of -------------------------------------------------------------------------------------------------


def test_a_clock_that_jumps_back_reorders_nothing():
    times = (100, 50, 300, 200, 250)
    verbs = [
        ("job.created", birth("job")),
        ("job.pending", {}),
        ("job.running", {}),
        ("job.updated", {}),
        ("job.failed", {}),
    ]
    events = [
        event(name, data, version=at, time=START_US + time)
        for at, ((name, data), time) in enumerate(zip(verbs, times, strict=True), 1)
    ]
    state = fold(events)
    assert [each - START_US for each in (state.created_us, state.pending_us, state.running_us, state.ended_us)] == [
        100, 100, 300, 300
    ]  # fmt: skip
    assert (state.duration_ns, state.changed_us - START_US) == (0, 300)
    seen = {time: as_of(events, time_us=START_US + time) for time in (49, 50, 99, 100, 299, 300)}
    assert {time: found and found.status for time, found in seen.items()} == {
        49: None, 50: None, 99: None, 100: "pending", 299: "pending", 300: "failed"
    }  # fmt: skip


step = st.tuples(
    st.sampled_from(["move", "move", "move", "updated", "refused", "deleted"]),
    st.integers(-3, 5),
    st.integers(0, 3),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), max_size=2),
)


@st.composite
def histories(draw):
    """Legal lives of random length, on a clock that jumps, among other streams' positions."""
    kind = draw(st.sampled_from(KINDS))
    time, position, status = START_US, draw(st.integers(1, 5)), "created"
    events = [event(f"{kind}.created", birth(kind, metadata={"a": 0}), time=time, position=position)]
    for verb, jump, which, metadata in draw(st.lists(step, max_size=12)):
        time, position = time + jump, position + 1 + which
        data = {"asked": "x", "found": status} if verb == "refused" else {}
        if verb in {"move", "updated"}:
            data = {"metadata": metadata} if metadata else {}
        if verb == "move":
            ways = [after for before, after in MOVES[kind] if before == status]
            if not ways:
                continue
            status = ways[which % len(ways)]
        events.append(
            event(
                f"{kind}.{status if verb == 'move' else verb}",
                data,
                version=len(events) + 1,
                time=time,
                position=position,
            )
        )
        if verb == "deleted":
            break
    return events


def told(events):
    """What the events say, read one by one, without the fold."""
    facts: dict[str, Any] = {
        "version": 0,
        "etag": 0,
        "status": None,
        "metadata": None,
        "effective_us": None,
        "ended_us": None,
    }
    for each in events:
        verb = each.type.partition(".")[2]
        facts["version"] = each.version
        facts["effective_us"] = max(facts["effective_us"] or each.time, each.time)
        if verb != "refused":
            facts["etag"] = each.version
        if verb not in {"refused", "updated", "deleted"}:
            facts["status"] = verb
        if verb in TERMINAL:
            facts["ended_us"] = facts["effective_us"]
        facts["metadata"] = (facts["metadata"] or {}) | (msgspec.json.decode(each.data).get("metadata") or {})
    return facts if events else None


def shown(state):
    return state and {name: getattr(state, name) for name in told([]) or told(life("job", "created"))}


@settings(max_examples=150, derandomize=True, deadline=None)
@given(histories())
def test_as_of_any_position_is_the_fold_of_what_was_known_then(events):
    assert shown(fold(events)) == told(events)
    for position in range(events[-1].position + 2):
        found = as_of(events, position=position)
        assert found == fold([each for each in events if each.position <= position])
        assert shown(found) == told([each for each in events if each.position <= position])


@settings(max_examples=150, derandomize=True, deadline=None)
@given(histories())
def test_as_of_any_time_is_the_fold_of_what_had_happened_by_then(events):
    for time_us in range(START_US - 2, max(each.time for each in events) + 2):
        happened, latest = [], 0
        for each in events:
            latest = max(latest, each.time)
            if latest <= time_us:
                happened.append(each)
        found = as_of(events, time_us=time_us)
        assert found == fold(happened)
        assert shown(found) == told(happened)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(histories())
def test_one_event_at_a_time_or_all_at_once_come_to_the_same(events):
    state = None
    for at, each in enumerate(events, 1):
        state = evolve(state, each, fact(each))
        assert state == fold(events[:at])
