"""``log``, ``show`` and ``replay``: one history, told in three ways."""

import pytest

from tests.cli.commandline import good, jobledger
from tests.cli.stories import ALICE, BATCH, BOB, EVENTS, GONE, JOB, RUN, at, types_of

JOB_PROPERTIES = {
    "id", "user_id", "created_by_id", "last_updated_by_id", "created_at", "updated_at", "status", "completed_at",
    "stop_reason", "metadata", "job_type", "background", "agent_id", "callback_url", "callback_sent_at",
    "callback_status_code", "callback_error", "ttft_ns", "total_duration_ns",
}  # fmt: skip
RUN_PROPERTIES = {
    "id", "status", "created_at", "completed_at", "agent_id", "conversation_id", "base_template_id", "background",
    "metadata", "request_config", "stop_reason", "callback_url", "callback_sent_at", "callback_status_code",
    "callback_error", "ttft_ns", "total_duration_ns",
}  # fmt: skip
LIFE_OF_JOB = ["job.created", "job.pending", "job.running", "job.updated", "job.completed", "job.refused"]


# --- log --------------------------------------------------------------------------------------------------------------


def test_log_gives_the_history_as_cloud_events(db):
    events = good("log", "--json", "--db", db, JOB).json
    assert types_of(events) == LIFE_OF_JOB
    first = events[0]
    assert len(bytes.fromhex(first.pop("salt"))) == 16
    assert first == {
        "specversion": "1.0",
        "id": "1",
        "source": "stories.example",
        "type": "job.created",
        "subject": JOB,
        "time": at(0),
        "datacontenttype": "application/json",
        "data": {"user_id": ALICE, "metadata": {"task": "nightly", "n": 1}},
        "position": 1,
        "streamversion": 1,
        "schemaversion": 1,
        "recordedtime": at(200),
        "actor": ALICE,
    }
    assert [event["streamversion"] for event in events] == [1, 2, 3, 4, 5, 6]
    assert events[-1]["data"] == {"asked": "cancelled", "found": "completed"}


def test_log_shows_a_line_for_each_event_with_who_did_what_when(db):
    _, *shown = good("log", "--db", db, JOB).out.splitlines()
    lines = [line for line in shown if not line.lstrip().startswith("{")]
    assert [line.split()[:5] for line in lines[:2]] == [
        ["1", "1", at(0), "job.created", ALICE],
        ["3", "2", at(10), "job.pending", ALICE],
    ]
    assert len(lines) == len(LIFE_OF_JOB)
    assert [BOB in line for line in lines] == [False] * 5 + [True]


def test_the_log_of_a_deleted_job_is_still_there(db):
    assert types_of(good("log", "--json", "--db", db, GONE).json) == ["job.created", "job.deleted"]


# --- show -------------------------------------------------------------------------------------------------------------


def test_show_gives_the_job_object(db):
    job = good("show", "--json", "--db", db, JOB).json
    assert job.keys() == JOB_PROPERTIES
    assert {name: value for name, value in job.items() if value is not None} == {
        "id": JOB,
        "user_id": ALICE,
        "created_by_id": ALICE,
        "last_updated_by_id": ALICE,
        "created_at": at(0),
        "updated_at": at(80.5),
        "status": "completed",
        "completed_at": at(80.5),
        "stop_reason": "end_turn",
        "metadata": {"task": "nightly", "n": 2},
        "job_type": "job",
        "ttft_ns": 5,
        "total_duration_ns": 60_500_000_000,
    }


def test_show_gives_the_run_object(db):
    run = good("show", "--json", "--db", db, RUN).json
    assert run.keys() == RUN_PROPERTIES
    assert (run["status"], run["agent_id"], run["stop_reason"]) == ("failed", "agent-1", "error")
    assert run["metadata"] == {"error": {"type": "ValueError", "message": "no"}}


def test_show_gives_a_batch_in_the_shape_of_a_job(db):
    batch = good("show", "--json", "--db", db, BATCH).json
    assert (batch.keys(), batch["job_type"], batch["user_id"]) == (JOB_PROPERTIES, "batch", BOB)


def test_show_is_readable_without_json(db):
    lines = dict(line.split(maxsplit=1) for line in good("show", "--db", db, JOB).out.splitlines() if " " in line)
    assert lines.keys() == JOB_PROPERTIES
    assert lines["status"].strip() == "completed"


@pytest.mark.parametrize(
    ("when", "status", "n"),
    [
        ("1", "created", 1),
        ("3", "pending", 1),
        ("5", "running", 1),
        ("6", "running", 2),
        ("7", "completed", 2),
        ("999", "completed", 2),
        (at(0), "created", 1),
        (at(9.999999), "created", 1),
        (at(10), "pending", 1),
        (at(29.999999), "running", 1),
        (at(30), "running", 2),
        (at(80.5), "completed", 2),
        ("2026-11-22T13:00:10+01:00", "pending", 1),
        ("2026-11-22 12:00:25", "running", 1),
        ("2026-11-23", "completed", 2),
    ],
)
def test_show_at_a_point_gives_what_was_then(db, when, status, n):
    job = good("show", "--json", "--db", db, JOB, "--at", when).json
    assert (job["status"], job["metadata"]["n"]) == (status, n)
    assert (job["completed_at"] is None) == (status != "completed")


@pytest.mark.parametrize(("id", "when"), [(JOB, "0"), (JOB, at(-1)), (RUN, "1"), (GONE, None), (GONE, "11")])
def test_show_of_what_was_not_there_says_so(db, id, when):
    done = jobledger("show", "--json", "--db", db, id, *([] if when is None else ["--at", when]))
    assert (done.code, done.raw) == (2, b"")
    assert id in done.err


def test_what_was_deleted_can_be_shown_as_of_before(db):
    assert good("show", "--json", "--db", db, GONE, "--at", "10").json["id"] == GONE


# --- replay -----------------------------------------------------------------------------------------------------------


def test_replay_gives_the_state_after_each_event_and_what_it_changed(db):
    frames = good("replay", "--json", "--db", db, JOB).json
    assert [frame.keys() for frame in frames] == [{"position", "type", "state", "changed"}] * len(LIFE_OF_JOB)
    assert types_of(frames) == LIFE_OF_JOB
    statuses = [frame["state"]["status"] for frame in frames]
    assert statuses == ["created", "pending", "running", "running", "completed", "completed"]
    assert frames[3]["changed"] == {
        "metadata": [{"task": "nightly", "n": 1}, {"task": "nightly", "n": 2}],
        "ttft_ns": [None, 5],
        "updated_at": [at(20), at(30)],
    }
    assert frames[-1]["changed"] == {}
    assert frames[-1]["state"] == good("show", "--json", "--db", db, JOB).json


@pytest.mark.parametrize(("when", "count"), [("0", 0), ("5", 3), ("6", 4), (at(9), 1), (at(79), 4), ("999", 6)])
def test_replay_at_a_point_ends_there(db, when, count):
    frames = good("replay", "--json", "--db", db, JOB, "--at", when).json
    assert types_of(frames) == LIFE_OF_JOB[:count]


def test_replay_shows_each_event_and_below_it_each_change(db):
    lines = good("replay", "--db", db, JOB).out.splitlines()
    heads = [line for line in lines if not line.startswith(" ")]
    assert [line.split()[2] for line in heads] == LIFE_OF_JOB
    assert any(line.split(maxsplit=1) == ["ttft_ns:", "null → 5"] for line in lines)


def test_the_stories_are_as_long_as_they_say(db):
    assert good("verify", "--json", "--db", db).json["size"] == EVENTS
