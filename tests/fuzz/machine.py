"""Hypothesis against the whole HTTP surface: users who ask for anything, a server, and a model that says what is right.

Each example has a server of its own on 127.0.0.1, with a clock that is data. After every step one of the users, each in
turn, reads everything there is to read: it is what the model says, and nobody ever sees another's rows.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ledger.soundness import verify_file
from tests.fuzz.model import ENDS, FAMILIES, STATUSES, Model, Refused, State, Token, text
from tests.scratch import scratch
from tests.server.serving import HOME, MIDNIGHT_US, Answer, Clock, User, logging_to, serving

SCOPES = {
    "ann": (1, ("read", "write"), None),
    "ann reads": (1, ("read",), None),
    "ann in p1": (1, ("read", "write"), "p1"),
    "bob": (2, ("read", "write"), None),
    "root": (3, ("read", "write", "admin"), None),
    "root in p1": (3, ("read", "write", "admin"), "p1"),
}
"""Who there is: the number of the user, what the token may do, and its project."""
FAMILY_OF = {"job": "jobs", "run": "runs", "batch": "batches"}
PATHS = {"jobs": "/v1/jobs", "runs": "/v1/runs", "batches": "/v1/messages/batches"}
OF_RUN = ("steps", "messages", "usage", "metrics", "trace", "report", "events")
AGENTS = ("agent-1", "agent-2")

who = st.sampled_from(["ann", "ann", "ann", "root", "root", *SCOPES])
which = st.integers(0, 11)
metadata = st.none() | st.dictionaries(
    st.sampled_from(["a", "source_id"]), st.sampled_from([1, "x", None, [0.5]]), max_size=2
)
back_s = st.sampled_from([None, None, 0, 5, 3600])
key = st.none() | st.sampled_from(["key-1", "key-2", "key-3"])
tag = st.sampled_from(["none", "none", "current", "stale", "stale", "any", "several"])


class Surface(RuleBasedStateMachine):
    """What users may do, in any order. ``stories``: how many there were in this process."""

    stories = 0

    def __init__(self) -> None:
        super().__init__()
        Surface.stories += 1
        self.runner = asyncio.Runner()
        self.closing, self.stack = ExitStack(), AsyncExitStack()
        self.closing.enter_context(logging_to(io.TextIOWrapper(io.BytesIO())))
        self.folder = self.closing.enter_context(scratch())
        self.model = Model(MIDNIGHT_US)
        self.clock = Clock(MIDNIGHT_US)
        self.tokens = {
            name: Token(f"user-00000000-0000-4000-8000-{n:012x}", scopes, p) for name, (n, scopes, p) in SCOPES.items()
        }
        self.keys: dict[str, tuple[Any, int, Any, str]] = {}
        self.revoked: set[str] = set()
        self.turn = self.made = self.seen = 0
        self.runner.run(self._open())

    async def _open(self) -> None:
        path = self.folder / "ledger.db"
        self.service = await self.stack.enter_async_context(serving(path, self.clock))
        self.users: dict[str, User] = {}
        for name, token in self.tokens.items():
            user = await self.service.user(*token.scopes, id=token.user, project=token.project)
            self.users[name] = user
            self.model.append(user.token_id, "access", "granted", "user-00000000-0000-4000-8000-000000000000")

    def teardown(self) -> None:
        try:
            self.runner.run(self.stack.aclose())
            verdict = self.runner.run(verify_file(self.folder / "ledger.db"))
            assert (verdict.ok, verdict.size) == (True, len(self.model.log)), verdict.problems
        finally:
            self.runner.close()
            self.closing.close()

    # --- asking -------------------------------------------------------------------------------------------------------

    def ask(self, name: str, method: str, path: str, **more: Any) -> Answer:
        answer = self.runner.run(self.users[name].request(method, path, **more))
        assert answer.headers["X-Request-Id"]
        assert answer.status < 500, answer.body
        if answer.status >= 400:
            assert set(answer.error) == {"type", "message", "details"}
            assert answer.error["message"]
        self.check_hidden(name, f"{path} {more.get('json')} {more.get('data')}", answer)
        return answer

    def check_hidden(self, name: str, sent: str, answer: Answer) -> None:
        """Nobody sees the id of another's resource, but in what they sent themselves."""
        for stream in self.model.streams():
            born, token = self.model.state(stream, self.model.events(stream)[0]["position"]), self.tokens[name]
            if not self.model.sees(token, born) and stream not in sent:  # a batch goes on naming runs that were erased
                assert stream.encode() not in answer.body, f"{name} sees {stream} of {born and born['user']}"

    def refusal(self, name: str, scope: str) -> Refused | None:
        if name in self.revoked:
            return Refused(401, "unauthorized")
        return None if self.tokens[name].may(scope) else Refused(403, "forbidden")

    def command(
        self, name: str, method: str, path: str, predict: Callable[[], Any], *, scope: str = "write",
        body: Any = None, key: str | None = None, etags: str | None = None, ok: int = 200,
    ) -> Answer | None:  # fmt: skip
        """Ask for a change, and see that the answer is the model's. Return it where it is a good one."""
        headers = ({"Idempotency-Key": key} if key else {}) | ({"If-Match": etags} if etags else {})
        before = len(self.model.log)
        request = (method, path, self.tokens[name].user, self.tokens[name].project, json.dumps(body))
        prior = self.keys.get(key or "")
        wrong = self.refusal(name, scope)
        if wrong is None and prior is not None:
            return self.repeat(name, method, path, prior, request, body=body, headers=headers)
        if wrong is None:
            try:
                predict()
            except Refused as refused:
                wrong = refused
        more = {} if body is None else {"json": body}
        answer = self.ask(name, method, path, headers=headers, **more)
        said = answer.status, answer.error["type"] if answer.status >= 400 else ""
        assert said == ((ok, "") if wrong is None else (wrong.status, wrong.type)), (said, answer.body)
        grown = len(self.model.log) > before
        if wrong is None and grown:
            assert answer.position == len(self.model.log)
        if key and grown:
            self.keys[key] = (request, answer.status, answer.json, self.model.log[-1]["stream"])
        return answer if wrong is None else None

    def repeat(self, name: str, method: str, path: str, prior: Any, request: Any, **more: Any) -> None:
        """A key that was used: the same request has the same answer, another one none."""
        known, status, said, stream = prior
        state = self.model.state(stream)
        answer = self.ask(
            name,
            method,
            path,
            **{n: value for n, value in (("json", more["body"]), ("headers", more["headers"])) if value is not None},
        )
        if answer.status == 422:  # what cannot be understood is refused before its key is looked at
            return
        if state is not None and state["erased"]:  # whether it is the same request cannot be told any more
            gone, used = (410, "erased"), (409, "idempotency_conflict")
            wanted = {gone} if self.model.sees(self.tokens[name], state) else {used}
            if not any(path.startswith(home) and state["kind"] in FAMILIES[family] for family, home in PATHS.items()):
                wanted |= {used}  # where resources of that kind are not shown, a key need not tell of one
            assert (answer.status, answer.error["type"]) in wanted
        elif request != known:
            assert (answer.status, answer.error["type"]) == (409, "idempotency_conflict")
        else:
            assert (answer.status, answer.json) == (status, said)

    # --- choosing -----------------------------------------------------------------------------------------------------

    def a(self, number: int, kinds: tuple[str, ...] = ("job", "run", "batch"), name: str = "") -> tuple[str, str]:
        """One of the resources, most often one that ``name`` may see, or an id of none; and a family of routes."""
        known = [(stream, self.model.state(stream) or {}) for stream in self.model.streams()]
        known = [(stream, state) for stream, state in known if state["kind"] in kinds]
        if number < 8 and name:
            token = self.tokens[name]
            own = [each for each in known if self.model.sees(token, each[1]) and not each[1]["deleted"]]
            known = own or known
        if not known or number == 11:
            return "run-00000000-0000-4000-8000-0000000000ff", "runs"
        stream, state = known[-1 - number % len(known)]
        return stream, FAMILY_OF[state["kind"]]

    def new_id(self, kind: str) -> str:
        self.made += 1
        return f"{'run' if kind == 'run' else 'job'}-00000000-0000-4000-8000-{self.made:012x}"

    def etags(self, tag: str, id: str) -> tuple[str | None, list[int] | None]:
        etag = (self.model.state(id) or {"etag": 1})["etag"]
        return {
            "none": (None, None), "any": ("*", None), "current": (f'"{etag}"', [etag]),
            "stale": (f'"{etag + 1}"', [etag + 1]), "several": (f'W/"{etag}", "{etag}"', [etag]),
        }[tag]  # fmt: skip

    def time_us(self, back_s: int | None) -> int | None:
        return None if back_s is None else self.model.now_us - back_s * 1_000_000

    # --- changes ------------------------------------------------------------------------------------------------------

    @rule(name=who, kind=st.sampled_from(["job", "run"]), status=st.sampled_from(STATUSES["job"]), metadata=metadata,
          agent=st.sampled_from(AGENTS), reason=st.sampled_from([None, None, "error", "cancelled"]), back=back_s,
          timeout_s=st.sampled_from([None, None, 10.0, 0.5]), url=st.booleans(), key=key, taken=which)  # fmt: skip
    def create(self, name, kind, status, metadata, agent, reason, back, timeout_s, url, key, taken):
        if status not in STATUSES[kind]:
            status = "failed"
        id = self.a(taken, (kind,))[0] if taken < 2 else self.new_id(kind)
        if not id.startswith("run" if kind == "run" else "job") or id.endswith("ff"):
            id = self.new_id(kind)
        body = {
            "id": id, "status": status, "agent_id": agent, "metadata": metadata, "timeout_s": timeout_s,
            "stop_reason": reason, "callback_url": "https://example.com/x" if url else None,
        }  # fmt: skip
        if kind == "run":
            body["conversation_id"] = f"conv-{agent}"
        time_us = self.time_us(back)
        sent = body | ({} if time_us is None else {"time": text(time_us)})
        self.command(name, "POST", HOME[kind], lambda: self.model.create(self.tokens[name], kind, id, body | {"time_us": time_us}),
                     body=sent, key=key, ok=201)  # fmt: skip

    @rule(
        name=who,
        agents=st.lists(st.sampled_from(AGENTS), min_size=1, max_size=3),
        metadata=metadata,
        ends=st.booleans(),
    )
    def create_batch(self, name, agents, metadata, ends):
        id = self.new_id("batch")
        runs: list[str] = []

        def predict() -> None:
            runs.extend(f"(run {number})" for number in range(len(agents)))
            self.model.create_batch(self.tokens[name], id, runs, {"metadata": metadata}, agents)

        body = {"id": id, "metadata": metadata, "requests": [{"agent_id": agent} for agent in agents]}
        if self.command(name, "POST", HOME["batch"], predict, body=body, ok=201) is None:
            return
        events = self.runner.run(self.service.app.ledger.store.scan(len(self.model.log) - len(agents) - 3, 1000))
        names = dict(zip(runs, (event.stream for event in events[2:-1]), strict=True))
        for event in self.model.log[-len(agents) - 3 :]:
            event["stream"] = names.get(event["stream"], event["stream"])
            if "runs" in event:
                event["runs"] = list(names.values())
        if ends:  # one of its runs has ended by then; the others go with it
            run, token = next(iter(names.values())), self.tokens[name]
            self.command(name, "PATCH", f"/v1/runs/{run}/cancel", lambda: self.model.cancel(token, run, "runs"))
            path = f"{PATHS['batches']}/{id}/cancel"
            self.command(name, "PATCH", path, lambda: self.model.cancel(token, id, "batches"))

    @rule(name=who, number=which, status=st.sampled_from([None, *STATUSES["job"]]), metadata=metadata, tag=tag, key=key,
          reason=st.sampled_from([None, None, "error", "end_turn"]), back=back_s, ns=st.sampled_from([None, None, 7]))  # fmt: skip
    def change(self, name, number, status, metadata, tag, key, reason, back, ns):
        id, family = self.a(number, ("job", "run"), name)
        if family == "runs" and status not in (None, *STATUSES["run"]):
            status = "completed"
        body = {"status": status, "metadata": metadata, "stop_reason": reason, "total_duration_ns": ns}
        time_us, (sent, etags) = self.time_us(back), self.etags(tag, id)
        self.command(
            name, "PATCH", f"{PATHS[family]}/{id}",
            lambda: self.model.change(self.tokens[name], id, family, body | {"time_us": time_us}, etags),
            body=body | ({} if time_us is None else {"time": text(time_us)}), key=key, etags=sent,
        )  # fmt: skip

    @rule(name=who, number=which, tag=tag, key=key)
    def advance_one_step(self, name, number, tag, key):
        """The next legal status, a second later, so that lives get to their ends."""
        self.clock.advance(1)
        self.model.now_us = self.clock.now_us
        id, family = self.a(number, ("job", "run"), name)
        following = {
            "created": "pending" if family == "jobs" else "running",
            "pending": "running",
            "running": "completed",
        }
        status = following.get((self.model.state(id) or {"status": ""})["status"], "running")
        sent, etags = self.etags(tag, id)
        self.command(name, "PATCH", f"{PATHS[family]}/{id}",
                     lambda: self.model.change(self.tokens[name], id, family, {"status": status}, etags),
                     body={"status": status}, key=key, etags=sent)  # fmt: skip

    @rule(name=who, number=which, tag=tag, key=key)
    def cancel(self, name, number, tag, key):
        self.try_to_cancel(name, number, tag, key)

    def try_to_cancel(self, name: str, number: int, tag: str, key: str | None) -> None:
        id, family = self.a(number, name=name)
        sent, etags = self.etags(tag, id)
        self.command(name, "PATCH", f"{PATHS[family]}/{id}/cancel",
                     lambda: self.model.cancel(self.tokens[name], id, family, etags), key=key, etags=sent)  # fmt: skip

    @rule(
        name=who, kind=st.sampled_from(["job", "run"]), expires=st.booleans(), told=st.booleans(), erased=st.booleans()
    )
    def live(self, name, kind, expires, told, erased):
        """A whole life that takes time, to its end or exactly to its deadline, and perhaps its erasure."""
        id, family, token = self.new_id(kind), FAMILY_OF[kind], self.tokens[name]
        body = {"id": id, "agent_id": "agent-1", "timeout_s": 10.0}
        if (
            self.command(name, "POST", HOME[kind], lambda: self.model.create(token, kind, id, body), body=body, ok=201)
            is None
        ):
            return
        ends = [] if expires else [{"status": "completed", "total_duration_ns": 7 if told else None}]
        begins = [{"status": status} for status in ("pending", "running") if status in STATUSES[kind]]
        for change in [*begins, *ends]:
            self.pass_time(2)
            path = f"{PATHS[family]}/{id}"
            self.command(
                name, "PATCH", path, lambda change=change: self.model.change(token, id, family, change), body=change
            )
        if expires:
            self.pass_time(10)
        if erased:
            self.read_one(name, id, family, "", lambda: self.model.found(token, id, family), {})
            self.erase_as("root", id, family)
            self.read_one("root", id, family, "", lambda: self.model.found(self.tokens["root"], id, family), {})

    @rule(name=who, number=which)
    def insist(self, name, number):
        """What was refused is history once, however often it is asked for."""
        for _ in range(3):
            self.try_to_cancel(name, number, "none", None)

    @rule(name=who, agent=st.sampled_from(AGENTS), numbers=st.none() | st.lists(which, min_size=1, max_size=3))
    def cancel_agent(self, name, agent, numbers):
        """All runs of an agent, or some that are named, whosever they are."""
        told: dict[str, str] = {}
        asked = None if numbers is None else [self.a(number, ("run",))[0] for number in numbers]
        answer = self.command(
            name, "POST", f"/v1/agents/{agent}/messages/cancel",
            lambda: told.update(self.model.cancel_agent(self.tokens[name], agent, asked)), body={"run_ids": asked},
        )  # fmt: skip
        assert answer is None or answer.json == told

    @rule(name=who, number=which, tag=tag)
    def delete(self, name, number, tag):
        id, family = self.a(number, ("job", "run"), name)
        sent, etags = self.etags(tag, id)
        self.command(name, "DELETE", f"{PATHS[family]}/{id}",
                     lambda: self.model.delete(self.tokens[name], id, family, etags), etags=sent)  # fmt: skip

    @rule(name=st.sampled_from(["root", "root", "root in p1", "ann"]), number=which)
    def erase(self, name, number):
        self.erase_as(name, *self.a(number, ("job", "run"), name))

    def erase_as(self, name: str, id: str, family: str) -> None:
        self.command(name, "POST", f"{PATHS[family]}/{id}/erase", lambda: self.model.erase(self.tokens[name], id, family),
                     scope="admin", body={"reason": "asked for"})  # fmt: skip

    @rule(name=who, number=which)
    def redeliver(self, name, number):
        id, family = self.a(number, ("job", "run"), name)
        self.command(name, "POST", f"{PATHS[family]}/{id}/callback/redeliver",
                     lambda: self.model.redeliver(self.tokens[name], id, family))  # fmt: skip

    @rule(
        name=who,
        number=which,
        steps=st.lists(
            st.tuples(st.integers(1, 4), st.sampled_from([None, "pending", "success", "failed"])),
            min_size=1,
            max_size=3,
        ),
    )
    def record_steps(self, name, number, steps):
        id, _ = self.a(number, ("run",), name)
        tail = id[-4:]  # another run has other steps
        notes = [
            {"id": f"step-00000000-0000-4000-8000-{n:08x}{tail}", "status": status, "model": "m"} for n, status in steps
        ]
        self.command(name, "POST", f"/v1/runs/{id}/steps", lambda: self.model.note(self.tokens[name], id, "step", notes),
                     body=notes, ok=201)  # fmt: skip

    @rule(name=who, number=which, words=st.sampled_from(["hello", "gift card", "no"]))
    def say(self, name, number, words):
        id, _ = self.a(number, ("run",), name)
        self.made += 1
        note = {
            "id": f"message-00000000-0000-4000-8000-{self.made:012x}",
            "message_type": "assistant_message",
            "content": f"{words} in {id}",
        }
        self.command(name, "POST", f"/v1/runs/{id}/messages", lambda: self.model.note(self.tokens[name], id, "message", [note]),
                     body=note, ok=201)  # fmt: skip

    @rule(
        name=who,
        statuses=st.sampled_from(
            ["", "pending", "pending running", "pending running failed", "running", "pending failed"]
        ),
    )
    def append_in_bulk(self, name, statuses):
        """All events of a life or, where one of them may not follow, none."""
        token, id = self.tokens[name], self.new_id("job")
        verbs = ["created", *statuses.split()]
        is_legal = all(after in {"created": "pending", "pending": "running", "running": "failed"}[one]
                       for one, after in pairwise(verbs))  # fmt: skip
        lines = [{"specversion": "1.0", "type": f"job.{verb}", "subject": id, "data": {}} for verb in verbs]
        lines[0]["data"] = {"user_id": token.user, "project_id": token.project, "agent_id": "agent-1"}
        wrong = self.refusal(name, "write")
        if wrong is None and is_legal:
            for verb in verbs:
                facts = {"agent_id": "agent-1", "project": token.project} if verb == "created" else {}
                self.model.append(id, "job", verb, token.user, **facts)
        answer = self.ask(name, "POST", "/v1/events", data=b"\n".join(map(msgspec.json.encode, lines)))
        assert answer.status == (wrong.status if wrong else 200 if is_legal else 422), answer.body
        if not wrong and is_legal:
            assert (answer.json["appended"], answer.json["position"]) == (len(verbs), len(self.model.log))

    @rule(seconds=st.sampled_from([0.000001, 0.5, 9.5, 10, 4000]))
    def time_passes(self, seconds):
        self.pass_time(seconds)

    def pass_time(self, seconds: float) -> None:
        """Let time pass; what is past its timeout then ends, once."""
        self.clock.advance(seconds)
        self.model.now_us = self.clock.now_us
        before = len(self.model.log)
        ended = self.model.expire()
        self.runner.run(self.service.app.expiry.beat())
        events = self.runner.run(self.service.app.ledger.store.scan(before, 1000))
        by_stream = {event["stream"]: event for event in ended}
        assert {event.stream for event in events} == set(by_stream)
        for position, event in enumerate(events, before + 1):  # in which order they ended is the server's to say
            self.model.log[position - 1] = by_stream[event.stream] | {"position": position}
        self.runner.run(self.service.app.engine.wait_for(len(self.model.log), 10))

    @precondition(lambda self: len(self.model.log) > 20)
    @rule(name=st.sampled_from(["bob", "ann in p1", "ann reads"]))
    def revoke(self, name):
        if name in self.revoked:
            return
        self.model.append(self.users[name].token_id, "access", "revoked", self.tokens["root"].user)
        answer = self.ask("root", "DELETE", f"/v1/tokens/{self.users[name].token_id}")
        assert answer.status == 200
        self.revoked.add(name)

    # --- reads --------------------------------------------------------------------------------------------------------

    @rule(name=who, kind=st.sampled_from(["job", "run"]), limit=st.sampled_from([1, 2, 3, 100]), order=st.sampled_from(["asc", "desc"]),
          filters=st.dictionaries(st.sampled_from(["status", "active", "agent_id", "stop_reason", "created_after", "project_id"]), which, max_size=3))  # fmt: skip
    def page_to_the_end(self, name, kind, limit, order, filters):
        """Whatever is filtered by, pages give every row once, in order."""
        asked, passes = self.filters(kind, filters)
        if self.refusal(name, "read"):
            return
        path = f"{HOME[kind]}?limit={limit}&order={order}{asked}"
        project = "p1" if "project_id" in filters else None
        wanted = [
            s["id"] for s in self.model.rows(self.tokens[name], kind) if passes(s) and project in (None, s["project"])
        ]
        found: list[str] = []
        for _ in range(len(wanted) + 2):
            answer = self.ask(name, "GET", path)
            assert answer.status == 200, answer.body
            assert len(answer.ids) <= limit
            found += answer.ids
            if answer.next_path is None:
                break
            path = answer.next_path
        assert found == (wanted if order == "desc" else wanted[::-1])

    def filters(self, kind: str, chosen: dict[str, int]) -> tuple[str, Callable[[State], bool]]:
        statuses = STATUSES[kind]
        asked, tests = "", []
        for name, number in chosen.items():
            status, agent = statuses[number % len(statuses)], AGENTS[number % 2]
            reason = ("error", "cancelled", "end_turn")[number % 3]
            edges = sorted({state["created_us"] for state in map(self.model.state, self.model.streams()) if state}) or [
                0
            ]
            edge = edges[number % len(edges)]
            value, test = {
                "status": (status, lambda s, v=status: s["status"] == v),
                "active": ("true", lambda s: s["status"] in ("created", "running")),
                "agent_id": (agent, lambda s, v=agent: s["agent_id"] == v),
                "stop_reason": (reason, lambda s, v=reason: s["stop_reason"] == v),
                "created_after": (text(edge), (lambda s, v=edge: s["created_us"] > v) if kind == "job" else (lambda s, v=edge: s["created_us"] >= v)),
                "project_id": ("p1", lambda s: s["project"] == "p1"),
            }[name]  # fmt: skip
            asked += f"&{'start_date' if (name, kind) == ('created_after', 'run') else name}={value}"
            tests.append(test)
        return asked, lambda state: all(test(state) for test in tests)

    @rule(name=who, number=which, back=st.integers(0, 40), by_time=st.booleans())
    def look_back(self, name, number, back, by_time):
        if not self.refusal(name, "read"):
            self.see_as_of(name, number, back, by_time=by_time)

    def see_as_of(self, name: str, number: int, back: int, *, by_time: bool) -> None:
        """A resource and a list as of any position and time are what the model's past was."""
        position = max(0, len(self.model.log) - back)
        if by_time and position:
            time_us = self.model.log[position - 1]["time_us"] - back % 2
            at, asked = {"time_us": time_us}, text(time_us)
        else:
            at, asked = {"position": position}, str(position)
        id, family = self.a(number, name=name)
        self.read_one(
            name, id, family, f"?as_of={asked}", lambda: self.model.found_then(self.tokens[name], id, family, **at), at
        )
        kind = (self.model.state(id) or {"kind": "run"})["kind"]
        answer = self.ask(name, "GET", f"{HOME[kind]}?as_of={asked}&limit=1000")
        assert answer.json == [
            self.model.shown(s, FAMILY_OF[kind], **at) for s in self.model.rows(self.tokens[name], kind, **at)
        ]

    def read_one(
        self, name: str, id: str, family: str, query: str, find: Callable[[], State], at: dict[str, int]
    ) -> None:
        answer = self.ask(name, "GET", f"{PATHS[family]}/{id}{query}")
        try:
            state = find()
        except Refused as refused:
            assert (answer.status, answer.error["type"]) == (refused.status, refused.type), answer.body
            return
        assert (answer.status, answer.json) == (200, self.model.shown(state, family, **at))
        assert answer.etag == f'"{state["etag"]}"'
        if family != "batches" and not query:
            for given, status in ((answer.etag, 304), (f'"{state["etag"] + 1}"', 200), ("*", 304)):
                again = self.ask(name, "GET", f"{PATHS[family]}/{id}", headers={"If-None-Match": given})
                assert (again.status, again.etag) == (status, answer.etag)

    @invariant()
    def the_log_is_what_was_accepted(self):
        new = self.model.log[self.seen :]
        events = self.ask("root", "GET", f"/v1/events?after={self.seen}&limit=1000").json
        told = [(e["position"], e["subject"], e["type"].partition(".")[2], e["actor"], e["time"]) for e in events]
        assert told == [(e["position"], e["stream"], e["verb"], e["actor"], text(e["time_us"])) for e in new]
        self.seen = len(self.model.log)

    @invariant()
    def somebody_sees_their_own_and_nothing_else(self):
        self.turn += 1
        name = list(SCOPES)[self.turn % len(SCOPES)]
        token = self.tokens[name]
        if name in self.revoked:
            assert self.ask(name, "GET", "/v1/jobs").status == 401
            return
        for kind, family in FAMILY_OF.items():
            answer = self.ask(name, "GET", f"{HOME[kind]}?limit=1000")
            assert answer.json == [self.model.shown(state, family) for state in self.model.rows(token, kind)]
        for path in (
            "/v1/failures",
            "/v1/stats",
            "/v1/search?query=in",
            "/v1/steps?limit=1000",
            "/v1/events?limit=1000",
        ):
            assert self.ask(name, "GET", path).status == 200
        self.check_found_words(name)
        assert self.ask(name, "GET", "/v1/tokens").status == (200 if token.sees_all else 403)
        id, family = self.a(self.turn * 7 % 11)
        self.read_one(name, id, family, "", lambda: self.model.found(token, id, family), {})
        self.read_inside(name, id)
        self.see_as_of(name, self.turn * 5 % 11, self.turn * 3 % 16, by_time=self.turn % 2 == 0)

    def check_found_words(self, name: str) -> None:
        """Steps and words that are found are those of runs that are listed."""
        runs = {state["id"] for state in self.model.rows(self.tokens[name], "run")}
        found = {each["stream"] for each in self.ask(name, "GET", "/v1/search?query=in&what=message&limit=200").json}
        said = {run for run in runs if any(event["verb"] == "message" for event in self.model.events(run))}
        assert found == said
        steps = {step for run in runs for step in self.model.steps(run)}
        assert set(self.ask(name, "GET", "/v1/steps?limit=1000").ids) == steps

    def read_inside(self, name: str, id: str) -> None:
        """What is below a run can be read by whoever can read the run, and says what was said."""
        token = self.tokens[name]
        if not id.startswith("run"):
            return
        try:
            self.model.found(token, id, "runs")
            wanted = 200
        except Refused as refused:
            wanted = refused.status
        for part in OF_RUN:
            if part == "events" and token.sees_all:
                continue  # an admin reads the history of anything
            answer = self.ask(name, "GET", f"/v1/runs/{id}/{part}")
            assert answer.status == wanted, (part, answer.body)
            if wanted == 200 and part == "messages":
                said = [event["said"]["id"] for event in self.model.events(id) if event["verb"] == "message"]
                assert answer.ids == said
            if wanted == 200 and part == "steps":
                assert {each["id"]: each["status"] for each in answer.json} == {
                    step: facts["status"] for step, facts in self.model.steps(id).items()
                }
            if wanted == 200 and part == "events":
                assert [each["streamversion"] for each in answer.json] == list(range(1, len(self.model.events(id)) + 1))


def limits(examples: int, steps: int, *, derandomize: bool, shrink: bool = False) -> settings:
    """How long to look; nothing is kept between two runs but the seed. ``shrink``: look for a smaller story too."""
    return settings(
        max_examples=examples, stateful_step_count=steps, derandomize=derandomize, database=None, deadline=None,
        phases=[Phase.generate, *([Phase.shrink] if shrink else [])], suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip


assert set(ENDS) <= set(STATUSES["job"])
