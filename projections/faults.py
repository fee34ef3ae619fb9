"""Faults: what went wrong in a run, in order; the last step before it that was good; what was tried again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, Literal

import msgspec

from ledger import events as facts
from ledger.state import State
from ledger.times import to_text
from projections.course import Course
from projections.errors import error_of
from projections.excerpts import Excerpt, as_text, excerpt, of_error
from projections.spans import short
from projections.toolcalls import Call

FORMAT_ERROR: Final = "format_error"
"""The ``error_type`` of a step whose answer the model had to be asked for again, as imports of tau2 have it."""
TOOL_ERROR: Final = "tool_error"
"""The ``error_type`` of a step that failed by nothing but its tools."""
_SUCCEEDED: Final = {"success": True, "failed": False}
_decode = msgspec.json.Decoder(facts.Step).decode


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that went wrong. ``position``: where in the log it did; ``step``: the number of the step.

    ``after_s``: from the start to the effective time of its event, the latest time told by then.

    ``format``: the model answered in a form that could not be used and was asked again; it stands where the log first
    tells of its answer, as the tools that this calls come later. ``tool``: a tool returned an error. ``step``: a step
    failed in another way. ``end``: the run failed or expired.
    """

    kind: Literal["format", "tool", "step", "end"]
    position: int
    time: str
    after_s: float
    step: int | None
    step_id: str | None
    type: str | None
    tool: str | None = None
    message: Excerpt


class GoodStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step that succeeded, and none of whose tool calls failed. ``position``: of the event that ended it."""

    number: int
    id: str
    position: int
    time: str
    model: str | None
    tags: list[str]


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """Something that failed and was tried again.

    ``tool``: a call that failed is the same call again later, ``later`` calls after it. ``step``: a step that failed by
    itself was followed by another. ``model``: within one step the model was asked again ``times`` times. ``position``:
    of the new try, ``failed_position`` of the old one; ``succeeded`` is null where the log does not tell.
    """

    kind: Literal["tool", "step", "model"]
    position: int
    failed_position: int
    step: int | None
    tool: str | None = None
    arguments: Excerpt | None = None
    times: int = 1
    later: int = 1
    succeeded: bool | None


class Faults:
    """Looks for what went wrong in the course of a run.

    ``numbers``: of its steps, by id, in their order; ``times_us``: of its events, by position. ``said``: what was told
    of each step, by id.
    """

    def __init__(self, course: Course, numbers: Mapping[str, int], times_us: Mapping[int, int], full: bool) -> None:
        self._course = course
        self._numbers = numbers
        self._times_us = times_us
        self._reached_us = dict(zip(times_us, accumulate(times_us.values(), max), strict=True))
        self._full = full
        self.said = {id: _decode(step.said) for id, step in course.steps.items()}
        self._bad_calls: dict[str | None, list[Call]] = {}
        for call in course.calls.all:
            if call.succeeded is False:
                self._bad_calls.setdefault(call.step_id, []).append(call)

    def all(self, run: State) -> list[Fault]:
        """Return all that went wrong, in the order of the log; the end comes last."""
        found = [self._tool(run, call) for calls in self._bad_calls.values() for call in calls]
        for id, step in self._course.steps.items():
            fault = self._step(run, id, step.status)
            if fault is not None:
                found.append(fault)
        found.sort(key=lambda fault: fault.position)
        return [*found, *self._end(run)]

    def last_good_step(self, run: State) -> GoodStep | None:
        """Return the last good step before the end of a run that failed, or the last one of any other run."""
        ended = run.ended_position if run.status in ("failed", "expired") else None
        best: tuple[int, str] | None = None
        for id, step in self._course.steps.items():
            position = self._course.mentions[id].ended_position
            if position is None or step.status != "success" or id in self._bad_calls:
                continue
            if (ended is None or position < ended) and (best is None or position > best[0]):
                best = (position, id)
        if best is None:
            return None
        position, id = best
        said = self.said[id]
        return GoodStep(
            number=self._numbers[id],
            id=id,
            position=position,
            time=to_text(self._times_us[position]),
            model=said.model,
            tags=list(said.tags or ()),
        )

    def _tool(self, run: State, call: Call) -> Fault:
        position = call.position if call.return_position is None else call.return_position
        return self._fault(run, "tool", position, call.step_id, TOOL_ERROR, call.answer, short(call.name or "?"))

    def _step(self, run: State, id: str, status: str) -> Fault | None:
        mention, said = self._course.mentions[id], self.said[id]
        if status != "failed" or mention.ended_position is None:
            return None
        if said.error_type == TOOL_ERROR and id in self._bad_calls:
            return None  # its tools are faults themselves
        is_format = said.error_type == FORMAT_ERROR
        position = mention.position if is_format else mention.ended_position
        type = said.error_type or said.stop_reason
        return self._fault(run, "format" if is_format else "step", position, id, type, reason_of(said))

    def _end(self, run: State) -> list[Fault]:
        if run.status not in ("failed", "expired") or run.ended_position is None:
            return []
        error = error_of(run.metadata)
        type = error.type or run.stop_reason or run.status
        return [self._fault(run, "end", run.ended_position, None, type, error.message or "")]

    def _fault(
        self,
        run: State,
        kind: Literal["format", "tool", "step", "end"],
        position: int,
        step_id: str | None,
        type: str | None,
        message: str,
        tool: str | None = None,
    ) -> Fault:
        time_us = self._times_us[position]
        began_us = run.created_us if run.running_us is None else run.running_us
        return Fault(
            kind=kind,
            position=position,
            time=to_text(time_us),
            after_s=(self._reached_us[position] - began_us) / 1_000_000,
            step=None if step_id is None else self._numbers.get(step_id),
            step_id=step_id,
            type=type,
            tool=tool,
            message=of_error(message, self._full),
        )

    def retries(self, identities: Sequence[bytes]) -> list[Retry]:
        """Return what was tried again after it had failed, in the order of the log."""
        return sorted([*self._tools_again(identities), *self._steps_again()], key=lambda retry: retry.position)

    def _tools_again(self, identities: Sequence[bytes]) -> list[Retry]:
        calls = self._course.calls.all
        failed: dict[bytes, int] = {}
        found = []
        for index, (call, identity) in enumerate(zip(calls, identities, strict=True)):
            before = failed.get(identity)
            if before is not None and call.position > (calls[before].return_position or 0):  # else made side by side
                del failed[identity]
                found.append(
                    Retry(
                        kind="tool",
                        position=call.position,
                        failed_position=calls[before].position,
                        step=self._number(call.step_id),
                        tool=short(call.name or "?"),
                        arguments=excerpt(call.arguments, self._full),
                        later=index - before,
                        succeeded=call.succeeded,
                    )
                )
            if call.succeeded is False:
                failed[identity] = index
        return found

    def _steps_again(self) -> list[Retry]:
        found = []
        failed: dict[tuple[str, ...], int] = {}
        for id in self._numbers:
            said, mention = self.said[id], self._course.mentions[id]
            status = self._course.steps[id].status
            player = tuple(said.tags or ())  # where a model plays the user, its steps do not answer the agent's
            before = failed.pop(player, None)
            if before is not None:
                succeeded = _SUCCEEDED.get(status)
                found.append(self._again("step", id, failed_position=before, succeeded=succeeded))
            errors = (said.error_data or {}).get("errors")
            if said.error_type == FORMAT_ERROR:
                times = len(errors) if isinstance(errors, list) else 1
                found.append(self._again("model", id, failed_position=mention.position, times=times, succeeded=None))
            elif status == "failed" and id not in self._bad_calls and mention.ended_position is not None:
                failed[player] = mention.ended_position
        return found

    def _again(self, kind: Literal["step", "model"], id: str, **fields: Any) -> Retry:
        return Retry(kind=kind, position=self._course.mentions[id].position, step=self._numbers[id], **fields)

    def _number(self, step_id: str | None) -> int | None:
        return None if step_id is None else self._numbers.get(step_id)


def reason_of(said: facts.Step) -> str:
    """Return what is told of why a step failed."""
    data = said.error_data or {}
    errors = data.get("errors")
    if isinstance(errors, list) and errors:
        return as_text(errors[0])
    for name in ("message", "error", "detail"):
        if data.get(name):
            return as_text(data[name])
    return as_text(data) if data else ""


def after_others(count: int) -> str:
    """Return when a call was tried again, in words; ``count``: calls in between."""
    return f"after {count:,} other {'call' if count == 1 else 'calls'}" if count else "at once"
