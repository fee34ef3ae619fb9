"""Random histories of jobs, runs and batches, the same for the same seed: what a fold must get right, all mixed.

Lives interleave, clocks jump, statuses are refused, rows are updated, deleted and erased, and tokens come and go.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from functools import partial

from ledger import Ledger, commands, messages
from ledger.commands import Context, Note
from ledger.decider import Abandon, Change, Command, Create, Delete, Erase, Expire, Redeliver, Report, cancel
from ledger.errors import LedgerError
from ledger.events import Changed, Created, ErrorInfo, Granted, RunUpdated, Step, TokenUsage, draft
from ledger.session import Session, Work
from ledger.transitions import STOP_REASONS, TERMINAL, statuses

START_US = 1_700_000_000_000_000
DAY_US = 86_400_000_000
USERS = [f"user-00000000-0000-4000-8000-00000000000{number}" for number in range(3)]
AGENTS = ["agent-1", "agent-2", "ägent „3“"]
TEXTS = ["done", "Er sagte: „Nein“, re\u0301sume\u0301", "a_b-c a/b.c 42", "\u202eabc\x00d שלום 🦉", "the end " * 40]
SOURCES = ["source-1", "source-2", "📁"]


class History:
    """Makes a ledger's history longer, at random. ``ids`` are the resources so far."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now_us = START_US
        self.ids: list[str] = []
        self.steps: list[str] = []

    async def extend(self, ledger: Ledger, steps: int) -> None:
        """Take so many steps, a few in each transaction; what the rules refuse is a step too."""
        while steps > 0:
            share = min(steps, self.chance.randint(1, 12))
            await ledger.submit(partial(self._steps, count=share))
            steps -= share

    def _steps(self, session: Session, count: int) -> None:
        for _ in range(count):
            context = Context(actor=self.chance.choice(USERS), time_us=self._time())
            try:
                self._work(context)(session)
            except LedgerError:
                continue  # nothing of it was staged: single commands and new batches fail at once or not at all
            if self.chance.random() < 0.05:
                session.append([self._grant()])

    def _work(self, context: Context) -> Work:
        runs = [id for id in self.ids if id.startswith("run")]
        if runs and self.chance.random() < 0.3:
            notes = [self._note() for _ in range(self.chance.randint(1, 3))]
            return commands.record(self.chance.choice(runs), notes, context)
        return commands.work(self._plan(), context)

    def _note(self) -> Note:
        when = self.chance.choice([None, self.now_us + self.chance.randint(-DAY_US, DAY_US)])
        return Note(self._step() if self.chance.random() < 0.5 else messages.record(self._message())[0], when)

    def _step(self) -> Step:
        """A new step, or more about one that some run may have: half of them fail, as that is another run's."""
        if not self.steps or self.chance.random() < 0.5:
            self.steps.append(f"step-{uuid.UUID(int=self.chance.getrandbits(128))}")
        facts: dict[str, object] = {
            "status": self.chance.choice(["pending", "success", "failed", "cancelled"]),
            "model": self.chance.choice(["gpt-1", "öwl"]),
            "agent_id": self.chance.choice(AGENTS),
            "prompt_tokens": self.chance.randrange(9),
            "total_tokens": self.chance.randrange(99),
            "prompt_tokens_details": {"cached_tokens": self.chance.choice([None, 3]), "cache_read_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 5},
            "error_type": self.chance.choice(["tool_error", "Timeout"]),
            "error_data": {"deep": [{"er": None}]},
            "tags": ["a", "b"],
            "feedback": self.chance.choice(["positive", None]),
            "step_ns": self.chance.randrange(10**9),
        }
        said = {name: value for name, value in facts.items() if self.chance.random() < 0.4}
        return Step(id=self.chance.choice(self.steps[-3:]), **said)  # type: ignore[arg-type]

    def _message(self) -> dict[str, object]:
        call = {"name": self.chance.choice(["look", "run 🏃", "x" * 300]), "arguments": "{}", "tool_call_id": "c"}
        message: dict[str, object] = {
            "id": f"message-{uuid.UUID(int=self.chance.getrandbits(3))}",
            **self.chance.choice(
                [
                    {"message_type": "user_message", "content": [{"type": "text", "text": "é"}], "mine": [1, None]},
                    {
                        "message_type": "assistant_message",
                        "content": self._text(),
                        "date": None,
                        "run_id": None,
                    },
                    {
                        "message_type": "tool_call_message",
                        "tool_call": call,
                        "tool_calls": [call, {**call, "name": "b"}],
                    },
                    {
                        "message_type": "tool_return_message",
                        "tool_return": self.chance.choice(["", "KeyError: 'a1'", "no file /a/b7"]),
                        "status": self.chance.choice(["success", "error"]),
                        "tool_call_id": self.chance.choice(["c", "d"]),
                    },
                ]
            ),
        }
        if self.steps and self.chance.random() < 0.5:
            message["step_id"] = self.steps[-1]
        return message

    def _text(self) -> str:
        return TEXTS[self.now_us % len(TEXTS)]

    def _time(self) -> int:
        """The producer's clock: mostly a little later, sometimes the same, sometimes far off."""
        jump = self.chance.choices([self.chance.randint(1, 10**9), 0, self.chance.randint(-DAY_US, DAY_US)], [8, 3, 2])
        self.now_us += jump[0]
        return self.now_us

    def _plan(self) -> commands.Plan:
        if not self.ids or self.chance.random() < 0.2:
            return self._creation()
        if self.chance.random() < 0.18:
            return lambda session: (self._callback(session),)
        id = self.chance.choice(self.ids)
        command = self.chance.choices([self._move, self._update, self._cancel, self._delete, self._expire, self._erase],
                                      [24, 12, 4, 2, 2, 1])[0](id)  # fmt: skip
        return commands.single(command)

    def _creation(self) -> commands.Plan:
        kind = self.chance.choice(["job", "run", "batch"])
        if kind == "batch":
            runs = [self._create("run") for _ in range(self.chance.randint(1, 3))]
            batch = Create(id=self._id("job"), kind="batch", facts=self._birth(runs=[run.id for run in runs]))
            return commands.create_batch(batch, runs)
        return commands.single(self._create(kind))

    def _create(self, kind: str) -> Create:
        status = self.chance.choice(["created", *statuses(kind)])
        end = Changed()
        if status in TERMINAL - {"cancelled"}:
            end = Changed(stop_reason=self.chance.choice([None, *STOP_REASONS]), ttft_ns=self._ns())
        more = {"agent_id": self.chance.choice(AGENTS)} if kind == "run" else {}
        return Create(id=self._id(kind), kind=kind, facts=self._birth(**more), status=status, end=end)

    def _id(self, kind: str) -> str:
        id = f"{kind}-{uuid.UUID(int=self.chance.getrandbits(128))}"
        self.ids.append(id)
        return id

    def _birth(self, **more: object) -> Created:
        def sometimes(*values: object) -> object:
            return self.chance.choice([None, *values])

        return Created(
            user_id=self.chance.choice(USERS),
            **{  # type: ignore[arg-type]
                "project_id": sometimes("project-1"),
                "agent_id": sometimes(*AGENTS),
                "conversation_id": sometimes("conv-1", "conv-2"),
                "base_template_id": sometimes("family:1"),
                "background": sometimes(True, False),
                "metadata": sometimes(self._metadata()),
                "request_config": sometimes({"stream": True, "nested": {"n": [1, 2.5, None]}}),
                "callback_url": sometimes("https://example.org/done"),
                "timeout_s": sometimes(0.5, 3600.0),
                **more,
            },
        )

    def _metadata(self) -> dict[str, object]:
        found: dict[str, object] = {
            "source_id": self.chance.choice([*SOURCES, 7]),
            "n": self.chance.choice([0, -1, 2**63 - 1, 1e300, 0.1]),
            "text": self.chance.choice(["", "é\u2028\x00\x1b[31m", '"\\', "🦉" * 20]),
            "deep": [{"a": [None, True]}],
        }
        return {name: value for name, value in found.items() if self.chance.random() < 0.5}

    def _ns(self) -> int | None:
        return self.chance.choice([None, 0, self.chance.randint(1, 2**63 - 1)])

    def _move(self, id: str) -> Command:
        status = self.chance.choice(["pending", "running", "running", "completed", "failed", "cancelled", "expired"])
        reason = self.chance.choice([None, "end_turn", "max_steps"]) if status in TERMINAL - {"cancelled"} else None
        return Change(id=id, status=status, facts=Changed(stop_reason=reason, total_duration_ns=self._ns()))

    def _update(self, id: str) -> Command:
        error = ErrorInfo(type="ValueError", message="‽") if self.chance.random() < 0.2 else None
        agent = self.chance.choice([None, None, *AGENTS])
        more = {"metadata": self._metadata(), "ttft_ns": self._ns(), "error": error, "agent_id": agent}
        facts = Changed(**more)
        if id.startswith("run"):
            facts = RunUpdated(
                **more, usage=self.chance.choice([None, TokenUsage(prompt_tokens=self.chance.randrange(9))])
            )
        return Change(id=id, facts=facts)

    def _cancel(self, id: str) -> Command:
        return cancel(id, by=USERS[0])

    def _delete(self, id: str) -> Command:
        return Delete(id=id, reason="tidy")

    def _erase(self, id: str) -> Command:
        return Erase(id=id, reason="asked for", by=self.chance.choice([None, USERS[0]]))

    def _expire(self, id: str) -> Command:
        return Expire(id=id, now_us=self.now_us)

    def _callback(self, session: Session) -> Command:
        """What becomes of a callback: mostly of one that is owed, sometimes of one that is not."""
        ended = [state for id in self.ids if (state := session.state(id)) is not None and state.debt is not None]
        kind = self.chance.choice(["job", "run", "batch"])
        id = self.chance.choice([state.id for state in ended if state.kind == kind] or self.ids)
        state = session.state(id)
        debt = state.debt if state is not None else None
        position = debt.owed_position if debt and self.chance.random() < 0.8 else 1
        if self.chance.random() < (0.2 if debt is None or debt.is_owed else 0.7):
            again = Redeliver(id=id, by=USERS[0])
            return self.chance.choice([again, again, Abandon(id=id, owed_position=position, reason="imported")])
        answers = [
            (None, 200),
            (None, 204),
            ("gone", 410),
            ("http_status", 500),
            ("timeout", None),
            ("interrupted", None),
        ]
        error, status_code = self.chance.choice(answers)
        due_us = None if error in (None, "gone") else self.chance.choice([None, self.now_us + DAY_US])
        return Report(
            id=id, owed_position=position, duration_ns=7_000_000, error=error, status_code=status_code, due_us=due_us
        )

    def _grant(self):  # type: ignore[no-untyped-def]
        token = f"token-{uuid.UUID(int=self.chance.getrandbits(128))}"
        fact = Granted(user_id=USERS[0], scopes=["read"], token_sha256=token)
        return draft(token, "access.granted", fact, time=self.now_us, actor=USERS[0])


def shares(chance: random.Random, largest: int) -> Iterator[int]:
    """Sizes of batches, for ever."""
    while True:
        yield chance.randint(1, largest)
