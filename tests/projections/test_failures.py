"""What counts as a failure, and of which cause: the rules, told as short histories."""

import msgspec
import pytest

from ledger import Ledger, ids
from ledger.messages import record
from projections import engine as engines
from projections.causes import Asked, causes
from projections.engine import Engine
from projections.views import Views
from tests.cli.stories import ALICE, NOON_US
from tests.projections.views_file import ask

RUN, JOB, BATCH = (f"{kind}-00000000-0000-4000-8000-000000000001" for kind in ("run", "job", "job"))
STEP, STEP_2 = (f"step-00000000-0000-4000-8000-00000000000{number}" for number in (1, 2))
CREATED = {"user_id": ALICE, "agent_id": "agent-1"}
RETURNED = {"type": "tool", "tool_call_id": "call-1", "status": "error", "tool_return": ""}
KEY_ERROR = {"type": "KeyError", "message": "'a' is not there"}


def called(name, id="call-1", **more):
    call = {"name": name, "arguments": "{}", "tool_call_id": id}
    return message("tool_call_message", tool_call=call, **more)


def returned(text, status="error", id="call-1", **more):
    return message("tool_return_message", tool_return=text, status=status, tool_call_id=id, **more)


def message(message_type, **fields):
    return "message", {"message_type": message_type, **fields}


def step(status, id=STEP, **more):
    return "step", {"id": id, "status": status, **more}


RULES = {
    "a run that comes to its end": ([("completed", {"stop_reason": "end_turn"})], []),
    "a run that is cancelled": ([("cancelled", {})], []),
    "a run that goes on": ([], []),
    "a run that fails and says why": (
        [("failed", {"stop_reason": "error", "error": KEY_ERROR})],
        [("run", "failed", "error", "KeyError", None, "<text> is not there")],
    ),
    "a run that fails and says nothing": ([("failed", {})], [("run", "failed", None, None, None, None)]),
    "a run that is cut short": (
        [("completed", {"stop_reason": "max_steps"})],
        [("run", "completed", "max_steps", None, None, None)],
    ),
    "an error that is told before the end": (
        [("updated", {"error": KEY_ERROR}), ("failed", {})],
        [("run", "failed", None, "KeyError", None, "<text> is not there")],
    ),
    "an error that is told after the end": (
        [("failed", {"stop_reason": "error"}), ("updated", {"error": KEY_ERROR})],
        [("run", "failed", "error", "KeyError", None, "<text> is not there")],
    ),
    "an error in the metadata": (
        [("failed", {"metadata": {"error": {"type": "E", "detail": "no 7"}}})],
        [("run", "failed", None, "E", None, "no <number>")],
    ),
    "a reason in the metadata": (
        [("failed", {"metadata": {"reason": "evicted"}})],
        [("run", "failed", None, None, None, "evicted")],
    ),
    "a traceback alone": (
        [("failed", {"error": {"type": "KeyError", "traceback": "Traceback:\n  x\nKeyError: 'a'\n"}})],
        [("run", "failed", None, "KeyError", None, "KeyError: <text>")],
    ),
    "a step that fails, and the run with it": (
        [step("failed", error_type="Timeout", error_data={"message": "after 5 s"}), ("failed", {})],
        [
            ("step", "failed", None, "Timeout", None, "after <number> s"),
            ("run", "failed", None, "Timeout", None, "after <number> s"),
        ],
    ),
    "a step that fails, and one that does not, before the run fails": (
        [step("failed", error_type="Timeout"), step("success", STEP_2), ("failed", {})],
        [("step", "failed", None, "Timeout", None, None), ("run", "failed", None, None, None, None)],
    ),
    "a step that fails in a run that does not": (
        [step("failed", stop_reason="llm_api_error"), ("completed", {"stop_reason": "end_turn"})],
        [("step", "failed", "llm_api_error", "llm_api_error", None, None)],
    ),
    "a tool that fails": (
        [called("look"), returned("KeyError: 'a'")],
        [("tool", "error", None, "KeyError", "look", "KeyError: <text>")],
    ),
    "a tool that fails, and its step, which says no more": (
        [called("look", step_id=STEP), returned("no", step_id=STEP), step("failed", error_type="tool_error")],
        [("tool", "error", None, None, "look", "no")],
    ),
    "a step that ends before its tool is told to have failed": (
        [called("look", step_id=STEP), step("failed", error_type="tool_error"), returned("no", step_id=STEP)],
        [("tool", "error", None, None, "look", "no")],
    ),
    "a step of whose failed tool no message tells": (
        [step("failed", error_type="tool_error", error_data={"tool": "look", "message": "no"})],
        [("step", "failed", None, "tool_error", None, "no")],
    ),
    "a tool that works": ([called("look"), returned("yes", "success")], []),
    "two tools, answered in another order": (
        [called("one", "a"), called("two", "b"), returned("no", id="b"), returned("no", "success", id="a")],
        [("tool", "error", None, None, "two", "no")],
    ),
    "an answer that nobody asked for": ([returned("no")], [("tool", "error", None, None, "(unnamed)", "no")]),
    "an answer that says its tool's name": (
        [returned("no", name="look")],
        [("tool", "error", None, None, "look", "no")],
    ),
    "a tool that says nothing but on stderr": (
        [called("look"), returned("", tool_returns=[{**RETURNED, "stderr": ["no", "way"]}])],
        [("tool", "error", None, None, "look", "no way")],
    ),
    "a run that is deleted": ([("failed", {}), ("deleted", {})], []),
    "a run that is erased": ([called("look"), returned("no"), ("failed", {}), ("erased", {"reason": "x"})], []),
}  # fmt: skip


async def tell(ledger, stream, events):
    kind = stream.partition("-")[0]
    await ledger.append(stream, f"{kind}.created", CREATED, actor=ALICE, time_us=NOON_US)
    for between in {"run": ("running",), "job": ("pending", "running")}[kind]:
        await ledger.append(stream, f"{kind}.{between}", {}, actor=ALICE, time_us=NOON_US)
    for seconds, (verb, told) in enumerate(events, 1):
        is_message = verb == "message"
        data = {"message": msgspec.json.decode(bytes(record(told)[0].message))} if is_message else told
        await ledger.append(stream, f"{kind}.{verb}", data, actor=ALICE, time_us=NOON_US + seconds * 1_000_000)


def rows(path):
    columns = "kind, status, stop_reason, error_type, tool, message"
    return ask(path, f"SELECT {columns} FROM failures WHERE signature IS NOT NULL ORDER BY position, place")


@pytest.mark.parametrize("rule", RULES)
async def test_what_failed_and_of_what(tmp_path, rule):
    events, expected = RULES[rule]
    async with Ledger.open(tmp_path / "ledger.db") as ledger:
        # given
        await tell(ledger, RUN, events)
        # when
        views = Engine(ledger, tmp_path / "views.db")
        await views.open()
        await views.close()
    # then
    assert rows(tmp_path / "views.db") == expected


@pytest.mark.parametrize("rule", RULES)
async def test_so_it_is_also_where_each_event_finds_a_process_that_knows_nothing(tmp_path, monkeypatch, rule):
    events, expected = RULES[rule]
    monkeypatch.setattr(engines, "BATCH", 1)
    async with Ledger.open(tmp_path / "ledger.db") as ledger:
        views = Engine(ledger, tmp_path / "views.db")
        await views.open()
        await tell(ledger, RUN, events)
        while await views.beat():
            views._forget()  # as after a restart, or when another process wrote the views
        await views.close()
    assert rows(tmp_path / "views.db") == expected


async def test_a_long_error_that_is_told_before_the_end_counts_as_if_told_at_it_and_is_not_kept_whole(tmp_path):
    # given: two runs with an error of half a MiB, told of one before its end, of the other with it
    error = {"type": "T" * 1000, "message": f"begin {'word ' * 100_000}end"}
    async with Ledger.open(tmp_path / "ledger.db") as ledger:
        views = Engine(ledger, tmp_path / "views.db")
        await views.open()
        await tell(ledger, RUN, [("updated", {"error": error})])
        await views.catch_up()
        kept = views._memories["failures"][RUN].error
        # when
        await ledger.append(RUN, "run.failed", {})
        await tell(ledger, ids.make("run"), [("failed", {"error": error})])
        await views.catch_up()
        await views.close()
    # then
    (before,), (after,) = (
        ask(
            tmp_path / "views.db",
            f"SELECT signature, said, message, error_type FROM failures WHERE stream {which} ?",
            RUN,
        )
        for which in ("=", "<>")
    )
    assert before == after
    assert (before[2][:5], before[2][-3:]) == ("begin", "end")
    assert len(kept.message) + len(kept.type) < 2_500


async def test_of_jobs_that_expire_and_batches_that_fail_the_cause_says_so(tmp_path):
    async with Ledger.open(tmp_path / "ledger.db") as ledger:
        # given
        await tell(ledger, JOB, [("expired", {"metadata": {"reason": "lost"}})])
        other = ids.make("job")
        for verb in ("created", "pending", "running", "failed"):
            data = {"user_id": ALICE} if verb == "created" else {}
            await ledger.append(other, f"batch.{verb}", data, actor=ALICE, time_us=NOON_US)
        # when
        views = Engine(ledger, tmp_path / "views.db")
        await views.open()
        await views.close()
    # then
    assert rows(tmp_path / "views.db") == [
        ("job", "expired", None, None, None, "lost"),
        ("batch", "failed", None, None, None, None),
    ]


async def test_a_cause_tells_how_often_since_when_and_where(tmp_path):
    # given: ten failures of one cause a second apart, one of another, in runs of their own
    runs = [f"run-00000000-0000-4000-8000-00000000000{number}" for number in range(10)]
    async with Ledger.open(tmp_path / "ledger.db") as ledger:
        for number, run in enumerate(runs):
            await tell(ledger, run, [("updated", {})] * number + [("failed", {"error": {"message": f"no {number}"}})])
        await tell(ledger, ids.make("run"), [("failed", {"error": {"message": "other"}})])
        views = Engine(ledger, tmp_path / "views.db")
        await views.open()
        await views.close()
        reader = Views(tmp_path / "views.db", ledger.store.streams)
        await reader.open()
        # when
        first, second = await causes(reader, Asked())
        await reader.close()
    # then
    assert (first.count, first.message, second.count, second.message) == (10, "no <number>", 1, "other")
    assert first.samples == runs[:4:-1]
    assert (first.first_seen[11:19], first.last_seen[11:19]) == ("12:00:01", "12:00:10")
    assert sum(first.trend) == 10
    assert len(first.trend) == 12
    assert second.trend == [1] + [0] * 11
