"""What statistics must say, by brute force: every stream folded, every value looked at, no class and no sum."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from ledger import state as states
from ledger.transitions import STOP_REASONS, TERMINAL, statuses
from projections import steps as steps_view
from projections.usage import usage

DAY = timedelta(days=1)
STEP_SUMS = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_input_tokens", "cache_write_tokens",
             "reasoning_tokens", "cached_tokens", "cache_read_tokens")  # fmt: skip
TOLD = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_input_tokens", "reasoning_tokens")


class World:
    """All resources as they are now, and the steps of runs."""

    def __init__(self, events):
        streams = {}
        for event in events:
            streams.setdefault(event.stream, []).append(event)
        folded = {stream: states.fold(history) for stream, history in streams.items()}
        self.states = [state for state in folded.values() if state is not None]
        self.steps = {}
        for state in self.states:
            if state.kind == "run" and state.erased_position is None:
                self.steps[state.id] = steps_of(streams[state.id])

    def mine(self, kind, whose, period):
        """Those that can be seen."""
        for state in self.states:
            shown = state.kind == kind and state.deleted_us is None and state.erased_position is None
            if shown and within(state.created_us, period) and is_of(state, whose):
                yield state


def steps_of(events):
    found = {}
    for event in events:
        if event.type == "run.step":
            fact = steps_view.upcast.fact(event)
            found[fact.id] = steps_view.evolve(found.get(fact.id), event, fact)
    return list(found.values())


def within(time_us, period):
    return period.since_us <= time_us < period.until_us


def is_of(state, whose):
    return all(getattr(state, name) == value for name, value in whose.named.items())


def start_of(time_us, size):
    """The start of a bucket, by the calendar."""
    at = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)).replace(minute=0, second=0, microsecond=0)
    if size != "hour":
        at = at.replace(hour=0)
    if size == "week":
        at -= at.weekday() * DAY
    if size == "month":
        at = at.replace(day=1)
    return at.isoformat().replace("+00:00", ".000000Z")


def nearest(values, percent):
    """The least value that so many percent do not exceed; None of none."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] if ordered else None


def is_near(found, exact):
    """Whether a percentile is the exact one, but for one percent."""
    return found is exact is None or (found is not None and exact is not None and abs(found - exact) <= 0.01 * exact)


def durations(found):
    return [state.duration_ns for state in found if state.duration_ns is not None]


def counts(kind, found):
    by_status, by_reason = Counter(state.status for state in found), Counter(state.stop_reason for state in found)
    return (
        {status: by_status[status] for status in statuses(kind)},
        {reason: by_reason[reason] for reason in STOP_REASONS if by_reason[reason]},
    )


def check_figures(told, world, kind, asked, size):
    """Compare the figures of one kind with what the states say."""
    mine = list(world.mine(kind, asked.whose, asked.period))
    assert (told.statuses, told.stop_reasons) == counts(kind, mine)
    assert told.total == len(mine)
    ended = [state for state in mine if state.status in TERMINAL]
    for status, rate in told.rates.items():
        share = sum(state.status == status for state in ended) / len(ended) if ended else None
        assert rate == (None if share is None else round(share, 6))
    queues = [(state.running_us - state.created_us) * 1000 for state in mine if state.running_us is not None]
    firsts = [state.ttft_ns for state in mine if state.ttft_ns is not None]
    for found, values in ((told.duration_ns, durations(mine)), (told.queue_ns, queues), (told.ttft_ns, firsts)):
        assert found.count == len(values)
        for name, percent in (("p50", 50), ("p90", 90), ("p95", 95), ("p99", 99), ("max", 100)):
            assert is_near(getattr(found, name), nearest(values, percent)), (name, found, sorted(values))
    assert sum(each.count for each in told.took) == len(durations(mine))
    check_buckets(told, world, kind, asked, size, mine)
    check_agents(told, asked, kind, mine)


def check_buckets(told, world, kind, asked, size, mine):
    by_start, tokens = {}, Counter()
    for state in mine:
        by_start.setdefault(start_of(state.created_us, size), []).append(state)
    if kind == "run":
        for (hour_us, _), spent in spending(world, asked).items():
            tokens[start_of(hour_us, size)] += spent["total_tokens"]
    starts = sorted({*by_start, *(start for start, count in tokens.items() if count)})
    assert [bucket.start for bucket in told.buckets] == starts
    for bucket in told.buckets:
        here = by_start.get(bucket.start, [])
        assert (bucket.created, bucket.statuses) == (len(here), counts(kind, here)[0])
        assert bucket.total_tokens == (tokens[bucket.start] if kind == "run" else None)
        for found, percent in ((bucket.duration_p50_ns, 50), (bucket.duration_p95_ns, 95)):
            assert is_near(found, nearest(durations(here), percent))


def check_agents(told, asked, kind, mine):
    by_agent = {}
    for state in mine:
        if state.agent_id is not None:
            by_agent.setdefault(state.agent_id, []).append(state)
    ranked = sorted(by_agent, key=lambda name: (-len(by_agent[name]), name))[: asked.top]
    assert [agent.agent_id for agent in told.agents] == ranked
    for agent in told.agents:
        theirs = by_agent[agent.agent_id]
        ended = [state for state in theirs if state.status in TERMINAL]
        failed = [state for state in ended if state.status in ("failed", "expired")]
        assert (agent.total, agent.ended, agent.failed) == (len(theirs), len(ended), len(failed))
        assert agent.failure_rate == (round(len(failed) / len(ended), 6) if ended else None)
        assert is_near(agent.duration_p95_ns, nearest(durations(theirs), 95))


def spending(world, asked):
    """Tokens by the time and model of a step, and of runs; deleted ones too."""
    found = {}
    for state in world.states:
        if state.kind != "run" or state.erased_position is not None or not is_of(state, asked.whose):
            continue
        steps = world.steps[state.id]
        for step in steps:
            if within(step.began_us, asked.period):
                counts = found.setdefault((step.began_us, step.model or ""), Counter())
                counts.update({name: getattr(step, name) or 0 for name in TOLD})
                counts.update({"steps": 1, "failed": step.status == "failed"})
        if state.usage is not None and within(state.created_us, asked.period):
            whole = told_only(state, steps)
            models = {step.model for step in steps if step.model is not None}
            if whole:
                counts = found.setdefault((state.created_us, models.pop() if len(models) == 1 else ""), Counter())
                counts.update({**whole, "told_runs": 1})
    return found


def told_only(state, steps):
    """What ``usage`` says of the run beyond the sums of its steps."""
    sums = [[getattr(step, name) for step in steps if getattr(step, name) is not None] for name in STEP_SUMS]
    row = [sum(values) if values else None for values in sums]
    by_step = dict(zip(STEP_SUMS, row, strict=True))
    whole = usage([1, *row], state.usage)
    return {name: getattr(whole, name) for name in TOLD if by_step[name] is None and getattr(whole, name) is not None}


def check(told, world, asked):
    """Compare a whole answer."""
    for kind, name in (("job", "jobs"), ("run", "runs"), ("batch", "batches")):
        figures = getattr(told, name)
        assert (figures is not None) == (kind in asked.kinds)
        if figures is not None:
            check_figures(figures, world, kind, asked, told.bucket)
    if "run" not in asked.kinds:
        assert (told.tokens, told.models) == (None, [])
        return
    models = {}
    for (_, model), counts_ in spending(world, asked).items():
        models.setdefault(model, Counter()).update(counts_)
    models = {model: counts_ for model, counts_ in models.items() if any(counts_.values())}
    ranked = sorted(models, key=lambda name: (-models[name]["total_tokens"], -models[name]["steps"], name))
    assert [model.model or "" for model in told.models] == ranked[: asked.top]
    for model in [*told.models, told.tokens]:
        expected = sum(models.values(), Counter()) if model is told.tokens else models[model.model or ""]
        found = {name: getattr(model, name) for name in (*TOLD, "steps", "told_runs")} | {"failed": model.failed_steps}
        assert found == {name: expected[name] for name in found}, (found, expected)
