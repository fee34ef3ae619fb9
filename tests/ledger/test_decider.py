"""Commands and what they lead to: every status, every wish, every kind, against the contract's own table."""

from itertools import permutations

import msgspec
import pytest

from ledger import events as facts
from ledger.decider import Change, Create, Delete, Erase, Expire, admit, cancel, decide
from ledger.errors import AlreadyExists, Erased, InvalidInput, InvalidTransition, NotFound, VersionMismatch
from ledger.events import NOTHING, TYPES, Changed, Created, Deleted, ErrorInfo, Refused
from tests.ledger.histories import (
    ACTOR,
    KINDS,
    MOVES,
    START_US,
    STATUSES,
    TERMINAL,
    birth,
    event,
    fold,
    id_of,
    life,
    recorded,
    statuses_of,
    way_to,
)

EVERY_WISH = [(kind, found, asked) for kind in KINDS for found in statuses_of(kind) for asked in STATUSES]
EVERY_STATUS = [(kind, status) for kind in KINDS for status in statuses_of(kind)]


def lived(kind, *verbs):
    return fold(life(kind, *verbs))


def at(kind, status, **facts):
    return lived(kind, ("created", facts), *way_to(kind, status)[1:])


def create(kind, status="created", end=NOTHING, **facts):
    return Create(id=id_of(kind, 1), kind=kind, facts=Created(**birth(kind, **facts)), status=status, end=end)


def change(kind, status=None, **more):
    etags = more.pop("etags", None)
    return Change(id=id_of(kind, 1), status=status, facts=Changed(**more), etags=etags)


# --- changes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "found", "asked"), EVERY_WISH)
def test_a_change_is_one_legal_step_or_one_recorded_refusal(kind, found, asked):
    decision = decide(at(kind, found), change(kind, asked), ACTOR)
    ((name, fact),) = decision.events
    if (found, asked) in MOVES[kind]:
        assert (name, decision.refusal) == (f"{kind}.{asked}", None)
        assert fact == Changed(stop_reason="cancelled" if asked == "cancelled" else None)
    else:
        assert (name, fact) == (f"{kind}.refused", Refused(asked=asked, found=found))
        assert isinstance(decision.refusal, InvalidTransition)
        legal = [after for before, after in MOVES[kind] if before == found]
        assert decision.refusal.facts == {
            "id": id_of(kind, 1), "current_status": found, "requested_status": asked, "allowed": legal
        }  # fmt: skip
        assert str(decision.refusal) == f"Cannot transition from '{found}' to '{asked}'."


@pytest.mark.parametrize(("kind", "found", "asked"), EVERY_WISH)
def test_what_somebody_brings_is_admitted_by_the_same_table(kind, found, asked):
    if asked not in statuses_of(kind):
        return
    fact = Created(**birth(kind)) if asked == "created" else NOTHING
    if (found, asked) in MOVES[kind]:
        admit(at(kind, found), id_of(kind, 1), f"{kind}.{asked}", fact)
    else:
        with pytest.raises(AlreadyExists if asked == "created" else InvalidTransition):
            admit(at(kind, found), id_of(kind, 1), f"{kind}.{asked}", fact)


@pytest.mark.parametrize("name", sorted(set(TYPES) - {f"{kind}.created" for kind in KINDS}))
def test_nothing_but_a_creation_is_admitted_where_nothing_is(name):
    kind = name.partition(".")[0]
    if kind == "access":
        admit(None, id_of("token", 1), name, NOTHING)
    else:
        with pytest.raises(NotFound):
            admit(None, id_of("job" if kind == "callback" else kind, 1), name, NOTHING)


@pytest.mark.parametrize(
    ("name", "stream", "error"),
    [
        ("job.created", id_of("run", 1), InvalidInput),
        ("batch.created", id_of("run", 1), InvalidInput),
        ("run.created", id_of("job", 1), InvalidInput),
        ("access.granted", id_of("job", 1), InvalidInput),
        ("job.created", id_of("token", 1), InvalidInput),
        ("batch.updated", id_of("job", 1), NotFound),
        ("job.created", id_of("job", 1), AlreadyExists),
    ],
)
def test_an_event_belongs_to_the_stream_of_its_own_kind(name, stream, error):
    with pytest.raises(error):
        admit(lived("job", "created"), stream, name, Created(user_id="u"))


def test_a_run_without_its_agent_is_not_admitted():
    with pytest.raises(InvalidInput, match="agent"):
        admit(None, id_of("run", 1), "run.created", Created(user_id="u"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_is_recorded_once_for_each_actor_and_wish(kind):
    events, told = life(kind, "created"), 0
    wishes = [(actor, asked) for actor in ("ann", "bob") for asked in ("completed", "created")]
    for actor, asked in wishes * 3:
        decision = decide(fold(events), change(kind, asked), actor)
        told += isinstance(decision.refusal, InvalidTransition)
        events = recorded(events, decision, actor)
    refusals = [(each.actor, msgspec.json.decode(each.data)["asked"]) for each in events[1:]]
    assert refusals == wishes
    assert told == 12
    assert (fold(events).status, fold(events).etag, fold(events).version) == ("created", 1, 5)


@pytest.mark.parametrize(("kind", "status"), EVERY_STATUS)
def test_an_update_is_taken_in_every_status_and_moves_nothing(kind, status):
    decision = decide(at(kind, status), change(kind, metadata={"a": 1}), ACTOR)
    assert (decision.events, decision.refusal) == (((f"{kind}.updated", Changed(metadata={"a": 1})),), None)


@pytest.mark.parametrize(
    ("status", "facts", "reason"),
    [
        (None, {}, "names nothing to change"),
        (None, {"by": "an admin"}, "names nothing to change"),
        (None, {"stop_reason": "end_turn"}, "terminal status"),
        ("cancelled", {"stop_reason": "end_turn"}, "a cancel sets 'cancelled'"),
    ],
)
def test_a_change_that_contradicts_itself_is_no_change(status, facts, reason):
    with pytest.raises(InvalidInput, match=reason):
        decide(at("job", "running"), change("job", status, **facts), ACTOR)


@pytest.mark.parametrize(("kind", "before", "status"), [("job", "created", "pending"), ("run", "created", "running")])
def test_a_stop_reason_goes_with_an_end_only(kind, before, status):
    with pytest.raises(InvalidInput, match="terminal status"):
        decide(at(kind, before), change(kind, status, stop_reason="error"), ACTOR)


def test_a_cancel_says_so_in_its_stop_reason_and_names_the_admin_behind_it():
    decision = decide(at("run", "created"), cancel(id_of("run", 1), by="admin"), ACTOR)
    assert decision.events == (("run.cancelled", Changed(by="admin", stop_reason="cancelled")),)


@pytest.mark.parametrize(
    ("etags", "fits"), [(None, True), ((3,), True), ((1, 3), True), ((1,), False), ((4,), False), ((), False)]
)
@pytest.mark.parametrize("command", [change("job", "completed"), change("job", ttft_ns=1), Delete(id=id_of("job", 1))])
def test_a_change_is_made_to_the_version_that_its_asker_saw(command, etags, fits):
    state = fold(
        [*life("job", "created", "pending", "running"), event("job.refused", {"asked": "x", "found": "y"}, version=4)]
    )
    command = msgspec.structs.replace(command, etags=etags)
    if fits:
        assert len(decide(state, command, ACTOR).events) == 1
    else:
        with pytest.raises(VersionMismatch) as refusal:
            decide(state, command, ACTOR)
        assert refusal.value.current == 3


# --- creation and deletion --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "status"), EVERY_STATUS)
def test_creating_with_a_later_status_walks_the_whole_chain(kind, status):
    end = Changed(stop_reason="error", total_duration_ns=5) if status == "failed" else NOTHING
    decision = decide(None, create(kind, status, end, metadata={"a": 1}), ACTOR)
    assert [name for name, _ in decision.events] == [f"{kind}.{step}" for step in way_to(kind, status)]
    assert decision.events[0][1] == Created(**birth(kind, metadata={"a": 1}))
    if status != "created":
        stop = {"cancelled": "cancelled", "failed": "error"}.get(status)
        assert decision.events[-1][1] == msgspec.structs.replace(end, stop_reason=stop)
    assert fold(recorded([], decision)).status == status


@pytest.mark.parametrize(("kind", "status"), [("run", "pending"), ("run", "expired"), ("job", "done"), ("batch", "")])
def test_creating_with_a_status_of_another_kind_is_refused(kind, status):
    with pytest.raises(InvalidInput, match="is not a status"):
        decide(None, create(kind, status), ACTOR)


def test_a_creation_comes_with_no_end_before_it_has_ended():
    with pytest.raises(InvalidInput):
        decide(None, create("job", "created", Changed(stop_reason="error")), ACTOR)
    with pytest.raises(InvalidInput):
        decide(None, create("job", "running", Changed(stop_reason="error")), ACTOR)


@pytest.mark.parametrize("verbs", [["created"], ["created", "deleted"], ["created", ("erased", {"reason": "x"})]])
def test_an_id_is_given_once_for_ever(verbs):
    with pytest.raises(AlreadyExists):
        decide(lived("job", *verbs), create("job"), ACTOR)


@pytest.mark.parametrize(("kind", "status"), EVERY_STATUS)
def test_delete_works_in_every_status_and_then_there_is_nothing(kind, status):
    decision = decide(at(kind, status), Delete(id=id_of(kind, 1), reason="old"), ACTOR)
    assert decision.events == ((f"{kind}.deleted", Deleted(reason="old")),)
    gone = fold(recorded(life(kind, *way_to(kind, status)), decision))
    for command in (change(kind, "failed"), change(kind, ttft_ns=1), Delete(id=id_of(kind, 1))):
        with pytest.raises(NotFound):
            decide(gone, command, ACTOR)
    with pytest.raises(NotFound):
        admit(gone, id_of(kind, 1), f"{kind}.updated", NOTHING)
    admit(gone, id_of(kind, 1), f"{kind}.erased", NOTHING)


@pytest.mark.parametrize("command", [
    change("job", "failed"), change("job", ttft_ns=1), Delete(id=id_of("job", 1)),
    Erase(id=id_of("job", 1), reason="again"),
])  # fmt: skip
def test_what_does_not_exist_or_was_erased_is_not_changed(command):
    with pytest.raises(NotFound):
        decide(None, command, ACTOR)
    with pytest.raises(Erased) as refusal:
        decide(lived("job", "created", ("erased", {"reason": "asked for"})), command, ACTOR)
    assert refusal.value.position == 2


@pytest.mark.parametrize(("kind", "status"), EVERY_STATUS)
@pytest.mark.parametrize("deleted", [False, True])
def test_erasure_works_in_every_status_also_of_what_was_deleted_and_is_the_last_word(kind, status, deleted):
    state = at(kind, status)
    if deleted:
        state = fold(recorded(life(kind, *way_to(kind, status)), decide(state, Delete(id=id_of(kind, 1)), ACTOR)))
    decision = decide(state, Erase(id=id_of(kind, 1), reason="asked for", by="user-1"), ACTOR)
    assert decision.events == ((f"{kind}.erased", facts.Erased(reason="asked for", by="user-1")),)
    erased = lived(kind, *way_to(kind, status), ("erased", {"reason": "asked for"}))
    for type in (f"{kind}.updated", f"{kind}.deleted", f"{kind}.erased", f"{kind}.failed"):
        with pytest.raises(Erased):
            admit(erased, id_of(kind, 1), type, NOTHING)


@pytest.mark.parametrize("reason", ["", " ", "\n"])
def test_an_erasure_says_why(reason):
    with pytest.raises(InvalidInput, match="reason"):
        decide(lived("job", "created"), Erase(id=id_of("job", 1), reason=reason), ACTOR)


def test_what_was_erased_does_not_expire():
    erased = lived("run", ("created", {"timeout_s": 2.5}), "running", ("erased", {"reason": "asked for"}))
    assert decide(erased, Expire(id=id_of("run", 1), now_us=START_US * 2), ACTOR).events == ()


# --- expiry -----------------------------------------------------------------------------------------------------------

RUNNING_US = {"job": START_US + 3_000_000, "batch": START_US + 3_000_000, "run": START_US + 2_000_000}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("after_us", "due"), [(-1, False), (0, True), (1, True), (10**12, True)])
def test_what_runs_past_its_timeout_ends_at_the_deadline_and_not_before(kind, after_us, due):
    state = at(kind, "running", timeout_s=2.5)
    now_us = RUNNING_US[kind] + 2_500_000 + after_us
    decision = decide(state, Expire(id=id_of(kind, 1), now_us=now_us), ACTOR)
    assert decision.refusal is None
    if not due:
        assert decision.events == ()
    elif kind == "run":
        error = ErrorInfo(type="timeout", message="the run was not ended within its timeout of 2.5 s")
        assert decision.events == (("run.failed", Changed(stop_reason="error", error=error)),)
    else:
        assert decision.events == ((f"{kind}.expired", NOTHING),)


@pytest.mark.parametrize(("kind", "status"), [pair for pair in EVERY_STATUS if pair[1] != "running"])
def test_nothing_expires_that_does_not_run(kind, status):
    assert decide(at(kind, status, timeout_s=1), Expire(id=id_of(kind, 1), now_us=2**60), ACTOR).events == ()


@pytest.mark.parametrize(
    "state", [None, at("job", "running"), lived("job", ("created", {"timeout_s": 1}), "pending", "running", "deleted")]
)
def test_nothing_expires_without_a_timeout_or_after_its_deletion(state):
    assert decide(state, Expire(id=id_of("job", 1), now_us=2**60), ACTOR).events == ()


# --- races ------------------------------------------------------------------------------------------------------------

STEPS = sorted(set(permutations(["completer", "canceller", "expirer"] * 2)))


@pytest.mark.parametrize("with_etags", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_however_three_actors_interleave_the_life_ends_once_and_the_first_to_act_ends_it(kind, with_etags):
    assert len(STEPS) == 90
    born = life(kind, ("created", {"timeout_s": 1}), *way_to(kind, "running")[1:])
    for steps in STEPS:
        events, seen = born, {}
        for actor in steps:  # each reads at its first step and acts at its second
            if actor not in seen:
                seen[actor] = (fold(events).etag,) if with_etags else None
                continue
            command = {
                "completer": change(kind, "completed", etags=seen[actor]),
                "canceller": change(kind, "cancelled", etags=seen[actor]),
                "expirer": Expire(id=id_of(kind, 1), now_us=2**60),
            }[actor]
            try:
                events = recorded(events, decide(fold(events), command, actor), actor)
            except VersionMismatch:
                assert with_etags
        ends = [each for each in events if each.type.partition(".")[2] in TERMINAL]
        first = next(actor for at, actor in enumerate(steps) if actor in steps[:at])
        assert [each.actor for each in ends] == [first]
        assert fold(events).status == ends[0].type.partition(".")[2]
