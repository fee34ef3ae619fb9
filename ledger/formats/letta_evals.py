"""Results of letta-evals: one evaluated sample a line, which is one run of a Letta agent.

https://github.com/letta-ai/letta-evals. Mapping: created and running at the user's message; each message as it came, in
the order of the list (several share a second and an id); after its last message each step, failed with ``tool_error``
where a tool gave an error back; the usage of the whole run; completed at the last message. The grade says how well the
task was done, not how the run ended: it is metadata, known with the submission at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from ledger import ids
from ledger.errors import LedgerError, invalid
from ledger.events import NOTHING, Changed, Created, RunUpdated, Step, TokenUsage
from ledger.formats import Move, Reject, Row, conversation, decode, reject
from ledger.formats.conversation import Said
from ledger.messages import UserMessage

SOURCE = "letta-evals"


class _Usage(TokenUsage, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What the agent used in one turn; the source says more, such as which runs, and leaves that null."""


class _Grade(msgspec.Struct, frozen=True):
    score: float | None = None
    rationale: str | None = None


class _Result(msgspec.Struct, frozen=True):
    agent_id: str
    trajectory: list[list[dict[str, Any]]]
    sample: dict[str, Any] | None = None
    model_name: str | None = None
    submission: Any = None
    grade: _Grade | None = None
    grades: dict[str, Any] | None = None
    agent_usage: list[_Usage] | None = None


class _Record(msgspec.Struct, frozen=True):
    type: str
    result: Any = None


def parse(lines: Iterable[bytes], source: str) -> Iterator[Row | Reject]:
    """Yield a row for each sample of the file called ``source``."""
    known: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = _row(number, line, source)
            if row.stream in known:
                raise invalid("run_id", f"'{row.stream}' is that of line {known[row.stream]} too; a run has one record")
            known[row.stream] = number
            yield row
        except (LedgerError, ValueError) as error:
            yield reject(number, error, line)


def _row(number: int, line: bytes, source: str) -> Row:
    record = msgspec.convert(decode(line, "line"), _Record)
    if record.type != "result":
        raise invalid("type", f"is '{record.type[:80]}'; only a 'result' is a run")
    result = msgspec.convert(record.result, _Result)
    told = [message for turn in result.trajectory for message in turn]
    run_id = _run_of(told)
    said = conversation.listen(told, run_id)
    return Row(number, run_id, "run", f"{SOURCE}:{run_id}", tuple(_moves(result, said, source)), line)


def _run_of(told: Sequence[dict[str, Any]]) -> str:
    """Return the run that the messages name. Raises ``InvalidInput`` where it is not one and the same."""
    if not told:
        raise invalid("trajectory", "has no messages")
    named = {str(run_id): None for message in told if (run_id := message.get("run_id")) is not None}
    if len(named) != 1:
        raise invalid("run_id", f"names {len(named)} runs in the messages; a record is one run")
    return ids.parse(next(iter(named)), "run", where="run_id")


def _moves(result: _Result, said: Sequence[Said], source: str) -> Iterator[Move]:
    sample = result.sample or {}
    metadata = {"file": source, "model": result.model_name, "sample_id": sample.get("id"), "sample": sample}
    began_us = next((each.time_us for each in said if isinstance(each.message, UserMessage)), said[0].time_us)
    yield Move(
        "created", began_us, Created(user_id=ids.SYSTEM_USER, agent_id=result.agent_id, metadata=_present(metadata))
    )
    yield Move("running", began_us, NOTHING)
    yield from conversation.moves(said, _steps(result, said))
    ended_us = said[-1].time_us
    if result.agent_usage:
        yield Move("updated", ended_us, RunUpdated(usage=_sum(result.agent_usage)))
    grade = result.grade or _Grade()
    end = {
        "submission": result.submission,
        "grade": grade.score,
        "rationale": grade.rationale,
        "grades": result.grades,
    }
    yield Move("completed", ended_us, Changed(stop_reason="end_turn", metadata=_present(end)))


def _steps(result: _Result, said: Sequence[Said]) -> dict[str, Step]:
    errors = conversation.tool_errors(said)
    return {
        step_id: Step(
            id=step_id,
            model=result.model_name or None,
            status="failed" if step_id in errors else "success",
            error_type="tool_error" if step_id in errors else None,
            error_data=errors.get(step_id),
        )
        for each in said
        if (step_id := each.message.step_id) is not None
    }


def _sum(usages: Sequence[TokenUsage]) -> TokenUsage:
    """Return the usage of all turns; what none of them counted is not reported."""
    counted = {
        name: sum(counts)
        for name in TokenUsage.__struct_fields__
        if (counts := [count for each in usages if (count := getattr(each, name)) is not None])
    }
    return TokenUsage(**counted)


def _present(metadata: dict[str, Any]) -> dict[str, Any] | None:
    return {name: value for name, value in metadata.items() if value is not None} or None
