"""One simulation of tau2-bench as the moves of a run; see ``tau2`` for the mapping."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec

from ledger import ids, times
from ledger.errors import invalid
from ledger.events import NOTHING, Changed, Created, ErrorInfo, Step, StopReason
from ledger.formats import Move, conversation
from ledger.formats.conversation import Said, excerpt

SOURCE = "tau2"
USER_TAG = "user_simulator"
"""Marks the steps in which a model played the user."""
_ENDS: dict[str, tuple[str, StopReason]] = {
    "user_stop": ("completed", "end_turn"),
    "agent_stop": ("completed", "end_turn"),
    "max_steps": ("completed", "max_steps"),
    "agent_error": ("failed", "invalid_llm_response"),
    "too_many_errors": ("failed", "invalid_tool_call"),
}
_NS = 1_000_000_000


class Player(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who plays the agent or the user, and by which model."""

    implementation: str | None = None
    llm: str | None = None
    llm_args: dict[str, Any] | None = None


class Environment(msgspec.Struct, frozen=True):
    """Where they play; its policy and tools are not kept."""

    domain_name: str | None = None


class Setup(msgspec.Struct, frozen=True):
    """How an experiment was set up."""

    agent_info: Player
    user_info: Player = Player()
    environment_info: Environment = Environment()
    git_commit: str | None = None
    num_trials: int | None = None
    max_steps: int | None = None
    max_errors: int | None = None
    seed: int | None = None

    def told(self) -> dict[str, Any]:
        """Return what the metadata of the experiment's job says of it."""
        return {
            "git_commit": self.git_commit,
            "num_trials": self.num_trials,
            "max_steps": self.max_steps,
            "max_errors": self.max_errors,
            "seed": self.seed,
            **self.players(),
        }

    def players(self) -> dict[str, Any]:
        """Return who plays, and where."""
        agent, user = msgspec.to_builtins(self.agent_info), msgspec.to_builtins(self.user_info)
        return {"domain": self.environment_info.domain_name, "agent": agent, "user": user}


class Experiment(msgspec.Struct, frozen=True):
    """What all simulations of a file share."""

    source: str
    job_id: str
    setup: Setup

    @property
    def agent_id(self) -> str:
        """The same agent in every file: the same implementation and model in the same domain."""
        agent = self.setup.agent_info
        return ids.derive(
            "agent", SOURCE, f"{agent.implementation}\0{agent.llm}\0{self.setup.environment_info.domain_name}"
        )


class _Simulation(msgspec.Struct, frozen=True):
    id: str
    start_time: str
    end_time: str
    termination_reason: str
    messages: list[dict[str, Any]]
    task_id: str | int | None = None
    trial: int | None = None
    seed: int | None = None
    duration: float | None = None
    agent_cost: float | None = None
    user_cost: float | None = None
    reward_info: dict[str, Any] | None = None


class _Call(msgspec.Struct, frozen=True):
    id: str
    name: str
    arguments: Any = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Message(msgspec.Struct, frozen=True):
    role: Literal["assistant", "user", "tool", "system"]
    timestamp: str
    content: str | None = None
    tool_calls: list[_Call] | None = None
    usage: _Usage | None = None
    raw_data: dict[str, Any] | None = None
    errors: list[Any] | None = None
    id: str | None = None
    error: bool | None = None


def moves(value: Any, experiment: Experiment) -> tuple[str, tuple[Move, ...]]:
    """Return the run of a simulation, and its moves. Raises ``LedgerError`` or ``ValueError`` for what is none."""
    told = msgspec.convert(value, _Simulation)
    run_id = ids.parse(f"run-{told.id}", "run")
    if told.termination_reason not in _ENDS:
        raise invalid("termination_reason", f"is '{told.termination_reason[:80]}'; known are {', '.join(_ENDS)}")
    if not told.messages:
        raise invalid("messages", "are none")
    turns = [_turn(told.id, number, each) for number, each in enumerate(told.messages, 1)]
    said = conversation.listen(list(_translate(turns)), run_id)
    return run_id, tuple(_life(told, turns, said, experiment))


class _Turn(msgspec.Struct, frozen=True):
    """A message of the source, as it is and as it was understood, with the ids it gets here.

    ``step_id``: of the step that it began; None for answers of tools, and for users whom no model played.
    """

    id: str
    step_id: str | None
    message: _Message
    original: dict[str, Any]


def _turn(simulation_id: str, number: int, original: dict[str, Any]) -> _Turn:
    try:
        message = msgspec.convert(original, _Message)
    except msgspec.ValidationError as error:
        raise invalid(f"message {number}", str(error)) from error
    foreign = f"{simulation_id}:{number}"
    is_step = message.role == "assistant" or (message.role == "user" and message.usage is not None)
    step_id = ids.derive("step", SOURCE, foreign) if is_step else None
    return _Turn(ids.derive("message", SOURCE, foreign), step_id, message, original)


def _translate(turns: Sequence[_Turn]) -> Iterator[dict[str, Any]]:
    """Yield each message as one of the LettaMessage union; what a tool gave back is of the step that called it."""
    calls: dict[str | None, tuple[str | None, str]] = {}
    for number, turn in enumerate(turns, 1):
        message, step_id, name = turn.message, turn.step_id, None
        if message.role == "tool":
            step_id, name = calls.get(message.id, (None, None))
        for call in message.tool_calls or ():
            calls[call.id] = (step_id, call.name)
        yield {
            "id": turn.id,
            "date": times.to_text(_time_us(message.timestamp, f"message {number}.timestamp")),
            "name": name,
            "step_id": step_id,
            **_shape(message),
            "original": turn.original,
        }


def _shape(message: _Message) -> dict[str, Any]:
    if message.role == "tool":
        return {
            "message_type": "tool_return_message",
            "tool_return": message.content or "",
            "status": "error" if message.error else "success",
            "tool_call_id": message.id,
        }
    if message.tool_calls:
        calls = [
            {"name": call.name, "arguments": _text(call.arguments), "tool_call_id": call.id}
            for call in message.tool_calls
        ]
        return {"message_type": "tool_call_message", "tool_call": calls[0], "tool_calls": calls}
    return {"message_type": f"{message.role}_message", "content": message.content or ""}


def _text(arguments: Any) -> str:
    """Return the arguments of a call as JSON text, which some sources have them as already."""
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()


def _life(told: _Simulation, turns: Sequence[_Turn], said: Sequence[Said], experiment: Experiment) -> Iterator[Move]:
    began = {
        "file": experiment.source,
        "job_id": experiment.job_id,
        "task_id": told.task_id,
        "trial": told.trial,
        "seed": told.seed,
        **experiment.setup.players(),
    }
    created = Created(user_id=ids.SYSTEM_USER, agent_id=experiment.agent_id, metadata=began)
    yield Move("created", _time_us(told.start_time, "start_time"), created)
    yield Move("running", said[0].time_us, NOTHING)
    yield from conversation.moves(said, _steps(turns, said, experiment.setup))
    ended_us = _time_us(told.end_time, "end_time")
    status, _ = _ENDS[told.termination_reason]
    yield Move(status, ended_us, _end(told, turns))


def _end(told: _Simulation, turns: Sequence[_Turn]) -> Changed:
    status, stop_reason = _ENDS[told.termination_reason]
    metadata = {
        "termination_reason": told.termination_reason,
        "reward": (told.reward_info or {}).get("reward"),
        "reward_info": told.reward_info,
        "agent_cost": told.agent_cost,
        "user_cost": told.user_cost,
    }
    return Changed(
        stop_reason=stop_reason,
        total_duration_ns=None if told.duration is None else round(told.duration * _NS),
        metadata={name: value for name, value in metadata.items() if value is not None},
        error=_error(told.termination_reason, turns) if status == "failed" else None,
    )


def _error(reason: str, turns: Sequence[_Turn]) -> ErrorInfo:
    """Return why a simulation was broken off: what the agent got wrong last, or how many calls of tools failed."""
    if reason == "agent_error":
        errors = turns[-1].message.errors
        return ErrorInfo(type=reason, message=str(errors[-1]) if errors else "The agent sent an invalid message.")
    failed = [turn.message.content for turn in turns if turn.message.role == "tool" and turn.message.error]
    last = f"; the last: {excerpt(failed[-1])}" if failed else ""
    return ErrorInfo(type=reason, message=f"{len(failed)} calls of tools failed{last}")


def _steps(turns: Sequence[_Turn], said: Sequence[Said], setup: Setup) -> dict[str, Step]:
    tool_errors = conversation.tool_errors(said)
    return {turn.step_id: _step(turn, turn.step_id, tool_errors, setup) for turn in turns if turn.step_id is not None}


def _step(turn: _Turn, step_id: str, tool_errors: dict[str, dict[str, Any]], setup: Setup) -> Step:
    message, usage = turn.message, turn.message.usage or _Usage()
    data = {"errors": message.errors} if message.errors else {}
    data |= tool_errors.get(step_id, {})
    is_user = message.role == "user"
    return Step(
        id=step_id,
        status="failed" if data else "success",
        model=(setup.user_info if is_user else setup.agent_info).llm,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        error_type=("format_error" if message.errors else "tool_error") if data else None,
        error_data=data or None,
        tags=[USER_TAG] if is_user else None,
        provider_response=message.raw_data,
    )


def _time_us(text: str, where: str) -> int:
    return times.check_range(times.from_text(text, where), where)
