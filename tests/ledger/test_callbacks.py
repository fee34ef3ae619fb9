"""What a callback owes: each attempt, redelivery and abandonment, what it decides, and every order of them."""

import copy
from itertools import pairwise

import msgspec
import pytest

from ledger import callbacks, limits
from ledger.callbacks import AT_ONCE, Debt
from ledger.commands import cancel_with_members, create_batch
from ledger.decider import Abandon, Change, Create, Delete, Expire, Redeliver, Report, admit, decide
from ledger.errors import Erased, InvalidInput, NotFound, NothingOwed, VersionMismatch
from ledger.events import CALLBACK_TYPES, Abandoned, Attempted, Changed, Created, Delivered, Requeued
from ledger.state import evolve
from ledger.times import TIME_MIN_US, to_text
from tests.ledger.engines import ME, log_of
from tests.ledger.histories import (
    ACTOR,
    KINDS,
    MOVES,
    START_US,
    TERMINAL,
    birth,
    event,
    fold,
    id_of,
    job,
    life,
    recorded,
    run,
    way_to,
)

URL = "https://receiver.example/hook"
HOOKED = ("created", {"callback_url": URL})
RUN = run()
END = 3
"""Position and version of the end of the run in ``given``."""
LATER_US = START_US + 10**9
DISPATCHER = "user-00000000-0000-4000-8000-0000000000dd"
ENDS = [(kind, before, end) for kind in KINDS for before, end in MOVES[kind] if end in TERMINAL]


def attempt(error=None, status_code=None, due_us=None, owed_position=END):
    if error is None and status_code is None:
        status_code = 200
    return Report(
        id=RUN, owed_position=owed_position, duration_ns=5_000_000, error=error, status_code=status_code, due_us=due_us
    )


FAILED = attempt("http_status", 500, LATER_US)
LAST = attempt("timeout")
GONE = attempt("gone", 410)
OK = attempt()
AGAIN = Redeliver(id=RUN)
GIVE_UP = Abandon(id=RUN, owed_position=END, reason="imported")
DELETE = Delete(id=RUN)
ERASURE = ("run.erased", {"reason": "asked for"})


def given(*then):
    """A run that ended and owes a callback, with what commands led to (or events) behind it."""
    events = life("run", HOOKED, "running", "failed")
    for each in then:
        if isinstance(each, tuple):
            events = [*events, event(each[0], each[1], version=len(events) + 1, time=START_US + len(events) * 10**6)]
        else:
            events = recorded(events, decide(fold(events), each, DISPATCHER), DISPATCHER)
    return events


# --- who owes one -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "before", "end"), ENDS)
def test_every_end_of_what_has_a_callback_owes_one_at_once_and_no_other_does(kind, before, end):
    verbs = [*way_to(kind, before)[1:], end]
    for number in range(len(verbs)):
        assert fold(life(kind, HOOKED, *verbs[:number])).debt is None
    at = len(verbs) + 1
    state = fold(life(kind, HOOKED, *verbs, "updated"))
    assert state.debt == Debt(ended_position=at, ended_version=at, owed_position=at)
    assert (state.debt.is_owed, state.debt.due_us, state.debt.attempts) == (True, AT_ONCE, 0)
    assert fold(life(kind, "created", *verbs)).debt is None


@pytest.mark.parametrize(("kind", "end"), sorted({(kind, end) for kind, _, end in ENDS}))
def test_a_creation_with_a_terminal_status_owes_one(kind, end):
    created = Create(id=id_of(kind, 1), kind=kind, facts=Created(**birth(kind, callback_url=URL)), status=end)
    events = recorded([], decide(None, created, ACTOR))
    assert fold(events).debt == Debt(len(events), len(events), len(events))


@pytest.mark.parametrize("kind", KINDS)
def test_what_expires_owes_one(kind):
    events = life(kind, ("created", {"callback_url": URL, "timeout_s": 1}), *way_to(kind, "running")[1:])
    events = recorded(events, decide(fold(events), Expire(id=id_of(kind, 1), now_us=2**60), ACTOR))
    assert fold(events).debt.ended_position == len(events)


async def test_the_cancel_of_a_batch_with_its_runs_owes_one_for_each_that_has_a_callback(ledger):
    def member(number, **facts):
        facts = Created(**birth("run", batch_id=job(1), **facts))
        return Create(id=run(number), kind="run", facts=facts, status="running")

    batch = Create(id=job(1), kind="batch", facts=Created(**birth("batch", runs=[run(2), run(3)], callback_url=URL)))
    await ledger.execute_plan(create_batch(batch, [member(2, callback_url=URL), member(3)]), ME)
    await ledger.execute_plan(cancel_with_members(job(1), None, None), ME)
    ends = {each.stream: each for each in await log_of(ledger) if each.type.endswith(".cancelled")}
    states = {stream: await ledger.state(stream) for stream in ends}
    assert {stream: state.debt for stream, state in states.items()} == {
        job(1): Debt(ends[job(1)].position, ends[job(1)].version, ends[job(1)].position),
        run(2): Debt(ends[run(2)].position, ends[run(2)].version, ends[run(2)].position),
        run(3): None,
    }


def test_what_ends_after_its_erasure_owes_nothing():
    assert fold(life("run", HOOKED, "running", ("erased", {"reason": "x"}), "failed")).debt is None


# --- attempts ---------------------------------------------------------------------------------------------------------


def attempted(number, error=None, status_code=None, due_us=None):
    fact = Attempted(number=number, duration_ns=5_000_000, error=error, status_code=status_code, due_us=due_us)
    return "callback.attempted", fact


DELIVERED = ("callback.delivered", Delivered())
REQUEUED = ("callback.requeued", Requeued())


def abandoned(reason):
    return "callback.abandoned", Abandoned(reason=reason)


def owed(**facts):
    return Debt(END, END, **{"owed_position": END, **facts})


def settled(status, **facts):
    return owed(status=status, due_us=None, settled_us=START_US, **facts)


REPORTS = [
    pytest.param(
        [], OK, [attempted(1, None, 200), DELIVERED], settled("delivered", attempts=1, tries=1), id="200 delivers"
    ),
    pytest.param(
        [], attempt(None, 299, LATER_US), [attempted(1, None, 299), DELIVERED],
        settled("delivered", attempts=1, tries=1), id="299 delivers, and nothing is due whatever the reporter says",
    ),
    pytest.param(
        [], FAILED, [attempted(1, "http_status", 500, LATER_US)], owed(attempts=1, tries=1, due_us=LATER_US),
        id="a failure is due again",
    ),
    pytest.param(
        [FAILED], attempt("timeout", None, LATER_US + 7), [attempted(2, "timeout", None, LATER_US + 7)],
        owed(attempts=2, tries=2, due_us=LATER_US + 7), id="and again",
    ),
    pytest.param(
        [FAILED], LAST, [attempted(2, "timeout"), abandoned("exhausted")],
        settled("abandoned", attempts=2, tries=2, reason="exhausted"), id="the last of the schedule abandons",
    ),
    pytest.param(
        [], GONE, [attempted(1, "gone", 410), abandoned("gone")],
        settled("abandoned", attempts=1, tries=1, reason="gone"), id="410 abandons",
    ),
    pytest.param(
        [], attempt("gone", 410, LATER_US), [attempted(1, "gone", 410), abandoned("gone")],
        settled("abandoned", attempts=1, tries=1, reason="gone"), id="410 abandons though more was planned",
    ),
    pytest.param(
        [], attempt("interrupted", None, LATER_US), [attempted(1, "interrupted", None, LATER_US)],
        owed(attempts=1, tries=0, due_us=LATER_US), id="an interrupted one is no try",
    ),
    pytest.param(
        [FAILED], attempt("interrupted"), [attempted(2, "interrupted")],
        owed(attempts=2, tries=1, due_us=LATER_US), id="an interrupted one never abandons",
    ),
    pytest.param(
        [AGAIN], FAILED, [attempted(1, "http_status", 500)], owed(owed_position=4, attempts=1, tries=1),
        id="a failure for what was owed before a redelivery puts nothing off",
    ),
    pytest.param(
        [AGAIN], LAST, [attempted(1, "timeout")], owed(owed_position=4, attempts=1, tries=1),
        id="nor abandons it",
    ),
    pytest.param([AGAIN], GONE, [attempted(1, "gone", 410)], owed(owed_position=4, attempts=1, tries=1), id="nor 410"),
    pytest.param(
        [AGAIN], OK, [attempted(1, None, 200), DELIVERED],
        settled("delivered", owed_position=4, attempts=1, tries=1), id="but a 2xx delivers it",
    ),
    pytest.param(
        [AGAIN], attempt("http_status", 500, LATER_US, 4), [attempted(1, "http_status", 500, LATER_US)],
        owed(owed_position=4, attempts=1, tries=1, due_us=LATER_US), id="a failure for the redelivery is due again",
    ),
    pytest.param(
        [OK], FAILED, [attempted(2, "http_status", 500)], settled("delivered", attempts=2, tries=2),
        id="a failure after delivery changes nothing",
    ),
    pytest.param(
        [OK], OK, [attempted(2, None, 200)], settled("delivered", attempts=2, tries=2), id="nor does another 2xx"
    ),
    pytest.param(
        [GIVE_UP], OK, [attempted(1, None, 200)],
        settled("abandoned", attempts=1, tries=1, reason="imported"), id="a 2xx after it was given up is only told",
    ),
    pytest.param(
        [DELETE], OK, [attempted(1, None, 200), DELIVERED], settled("delivered", attempts=1, tries=1),
        id="what was deleted still owes",
    ),
    pytest.param([ERASURE], OK, [], None, id="what was erased owes nothing"),
    pytest.param([FAILED, ERASURE], FAILED, [], None, id="nor after an attempt"),
]  # fmt: skip


@pytest.mark.parametrize(("then", "report", "events", "debt"), REPORTS)
def test_a_report_is_one_attempt_and_what_it_means_for_the_debt(then, report, events, debt):
    before = given(*then)
    decision = decide(fold(before), report, DISPATCHER)
    assert (list(decision.events), decision.refusal) == (events, None)
    assert fold(recorded(before, decision, DISPATCHER)).debt == debt


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(None, id="missing"),
        pytest.param(fold(life("run", "created", "running", "failed")), id="without a callback"),
        pytest.param(fold(life("run", HOOKED, "running")), id="before its end"),
    ],
)
@pytest.mark.parametrize("command", [OK, FAILED, LAST, GIVE_UP], ids=["2xx", "failure", "last failure", "abandon"])
def test_where_nothing_is_owed_nothing_is_reported_or_given_up(state, command):
    assert decide(state, command, DISPATCHER).events == ()


@pytest.mark.parametrize(
    ("then", "position", "is_given_up"),
    [
        pytest.param([], END, True, id="owed at once"),
        pytest.param([FAILED], END, True, id="owed later"),
        pytest.param([DELETE], END, True, id="deleted"),
        pytest.param([AGAIN], END, False, id="queued again meanwhile"),
        pytest.param([AGAIN], 4, True, id="owed by a redelivery"),
        pytest.param([], 1, False, id="another position"),
        pytest.param([OK], END, False, id="delivered"),
        pytest.param([GONE], END, False, id="abandoned"),
        pytest.param([ERASURE], END, False, id="erased"),
    ],
)
def test_only_what_is_owed_by_the_event_in_mind_is_given_up(then, position, is_given_up):
    before = given(*then)
    decision = decide(fold(before), Abandon(id=RUN, owed_position=position, reason="imported"), DISPATCHER)
    assert decision.events == ((abandoned("imported"),) if is_given_up else ())
    debt = fold(recorded(before, decision)).debt
    assert (debt is not None and debt.reason == "imported") is is_given_up


# --- redelivery -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "then",
    [
        pytest.param([], id="owed at once"),
        pytest.param([FAILED], id="owed later"),
        pytest.param([OK], id="delivered"),
        pytest.param([GONE], id="abandoned"),
        pytest.param([AGAIN], id="queued again before"),
    ],
)
def test_a_redelivery_owes_it_anew_at_once_with_the_whole_schedule(then):
    before = given(*then)
    decision = decide(fold(before), Redeliver(id=RUN, by="admin", reason="lost it"), ACTOR)
    assert decision.events == (("callback.requeued", Requeued(by="admin", reason="lost it")),)
    debt = fold(recorded(before, decision)).debt
    assert debt == owed(owed_position=len(before) + 1, attempts=fold(before).debt.attempts)


@pytest.mark.parametrize(
    ("events", "error", "reason"),
    [
        pytest.param([], NotFound, "There is no run", id="missing"),
        pytest.param(given(DELETE), NotFound, "There is no run", id="deleted"),
        pytest.param(given(ERASURE), Erased, "was erased", id="erased"),
        pytest.param(life("run", HOOKED, "running"), NothingOwed, "it is running, not at its end", id="waiting"),
        pytest.param(life("run", "created", "failed"), NothingOwed, "it has no callback_url", id="without a callback"),
    ],
)
def test_a_redelivery_of_what_has_nothing_to_deliver_says_why(events, error, reason):
    with pytest.raises(error, match=reason):
        decide(fold(events), AGAIN, ACTOR)


# --- what somebody brings ---------------------------------------------------------------------------------------------

ANY, NONE, OPEN = sorted(CALLBACK_TYPES), [], ["callback.attempted", "callback.requeued"]


@pytest.mark.parametrize(
    ("events", "taken", "error"),
    [
        pytest.param([], NONE, NotFound, id="missing"),
        pytest.param(life("run", HOOKED, "running"), NONE, NothingOwed, id="before its end"),
        pytest.param(life("run", "created", "failed"), NONE, NothingOwed, id="without a callback"),
        pytest.param(given(), ANY, None, id="owed"),
        pytest.param(given(FAILED), ANY, None, id="owed later"),
        pytest.param(given(DELETE), ANY, None, id="deleted"),
        pytest.param(given(OK), OPEN, NothingOwed, id="delivered"),
        pytest.param(given(GONE), OPEN, NothingOwed, id="abandoned"),
        pytest.param(given(OK, AGAIN), ANY, None, id="queued again"),
        pytest.param(given(ERASURE), NONE, NothingOwed, id="erased"),
    ],
)
@pytest.mark.parametrize("name", ANY)
def test_only_what_is_owed_is_delivered_or_abandoned_also_by_what_somebody_brings(events, taken, error, name):
    fact = Abandoned(reason="gone") if name == "callback.abandoned" else Delivered()
    if name in taken:
        admit(fold(events), RUN, name, fact)
    else:
        with pytest.raises(error):
            admit(fold(events), RUN, name, fact)


@pytest.mark.parametrize("name", ANY)
def test_tokens_have_no_callbacks(name):
    with pytest.raises(InvalidInput, match="subject"):
        admit(None, id_of("token", 1), name, Delivered())


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_brought_to_a_stream_of_any_kind_is_taken_by_the_same_rules(ledger, kind):
    stream = id_of(kind, 1)
    created = Create(id=stream, kind=kind, facts=Created(**birth(kind, callback_url=URL)), status="completed")
    await ledger.execute(created, ME)
    await ledger.append(stream, "callback.attempted", {"number": 1, "duration_ns": 7, "status_code": 204})
    assert (await ledger.state(stream)).debt.is_owed  # an attempt alone settles nothing
    await ledger.append(stream, "callback.delivered", {})
    with pytest.raises(NothingOwed, match="it was delivered"):
        await ledger.append(stream, "callback.abandoned", {"reason": "gone"})
    assert (await ledger.state(stream)).debt.status == "delivered"


@pytest.mark.parametrize(
    ("fact", "fault"),
    [
        pytest.param({}, "error: may be missing only where the answer was a 2xx", id="neither answer nor error"),
        pytest.param({"status_code": 199}, "error: may be missing", id="199 without an error"),
        pytest.param({"status_code": 300}, "error: may be missing", id="300 without an error"),
        pytest.param({"status_code": 99, "error": "http_status"}, "status_code", id="status 99"),
        pytest.param({"status_code": 1000, "error": "http_status"}, "status_code", id="status 1000"),
        pytest.param({"status_code": 200, "number": -1}, "number", id="a number below 0"),
        pytest.param({"status_code": 200, "duration_ns": -1}, "duration_ns", id="a duration below 0"),
        pytest.param({"status_code": 200, "duration_ns": 2**63}, "duration_ns", id="a duration of 64 bits"),
        pytest.param({"error": "timeout", "due_us": 2**62}, "due_us", id="due beyond the calendar"),
    ],
)
def test_an_attempt_that_cannot_have_been_is_refused(fact, fault):
    with pytest.raises(InvalidInput, match=fault):
        limits.check(Attempted(**{"number": 1, "duration_ns": 1, **fact}))


@pytest.mark.parametrize(
    "fact", [{"status_code": 200}, {"status_code": 299}, {"error": "timeout", "due_us": 0}, {"error": "redirect"}]
)
def test_an_attempt_that_can_have_been_is_taken(fact):
    limits.check(Attempted(**{"number": 1, "duration_ns": 2**63 - 1, **fact}))


@pytest.mark.parametrize("reason", ["", "x" * 1025, "a\x1b[2J", "\ud800"])
def test_the_reason_of_a_redelivery_is_one_short_line(reason):
    limits.check(Requeued(reason="x" * 1024))
    with pytest.raises(InvalidInput, match="reason"):
        limits.check(Requeued(reason=reason))


@pytest.mark.parametrize("settlement", [OK, GONE], ids=["delivered", "abandoned"])
def test_an_attempt_that_is_brought_after_the_end_of_it_makes_nothing_due(settlement):
    late = {"number": 2, "duration_ns": 1, "error": "timeout", "due_us": LATER_US}
    debt = fold(given(settlement, ("callback.attempted", late))).debt
    assert (debt.is_owed, debt.due_us, debt.attempts) == (False, None, 2)


# --- every order ------------------------------------------------------------------------------------------------------

DEPTH = 5


def wishes(positions):
    """What may be reported or asked for next; attempts were made for the first or the last of what was owed."""
    yield AGAIN
    for position in {positions[0], positions[-1]}:
        yield Abandon(id=RUN, owed_position=position, reason="imported")
        for report in (OK, FAILED, LAST, GONE, attempt("interrupted", None, LATER_US)):
            yield msgspec.structs.replace(report, owed_position=position)


def check_rules(state, facts, positions):
    """The rules that hold wherever a walk stands; ``facts``: of all callback events so far, by type."""
    debt, names = state.debt, [name for name, _ in facts]
    tried = [fact for name, fact in facts if name == "callback.attempted"]
    assert debt.is_owed is (debt.due_us is not None) is (debt.settled_us is None)
    assert debt.status in {"owed", "delivered", "abandoned"}
    assert (debt.reason is not None) is (debt.status == "abandoned")
    assert [fact.number for fact in tried] == list(range(1, debt.attempts + 1))
    since = names[len(names) - 1 - names[::-1].index("callback.requeued") :] if "callback.requeued" in names else names
    fresh = tried[len(tried) - since.count("callback.attempted") :]
    assert debt.tries == sum(fact.error != "interrupted" for fact in fresh)
    assert (debt.ended_position, debt.ended_version, debt.owed_position) == (END, END, positions[-1])
    for (before, fact), (after, _) in pairwise([("", None), *facts]):
        if after == "callback.delivered":
            assert before == "callback.attempted"
            assert fact.error is None
            assert 200 <= fact.status_code <= 299
    settlements = [name for name in since if name in ("callback.delivered", "callback.abandoned")]
    assert [f"callback.{debt.status}"] == settlements if settlements else debt.is_owed
    if tried:
        assert (state.callback_status_code, state.callback_error) == (tried[-1].status_code, tried[-1].error)
    assert (state.status, state.updated_by, state.version) == ("failed", ACTOR, END + len(facts))
    assert state.etag == state.version


def test_however_attempts_redeliveries_and_abandonments_interleave_the_debt_stands_by_the_rules():
    ended, seen = fold(given()), 0

    def walk(state, facts, positions, depth):
        nonlocal seen
        seen += 1
        check_rules(state, facts, positions)
        for command in wishes(positions) if depth else ():
            decision = decide(state, command, DISPATCHER)
            after, owing = copy.copy(state), positions
            for name, fact in decision.events:
                admit(after, RUN, name, fact)
                limits.check(fact)
                version = after.version + 1
                made = event(name, msgspec.to_builtins(fact), version=version, stream=RUN, actor=DISPATCHER)
                after = evolve(after, made, fact)
                owing = (*owing, version) if name == "callback.requeued" else owing
            walk(after, [*facts, *decision.events], owing, depth - 1)

    walk(ended, [], (END,), DEPTH)
    assert seen > 40_000


# --- what readers see -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [OK, FAILED, LAST, AGAIN, GIVE_UP], ids=["2xx", "failure", "last", "again", "up"])
def test_what_becomes_of_a_callback_changes_the_etag_but_not_who_changed_the_run_last(command):
    before = given()
    after = fold(recorded(before, decide(fold(before), command, DISPATCHER), DISPATCHER))
    assert after.etag == after.version > fold(before).etag
    assert (after.updated_by, after.created_by) == (ACTOR, ACTOR)
    assert after.changed_position == after.version
    with pytest.raises(VersionMismatch):
        decide(after, Change(id=RUN, facts=Changed(ttft_ns=1), etags=(END,)), ACTOR)


def test_the_last_attempt_is_shown_by_when_it_was_sent_its_status_and_its_error():
    events = given()
    shown = []
    for report, time in ((FAILED, START_US + 10**7), (LAST, START_US + 2 * 10**7)):
        events = recorded(events, decide(fold(events), report, ACTOR), time=time)
        state = fold(events)
        shown.append((state.callback_sent_us, state.callback_status_code, state.callback_error))
    assert shown == [
        (START_US + 10**7 - 5_000, 500, "http_status"),
        (START_US + 2 * 10**7 - 5_000, None, "timeout"),
    ]
    assert fold(events).debt.settled_us == START_US + 2 * 10**7


def test_an_attempt_is_never_shown_as_sent_before_the_calendar_begins():
    fact = Attempted(number=1, duration_ns=2**63 - 1, error="timeout")
    sent_us = callbacks.sent_us(event("callback.attempted", time=TIME_MIN_US + 5, stream=RUN), fact)
    assert to_text(sent_us) == "0001-01-01T00:00:00.000000Z"


def test_what_erased_events_said_is_not_needed_to_know_what_is_owed():
    erased = [
        msgspec.structs.replace(each, data=None, salt=None, digest="0" * 64) if each.version > END else each
        for each in given(FAILED, OK, AGAIN, FAILED)
    ]
    debt = fold(erased).debt
    assert (debt.status, debt.attempts, debt.tries, debt.due_us) == ("owed", 3, 1, AT_ONCE)


@pytest.mark.parametrize(
    ("url", "whose"),
    [
        ("https://Receiver.Example/hook?a=B", "https://receiver.example"),
        ("HTTP://user:secret@HOST:8080/a@b", "http://host:8080"),
        ("https://[2001:DB8::1]:443/", "https://[2001:db8::1]:443"),
        ("http://host", "http://host"),
        ("http://[::1", "http://[::1"),
    ],
)
def test_a_receiver_is_the_scheme_host_and_port_of_its_url(url, whose):
    assert callbacks.receiver(url) == whose


@pytest.mark.parametrize(
    ("data", "may"),
    [
        (b'{"user_id":"u"}', False),
        (b'{"metadata":{"url":"callback_url"}}', True),
        (b'{"callback_url":"https://a"}', True),
        (b'{"c\\u0061llback_url":"https://a"}', True),
        (None, True),
    ],
)
def test_a_look_at_the_data_of_a_creation_misses_no_callback(data, may):
    assert callbacks.may_name(data) is may
