"""Foreign histories: what each record becomes, what is imputed, and what is rejected with its line and reason."""

from typing import Any, cast

import msgspec
import pytest

from ledger import Ledger, archive
from ledger.formats import TEXT_MAX, google2011, swf
from ledger.ids import derive
from tests.ledger.engines import log_of
from tests.ledger.histories import Clock

S = 1_000_000


@pytest.fixture
async def ledger():
    async with Ledger.in_memory(clock=Clock()) as opened:
        yield opened


async def load(ledger, lines, format, source="file"):
    return [outcome async for outcome in archive.load(ledger, lines, format, source)]


def steps(events, start_us):
    """Each event as (status, time since the start in microseconds, its data, whether it was imputed)."""
    found = []
    for event in events:
        data = msgspec.json.decode(event.data)
        imputed = data.pop("imputed", False)
        found.append((event.type.partition(".")[2], event.time - start_us, data, imputed))
    return found


# --- swf --------------------------------------------------------------------------------------------------------------


def job_line(number, submit=0, wait=0, run=10, requested=100, status=1):
    return f"{number} {submit} {wait} {run} 4 -1 -1 4 {requested} -1 {status} 7 8 9 2 -1 -1 -1\n".encode()


HEADER = [b"; Version: 2.2\n", b";UnixStartTime: 1000\n", b"; Note: 1 2 3\n", b"\n"]
ENDED, FAILED, CANCELLED = {"stop_reason": "end_turn"}, {"stop_reason": "error"}, {"stop_reason": "cancelled"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(
            {"submit": 5, "wait": 10, "run": 20},
            [("pending", 5, {}, False), ("running", 15, {}, False), ("completed", 35, ENDED, False)],
            id="status 1 completed",
        ),
        pytest.param(
            {"status": 0},
            [("pending", 0, {}, False), ("running", 0, {}, False), ("failed", 10, FAILED, False)],
            id="failed",
        ),
        pytest.param(
            {"status": 5, "requested": 11},
            [("pending", 0, {}, False), ("running", 0, {}, False), ("cancelled", 10, CANCELLED, False)],
            id="5 cancelled before its time was up",
        ),
        pytest.param(
            {"status": 5, "requested": 10},
            [("pending", 0, {}, False), ("running", 0, {}, False), ("expired", 10, {}, False)],
            id="5 expired at its requested time",
        ),
        pytest.param(
            {"status": 5, "requested": -1},
            [("pending", 0, {}, False), ("running", 0, {}, False), ("cancelled", 10, CANCELLED, False)],
            id="5 with no requested time",
        ),
        pytest.param(
            {"status": 5, "wait": 30, "run": 0},
            [("pending", 0, {}, False), ("running", 30, {}, True), ("cancelled", 30, CANCELLED, False)],
            id="cancelled in the queue: running is imputed",
        ),
        pytest.param(
            {"status": 0, "wait": -1, "run": -1},
            [("pending", 0, {}, False), ("running", 0, {}, True), ("failed", 0, FAILED, False)],
            id="unknown wait and run",
        ),
        pytest.param({"status": -1}, [("pending", 0, {}, False), ("running", 0, {}, False)], id="-1 still open"),
        pytest.param({"status": -1, "run": -1}, [("pending", 0, {}, False)], id="-1 still waiting"),
    ],
)
async def test_a_finished_job_of_an_swf_log_becomes_its_life(ledger, fields, expected):
    (outcome,) = await load(ledger, [*HEADER, job_line(3, **fields)], "swf")
    log = await log_of(ledger)
    (first, *rest) = steps(log, 1000 * S)
    assert rest == [(status, time_s * S, data, imputed) for status, time_s, data, imputed in expected]
    assert first[:2] == ("created", fields.get("submit", 0) * S)
    assert first[2]["metadata"] == {
        "job_number": 3, "user": 7, "group": 8, "queue": 2, "processors": 4,
        "requested_time_s": fields.get("requested", 100), "source": "file",
    }  # fmt: skip
    assert {event.stream for event in log} == {derive("job", "file", "3")}
    assert [event.key for event in log] == [None] * (len(log) - 1) + ["swf:file:000000003"]
    assert (outcome.appended, outcome.duplicate, outcome.rejects) == (len(log), 0, ())


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param(job_line(1)[:-4] + b"\n", "has 17 fields", id="a field too few"),
        pytest.param(job_line(1, status=7), "has status 7", id="an unknown status"),
        pytest.param(job_line(1, status=4), "has status 4", id="a partial execution"),
        pytest.param(job_line("x"), "invalid literal", id="a job number that is none"),
        pytest.param(job_line(1, run="nan"), "NaN", id="no number"),
        pytest.param(job_line(1, run="inf"), "", id="a run without end"),
        pytest.param(job_line(1, run="1e300"), "", id="a run past every calendar"),
        pytest.param(job_line(1, submit=10**18), "", id="a submit past every calendar"),
        pytest.param(job_line(10**30), "", id="a job number beyond 64 bits"),
    ],
)
async def test_an_swf_line_that_makes_no_sense_is_rejected_by_its_number_and_the_others_stay(ledger, line, reason):
    (outcome,) = await load(ledger, [*HEADER, job_line(5), line, job_line(6)], "swf")
    (reject,) = outcome.rejects
    assert reject.line == 6
    assert reason in reject.reason
    assert len(await log_of(ledger)) == outcome.appended == 8


@pytest.mark.parametrize("start", [b"9" * 13, b"9" * 5000], ids=["13 digits", "5,000 digits"])
async def test_an_swf_log_that_says_it_began_past_every_calendar_begins_in_1970(ledger, start):
    (outcome,) = await load(ledger, [b"; UnixStartTime: %s\n" % start, job_line(5, submit=1)], "swf")
    assert outcome.rejects == ()
    assert {event.time for event in await log_of(ledger)} == {1 * S, 11 * S}


@pytest.mark.parametrize("format", ["swf", "google-2011"])
async def test_of_a_rejected_line_that_is_long_only_the_beginning_is_kept(ledger, format):
    """Found by ``scripts/fuzz --only 'import swf' --seed 1 --input 2``."""
    (outcome,) = await load(ledger, [b"x" * 10**6], format)
    (reject,) = outcome.rejects
    assert (reject.line, reject.text) == (1, "x" * TEXT_MAX)


async def test_the_same_swf_log_twice_adds_nothing_and_says_how_much_it_had(ledger):
    lines = [*HEADER, *(job_line(number, status=number % 2) for number in range(9)), job_line(9, status=5, run=0)]
    (first,) = await load(ledger, lines, "swf")
    (second,) = await load(ledger, lines, "swf")
    assert (second.appended, second.duplicate, second.rejects) == (0, first.appended, ())


async def test_an_swf_log_taken_up_again_in_small_parts_comes_to_the_same(monkeypatch, ledger):
    lines = [*HEADER, *(job_line(number, submit=number) for number in range(9))]
    monkeypatch.setattr(archive, "ROWS", 2)
    await load(ledger, lines[:9], "swf")
    outcomes = await load(ledger, lines, "swf")
    assert [outcome.lines for outcome in outcomes] == [2, 2, 2, 2, 1]
    assert len(await log_of(ledger)) == 36
    assert sum(outcome.appended for outcome in outcomes) == 16


async def test_a_record_that_changed_since_it_was_imported_is_a_reject(ledger):
    await load(ledger, [job_line(1)], "swf")
    (outcome,) = await load(ledger, [job_line(1, run=11)], "swf")
    assert "another request" in outcome.rejects[0].reason


def test_the_source_and_number_name_a_record_for_ever():
    (row,) = cast(Any, swf.parse)([job_line(17)], "trace.swf")
    assert (row.stream, row.key, row.line) == (derive("job", "trace.swf", "17"), "swf:trace.swf:000000017", 1)


# --- google-2011 ------------------------------------------------------------------------------------------------------

ZERO_US = 1_304_290_800 * S - 600 * S
SUBMIT, SCHEDULE, EVICT, FAIL, FINISH, KILL, LOST = range(7)


def trace(*events, job=42):
    """Lines of a trace: each event is a code, ten seconds after the one before."""
    return [f"{600 * S + at * 10 * S},,{job},{code},user,2,name,logical\n".encode() for at, code in enumerate(events)]


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        pytest.param([SUBMIT], ["created", "pending"], id="submitted"),
        pytest.param([SUBMIT, SCHEDULE, FINISH], ["created", "pending", "running", "completed"], id="finished"),
        pytest.param([SUBMIT, SCHEDULE, FAIL], ["created", "pending", "running", "failed"], id="failed"),
        pytest.param([SUBMIT, SCHEDULE, EVICT], ["created", "pending", "running", "failed"], id="evicted"),
        pytest.param([SUBMIT, SCHEDULE, KILL], ["created", "pending", "running", "cancelled"], id="killed"),
        pytest.param([SUBMIT, SCHEDULE, LOST], ["created", "pending", "running", "expired"], id="lost"),
        pytest.param([SUBMIT, KILL], ["created", "pending", "running*", "cancelled"], id="killed in the queue"),
        pytest.param([SCHEDULE, FINISH], ["created*", "pending*", "running", "completed"], id="begun before the trace"),
        pytest.param([FINISH], ["created*", "pending*", "running*", "completed"], id="only its end in the trace"),
    ],
)
async def test_the_events_of_a_trace_become_a_life_and_what_they_never_showed_is_imputed(ledger, codes, expected):
    (outcome,) = await load(ledger, trace(*codes), "google-2011")
    log = await log_of(ledger)
    found = steps(log, ZERO_US)
    assert [f"{status}{'*' * imputed}" for status, _, _, imputed in found] == expected
    assert found[-1][1] == 600 * S + (len(codes) - 1) * 10 * S
    assert (outcome.appended, outcome.rejects) == (len(expected), ())
    assert {event.stream for event in log} == {derive("job", "google-2011", "42")}


@pytest.mark.parametrize(
    ("code", "data"),
    [
        (EVICT, {"stop_reason": "error", "metadata": {"reason": "evicted"}}),
        (FAIL, FAILED),
        (FINISH, ENDED),
        (KILL, CANCELLED),
        (LOST, {"metadata": {"reason": "lost"}}),
    ],
)
async def test_an_end_in_a_trace_says_what_it_was(ledger, code, data):
    await load(ledger, trace(SUBMIT, SCHEDULE, code), "google-2011")
    assert steps(await log_of(ledger), 0)[-1][2] == data


async def test_a_submission_keeps_what_the_trace_tells(ledger):
    await load(ledger, [b"0,1,42,0,u,,n,l\n"], "google-2011")
    created = msgspec.json.decode((await log_of(ledger))[0].data)
    assert created["metadata"] == {
        "job_id": "42", "user": "u", "scheduling_class": None, "name": "n", "logical_name": "l", "missing_info": 1
    }  # fmt: skip


async def test_an_id_that_lives_twice_has_one_life_here_and_the_other_is_rejected_line_by_line(ledger):
    lines = trace(SUBMIT, SCHEDULE, FAIL, SUBMIT, SCHEDULE, FINISH)
    for _ in range(2):  # again: still rejected, still nothing added
        (outcome,) = await load(ledger, lines, "google-2011")
        assert [(each.line, each.reason) for each in outcome.rejects] == [
            (4, "Cannot transition from 'failed' to 'created'."),
            (5, "Cannot transition from 'failed' to 'running'."),
            (6, "Cannot transition from 'failed' to 'completed'."),
        ]
    assert [event.type for event in await log_of(ledger)] == ["job.created", "job.pending", "job.running", "job.failed"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1,,42,7,u,0,n,l", "UPDATE"),
        (b"1,,42,8,u,0,n,l", "UPDATE"),
        (b"1,,42,9,u,0,n,l", "event type 9"),
        (b"1,,42,-1,u,0,n,l", "event type -1"),
        (b"1,,42,0,u,0,n", "has 7 columns"),
        (b"1,,forty,0,u,0,n,l", "job id"),
        (b"x,,42,0,u,0,n,l", "invalid literal"),
        (b"1,,42,0,u,high,n,l", "invalid literal"),
        (b"1,,42,,u,0,n,l", "invalid literal"),
        pytest.param(b"9223372036854775807,,42,0,u,0,n,l", "", id="after the trace: 2**63 - 1"),
        pytest.param(b"1,,42,0,u," + b"9" * 30 + b",n,l", "", id="a class beyond 64 bits"),
    ],
)
async def test_a_trace_line_that_makes_no_sense_is_rejected_and_the_others_stay(ledger, line, reason):
    (outcome,) = await load(ledger, [*trace(SUBMIT, job=1), line + b"\n", *trace(SUBMIT, job=2)], "google-2011")
    assert [each.line for each in outcome.rejects] == [2]
    assert reason in outcome.rejects[0].reason
    assert [event.position for event in await log_of(ledger)] == [1, 2, 3, 4]


@pytest.mark.parametrize("codes", [[SUBMIT, SCHEDULE, FINISH], [SUBMIT, KILL], [SCHEDULE, FINISH]])
async def test_the_same_trace_twice_adds_nothing_and_says_how_much_it_had(ledger, codes):
    (first,) = await load(ledger, trace(*codes), "google-2011")
    (second,) = await load(ledger, trace(*codes), "google-2011")
    assert (second.appended, second.rejects) == (0, ())
    assert second.duplicate == first.appended


def test_parts_of_one_trace_share_their_jobs_and_not_their_keys():
    one, two = (cast(Any, next(iter(google2011.parse(trace(SUBMIT), source)))) for source in ("part-0", "part-1"))
    assert one.stream == two.stream
    assert one.key != two.key
